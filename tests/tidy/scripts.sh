#!/usr/bin/env bash
# scripts: shellcheck finds nothing in our shell scripts (its notes on style aside). The libraries are followed from ./demo and
# ./check; a test is looked at alone, since following them from each would take minutes.
set -euo pipefail
cd "$KILAT_TOP"
shellcheck -x -S warning demo check .ci/run tests/e2e/lib.sh tests/crash/lib.sh tests/lib/suite.sh
find tests bench packaging -name '*.sh' -not -name lib.sh -not -path 'tests/lib/*' -print0 |
    xargs -0 shellcheck -S warning --exclude=SC2154,SC2034
