#!/usr/bin/env bash
# Goal: `kilat-bench restart` fills spools, sees a server come up on them after a stop and after kill -9, says it in the keys that
# programs rely on, and leaves nothing behind. No figure gates anything: machines differ.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

BENCH=$KILAT_BUILD/kilat-bench

state_create test_restart
mkdir "$STATE/disk"
"$BENCH" restart --directory "$STATE/disk" --messages 5000 --idle 1 --json "$STATE/result.json"
for key in start messages spools accept_s deliver_s known_s resident_mib peak_mib idle_cpu_percent; do
    expect_equal "starts with $key" 2 "$(grep -cE "\"$key\": (\"|[0-9])" "$STATE/result.json")"
done
expect_equal 'what is left in the folder' '' "$(ls "$STATE/disk")"
! "$BENCH" restart >"$STATE/refused" 2>&1 || fail "it runs without a folder"
grep -q -- '--directory' "$STATE/refused" || fail "it does not say what it needs: $(cat "$STATE/refused")"
