#!/usr/bin/env bash
# sizes: a C file over 900 lines or a function over 100 has a seam that was not looked for. A test file is mostly rows of
# cases, so it may have 1200.
set -euo pipefail
cd "$KILAT_TOP"

status=0
while IFS= read -r -d '' file; do
    lines=$(wc -l <"$file")
    [[ $file == tests/* ]] && most=1200 || most=900
    [ "$lines" -le $most ] || { echo "$file has $lines lines" && status=1; }
    long=$(awk -v file="$file" '
        /^[A-Za-z_].*\)[[:space:]]*$/ { head = $0 }
        /^\{/ { start = NR }
        /^\}/ { if (start && NR - start > 100) print file ":" start ": " NR - start " lines: " head; start = 0 }' "$file")
    [ -z "$long" ] || { echo "$long" && status=1; }
done < <(find core storage proto dns queue daemon cli bench tests -name '*.c' -print0)
exit $status
