#!/usr/bin/env bash
# Goal: where something runs out, sessions give way and the server goes on: descriptors, receive buffers, memory for bodies,
# sessions of one address, sessions of the control socket. Method: kilat-hostile brings crowds against servers with little of
# each; what was accepted is counted in the mailbox.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -gt 4096 ] || skip "at most $(ulimit -Hn) open files are allowed here"
state_create test_pressure
preset=${KILAT_PRESET:-release}

hostile() { # name, CASE, ARGUMENT...
    local name=$1
    shift
    "$KILAT_BUILD/tests/kilat-hostile" 127.0.0.51 "$smtp_port" "$pop3_port" "$STATE/$name/control" "$@"
}
# One figure of `kilatctl status`.
figure() {
    kilat_ctl "$1" --json status | grep -oE "\"$2\": ?[0-9]+" | grep -oE '[0-9]+$'
}
memory_kib() {
    awk '/^VmRSS/ { print $2 }' "/proc/${PROCESS_PIDS[$1]}/status"
}

ctl_answers() { # name
    timeout 10 "$KILAT_BUILD/kilatctl" --socket "$STATE/$1/control" status >/dev/null
}

# A crowd: kilat-hostile in the background, which stands when it says "ready", and then goes on or ends.
crowd_begin() { # name, CASE, ARGUMENT...
    rm -f "$STATE/go"
    mkfifo "$STATE/go"
    exec 6<>"$STATE/go"
    : >"$STATE/said"
    hostile "$@" <"$STATE/go" >"$STATE/said" 6>&- &
    crowd=$!
    wait_until 60 "the crowd of $2" crowd_stands
    grep -q '^ready' "$STATE/said" || fail "$2: the crowd did not form"
}
crowd_stands() {
    grep -q '^ready' "$STATE/said" || ! kill -0 "$crowd" 2>/dev/null
}
crowd_goes_on() {
    echo >&6
    exec 6>&-
    wait "$crowd" || fail "the crowd met something unexpected"
}
crowd_is_cut() {
    kill -KILL "$crowd"
    wait "$crowd" 2>/dev/null || true
    exec 6>&-
}

letter_is_taken() {
    swaks --server 127.0.0.51 --port "$smtp_port" --from "$BUDI" --to "$ANI" --body 'masih di sini' --hide-all
}
still_serves() { # name, letters in the mailbox afterwards
    wait_until 10 "$1 to take a letter" letter_is_taken || fail "$1 takes no letters any more"
    wait_until 30 'all letters to be delivered' kilat_queue_is_empty "$1"
    hostile "$1" mailbox "$2"
}

# Descriptors: 600 connections at a server that may have 256. It says 421 while it can, keeps some back for who administrates
# it, and serves as before when they are gone.
if command -v prlimit >/dev/null; then
    KILAT_UNDER='prlimit --nofile=256:256' server_for_kawan sempit 127.0.0.51 </dev/null
    crowd_begin sempit flood 600
    ctl_answers sempit || fail "kilatctl has no answer while descriptors are scarce"
    crowd_is_cut
    still_serves sempit 1
    kilat_stop sempit || fail "SIGTERM did not end kilatd in good order"
fi

# Receive buffers: 16 of them, and 60 letters that have all begun. Each can end, and none is lost.
server_for_kawan sedikit 127.0.0.51 <<END
receive_buffers = 16
receive_buffer_bytes = 2K
END
crowd_begin sedikit bodies 60,6400,128000
compacted=$(figure sedikit bodies_compacted)
[ "$compacted" -gt 0 ] || fail "no body gave its buffers back"
crowd_goes_on
wait_until 30 'all letters to be delivered' kilat_queue_is_empty sedikit
hostile sedikit mailbox 60

# Whoever does not read what he is told holds no buffers either.
crowd_begin sedikit stalled 60
expect_equal 'receive buffers that are free' "$(figure sedikit receive_buffers)" "$(figure sedikit receive_buffers_free)"
still_serves sedikit 1
crowd_is_cut

# One address: so many sessions of a shard and no more.
kilat_stop sedikit || fail "SIGTERM did not end kilatd in good order"
KILAT_SHARDS=1 server_for_kawan sesak 127.0.0.51 <<END
sessions_per_address_max = 20
END
hostile sesak one-address 20 || fail "sessions_per_address_max does not hold"

# The control socket: half requests, more than it keeps sessions for.
crowd_begin sesak control-half
ctl_answers sesak || fail "kilatctl has no answer beside half requests"
crowd_is_cut
kilat_stop sesak || fail "SIGTERM did not end kilatd in good order"

# Memory: as little as may be set, and 500 letters of 5 MB of which 1 MB has arrived.
sessions=500
[ "$preset" = release ] || sessions=50
server_for_kawan miskin 127.0.0.51 <<END
memory_max = 16M
sessions_per_address_max = 1000
END
before=$(memory_kib miskin)
crowd_begin miskin bodies "$sessions,1048576,5242880"
grown=$(($(memory_kib miskin) - before))
echo "$sessions letters of 5 MB, of which 1 MB has arrived: $grown KiB, $(figure miskin bodies_logged_early) bodies logged early"
[ "$preset" != release ] || [ "$grown" -lt 81920 ] || fail "bodies take $grown KiB although memory_max is 16M"
[ "$(figure miskin held_bytes)" -le $((20 << 20)) ] || fail "bodies hold more than memory_max, and than one buffer each"
crowd_is_cut
still_serves miskin 1
kilat_stop miskin || fail "SIGTERM did not end kilatd in good order"
