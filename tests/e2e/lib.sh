# tests/e2e/lib.sh - everything an end-to-end test needs. Sourced first by each tests/e2e/test_*.sh and by ./demo.
# shellcheck shell=bash

KILAT_TOP=${KILAT_TOP:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
# shellcheck source=tests/lib/names.sh
. "$KILAT_TOP/tests/lib/names.sh"
# shellcheck source=tests/lib/kilat.sh
. "$KILAT_TOP/tests/lib/kilat.sh"
# shellcheck source=tests/lib/postfix.sh
. "$KILAT_TOP/tests/lib/postfix.sh"

# Fails the test with a sentence.
fail() {
    report_say "FAILED: $*"
    exit 1
}

# Ends the test as one that this machine cannot run.
skip() {
    printf '%s\n' "$*"
    exit 77
}

expect_equal() { # what, wanted, got
    [ "$2" = "$3" ] || fail "$1: expected \"$2\", got \"$3\""
}
