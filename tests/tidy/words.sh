#!/usr/bin/env bash
# words: nothing in the tree speaks of one machine's paths or of how it came to be written, and no word says that
# something was left out.
set -euo pipefail
cd "$KILAT_TOP"

status=0
files() {
    find . -path ./build -prune -o -path ./.git -prune -o -type f -not -path './tests/tidy/words.sh' -not -path './tests/fuzz/corpus/*' -print0
}
found=$(files | xargs -0 grep -nIE '/work/|/home/[a-z]+/|/root/|deb\.debian\.org|registry\.npmjs' || true)
[ -z "$found" ] || { printf 'a path or a host of one machine:\n%s\n' "$found" && status=1; }
found=$(find core storage proto dns queue daemon cli bench packaging docs README.md \( -name '*.[ch]' -o -name '*.md' \) -exec grep -nHIE '\b(TODO|FIXME|XXX|HACK|not implemented|for now|simplified|placeholder|stub)\b' {} + | grep -vE 'stub resolver|stub-zone' || true)
[ -z "$found" ] || { printf 'a word that says something was left out:\n%s\n' "$found" && status=1; }
exit $status
