#!/usr/bin/env bash
# model: the Promela models of the queue on disk, each right and, line by line, wrong (tests/model/runs.txt). `--n` is the level:
# 1 the small ones, 2 larger ones too, 3 the largest (74 million states: 7 GiB of memory, up to half an hour).
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SUITE_TIMEOUT_S=7200
WORK=$KILAT_TOP/build/model

# Builds and runs one verifier in a folder of its own, because Spin's files have fixed names. Succeeds when the outcome is the
# one expected; a search that was cut short (memory, depth) is neither outcome.
run_model() {
    local model=$1 outcome=$2 name=$3 dir=$WORK/$1-$3 found
    shift 3
    rm -rf "$dir"
    mkdir -p "$dir"
    cd "$dir"
    spin -a "$@" "$KILAT_TOP/tests/model/$model.pml"
    # Spin's code is not ours: its warnings say nothing about the model.
    gcc -w "$([ "$outcome" = holds ] && echo -O2 || echo -O0)" -DSAFETY -DCOLLAPSE -o pan pan.c
    ./pan -m1000000 "-w$((20 + 2 * ${SUITE_N:-1}))" | tee pan.out
    if grep -qE 'max search depth too small|out of memory|Search not completed' pan.out && [ "$outcome" = holds ]; then
        echo "the search was not complete"
        return 1
    fi
    found=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out)
    case $outcome$found in
    holds0) ;;
    refuted[1-9]*) ;;
    holds*)
        spin -t -g -l "$KILAT_TOP/tests/model/$model.pml" 2>&1 | tail -n 40 || true
        echo "$model, $name: expected to hold, and Spin found an error"
        return 1
        ;;
    *)
        echo "$model, $name: expected to be refuted, and Spin found no error: the model does not see this fault"
        return 1
        ;;
    esac
    rm -f pan pan.[bchmpt] # the output stays
}

if [ $# -gt 0 ]; then
    run_model "$@"
    exit
fi

while read -r level model outcome name options; do
    [[ $level =~ ^[1-9]$ ]] && [ "$level" -le "${SUITE_N:-1}" ] || continue
    read -ra options <<<"$options"
    suite_case "$model $outcome: $name" bash "$0" "$model" "$outcome" "$name" "${options[@]}"
done <"$KILAT_TOP/tests/model/runs.txt"
! suite_failed
