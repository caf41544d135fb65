# tests/lib/state.sh - a place for the state of servers, the servers themselves, and waiting for events.
#
# State lives in a 0711 folder made by mktemp on disk (/var/tmp, or KILAT_STATE_BASE): the clone may lie under a
# 0700 home, and servers which give up root still have to reach what is theirs; a spool on tmpfs is refused.
# Sourced, never run.
# shellcheck shell=bash

# shellcheck source=tests/lib/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

declare -A PROCESS_PIDS=()
declare -A PROCESS_SIGNALS=() # how to end a process, where it is not by SIGTERM
STATE=''

# Makes $STATE, and has everything started below it stopped and removed when the script ends.
state_create() {
    STATE=$(mktemp -d "${KILAT_STATE_BASE:-/var/tmp}/kilat-$1.XXXXXX")
    chmod 0711 "$STATE"
    mkdir "$STATE/log"
    STATE_NAME=$1
    trap state_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

state_end() {
    local status=$? name
    trap - EXIT INT TERM
    for name in "${!PROCESS_PIDS[@]}"; do
        process_stop "$name" || true
    done
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then
        state_keep_logs
    fi
    if [ -n "${KILAT_KEEP_STATE:-}" ]; then
        report_say "state kept in $STATE"
    else
        # What a test mounted in its own namespace goes first, or it would be emptied instead.
        awk -v below="$STATE/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r -n 1 umount
        rm -rf "$STATE"
    fi
    exit "$status"
}

# After a failure: the logs go where they outlive the state, and their ends are shown.
state_keep_logs() {
    local kept=${SUITE_LOGS:-$KILAT_TOP/build/$STATE_NAME}/$STATE_NAME-logs file
    rm -rf "$kept"
    mkdir -p "$kept"
    cp -r "$STATE"/log/. "$kept/"
    for file in "$kept"/*; do
        [ -s "$file" ] || continue
        report_say "-- the end of $file"
        tail -n 15 "$file" >&2
    done
}

# A pipe that nothing is ever written to. One for all: bash keeps the number of each process it once started for such a
# pipe, and after some ten thousand of them takes a server with the same number for it, and waits for that for ever.
exec {STATE_SILENCE}<> <(:)

# A moment between two looks at something that has no way to call us.
state_moment() {
    read -rt 0.05 -u "$STATE_SILENCE" || true
}

# Waits until COMMAND succeeds, at most `seconds`; says what was waited for when it never does.
wait_until() {
    local seconds=$1 what=$2 deadline_ms
    shift 2
    deadline_ms=$(($(report_now_ms) + seconds * 1000))
    until "$@" >/dev/null 2>&1; do
        if [ "$(report_now_ms)" -ge "$deadline_ms" ]; then
            report_say "waited $seconds s in vain for: $what"
            return 1
        fi
        state_moment
    done
}

# Whether standard input matches the extended regular expression (`has -i`: without case). Reads all of it: `grep -q` stops at
# the first match, and whoever is still writing then ends by SIGPIPE, which pipefail takes for a failure.
has() {
    local all options=-qE
    [ "$1" != -i ] || { options=-qiE && shift; }
    all=$(cat)
    grep "$options" -- "$1" <<<"$all"
}

# Starts COMMAND in the background as `name`, its output going to $STATE/log/NAME.log (appended).
process_start() {
    local name=$1
    shift
    "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null {STATE_SILENCE}<&- &
    PROCESS_PIDS[$name]=$!
}

process_alive() {
    [ -n "${PROCESS_PIDS[$1]:-}" ] && kill -0 "${PROCESS_PIDS[$1]}" 2>/dev/null
}

process_gone() {
    ! kill -0 "$1" 2>/dev/null
}

# Ends `name` in good order (SIGTERM), after 20 s by SIGKILL. Returns its exit status.
process_stop() {
    local name=$1 pid=${PROCESS_PIDS[$1]:-} status=0
    [ -n "$pid" ] || return 0
    unset "PROCESS_PIDS[$name]"
    kill -"${PROCESS_SIGNALS[$name]:-TERM}" "$pid" 2>/dev/null || true
    if ! wait_until "${PROCESS_STOP_S:-20}" "$name to end" process_gone "$pid"; then
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        return 1
    fi
    wait "$pid" 2>/dev/null || status=$?
    return "$status"
}

# Ends `name` as a power cut would, and waits until it is gone.
process_kill() {
    local name=$1 pid=${PROCESS_PIDS[$1]}
    unset "PROCESS_PIDS[$name]"
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
}

# Prints a port that nothing listens on, on any address, for TCP and UDP; below the range the kernel takes
# ports of outgoing connections from. Not the same one twice in a script.
port_free() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        [[ " ${PORTS_GIVEN:-} " != *" $port "* ]] || continue
        [ -z "$(ss -Hlntu "sport = :$port")" ] || continue
        PORTS_GIVEN="${PORTS_GIVEN:-} $port"
        printf '%s' "$port"
        return
    done
}

port_listens() {
    (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

# Waits until TCP `port` of `address` accepts connections.
port_wait() {
    wait_until "${3:-20}" "a listener on $1 port $2" port_listens "$1" "$2"
}
