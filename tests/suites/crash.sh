#!/usr/bin/env bash
# crash: the real binary killed under load, with a ledger of every 250. `--n` says how often it is killed
# (30). Each tests/crash/test_*.sh is one case.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SUITE_TIMEOUT_S=900
suite_builds release kilatd kilatctl kilat-bench kilat-ledger || exit 1
export KILAT_PRESET=release
for script in "$KILAT_TOP"/tests/crash/test_*.sh; do
    [ -e "$script" ] || report_die "there is no test below tests/crash"
    suite_case "$(basename "$script" .sh)" bash "$script" "${SUITE_N:-30}"
done
! suite_failed
