#!/usr/bin/env bash
# rfc: docs/rfc.md lists each RFC with what we support, and every RFC which the code cites stands there. A row
# whose RFC nothing cites is wrong too, unless it says that we do not support it ("no", "later").
set -euo pipefail
cd "$KILAT_TOP"

cited=$(find core storage proto dns queue daemon cli bench tests -name '*.[ch]' -exec grep -ohE 'RFC [0-9]{3,5}' {} + | awk '{ print $2 }' | sort -nu)
listed=$(grep -oE '^\| RFC [0-9]+ ' docs/rfc.md | awk '{ print $3 }' | sort -n)
status=0

doubled=$(uniq -d <<<"$listed")
[ -z "$doubled" ] || { echo "docs/rfc.md has two rows for RFC $doubled" && status=1; }
for rfc in $cited; do
    grep -qx "$rfc" <<<"$listed" && continue
    echo "RFC $rfc is cited but is not in docs/rfc.md:"
    { grep -rnE "RFC $rfc\b" core storage proto dns queue daemon cli bench tests --include='*.[ch]' || true; } | head -n 2
    status=1
done
for rfc in $listed; do
    grep -qx "$rfc" <<<"$cited" && continue
    grep -qE "^\| RFC $rfc \|.*\| (no|later)\\b" docs/rfc.md && continue
    echo "docs/rfc.md says that we support RFC $rfc, but nothing cites it"
    status=1
done

# One spelling only, or the two lists could never be compared. (rfc822 is a word of the mail formats.)
wrong=$(find core storage proto dns queue daemon cli bench tests -name '*.[ch]' -exec grep -nHP '\b(RFC-?[0-9]{3,}|rfc ?(?!822\b)[0-9]{3,}|RFC  [0-9]+)' {} + || true)
[ -z "$wrong" ] || { printf 'cite as "RFC 5321 4.1.1.4":\n%s\n' "$wrong" && status=1; }
exit $status
