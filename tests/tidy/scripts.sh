#!/usr/bin/env bash
# scripts: shellcheck finds nothing in our shell scripts (its notes on style aside).
set -euo pipefail
cd "$KILAT_TOP"
{
    printf '%s\0' check demo .ci/run
    find tests bench packaging -name '*.sh' -print0
} | xargs -0 -P 2 -n 8 shellcheck -x -S warning
