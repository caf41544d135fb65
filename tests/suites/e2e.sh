#!/usr/bin/env bash
# e2e: real clients and servers from Debian against the real programs. Each tests/e2e/test_*.sh is one case
# (0 passed, 77 cannot be run on this machine, anything else failed).
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SUITE_TIMEOUT_S=300
suite_builds release kilatd kilatctl kilat-bench kilat-ledger kilat-without-uring || exit 1
export KILAT_PRESET=release
for script in "$KILAT_TOP"/tests/e2e/test_*.sh; do
    suite_case "$(basename "$script" .sh)" bash "$script"
done
! suite_failed
