#!/usr/bin/env bash
# bench: that the bench works and that what is exact holds (delivery, copies, system calls per message).
# Ratios are noisy and gate nothing here; `kilat-bench compare` prints them. `--n` says how many rounds.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SUITE_TIMEOUT_S=600
suite_builds release kilatd kilatctl kilat-bench || exit 1
export KILAT_PRESET=release
for script in "$KILAT_TOP"/tests/bench/test_*.sh; do
    [ -e "$script" ] || report_die "there is no test below tests/bench"
    suite_case "$(basename "$script" .sh)" bash "$script" "${SUITE_N:-1}"
done
! suite_failed
