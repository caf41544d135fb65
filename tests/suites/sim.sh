#!/usr/bin/env bash
# sim: whole servers in one thread from one seed. `--n` says how many seeds.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SUITE_TIMEOUT_S=1800
suite_builds asan kilat-sim || exit 1
sanitizers_to "$SUITE_LOGS/reports"
suite_case "${SUITE_N:-200} seeds" "$KILAT_TOP/build/asan/tests/kilat-sim" --seeds "${SUITE_N:-200}"
sanitizers_case sim "$SUITE_LOGS/reports"
! suite_failed
