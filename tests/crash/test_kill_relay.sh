#!/usr/bin/env bash
# Goal: a relay that is killed with kill -9 again and again loses no letter it answered 250 for and alters none.
# Method: letters that can be checked are sent over 8 sessions and handed on to a sink, while the server is killed at
# drawn moments. A letter arrives twice only if its final dot was sent and its outcome was not yet on disk: in one life
# that is bounded by the outgoing sessions with a few letters each in the pipeline.
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kills=${1:-30}
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
allow_private_mail_hosts = true
dns_servers = {"127.0.0.1:9"}
route "*" { via = "127.0.0.32:$sink_port" }
retry_first = 1s
site_backoff_first = 1s
END
kilat_start relay
crash_under_load relay "127.0.0.31:$port" siapa@sink.test "$kills"
crash_judge "$STATE/received" $((kills * 200))
kilat_stop relay || fail "kilatd did not end in good order"
