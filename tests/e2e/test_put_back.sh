#!/usr/bin/env bash
# Goal: a spool that was put back from a copy does not send old mail again by itself: it starts on hold, says so in the log
# and in status, takes new mail meanwhile, stays so over starts, and goes on when it is accepted.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_put_back
server_for_kawan kawan 127.0.0.50 </dev/null
home=$STATE/kawan
log=$STATE/log/kawan.log

letter() { # subject
    talk 127.0.0.50 "$smtp_port" 'EHLO a.test' 'MAIL FROM:<x@asing.test>' "RCPT TO:<$ANI>" DATA "Subject: $1\r\n\r\nisi\r\n." | tail -n 1 | has '^250' || fail "letter $1 was not taken"
}
spool_status() {
    kilat_ctl kawan status | awk -v name="$1" '$1 == name { $1 = ""; print substr($0, 2) }'
}
state_is() {
    [ "$(spool_status spool_state)" = "$1" ]
}
mailbox_holds() {
    pop3_holds "$1" 127.0.0.50 "$pop3_port" "$ANI" "$ANI_PASSWORD"
}

# A letter that waits (a file lies where its mailbox belongs), a copy of the spool, and then its delivery.
wait_until 20 'the spool to be ready' state_is ready
: >"$home/mail/kawan.test"
letter pertama
kilat_stop kawan
cp -a "$home/spool/0000" "$STATE/copy"
rm "$home/mail/kawan.test"
kilat_start kawan
wait_until 20 'the spool to be ready' state_is ready
kilat_ctl kawan message retry "$(kilat_queue_ids kawan)" >/dev/null
wait_until 20 'the first letter in the mailbox' mailbox_holds 1
pop3 127.0.0.50 "$pop3_port" "$ANI" "$ANI_PASSWORD" DELE 1 >/dev/null
kilat_stop kawan

rm -r "$home/spool/0000"
cp -a "$STATE/copy" "$home/spool/0000"
kilat_start kawan
wait_until 20 'the spool to be on hold' state_is 'on hold'
spool_status spool_reason | has 'may send old mail again: kilatctl spool accept' || fail 'status does not say why'
grep 'event=spool\.on_hold' "$log" | has 'older than the server last left it' || fail 'the log does not say why'
letter kedua
wait_until 20 'a new letter in the mailbox' mailbox_holds 1
kilat_stop kawan || fail 'a server with a spool on hold did not end in good order'
kilat_start kawan
wait_until 20 'the spool to be on hold still' state_is 'on hold'
expect_equal 'letters in the mailbox' 1 "$(pop3_count 127.0.0.50 "$pop3_port" "$ANI" "$ANI_PASSWORD")"
status=0
kilat_ctl kawan spool accept 7 2>"$STATE/said" || status=$?
expect_equal 'the exit status for a spool that is not there' 1 "$status"
kilat_ctl kawan spool accept 0 >/dev/null
wait_until 20 'the spool to be ready' state_is ready
kilat_ctl kawan message retry "$(kilat_queue_ids kawan)" >/dev/null
wait_until 20 'the old letter once more' mailbox_holds 2
status=0
kilat_ctl kawan spool accept 0 2>"$STATE/said" || status=$?
expect_equal 'the exit status for a spool that is not on hold' 1 "$status"
kilat_stop kawan
kilat_start kawan
wait_until 20 'the spool to be ready' state_is ready

# A marker that cannot be read is told and made anew.
kilat_stop kawan
sed -i 's/uuid=...../uuid=00000/' "$home/spool/0000.mark"
kilat_start kawan
wait_until 20 'a damaged marker to be told' grep -q 'event=spool\.marker_unreadable' "$log"
wait_until 20 'the spool to be ready' state_is ready
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
