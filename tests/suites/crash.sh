#!/usr/bin/env bash
# crash: the real binary killed under load, with a ledger of every 250. `--n` says how often it is killed (30) as released;
# a few kills more go to a build with ASan and UBSan and to one with TSan, both with two shards.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SUITE_TIMEOUT_S=900
targets=(kilatd kilatctl kilat-ledger)
kills=${SUITE_N:-30}

run_scripts() { # preset, kills
    local script
    for script in "$KILAT_TOP"/tests/crash/test_*.sh; do
        suite_case "$(basename "$script" .sh) ($1, $2 kills)" env KILAT_PRESET="$1" bash "$script" "$2"
    done
}

suite_builds release "${targets[@]}" || exit 1
run_scripts release "$kills"

export KILAT_SHARDS=2
for preset in asan tsan; do
    suite_builds "$preset" "${targets[@]}" || exit 1
    sanitizers_for_servers
    run_scripts "$preset" $((kills / 10 + 1))
    sanitizers_case "$preset" "$SANITIZERS_FOLDER"
done
! suite_failed
