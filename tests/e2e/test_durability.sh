#!/usr/bin/env bash
# Goal: what a 250 promises is said where it is given: in its text, in the log line and in the counters. A listener is
# synced unless the settings say the long word.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_durability
cached_port=$(port_free)
server_for_kawan kawan 127.0.0.46 <<END
smtp_listen_cached = {"127.0.0.46:$cached_port"}
END

# Prints the answer to the end of a letter that is given to `port`.
last_answer() {
    local port=$1
    talk 127.0.0.46 "$port" 'EHLO a.test' 'MAIL FROM:<x@asing.test>' "RCPT TO:<$ANI>" DATA 'Subject: satu\r\n\r\nsatu\r\n.' | tail -n 1
}
status() {
    kilat_ctl kawan status | awk -v name="$1" '$1 == name { print $2 }'
}

answer=$(last_answer "$smtp_port")
[[ $answer == '250 2.0.0 '*'on disk'* && $answer != *NOT* ]] || fail "synced: the 250 says \"$answer\""
answer=$(last_answer "$cached_port")
[[ $answer == '250 2.0.0 '*'NOT flushed'*'lost if this machine crashes'* ]] || fail "cached: the 250 says \"$answer\""
answer=$(last_answer "$cached_port")

expect_equal 'accepted, synced' 1 "$(status accepted_synced)"
expect_equal 'accepted, cached' 2 "$(status accepted_cached)"
expect_equal 'accepted' 3 "$(status messages_accepted)"
log=$STATE/log/kawan.log
accepted_lines() {
    [ "$(grep -c 'event=message\.accepted' "$log")" -ge "$1" ]
}
wait_until 10 'three letters in the log' accepted_lines 3
expect_equal 'log lines, synced' 1 "$(grep 'event=message\.accepted' "$log" | grep -c 'durability=synced')"
expect_equal 'log lines, cached' 2 "$(grep 'event=message\.accepted' "$log" | grep -c 'durability=cached')"

# Written is enough for the end of the process: nothing accepted is lost by kill -9.
kilat_kill kawan
kilat_start kawan
wait_until 20 'three letters in the mailbox' pop3_holds 3 127.0.0.46 "$pop3_port" "$ANI" "$ANI_PASSWORD"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
