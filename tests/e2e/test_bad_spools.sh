#!/usr/bin/env bash
# Goal: a spool that a start cannot or should not use is refused in one sentence that names the file and says what to do, and
# not a byte of it is changed: a newer format, another user's, rights that keep the server out, a copy that is not whole,
# two copies mixed, a directory that has gone.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_bad_spools
server_for_kawan kawan 127.0.0.49 </dev/null
home=$STATE/kawan
talk 127.0.0.49 "$smtp_port" 'EHLO a.test' 'MAIL FROM:<x@asing.test>' "RCPT TO:<$ANI>" DATA 'Subject: a\r\n\r\na\r\n.' | tail -n 1 | has '^250' || fail 'the letter was not taken'
wait_until 20 'the letter in the mailbox' pop3_holds 1 127.0.0.49 "$pop3_port" "$ANI" "$ANI_PASSWORD"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
cp -a "$home/spool" "$STATE/good"

# All of the spools, but for LOCK of the directory, in which a start writes its number.
picture() {
    (cd "$home/spool" && find . -mindepth 1 ! -path ./LOCK -printf '%P %y %U %m %s %T@\n' | sort && find . -type f ! -path ./LOCK -exec md5sum {} + | sort -k 2)
}
# Expects that a start says `pattern` once, ends with a failure, and changes nothing.
expect_refusal() {
    local what=$1 pattern=$2 status=0 before
    before=$(picture)
    timeout 20 "$KILAT_BUILD/kilatd" --config "$home/kilat.conf" >"$STATE/said" 2>&1 || status=$?
    [ "$status" != 0 ] && [ "$status" -lt 124 ] || fail "$what: exit status $status: $(cat "$STATE/said")"
    grep -qE "$pattern" "$STATE/said" || fail "$what: expected \"$pattern\", got: $(cat "$STATE/said")"
    expect_equal "$what: lines said" 1 "$(wc -l <"$STATE/said")"
    [ "$before" = "$(picture)" ] || fail "$what: the spool was changed: $(diff <(printf '%s' "$before") <(picture))"
    rm -rf "$home/spool"
    cp -a "$STATE/good" "$home/spool"
}
spool=$home/spool/0000
first_segment() {
    printf '%s\n' "$spool"/D-* | head -n 1
}

# The major version stands at 8 in SUPER's two slots, under a CRC: a newer program is imitated with its own tool.
newer() { # file, offset of the structure, its size
    perl - "$@" <<'END'
sub crc32c {
    my $crc = 0xffffffff;
    for my $byte (unpack 'C*', shift) {
        $crc ^= $byte;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}
my ($path, $offset, $size) = @ARGV;
open my $file, '+<:raw', $path or die;
seek $file, $offset, 0;
read($file, my $block, $size) == $size or die;
substr($block, 8, 2) = pack 'v', 99;
substr($block, -4) = pack 'V', crc32c(substr $block, 0, -4);
seek $file, $offset, 0;
print $file $block;
END
}
newer "$spool/SUPER" 0 4096
newer "$spool/SUPER" 4096 4096
expect_refusal 'a newer format' "$spool: was written by a newer program \(format 99\..*; nothing was changed"
rm "$spool/SUPER"
expect_refusal 'a copy without SUPER' "$spool: has segments but no SUPER: a copy that is not whole"
truncate -s 5000 "$spool/SUPER"
printf '%4096s' '' | dd of="$spool/SUPER" conv=notrunc status=none
expect_refusal 'half of SUPER' "$spool/SUPER: cannot be read"
chmod 0500 "$spool"
expect_refusal 'a directory one may not write' "$spool: has mode 0500"
chmod 0400 "$(first_segment)"
expect_refusal 'a segment one may not write' "$spool/D-[0-9a-f]+: has mode 0400"
mv "$spool" "$STATE/elsewhere"
expect_refusal 'a spool that has gone' "$spool: its marker is here and the spool is not: is a file system not mounted\?"
mv "$spool" "$home/spool/0003"
rm "$spool.mark"
expect_refusal 'a spool under another number' "$home/spool/0003: is spool number 0, and its name says 3"
sed -i "s|$home/spool\"|$home/tidak/ada/spool\"|" "$home/kilat.conf"
expect_refusal 'a parent that is not there' "$home/tidak/ada/spool: the directory it should be in does not exist"
sed -i "s|$home/tidak/ada/spool\"|$home/spool\"|" "$home/kilat.conf"
if [ "$(id -u)" = 0 ]; then
    chown 1 "$(first_segment)"
    expect_refusal 'a segment of another user' "$spool/D-[0-9a-f]+: belongs to user 1, and the server is user $KILAT_UID"
    chown 0 "$spool/SUPER"
    expect_refusal "root's SUPER" "$spool/SUPER: belongs to user 0"
    chown -R 1 "$home/spool"
    expect_refusal "somebody else's directory" "$home/spool: belongs to user 1"
fi

# Two spools of the same number, mixed: the segment of another one.
mkdir "$STATE/other" && mv "$home/spool" "$STATE/mine"
mkdir "$home/spool" && kilat_own kawan
kilat_start kawan
kilat_stop kawan
mv "$home/spool" "$STATE/theirs" && mv "$STATE/mine" "$home/spool"
cp -a "$STATE"/theirs/0000/D-* "$spool/"
expect_refusal 'two copies mixed' "$spool/D-[0-9a-f]+: belongs to another spool than SUPER beside it"

# What was refused so often is as good as before.
kilat_start kawan
expect_equal 'letters in the mailbox' 1 "$(pop3_count 127.0.0.49 "$pop3_port" "$ANI" "$ANI_PASSWORD")"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
