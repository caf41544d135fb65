# tests/lib/kilat.sh - servers of ours for tests and the demo: configured, started, killed, asked.
#
# Each lives in $STATE/NAME: kilat.conf, users, spool/, mail/, control. Started as root it becomes user 63020, so
# what it writes belongs to that user from the beginning. Sourced, never run.
# shellcheck shell=bash

# shellcheck source=tests/lib/state.sh
. "$(dirname "${BASH_SOURCE[0]}")/state.sh"

KILAT_UID=63020
KILAT_BUILD=$KILAT_TOP/build/${KILAT_PRESET:-release}
declare -A KILAT_STARTS=()

# Writes the settings of `name`: what all our test servers share, then those on standard input.
kilat_configure() {
    local name=$1 home=$STATE/$1
    mkdir -p "$home"/{spool,mail}
    chmod 0711 "$home"
    {
        cat <<END
user = "$KILAT_UID"
spool_directory = "$home/spool"
mail_directory = "$home/mail"
users_file = "$home/users"
control_socket = "$home/control"
# Small segments start faster; a busy server keeps the defaults.
segment_bytes = 16M
spare_segments = 1
shards = ${KILAT_SHARDS:-1}
END
        cat
    } >"$home/kilat.conf"
    : >>"$home/users"
    kilat_own "$name"
}

# Gives the home of `name`, or that entry of it alone, to the user the server becomes. Only what a running server leaves alone:
# below its spool, files go while one looks.
kilat_own() { # name [entry]
    [ "$(id -u)" != 0 ] || chown -R "$KILAT_UID:$KILAT_UID" "$STATE/$1${2:+/$2}"
}

# Adds the account `address` with `password` to the accounts of `name`.
kilat_user() {
    local name=$1 address=$2 password=$3
    printf '%s\n' "$password" | "$KILAT_BUILD/kilatctl" user add --file "$STATE/$name/users" "$address"
    kilat_own "$name" users
}

kilat_ready_lines() {
    grep -c 'event=kilatd\.ready' "$STATE/log/$1.log" 2>/dev/null || true
}

kilat_is_ready() {
    [ "$(kilat_ready_lines "$1")" -ge "${KILAT_STARTS[$1]}" ]
}

# Ready, or not going to be: in both cases there is nothing to wait for.
kilat_decided() {
    kilat_is_ready "$1" || ! process_alive "$1"
}

# Starts `name` and waits until it says that it accepts. KILAT_UNDER: a command to run it under, "prlimit ..." for one;
# KILAT_PROGRAM: another kilatd.
kilat_start() {
    local name=$1 under=()
    read -ra under <<<"${KILAT_UNDER:-}"
    KILAT_STARTS[$name]=$(($(kilat_ready_lines "$name") + 1))
    process_start "$name" "${under[@]}" "${KILAT_PROGRAM:-$KILAT_BUILD/kilatd}" --config "$STATE/$name/kilat.conf"
    wait_until "${KILAT_START_S:-30}" "kilatd $name to be ready" kilat_decided "$name"
    kilat_is_ready "$name" || {
        report_say "kilatd $name did not start: $(tail -n 1 "$STATE/log/$name.log")"
        return 1
    }
}

kilat_stop() {
    local name=$1 difference
    # Nothing came that has not gone or is not here, to the recipient, whatever the test has done.
    difference=$(timeout 20 "$KILAT_BUILD/kilatctl" --socket "$STATE/$name/control" status 2>/dev/null |
        awk '$1 == "spool" { spool = $2 } $1 == "spool_difference" && $2 != 0 { print spool ": " $2 }') || true
    process_stop "$name" || return
    [ -z "$difference" ] || {
        report_say "kilatd $name: recipients that are unaccounted for, by spool: $difference"
        return 1
    }
}

# As a power cut of the process: kill -9.
kilat_kill() {
    process_kill "$1"
}

# Asks `name` by its control socket.
kilat_ctl() {
    local name=$1
    shift
    "$KILAT_BUILD/kilatctl" --socket "$STATE/$name/control" "$@"
}

# The ids in the queue of `name`, one a line, sorted.
kilat_queue_ids() {
    kilat_ctl "$1" --json queue list | grep -oE '"id": ?"[^"]+"' | cut -d '"' -f 4 | sort
}

# All that its spools held before the start is known again.
kilat_spools_are_ready() {
    kilat_ctl "$1" status | has '^spools_not_ready +0$'
}

kilat_queue_is_empty() {
    kilat_spools_are_ready "$1" && [ -z "$(kilat_queue_ids "$1")" ]
}

kilat_queue_holds() {
    [ "$(kilat_queue_ids "$1" | wc -l)" -ge "$2" ]
}

# --- POP3, by curl ------------------------------------------------------------------------------------------------

# pop3 ADDRESS PORT USER PASSWORD [COMMAND [MESSAGE]]: LIST without a command.
pop3() {
    local address=$1 port=$2 user=$3 password=$4 command=${5:-} message=${6:-} more=()
    [ -z "$command" ] || more+=(--request "$command")
    [ "$command" != DELE ] || more+=(--head) # its answer is one line, and curl has to be told
    curl --silent --show-error --max-time 20 --user "$user:$password" "${more[@]}" "pop3://$address:$port/$message"
}

# How many messages lie in the mailbox.
pop3_count() {
    pop3 "$@" | grep -c '^[0-9]' || true
}

pop3_holds() { # count ADDRESS PORT USER PASSWORD
    local wanted=$1
    shift
    [ "$(pop3_count "$@")" -ge "$wanted" ]
}
