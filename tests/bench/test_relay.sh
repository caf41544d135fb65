#!/usr/bin/env bash
# Goal: what is exact about a relayed letter: each one accepted arrives once and unaltered, its body is copied at most once in
# user space, and it costs at most 8 system calls. Times are noisy and gate nothing here. Method: kilat-bench load, one kilatd,
# kilat-bench sink; the counters are the server's own.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

rounds=${1:-1}
LETTERS=20000
state_create test_relay
port=$(port_free)
sink_port=$(port_free)
process_start sink "$KILAT_BUILD/kilat-bench" sink --listen "127.0.0.52:$sink_port" --ledger "$STATE/received"
port_wait 127.0.0.52 "$sink_port"
kilat_configure relay <<END
hostname = "relay.test"
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.51:$port"}
pop3_listen = {}
allow_private_mail_hosts = true
dns_servers = {"127.0.0.1:9"}
route "*" { via = "127.0.0.52:$sink_port" }
log_level = "notice"
END
kilat_start relay

counter() {
    kilat_ctl relay --json status | grep -oE "\"$1\": [0-9]+" | grep -oE '[0-9]+$'
}
delivered_all() {
    [ "$(counter delivered)" -ge "$1" ]
}

for ((round = 1; round <= rounds; round++)); do
    delivered=$(counter delivered)
    copied=$(counter body_copied_bytes)
    bodies=$(counter body_bytes)
    calls=$(counter syscalls)
    "$KILAT_BUILD/kilat-bench" load --to "127.0.0.51:$port" --from a@bench.test --rcpt b@bench.test --sessions 20 --size 4096 \
        --messages "$LETTERS" --first-id $(((round - 1) * LETTERS)) --ledger "$STATE/sent"
    wait_until 60 "$LETTERS letters to be delivered" delivered_all $((delivered + LETTERS))
    copied=$(($(counter body_copied_bytes) - copied))
    bodies=$(($(counter body_bytes) - bodies))
    calls=$(($(counter syscalls) - calls))
    printf 'round %d: %d letters, %d.%02d copies per body byte, %d.%02d system calls per letter\n' "$round" "$LETTERS" \
        $((copied / bodies)) $((copied * 100 / bodies % 100)) $((calls / LETTERS)) $((calls * 100 / LETTERS % 100))
    [ "$copied" -le "$bodies" ] || fail "a body byte is copied more than once"
    [ "$calls" -le $((8 * LETTERS)) ] || fail "a letter costs more than 8 system calls"
done
kilat_stop relay || fail "SIGTERM did not end kilatd in good order"
process_stop sink || fail "the sink says that letters were altered: $(tail -n 3 "$STATE/log/sink.log")"
tail -n 5 "$STATE/log/sink.log"
expect_equal 'letters at the sink' $((rounds * LETTERS)) "$(grep -c ' ok$' "$STATE/received")"
expect_equal 'altered or doubled letters' 0 "$(grep -cv ' ok$' "$STATE/received" || true)"
