#!/usr/bin/env bash
# fuzz: every libFuzzer harness for `--n` seconds (20), two side by side, each from its corpus in the tree.
#
# What is found new goes to build/fuzz/corpus; a crashing input stays in build/check/fuzz and is named in the
# log. To run it again: build/fuzz/tests/fuzz_NAME FILE.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SECONDS_EACH=${SUITE_N:-20}

# One harness. Settings of libFuzzer: 4 KiB is longer than every line limit we have, 2 GiB of memory is far
# above what a parser may need, and 10 s for one input is a hang.
fuzz_one() {
    local name=$1 corpus=$KILAT_TOP/tests/fuzz/corpus/${1#fuzz_} found=$KILAT_TOP/build/fuzz/corpus/$1
    local log=$SUITE_LOGS/$1.log started_ms status=0 seeds=()
    started_ms=$(report_now_ms)
    mkdir -p "$found"
    [ ! -d "$KILAT_TOP/tests/fuzz/corpus/$name" ] || seeds+=("$KILAT_TOP/tests/fuzz/corpus/$name")
    [ ! -d "$corpus" ] || seeds+=("$corpus")
    (cd "$SUITE_LOGS" && timeout --kill-after=10 $((SECONDS_EACH + 120)) \
        "$KILAT_TOP/build/fuzz/tests/$name" -max_total_time="$SECONDS_EACH" -max_len=4096 \
        -rss_limit_mb=2048 -timeout=10 -artifact_prefix="$SUITE_LOGS/$name-" -print_final_stats=1 \
        "$found" "${seeds[@]}") >"$log" 2>&1 </dev/null || status=$?
    [ "$status" != 77 ] || status=1 # with 77 libFuzzer says that it has found something, not that it was skipped
    suite_record "$name" "$status" "$log" "$started_ms"
}

suite_builds fuzz || exit 1
unset ASAN_OPTIONS UBSAN_OPTIONS
running=0
for source in "$KILAT_TOP"/tests/fuzz/fuzz_*.c; do
    [ -e "$source" ] || report_die "there is no harness below tests/fuzz"
    if [ "$running" = 2 ]; then
        wait -n
        running=$((running - 1))
    fi
    fuzz_one "$(basename "$source" .c)" &
    running=$((running + 1))
done
wait
! suite_failed
