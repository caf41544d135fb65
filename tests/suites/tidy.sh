#!/usr/bin/env bash
# tidy: what a reader would otherwise have to watch over: layers, statics, the door, citations, format.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

suite_builds release || exit 1
for rule in layers door copies syncs statics link_map rfc words sizes format scripts manual clang_tidy; do
    suite_case "$rule" bash "$KILAT_TOP/tests/tidy/$rule.sh"
done
! suite_failed
