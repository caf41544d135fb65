#!/usr/bin/env bash
# Goal: local delivery is exactly once over kill -9: each letter answered 250 lies in the Maildir once, unaltered, none
# twice and none in tmp/. Method: as test_kill_relay.sh, with a mailbox for the sink.
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kills=${1:-30}
state_create test_kill_local
crash_seed
port=$(port_free)
kilat_configure local <<END
hostname = "surat.kawan.test"
local_domains = {"kawan.test"}
smtp_listen = {"127.0.0.33:$port"}
pop3_listen = {}
dns_servers = {"127.0.0.1:9"}
END
kilat_user local fadli@kawan.test rahasia
kilat_start local
crash_under_load local "127.0.0.33:$port" fadli@kawan.test "$kills"
kilat_stop local || fail "kilatd did not end in good order"
"$LEDGER" read "$STATE/local/mail/kawan.test/fadli" >"$STATE/received"
crash_judge "$STATE/received" 0
left=$(find "$STATE/local/mail/kawan.test/fadli/tmp" -type f | wc -l)
expect_equal "files left in tmp/" 0 "$left"
