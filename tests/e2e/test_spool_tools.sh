#!/usr/bin/env bash
# Goal: kilatctl spool looks into a spool without changing it, running, killed or copied, finds damage and says where, and
# hands out what waits in it.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck source=tests/lib/spool_tools.sh
. "$KILAT_TOP/tests/lib/spool_tools.sh"

state_create test_spool_tools
port=$(port_free)
spool_server tools "$port" "$(port_free)"
spool=$STATE/tools/spool
kilat_start tools
letters_send "$port"
held=$(kilat_queue_ids tools | head -n 1)
kilat_ctl tools message hold "$held" >/dev/null
wait_until 10 "all letters to be queued" kilat_queue_holds tools "$LETTERS"

# Running: what it says agrees with the server.
spool_tool --json spool export "$spool" "$STATE/running" >/dev/null || fail "export failed on a running server"
expect_equal "messages of a running spool" "$(kilat_queue_ids tools)" "$(cd "$STATE/running" && find . -name '*.json' -printf '%f\n' | cut -d . -f 1 | sort)"
kilat_kill tools

# Killed: read-only means that no byte, no name and no time of change is another one afterwards.
before=$(state_hash "$spool")
spool_tool spool check "$spool" >"$STATE/check" || fail "check found damage: $(cat "$STATE/check")"
spool_tool --json spool check "$spool" >"$STATE/check.json" || fail "check found damage: $(cat "$STATE/check.json")"
spool_tool spool dump "$spool" >"$STATE/dump" || fail "dump failed"
spool_tool spool export "$spool" "$STATE/out" >/dev/null || fail "export failed"
expect_equal "the spool after the commands that read" "$before" "$(state_hash "$spool")"

has "^  unfinished  $LETTERS messages for $LETTERS recipients, 1 of them held$" <"$STATE/check" || fail "check says: $(cat "$STATE/check")"
has "\"messages\": $LETTERS, \"recipients\": $LETTERS, \"held\": 1," <"$STATE/check.json" || fail "check says: $(cat "$STATE/check.json")"
expect_equal "MSG and COMMIT records in the dump" "$LETTERS" "$(grep -cE ' (MSG|COMMIT) ' "$STATE/dump")"
expect_equal "HOLD records in the dump" 1 "$(grep -cE " HOLD +$held " "$STATE/dump")"
expect_equal "files" $((2 * LETTERS)) "$(find "$STATE/out" -type f | wc -l)"
has '"held": true' <"$STATE/out/$held.json" || fail "the held letter is not held: $(cat "$STATE/out/$held.json")"
for ((i = 1; i <= LETTERS; i++)); do
    file=$(grep -lr "\"address\": \"siapa$i@jauh.test\"" "$STATE/out") || fail "no envelope for siapa$i"
    tail -n 1 "${file%.json}.eml" | has "^isi surat $i.$" || fail "letter $i is not whole"
    has '"sender": "penulis@kawan.test"' <"$file" || fail "the sender is not in $file"
done

# Damaged: told with its place, exit status 1; the others are still handed out.
cp -a "$spool/0000" "$STATE/damaged"
read -r segment offset bytes < <(sed -nE 's/^(D-[0-9a-f]+) +([0-9]+) MSG .* bytes=([0-9]+) units.*/\1 \2 \3/p' "$STATE/dump" | head -n 1)
printf '\377' | dd of="$STATE/damaged/$segment" bs=1 seek=$((offset + bytes - 5)) conv=notrunc status=none
status=0
spool_tool spool check "$STATE/damaged" >"$STATE/check" || status=$?
expect_equal "check's exit status for damage" 1 "$status"
has "^  DAMAGED: $segment at offset [0-9]+:" <"$STATE/check" || fail "damage is not told: $(cat "$STATE/check")"
status=0
spool_tool spool export "$STATE/damaged" "$STATE/rest" >/dev/null 2>"$STATE/errors" || status=$?
expect_equal "export's exit status for damage" 1 "$status"
has 'is damaged and was not exported' <"$STATE/errors" || fail "export says: $(cat "$STATE/errors")"
expect_equal "letters beside the damaged one" $((LETTERS - 1)) "$(find "$STATE/rest" -name '*.eml' | wc -l)"

# A SUPER that cannot be believed: refused, and not touched.
cp -a "$spool/0000" "$STATE/newer"
printf '\377' | dd of="$STATE/newer/SUPER" bs=1 seek=8 conv=notrunc status=none
printf '\377' | dd of="$STATE/newer/SUPER" bs=1 seek=4104 conv=notrunc status=none
before=$(state_hash "$STATE/newer")
for command in check dump; do
    ! spool_tool spool "$command" "$STATE/newer" >/dev/null 2>"$STATE/errors" || fail "$command reads a broken SUPER"
done
expect_equal "the spool without a SUPER" "$before" "$(state_hash "$STATE/newer")"
! spool_tool spool check "$STATE/log" >/dev/null 2>"$STATE/errors" || fail "a directory without spools is checked"
has 'is no spool and has none below it' <"$STATE/errors" || fail "check says: $(cat "$STATE/errors")"
