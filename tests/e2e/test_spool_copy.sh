#!/usr/bin/env bash
# Goal: `kilatctl spool copy` makes a consistent copy of a spool under load: every letter that was accepted before it began
# is in it whole, the server goes on, the copy starts elsewhere on hold and delivers when it is accepted. What is no place
# for a copy is said.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_spool_copy
server_for_kawan kawan 127.0.0.53 </dev/null
home=$STATE/kawan

letter() { # subject
    talk 127.0.0.53 "$smtp_port" 'EHLO a.test' 'MAIL FROM:<x@asing.test>' "RCPT TO:<$ANI>" DATA "Subject: $1\r\n\r\nisi $1\r\n." | tail -n 1 | has '^250' || fail "letter $1 was not taken"
}
more_letters() {
    local i
    for i in $(seq 1000); do
        [ ! -e "$STATE/enough" ] || return 0
        letter "nanti-$i" 2>/dev/null || return 0
    done
}
mkdir "$STATE/out"
kilat_own out
: >"$home/mail/kawan.test" # where the mailboxes belong: every letter waits
kilat_own kawan mail
for i in $(seq 20); do
    letter "dulu-$i"
done
kilat_queue_ids kawan >"$STATE/before"
more_letters &
load=$!
kilat_ctl kawan spool copy 0 "$STATE/out" | has 'out/0000: [0-9]+ bytes' || fail 'the copy was not made'
touch "$STATE/enough"
wait "$load" || true
"$KILAT_BUILD/kilatctl" spool check "$STATE/out/0000" >"$STATE/checked" || fail "the copy is damaged: $(cat "$STATE/checked")"

said() { # pattern, then the arguments of kilatctl
    local pattern=$1 status=0
    shift
    kilat_ctl kawan "$@" >"$STATE/said" 2>&1 || status=$?
    [ "$status" != 0 ] || fail "$*: done, and should have been refused"
    has "$pattern" <"$STATE/said" || fail "$*: expected \"$pattern\", got: $(cat "$STATE/said")"
}
said 'has to be a new one' spool copy 0 "$STATE/out"
said 'there is no such spool' spool copy 5 "$STATE/out"
said 'no number of a spool' spool copy x "$STATE/out"
said 'the copy was not made: No such file' spool copy 0 "$STATE/tidak/ada"
[ "$(id -u)" != 0 ] || { mkdir -m 0700 "$STATE/root" && said 'has to be able to write there' spool copy 0 "$STATE/root"; }
letter 'sesudahnya'
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"

# The copy, started in the place of the spool by a server that has never seen it.
rm -r "$home/spool" "$home/mail/kawan.test"
mv "$STATE/out" "$home/spool"
kilat_own kawan
kilat_start kawan
kilat_ctl kawan status | has '^spool_state +on hold' || fail 'a copy begins to deliver by itself'
kilat_ctl kawan spool accept 0 >/dev/null
all_are_back() {
    kilat_queue_ids kawan >"$STATE/after"
    [ -z "$(comm -23 "$STATE/before" "$STATE/after")" ]
}
wait_until 20 'the letters of before to be in the queue of the copy' all_are_back
spool_is_ready() {
    kilat_ctl kawan status | has '^spool_state +ready'
}
wait_until 20 'the copy to be read whole' spool_is_ready
while read -r id; do
    kilat_ctl kawan message retry "$id" >/dev/null || true
done <"$STATE/after"
wait_until 20 'all of them in the mailbox' pop3_holds 20 127.0.0.53 "$pop3_port" "$ANI" "$ANI_PASSWORD"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
