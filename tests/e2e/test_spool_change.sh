#!/usr/bin/env bash
# Goal: kilatctl spool import and compact keep all that waits, as it was, and touch nothing while a server runs.
# Method: mail that waits is compacted and compared by its export, message by message; it is imported into the spool of
# another server, which delivers it; and each command is refused where it has to be, with the spool's hash unchanged.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/lib/spool_tools.sh
. "$KILAT_TOP/tests/lib/spool_tools.sh"

refused_unchanged() { # directory, what has to be said, words of the command...
    local dir=$1 said=$2 before
    shift 2
    before=$(state_hash "$dir")
    ! spool_tool spool "$@" >"$STATE/output" 2>"$STATE/errors" || fail "spool $1 was not refused"
    has "$said" <"$STATE/errors" || fail "spool $1 says: $(cat "$STATE/errors")"
    expect_equal "the spool that spool $1 was refused for" "$before" "$(state_hash "$dir")"
}

exported() { # spool, directory
    spool_tool spool export "$1" "$2" >/dev/null || fail "export failed"
}

state_create test_spool_change
port=$(port_free)
spool_server tools "$port" "$(port_free)"
spool=$STATE/tools/spool
kilat_start tools
letters_send "$port"
held=$(kilat_queue_ids tools | head -n 1)
kilat_ctl tools message hold "$held" >/dev/null
wait_until 10 "all letters to be queued" kilat_queue_holds tools "$LETTERS"

# A server that runs keeps its spool for itself. (It writes to it meanwhile, so no hash is taken.)
for command in "compact $spool" "import $spool /dev/null"; do
    read -ra words <<<"$command"
    ! spool_tool spool "${words[@]}" 2>"$STATE/errors" || fail "spool ${words[0]} works on a running server"
    has "is in use by process ${PROCESS_PIDS[tools]}" <"$STATE/errors" || fail "spool ${words[0]} says: $(cat "$STATE/errors")"
done
kilat_stop tools || fail "kilatd did not end in good order"

# A damaged one is not compacted: what is damaged would be gone.
damaged=$STATE/tools/damaged
cp -a "$spool" "$damaged"
read -r segment offset bytes < <(spool_tool spool dump "$spool" |
    sed -nE 's/^(D-[0-9a-f]+) +([0-9]+) MSG .* bytes=([0-9]+) units.*/\1 \2 \3/p' | head -n 1)
printf '\377' | dd of="$damaged/0000/$segment" bs=1 seek=$((offset + bytes - 5)) conv=notrunc status=none
refused_unchanged "$damaged" 'is damaged' compact "$damaged"

# Compacted: the same messages with the same ids, states and bytes, in less room; a server goes on with them.
exported "$spool" "$STATE/before"
segments=$(find "$spool/0000" -name '[DRJ]-*' | wc -l)
ids=$(cd "$STATE/before" && find . -name '*.json' -printf '%f\n' | cut -d . -f 1 | sort)
mkdir "$spool/0000.compact" # as a cut leaves it
spool_tool spool compact "$spool" >"$STATE/output" || fail "compact failed"
has "$LETTERS unfinished messages kept" <"$STATE/output" || fail "compact says: $(cat "$STATE/output")"
spool_tool spool check "$spool" >"$STATE/output" || fail "a compacted spool is damaged: $(cat "$STATE/output")"
exported "$spool" "$STATE/after"
diff -r "$STATE/before" "$STATE/after" || fail "compacting has changed a message"
expect_equal "what compacting leaves beside the spool" "" "$(find "$spool" -name '*.compact')"
[ "$(find "$spool/0000" -name '[DRJ]-*' | wc -l)" -le "$segments" ] || fail "compacting has made the spool bigger"
kilat_start tools
wait_until 20 "the spools to be read" kilat_spools_are_ready tools
expect_equal "the queue after compacting" "$ids" "$(kilat_queue_ids tools)"
kilat_stop tools || fail "kilatd did not end in good order"

# Imported into another server's spool: the same bytes, envelopes and holds under new ids, and it delivers them.
sink_port=$(port_free)
spool_server other "$port" "$sink_port"
kilat_start other
kilat_stop other || fail "kilatd did not end in good order"
mkdir -p "$STATE/Maildir/"{new,cur,tmp}
printf 'Subject: satu\n\nbaris\n' >"$STATE/Maildir/new/1.x"
printf 'Subject: dua\n\nbaris\n.titik\n' >"$STATE/Maildir/cur/2.x:2,S"
printf 'half' >"$STATE/Maildir/tmp/3.x"
chmod 0700 "$STATE/Maildir" # only the caller may read it, not the spool's owner
spool_tool spool import "$STATE/other/spool" "$STATE/after" >"$STATE/output" || fail "import failed: $(cat "$STATE/output")"
has "$LETTERS messages imported, 0 files refused" <"$STATE/output" || fail "import says: $(cat "$STATE/output")"
spool_tool spool import "$STATE/other/spool" --from penulis@kawan.test --to satu@jauh.test,dua@jauh.test "$STATE/Maildir" \
    >"$STATE/output" || fail "import failed: $(cat "$STATE/output")"
has '2 messages imported, 0 files refused' <"$STATE/output" || fail "import says: $(cat "$STATE/output")"
! spool_tool spool import "$STATE/other/spool" "$STATE/Maildir" >"$STATE/output" 2>"$STATE/errors" ||
    fail "a message without an envelope was imported"
has 'comes without an envelope' <"$STATE/errors" || fail "import says: $(cat "$STATE/errors")"
exported "$STATE/other/spool" "$STATE/imported"
mail_of() { # directory: recipients, hold and hash of each message but those of the Maildir
    local file
    for file in "$1"/*.json; do
        ! grep -q satu@jauh.test "$file" || continue
        printf '%s %s %s\n' "$(grep -o '"address": "[^"]*"' "$file")" "$(grep -o '"held": [a-z]*' "$file")" \
            "$(sha256sum <"${file%.json}.eml")"
    done | sort
}
expect_equal "what was imported" "$(mail_of "$STATE/after")" "$(mail_of "$STATE/imported")"
process_start sink "$KILAT_BUILD/tests/kilat-ledger" sink "127.0.0.42:$sink_port" "$STATE/received"
kilat_start other
wait_until 20 "the spools to be read" kilat_spools_are_ready other
for id in $(cd "$STATE/imported" && grep -l '"held": true' -- *.json | cut -d . -f 1); do
    wait_until 20 "the imported hold to be released" kilat_ctl other message release "$id"
done
for id in $(kilat_queue_ids other); do
    kilat_ctl other message retry "$id" >/dev/null || true # what came without attempts is on its way already
done
wait_until 20 "all that was imported to be delivered" kilat_queue_is_empty other
kilat_stop other || fail "kilatd did not end in good order"
expect_equal "letters that the imports delivered" "$((LETTERS + 2))" "$(wc -l <"$STATE/received")"
