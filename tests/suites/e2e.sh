#!/usr/bin/env bash
# e2e: real clients and servers from Debian against the real programs. Each tests/e2e/test_*.sh is one case (0 passed, 77
# cannot be run on this machine, anything else failed): first as released, then under ASan and UBSan, and what talks most
# to several shards under TSan.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

SUITE_TIMEOUT_S=300
targets=(kilatd kilatd-poisoned kilatctl kilat-ledger kilat-without-uring kilat-idle kilat-hostile)

run_scripts() { # preset, SCRIPT...
    local preset=$1 name
    shift
    for name; do
        suite_case "$name ($preset)" env KILAT_PRESET="$preset" bash "$KILAT_TOP/tests/e2e/$name.sh"
    done
}

suite_builds release "${targets[@]}" || exit 1
mapfile -t all < <(cd "$KILAT_TOP/tests/e2e" && printf '%s\n' test_*.sh | sed 's/\.sh$//')
run_scripts release "${all[@]}"

export KILAT_SHARDS=2
suite_builds asan "${targets[@]}" || exit 1
sanitizers_for_servers
run_scripts asan test_local_mail test_refusals test_control test_postfix_both test_hostile test_pressure
sanitizers_case asan "$SANITIZERS_FOLDER"

suite_builds tsan "${targets[@]}" || exit 1
sanitizers_for_servers
run_scripts tsan test_local_mail test_control
sanitizers_case tsan "$SANITIZERS_FOLDER"
! suite_failed
