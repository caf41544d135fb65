#!/usr/bin/env bash
# dialog: the conversations of tests/dialog/*.dlg, each played whole and byte by byte, under ASan and UBSan.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

suite_builds asan dialog_run || exit 1
sanitizers_to "$SUITE_LOGS/reports"
suite_case "dialogues" "$KILAT_TOP/build/asan/tests/dialog_run" "$KILAT_TOP/tests/dialog"
sanitizers_case dialog "$SUITE_LOGS/reports"
! suite_failed
