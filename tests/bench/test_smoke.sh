#!/usr/bin/env bash
# Goal: what is exact about the bench holds: every letter that kilatd answers 250 reaches the sink, once and unaltered; a body
# is copied once at most; a message costs at most 8 system calls; `compare` writes the keys that programs rely on.
# Method: load -> kilatd -> sink with ledgers on both ends, then one short `compare` of kilatd and the floor.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

ROUNDS=${1:-1}
MESSAGES=5000
BENCH=$KILAT_BUILD/kilat-bench

state_create test_smoke
smtp_port=$(port_free)
sink_port=$(port_free)

# --- every letter, unaltered --------------------------------------------------------------------------------------

process_start sink "$BENCH" sink --listen "127.0.0.1:$sink_port" --ledger "$STATE/received"
port_wait 127.0.0.1 "$sink_port"
kilat_configure relay <<END
hostname = "relay.bench.test"
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.1:$smtp_port"}
route "*" { via = "127.0.0.1:$sink_port" }
dns_servers = {"127.0.0.1:9"}
END
kilat_start relay

hand_over() { # OPTION... of load; the sessions' ledgers are gathered
    "$BENCH" load --to "127.0.0.1:$smtp_port" --ledger "$STATE/ledger" "$@"
    cat "$STATE/ledger" >>"$STATE/promised"
}
hand_over --sessions 20 --messages $MESSAGES
hand_over --sessions 20 --messages 1000 --pipelining none
hand_over --sessions 5 --messages 50 --size 300000
hand_over --sessions 10 --messages 200 --size 640 --messages-per-session 3
wait_until 60 'the queue to drain' kilat_queue_is_empty relay
expect_equal 'letters promised' 6250 "$(wc -l <"$STATE/promised")"
diff <(cut -d ' ' -f 1,2 "$STATE/promised" | sort) <(grep ' ok$' "$STATE/received" | cut -d ' ' -f 1,2 | sort) >"$STATE/missing" ||
    fail "promised and received differ: $(head -n 3 "$STATE/missing")"
expect_equal 'letters altered or come twice' 0 "$(grep -vc ' ok$' "$STATE/received" || true)"

# --- copies ---------------------------------------------------------------------------------------------------------

counter() {
    kilat_ctl relay --json status | grep -oE "\"$1\": ?[0-9]+" | grep -oE '[0-9]+$'
}
bodies=$(counter body_bytes)
copied=$(($(counter body_copied_bytes) + $(counter body_compacted_bytes)))
echo "bodies $bodies octets, copied $copied"
[ "$bodies" -gt $((MESSAGES * 4096)) ] || fail "the server counts $bodies octets of bodies"
[ "$copied" -le "$bodies" ] || fail "a body was copied more than once: $copied octets for $bodies"
kilat_stop relay
process_stop sink

# --- compare --------------------------------------------------------------------------------------------------------

"$BENCH" compare --rounds "$ROUNDS" --seconds 1 --servers kilatd,floor --json "$STATE/result.json"
for key in scenario server round delivered_per_s cpu_us_per_message syscalls_per_message accept_p50_us accept_p99_us disturbed; do
    expect_equal "runs with $key" $((4 * ROUNDS)) "$(grep -c "\"$key\": " "$STATE/result.json")"
done
grep '"server": "kilatd"' "$STATE/result.json" | grep -oE '"syscalls_per_message": [0-9a-z.]+' | awk '
    $2 == "null" { print "system calls cannot be counted on this machine"; next }
    { print "system calls per message:", $2 }
    $2 > 8 { bad = 1 }
    END { exit bad }' || fail "more than 8 system calls per message"

# --- what is refused ------------------------------------------------------------------------------------------------

refused() { # wanted status, ARGUMENT...
    local wanted=$1 status=0
    shift
    "$BENCH" "$@" >"$STATE/said" 2>&1 || status=$?
    expect_equal "the exit status of kilat-bench $*" "$wanted" "$status"
    [ -s "$STATE/said" ] || fail "kilat-bench $* says nothing"
}
refused 64
refused 64 nonsense
refused 64 load
refused 64 load --to 127.0.0.1
refused 64 load --to 127.0.0.1:25 --sessions 0
refused 64 load --to 127.0.0.1:25 --size 12
refused 64 load --to 127.0.0.1:25 --pipelining perhaps
refused 64 load --to
refused 64 sink
refused 64 compare --servers kilatd,nothing
refused 64 compare --scenario relay-5k
refused 1 load --to "127.0.0.1:$(port_free)" --messages 1 --sessions 200 # nobody is there
