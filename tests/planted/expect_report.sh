#!/usr/bin/env bash
# Runs the planted fault `$1` and passes only if a sanitizer's report of it is seen: the gate of the unit suite
# is then known to close. The program itself may well say that all its tests passed.
set -euo pipefail
# shellcheck source=tests/lib/sanitizers.sh
. "$KILAT_TOP/tests/lib/sanitizers.sh"

fault=$1
reports=$SUITE_LOGS/planted-$fault
output=$reports/../planted-$fault.output
sanitizers_to "$reports"
case $fault in
race) "$KILAT_TOP/build/tsan/tests/planted_race" >"$output" 2>&1 || true ;;
*) "$KILAT_TOP/build/asan/tests/planted_criterion" --filter "planted/$fault" >"$output" 2>&1 || true ;;
esac
if sanitizers_clean "$reports" "$output"; then
    echo "no report of the planted $fault: a real one would not be seen either" >&2
    exit 1
fi >"$reports/../planted-$fault.seen"
