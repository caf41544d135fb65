#!/usr/bin/env bash
# layers: the include table of docs/architecture.md. Arrows go down only, a folder's insides are its own, and each library
# is confined to few files, so that it can be replaced in one place.
set -euo pipefail
cd "$KILAT_TOP"

declare -A allowed=(
    [core]='core/'
    [storage]='(core|storage)/'
    [proto]='(core|proto)/'
    [dns]='(core|dns)/'
    [queue]='(core|storage|queue)/'
    [daemon]='(core|storage|proto|dns|queue|daemon)/'
    [cli]='(core|storage|cli)/|daemon/(settings|users_file)|queue/envelope'
    [bench]='(core|proto|queue|storage|dns|bench)/'
)
# The settings table and the accounts file stand over core/ alone, because cli/ uses them too.
settings_allowed='core/|daemon/(settings|users_file)'

# Which files may include a library's headers, as extended regular expressions.
declare -A confined=(
    ['<liburing']='^core/ring'
    ['<linux/io_uring']='^core/ring'
    ['<openssl/']='^core/tls|^proto/(sasl|dkim)|^core/digest'
    ['<ldns/']='^(dns/dns_packet\.c|tests/.+)$'
    ['<confuse']='^core/setting'
    ['<jemalloc/']='^$'
    ['<criterion/']='^tests/(unit|planted)/'
)

status=0
complain() {
    printf '%s\n' "$*"
    status=1
}

includes() { # prints FILE:LINE:text of every include of our own, written from the root
    grep -nHE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$@" || true
}

for folder in "${!allowed[@]}"; do
    mapfile -t files < <(find "$folder" -name '*.[ch]' 2>/dev/null)
    [ ${#files[@]} -gt 0 ] || continue
    while IFS=: read -r file line text; do
        target=${text#*\"}
        target=${target%\"*}
        may=${allowed[$folder]}
        [[ $file =~ ^daemon/(settings|users_file) ]] && may=$settings_allowed
        [[ $target =~ ^($may) ]] || complain "$file:$line: $folder/ may not include \"$target\""
        [ -e "$target" ] || complain "$file:$line: \"$target\" is not a path from the root"
        if [[ $target == *_private.h && ${target%%/*} != "$folder" ]]; then
            complain "$file:$line: \"$target\" is for its siblings only"
        fi
    done < <(includes "${files[@]}")
done

mapfile -t all < <(find core storage proto dns queue daemon cli bench tests -name '*.[ch]' 2>/dev/null)
for library in "${!confined[@]}"; do
    while IFS=: read -r file line text; do
        [[ $file =~ ${confined[$library]} ]] || complain "$file:$line: only ${confined[$library]} may include $library...>"
    done < <(grep -nHF "#include $library" "${all[@]}" || true)
done

# tests/sim/ replaces the door as a whole; private headers of other folders are not for it either.
while IFS=: read -r file line text; do
    case $file in
    tests/unit/* | tests/sim/* | tests/fuzz/*) ;; # they may look inside what they test
    *) complain "$file:$line: a private header outside its folder: $text" ;;
    esac
done < <(find tests bench cli -name '*.[ch]' -exec grep -nHE '#include "[a-z]+/[a-z_0-9]*_private\.h"' {} + | grep -vE '^(bench|cli)/.*"(bench|cli)/' || true)
exit $status
