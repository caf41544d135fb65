#!/usr/bin/env bash
# unit: the Criterion programs under ASan and UBSan, the thread programs under those and under TSan.
#
# Criterion runs each test in a child whose exit status after the test's end it does not look at, so a leak
# or a report of UBSan fails nothing by itself. Therefore reports go to files, and any file fails the suite;
# three planted faults show on every run that this gate still closes.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

suite_builds asan || exit 1
suite_ctest asan
suite_case "a planted leak is found" bash "$KILAT_TOP/tests/planted/expect_report.sh" leak
suite_case "a planted overflow is found" bash "$KILAT_TOP/tests/planted/expect_report.sh" overflow
suite_case "a planted undefined shift is found" bash "$KILAT_TOP/tests/planted/expect_report.sh" shift

suite_builds tsan || exit 1
suite_ctest tsan
suite_case "a planted data race is found" bash "$KILAT_TOP/tests/planted/expect_report.sh" race
! suite_failed
