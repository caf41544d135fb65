#!/usr/bin/env bash
# statics: no writable static or thread-local data in product objects, so that several servers can live in one
# process (the simulation runs them there). nm's letters: b B d D are static, C common, and in .tbss or .tdata
# they are thread-local. What stands in statics.allow is excused, each with its reason.
#
# Relocated constants (.data.rel.ro: const tables of pointers in position-independent code) are shown as d as
# well, but the loader makes them read-only, so they are told apart by their section.
set -euo pipefail
cd "$KILAT_TOP"

allow=tests/tidy/statics.allow
status=0
for library in build/release/libkilat_{core,door,proto,storage,queue,dns,settings,daemon}.a; do
    [ -e "$library" ] || { echo "$library is not built" && exit 1; }
    # A line of objdump: value, flags, section; a tab; size and name. Section symbols have no size of their own.
    found=$(objdump --syms "$library" | awk -F '\t' '
        /^[^ ]+: +file format/ { object = $1; sub(/:.*/, "", object) }
        NF == 2 {
            words = split($1, left, " "); split($2, right, " ")
            section = left[words]
            if (section ~ /^(\.t?(bss|data)|\*COM\*)/ && section !~ /^\.data\.rel\.ro/ && right[1] !~ /^0+$/)
                print object, right[length(right)]
        }')
    while read -r object symbol; do
        [ -n "$symbol" ] || continue
        # gcc adds a number to a static inside a function: name.0
        grep -qE "^${symbol%.[0-9]*}([[:space:]]|$)" "$allow" && continue
        printf '%s: writable static data: %s (in %s)\n' "$library" "$symbol" "$object"
        status=1
    done <<<"$found"
done
exit $status
