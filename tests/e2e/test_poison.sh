#!/usr/bin/env bash
# Goal: a message over which the server ends twice does not end it a third time. Each end leaves one line with build, shard,
# message and backtrace, in the log and in CRASHES; the message is put on hold and named, all others go on. An end from
# outside (kill -9) counts for nothing.
# Builds: kilatd-poisoned
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_poison
KILAT_PROGRAM=$KILAT_BUILD/tests/kilatd-poisoned
server_for_kawan kawan 127.0.0.47 </dev/null
log=$STATE/log/kawan.log
record=$STATE/kawan/spool/CRASHES

letter() { # sender
    talk 127.0.0.47 "$smtp_port" 'EHLO a.test' "MAIL FROM:<$1>" "RCPT TO:<$ANI>" DATA "Subject: dari $1\r\n\r\nisi\r\n." | tail -n 1
}
crash_lines() {
    grep -c 'event=kilatd\.crashed' "$1" || true
}
crashed() {
    ! process_alive kawan && [ "$(crash_lines "$record")" = "$1" ]
}

answer=$(letter racun@asing.test || true)
id=$(grep -oE '[0-9A-Z]{14}$' <<<"$answer" || true)
wait_until 20 'the first crash' crashed 1
[ -n "$id" ] || id=$(sed -nE 's/.* message=([0-9A-Z]{14}) .*/\1/p' "$record")
line=$(tail -n 1 "$record")
for field in "build=$("$KILAT_PROGRAM" --version | cut -d ' ' -f 2)" signal=SIGABRT shard=0 "message=$id"; do
    [[ " $line " == *" $field "* ]] || fail "the record has no $field: $line"
done
[[ $line == *' backtrace='*'+'* ]] || fail "the record has no backtrace: $line"
expect_equal 'lines in the log' 1 "$(crash_lines "$log")"
grep 'event=kilatd\.crashed' "$log" | has " message=$id " || fail 'the log does not name the message'

# An end from outside, at any time, makes nothing worse. (The server is up for a moment, or has ended by the message.)
unset "PROCESS_PIDS[kawan]"
kilat_start kawan || true
wait_until 20 'the second crash' crashed 2
unset "PROCESS_PIDS[kawan]"

kilat_start kawan
set_aside() {
    kilat_ctl kawan message show "$id" | has '^state +held'
}
wait_until 20 'the message to be on hold' set_aside
kilat_ctl kawan message show "$id" | has '^reason .*crash' || fail 'it is not said why it is held'
named() {
    grep 'event=queue\.set_aside' "$log" | has "id=$id"
}
wait_until 10 'the log to name it' named
answer=$(letter baik@asing.test)
[[ $answer == 250* ]] || fail "after that nothing is accepted: $answer"
wait_until 20 'another letter in the mailbox' pop3_holds 1 127.0.0.47 "$pop3_port" "$ANI" "$ANI_PASSWORD"
kilat_kill kawan

# Released by somebody who has looked at it, under a server without the fault, it is delivered; and it stays released.
unset KILAT_PROGRAM
kilat_start kawan
wait_until 20 'the message to be on hold still' set_aside
kilat_ctl kawan message release "$id"
wait_until 20 'the letter in the mailbox' pop3_holds 2 127.0.0.47 "$pop3_port" "$ANI" "$ANI_PASSWORD"
expect_equal 'crashes in the record' 2 "$(crash_lines "$record")"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
