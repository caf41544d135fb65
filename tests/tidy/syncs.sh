#!/usr/bin/env bash
# syncs: whatever makes something durable can be switched off, and a test notices. Each call that syncs, or that writes through
# the ring, stands in the text that a row of tests/mutants.tsv replaces, or its function is in syncs.allow with the reason.
set -euo pipefail
cd "$KILAT_TOP"

ALLOW=tests/tidy/syncs.allow
CALL='(^|[^a-z_])(file_sync(_data|_dir|_file_system)?|ring_sync|ring_write)[(]'

# Prints each call: line, function.
calls() {
    awk -v call="$CALL" '
        /^[a-z].*\(/ { name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
        $0 ~ call && !/^[a-z]/ { print NR, name }' "$1"
}

# Prints the lines of a file that some row replaces. One that puts as many calls back as it takes away is about something else.
replaced() {
    local content of search replacement before
    content=$(<"$1")
    while IFS=$'\t' read -r _ of search replacement _; do
        [ "$of" = "$1" ] || continue
        search=$(printf '%b' "$search")
        replacement=$(printf '%b' "$replacement")
        [ "$(grep -cE "$CALL" <<<"$search")" -gt "$(grep -cE "$CALL" <<<"$replacement")" ] || continue
        before=${content%%"$search"*}
        seq "$(($(wc -l <<<"$before")))" "$(($(wc -l <<<"$before$search")))"
    done < <(grep -vE '^(#|$)' tests/mutants.tsv)
}

status=0
used=$(mktemp)
trap 'rm -f "$used"' EXIT
for file in storage/*.c queue/*.c daemon/*.c cli/*.c; do
    grep -qE "$CALL" "$file" || continue
    lines=$(replaced "$file" | paste -sd ' ')
    while read -r line function; do
        [[ " $lines " != *" $line "* ]] || continue
        if grep -qE "^$file:$function: " "$ALLOW"; then
            echo "$file:$function" >>"$used"
            continue
        fi
        printf '%s:%s: no row of tests/mutants.tsv switches off this sync in %s()\n' "$file" "$line" "$function"
        status=1
    done < <(calls "$file")
done
# An excuse for what is not there any more would cover the next one.
while read -r entry; do
    grep -qxF "${entry%%: *}" "$used" || {
        printf '%s: nothing needs this any more: %s\n' "$ALLOW" "$entry"
        status=1
    }
done < <(grep -vE '^(#|$)' "$ALLOW")
exit $status
