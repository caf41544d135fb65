#!/usr/bin/env bash
# format: every C file is as .clang-format makes it.
set -euo pipefail
cd "$KILAT_TOP"
find core storage proto dns queue daemon cli bench tests -name '*.[ch]' -print0 | xargs -0 clang-format-14 --dry-run -Werror
