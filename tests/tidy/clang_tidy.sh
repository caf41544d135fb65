#!/usr/bin/env bash
# clang_tidy: the few checks of .clang-tidy over the product's sources, two at a time.
set -euo pipefail
cd "$KILAT_TOP"

# The database of the release build, without what clang does not know of gcc's options.
mkdir -p build/tidy
sed -E 's/ -fstack-clash-protection//g; s/ -fmodules-ts//g' build/release/compile_commands.json >build/tidy/compile_commands.json
find core storage proto dns queue daemon cli bench -name '*.c' -print0 |
    xargs -0 -P 2 -n 4 clang-tidy-14 --quiet -p build/tidy --warnings-as-errors='*'
