#!/usr/bin/env bash
# servers.sh - starts one server as a relay for kilat-bench compare, and stops it again.
#
#   servers.sh kilatd|floor|postfix|postfix-tuned PORT SINK-PORT pipelined|lockstep
#
# The server takes mail on 127.0.0.1 PORT and hands all of it on to 127.0.0.1 SINK-PORT. When it accepts, one line comes on
# standard output: "ready PID..." with its processes; "absent REASON" when this machine cannot run it. It runs until standard
# input ends. Its state lies below /var/tmp (KILAT_STATE_BASE), on disk. BENCH_CGROUP, when set, is the cgroup it runs in.
set -euo pipefail

BENCH_FOLDER=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KILAT_TOP=$(dirname "$BENCH_FOLDER")
export KILAT_TOP KILAT_PRESET=${KILAT_PRESET:-release}
# shellcheck source=tests/e2e/lib.sh
. "$KILAT_TOP/tests/e2e/lib.sh"

# What is started between these two runs in the measured cgroup, with all its children; we ourselves do not.
cgroup_enter() {
    [ -z "${BENCH_CGROUP:-}" ] || echo "$BASHPID" >"$BENCH_CGROUP/cgroup.procs"
}
cgroup_leave() {
    [ -z "${BENCH_CGROUP:-}" ] || echo "$BASHPID" >"${BENCH_CGROUP%/*}/cgroup.procs"
}

absent() {
    printf 'absent %s\n' "$*"
    exit 0
}

server_kilatd() {
    kilat_configure server <<END
hostname = "kilatd.bench.test"
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.1:$port"}
route "*" { via = "127.0.0.1:$sink_port" }
dns_servers = {"127.0.0.1:9"}
allow_private_mail_hosts = true
log_file = "$STATE/server/delivery.log"
${KILAT_BENCH_SETTINGS:-}
END
    # The defaults of a busy server, not those of the tests.
    sed -i '/^segment_bytes\|^spare_segments/d' "$STATE/server/kilat.conf"
    : >"$STATE/server/delivery.log"
    kilat_own server
    cgroup_enter
    process_start server "$KILAT_BUILD/kilatd" --config "$STATE/server/kilat.conf"
    cgroup_leave
}

server_floor() {
    mkdir "$STATE/server"
    cgroup_enter
    process_start server "$KILAT_BUILD/kilat-bench" floor --listen "127.0.0.1:$port" --to "127.0.0.1:$sink_port" \
        --directory "$STATE/server" --pipelining "$([ "$mode" = lockstep ] && echo none || echo pipelined)"
    cgroup_leave
}

server_postfix() { # the folder of its configuration
    namespace_possible || absent "Postfix needs root and mount and pid namespaces"
    packages_unpack "${PACKAGES_POSTFIX[@]}" >&2
    cgroup_enter
    postfix_start server "$1" "$port" <<END
relayhost = [127.0.0.1]:$sink_port
${POSTFIX_BENCH_SETTINGS:-}
END
    cgroup_leave
}

# The processes of the server, of whatever it has started, one a line.
server_pids() {
    if [ -n "${BENCH_CGROUP:-}" ]; then
        cat "$BENCH_CGROUP/cgroup.procs"
    else
        pids_below "${PROCESS_PIDS[server]}"
    fi
}

pids_below() {
    local child
    echo "$1"
    for child in $(ps -o pid= --ppid "$1"); do
        pids_below "$child"
    done
}

main() {
    local name=$1
    port=$2 sink_port=$3 mode=$4
    state_create "bench-$name"
    case $name in
    kilatd) server_kilatd ;;
    floor) server_floor ;;
    postfix) server_postfix "$KILAT_TOP/tests/e2e/postfix" ;;
    postfix-tuned) server_postfix "$BENCH_FOLDER/postfix" ;;
    *) report_die "no server \"$name\"" ;;
    esac
    port_wait 127.0.0.1 "$port" 30
    # shellcheck disable=SC2046 # one word a process
    echo ready $(server_pids)
    cat >/dev/null # until our input ends
    process_stop server 2>/dev/null || true # bash tells of those that are killed
}

main "$@"
