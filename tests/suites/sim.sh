#!/usr/bin/env bash
# sim: whole servers in one thread from one seed. `--n` says how many seeds (500): they run optimised, and a quarter as many
# others, 4,000 at most, under the sanitizers; then every crash of a small day. `--exhaustive` runs that alone, and
# `--n 2` cuts every recovery of it as well.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SIM=$KILAT_TOP/build/release/tests/kilat-sim

suite_builds release kilat-sim || exit 1
if [ "${SUITE_VARIANT:-}" = exhaustive ]; then
    SUITE_TIMEOUT_S=7200
    suite_case "every crash, ${SUITE_N:-1} level(s)" "$SIM" --exhaustive --levels "${SUITE_N:-1}"
    ! suite_failed
    exit
fi

seeds=${SUITE_N:-500}
checked=$((seeds / 4 < 4000 ? seeds / 4 : 4000))
SUITE_TIMEOUT_S=$((1800 + seeds / 5))
suite_case "$seeds seeds" "$SIM" --seeds "$seeds"
suite_case "every crash" "$SIM" --exhaustive
suite_builds asan kilat-sim || exit 1
sanitizers_to "$SUITE_LOGS/reports"
suite_case "$checked seeds under the sanitizers" "$KILAT_TOP/build/asan/tests/kilat-sim" --first $((seeds + 1)) --seeds "$checked"
sanitizers_case sim "$SUITE_LOGS/reports"
! suite_failed
