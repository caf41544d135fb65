#!/usr/bin/env bash
# manual: every command of kilatctl and of kilat-bench, and every option of theirs and of kilatd, stands in its manual page,
# and no page speaks of one that does not exist.
set -euo pipefail
cd "$KILAT_TOP"

status=0
plain() { # a page without its requests and fonts
    sed -E 's/\\f[A-Z]//g; s/\\-/-/g; s/^\.[A-Z]+ //; s/"//g' "$1"
}
for program in kilatd kilatctl kilat-bench; do
    page=$(ls docs/man/$program.[158] 2>/dev/null) || { echo "there is no manual page of $program" && status=1 && continue; }
    help=$(build/release/$program --help 2>&1 || true)
    plain=$(plain "$page") # once, and whole: a grep that has seen enough would end its writer by SIGPIPE
    words=$(grep -oE -- '--[a-z][a-z-]+' <<<"$help" | sort -u || true)
    [ -n "$help" ] || { echo "$program --help says nothing" && status=1; }
    for word in $words; do
        [ "$word" = --help ] && continue
        grep -qE -- "(^|[^a-z-])$word([^a-z-]|\$)" <<<"$plain" || { echo "$page does not have $word, which $program --help has" && status=1; }
    done
    # Commands stand in the help two blanks in: "message hold|release ID" are two of them.
    while read -r first second _; do
        for word in ${second//|/ }; do
            grep -qE -- "(^|[^a-z-])$first $word([^a-z-]|\$)" <<<"$plain" || { echo "$page does not have \"$first $word\"" && status=1; }
        done
        grep -qE -- "(^|[^a-z-])$first([^a-z-]|\$)" <<<"$plain" || { echo "$page does not have \"$first\"" && status=1; }
    done < <(sed -nE 's/^  ([a-z]+)(( [a-z][a-z|]*)?)(  .*| [^a-z].*|$)/\1\2/p' <<<"$help")
    for word in $(grep -oE -- '--[a-z][a-z-]+' <<<"$plain" | sort -u); do
        grep -qF -- "$word" <<<"$help" || { echo "$program --help does not have $word, which $page has" && status=1; }
    done
done
exit $status
