#!/usr/bin/env bash
# Goal: `kilat-bench storage` measures a disk and says it in the keys that programs rely on, and leaves nothing behind.
# Method: one short round with small segments, so that some are finished; every figure is there and positive. No figure
# gates anything: disks differ.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

BENCH=$KILAT_BUILD/kilat-bench

state_create test_storage
mkdir "$STATE/disk"
"$BENCH" storage --directory "$STATE/disk" --rounds 1 --seconds 1 --segment 2 --json "$STATE/result.json" >"$STATE/said"
cat "$STATE/said"
for key in writers message_bytes messages_per_s group_bytes p50_us p99_us cpu_us_per_message rate_to_bare cpu_to_bare one_p50_us \
    one_to_bare flush_p50_us flush_p99_us flush_to_unflushed; do
    value=$(grep -oE "\"$key\": [0-9.]+" "$STATE/result.json" | cut -d ' ' -f 2 || true)
    awk -v value="${value:-none}" 'BEGIN { exit !(value + 0 > 0) }' || fail "$key is ${value:-not there}"
done
grep -q 'messages/s' "$STATE/said" || fail "it prints no rate"
expect_equal 'what is left in the folder' '' "$(ls "$STATE/disk")"
! "$BENCH" storage >"$STATE/refused" 2>&1 || fail "it runs without a folder"
grep -q -- '--directory' "$STATE/refused" || fail "it does not say what it needs: $(cat "$STATE/refused")"
! "$BENCH" storage --directory "$STATE/none" >"$STATE/refused" 2>&1 || fail "it runs in a folder that is not there"
grep -q "$STATE/none" "$STATE/refused" || fail "it does not name the folder: $(cat "$STATE/refused")"
