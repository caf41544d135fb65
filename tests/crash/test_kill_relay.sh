#!/usr/bin/env bash
# Goal: a relay that is killed with kill -9 again and again loses no letter it answered 250 for, alters none, and sends
# one twice only if its final dot was sent and its outcome was not yet on disk when it was killed.
# Method: letters that can be checked are sent over many sessions and handed on to a sink, while the server is killed at
# drawn moments. After each kill the sink reads what was sent to it to the end, and the spool is read as it lies on disk:
# only what is unfinished there may arrive again, and nothing that the sink took longer ago than the window in which
# outcomes stay in memory may be unfinished there. For the second rule some lives end with a pause of the load that is
# longer than that: what the timer alone writes down has to be there as well.
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kills=${1:-50}
WINDOW_MS=3000 # J is flushed after 20 ms; the rest is for a machine whose disk is busy with other things
PAUSE_MS=3500
PAUSE_EVERY=$((kills > 400 ? kills / 40 : 5))
LETTERS_PER_LIFE=${LETTERS_PER_LIFE:-1000}
CRASH_SESSIONS=${CRASH_SESSIONS:-24}

sink_has_read_all() {
    [ "$(<"$STATE/received.open")" -eq 0 ]
}

pause_is_over() {
    [ $(($(report_now_ms) - pause_began_ms)) -ge "$PAUSE_MS" ]
}

crash_before_kill() { # number of the life
    if [ $(($1 % PAUSE_EVERY)) = 0 ]; then
        : >"$STATE/stop.pause"
        pause_began_ms=$(report_now_ms)
        wait_until 10 "the pause to end" pause_is_over
    fi
}

crash_between_lives() {
    local name=$1 killed_ms=$2
    wait_until 30 "the sink to read what was sent" sink_has_read_all
    printf '0 killed %d\n' "$killed_ms" >>"$STATE/received"
    "$LEDGER" spool "$STATE/$name/spool" >>"$STATE/received" || fail "the spool cannot be read after a kill"
    rm -f "$STATE/stop.pause"
}

state_create test_kill_relay
crash_seed
port=$(port_free)
sink_port=$(port_free)
: >"$STATE/received"
process_start sink "$LEDGER" sink "127.0.0.32:$sink_port" "$STATE/received"
kilat_configure relay <<END
hostname = "relay.test"
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.31:$port"}
pop3_listen = {}
log_level = "notice"
allow_private_mail_hosts = true
dns_servers = {"127.0.0.1:9"}
route "*" { via = "127.0.0.32:$sink_port" }
retry_first = 1s
site_backoff_first = 1s
END
kilat_start relay
crash_under_load relay "127.0.0.31:$port" siapa@sink.test "$kills"
kilat_stop relay || fail "kilatd did not end in good order"
awk -v window_ms="$WINDOW_MS" -f "$KILAT_TOP/tests/crash/explain_twice.awk" "$STATE/received" ||
    fail "a letter arrived twice, or may have, without a reason"
crash_judge "$STATE/received" "$(wc -l <"$STATE/received")" # how many may come twice was judged above, one by one
