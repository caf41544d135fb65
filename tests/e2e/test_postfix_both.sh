#!/usr/bin/env bash
# Goal: we understand Postfix and Postfix understands us. Method: Postfix sends to us (its smart host), a mailbox of ours
# holds the letters; we send to Postfix (a route), its Maildir holds them; one letter with several recipients, one with 8-bit
# text and dots, one over 64 KiB.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

namespace_possible || skip "Postfix needs root and mount and pid namespaces"
state_create test_postfix_both
postfix_port=$(port_free)
server_for_kawan kawan 127.0.0.43 <<END
relay_networks = {"127.0.0.0/8"}
route "tetangga.test" { via = "127.0.0.1:$postfix_port" }
END
postfix_start postfix "$KILAT_TOP/tests/e2e/postfix" "$postfix_port" <<END
relayhost = [127.0.0.43]:$smtp_port
END

write_letter() { # subject, body lines
    printf 'Subject: %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n' "$1"
    head -c "$2" /dev/urandom | base64 | sed 's/$/\r/'
    printf '.titik — “kutip”\r\n..\r\n'
}
hand_over() { # address, port, file, RECIPIENT...
    local address=$1 port=$2 file=$3 to=()
    shift 3
    for recipient; do to+=(--mail-rcpt "$recipient"); done
    curl --silent --show-error --max-time 30 "smtp://$address:$port/klien.test" --mail-from penulis@lain.test "${to[@]}" --upload-file "$file"
}
body_of() { # file with LF or CRLF: what follows the header section
    tr -d '\r' <"$1" | sed '1,/^$/d'
}

write_letter kecil 600 >"$STATE/small"
write_letter besar 200000 >"$STATE/big"

# Postfix to us.
hand_over 127.0.0.1 "$postfix_port" "$STATE/small" "$ANI" "$BUDI"
hand_over 127.0.0.1 "$postfix_port" "$STATE/big" "$ANI"
wait_until 30 "two letters for $ANI" pop3_holds 2 127.0.0.43 "$pop3_port" "$ANI" "$ANI_PASSWORD"
wait_until 30 "one letter for $BUDI" pop3_holds 1 127.0.0.43 "$pop3_port" "$BUDI" "$BUDI_PASSWORD"
for i in 1 2; do
    pop3 127.0.0.43 "$pop3_port" "$ANI" "$ANI_PASSWORD" '' "$i" >"$STATE/got.$i"
    grep -q '^Subject: kecil' "$STATE/got.$i" && original=small || original=big
    cmp <(body_of "$STATE/got.$i") <(body_of "$STATE/$original") || fail "the $original letter from Postfix was altered"
done

# We to Postfix.
hand_over 127.0.0.43 "$smtp_port" "$STATE/small" satu@tetangga.test dua@tetangga.test
hand_over 127.0.0.43 "$smtp_port" "$STATE/big" satu@tetangga.test
inbox_holds() {
    [ "$(find "$STATE/postfix/mail/inbox/new" -type f | wc -l)" -ge "$1" ]
}
wait_until 30 "three letters in Postfix's Maildir" inbox_holds 3
for file in "$STATE"/postfix/mail/inbox/new/*; do
    grep -q '^Subject: kecil' "$file" && original=small || original=big
    cmp <(body_of "$file") <(body_of "$STATE/$original") || fail "the $original letter to Postfix was altered"
done
wait_until 20 'our queue to be empty' kilat_queue_is_empty kawan
