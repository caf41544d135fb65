# tests/lib/postfix.sh - Postfix, unpacked and never installed, in a private mount namespace.
#
# Postfix must run as root and wants its own users. In a mount namespace of its own /etc/passwd and /etc/group
# are bound to copies that hold them; the host's files never change. The package's programs are bound below
# $STATE too, because what gives up root could not reach a clone under a 0700 home. A pid namespace ends all its
# processes with the first. Sourced, never run.
# shellcheck shell=bash

# shellcheck source=tests/lib/state.sh
. "$(dirname "${BASH_SOURCE[0]}")/state.sh"
# shellcheck source=tests/lib/namespace.sh
. "$(dirname "${BASH_SOURCE[0]}")/namespace.sh"

# Starts a Postfix `name` with the configuration of `folder` (main.cf and master.cf, in which @ROOT@, @STATE@,
# @PORT@, @LOG@ and @LIBRARIES@ are filled in), listening on `port`; more lines for main.cf may stand on standard input.
# After namespace_possible. Its state is $STATE/NAME (queue/, data/, and mail/, owned by 63027); its log is $STATE/log/NAME-maillog.
postfix_start() {
    local name=$1 folder=$2 port=$3 home=$STATE/$1 root=$STATE/$1/root
    mkdir -p "$home"/{etc,queue,data,root,mail}
    chown 63027:63027 "$home/mail"
    chmod 0711 "$home" "$home/root"
    grep -vE '^(postfix|postdrop):' /etc/passwd >"$home/passwd" || true
    printf 'postfix:x:63025:63025::/nonexistent:/bin/false\n' >>"$home/passwd"
    grep -vE '^(postfix|postdrop):' /etc/group >"$home/group" || true
    printf 'postfix:x:63025:\npostdrop:x:63026:\n' >>"$home/group"
    sed -e "s|@ROOT@|$root|g; s|@STATE@|$home|g; s|@PORT@|$port|g; s|@LOG@|$STATE/log/$name-maillog|g; s|@LIBRARIES@|$(packages_library_path "$root")|g" \
        "$folder/main.cf" >"$home/etc/main.cf"
    [ -t 0 ] || cat >>"$home/etc/main.cf"
    sed -e "s|@ROOT@|$root|g; s|@STATE@|$home|g; s|@PORT@|$port|g" "$folder/master.cf" >"$home/etc/master.cf"
    PROCESS_SIGNALS[$name]=KILL # unshare ignores SIGTERM; with it all processes of its namespace end
    process_start "$name" unshare --mount --pid --fork --kill-child --propagation "$NAMESPACE_PROPAGATION" \
        bash "$KILAT_TOP/tests/lib/postfix_inside.sh" "$home" "$PACKAGES_ROOT" "$(packages_library_path "$root")"
    port_wait 127.0.0.1 "$port" 30
}

postfix_stop() {
    process_stop "$1" || true
}
