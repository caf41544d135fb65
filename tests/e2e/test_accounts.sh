#!/usr/bin/env bash
# Goal: an accounts file that is missing, cannot be read or was half written loses nobody's mail: recipients are told 451, never
# 550, or found in the table that was read before; what has been accepted meanwhile waits. When the file is whole again, it counts.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_accounts
smtp_port=$(port_free)
pop3_port=$(port_free)
kilat_configure kawan <<END
hostname = "surat.kawan.test"
local_domains = {"kawan.test"}
smtp_listen = {"127.0.0.52:$smtp_port"}
pop3_listen = {"127.0.0.52:$pop3_port"}
dns_servers = {"127.0.0.1:9"}
END
users=$STATE/kawan/users

answer_for() { # recipient
    talk 127.0.0.52 "$smtp_port" 'EHLO a.test' 'MAIL FROM:<x@asing.test>' "RCPT TO:<$1>" QUIT | sed -n '/^250 2\.1\.0/{n;s/ .*//p}'
}
is_answer() { # recipient, code
    [ "$(answer_for "$1")" = "$2" ]
}
letter_for() {
    swaks --server 127.0.0.52 --port "$smtp_port" --from x@asing.test --to "$1" --body "$2" --hide-all
}

# Missing from the beginning.
rm "$users"
kilat_start kawan
expect_equal 'the answer without an accounts file' 451 "$(answer_for "$ANI")"
expect_equal 'the answer to strangers without an accounts file' 451 "$(answer_for hantu@kawan.test)"
expect_equal 'the answer for the postmaster' 250 "$(answer_for postmaster@kawan.test)"
talk 127.0.0.52 "$pop3_port" "USER $ANI" "PASS $ANI_PASSWORD" | tail -n 1 | has '^-ERR \[SYS/TEMP\]' ||
    fail "a log-in without an accounts file is not told that it is our fault"

# It appears.
kilat_user kawan "$ANI" "$ANI_PASSWORD"
kilat_ctl kawan reload >/dev/null
wait_until 20 'the accounts to be read' is_answer "$ANI" 250
expect_equal 'the answer for a stranger' 550 "$(answer_for hantu@kawan.test)"

# It goes, is a directory, and is half written: what was read before still counts.
cp "$users" "$STATE/users.whole"
not_read() { # how often the server has said that the old table stays
    [ "$(grep -c 'event=users.not_read.*the old table stays' "$STATE/log/kawan.log")" -ge "$1" ]
}
times=0
for fault in missing directory half; do
    rm -rf "$users"
    case $fault in
    directory) mkdir "$users" && kilat_own kawan users ;;
    half) head -c 40 "$STATE/users.whole" >"$users" && kilat_own kawan users ;;
    esac
    kilat_ctl kawan reload >/dev/null
    times=$((times + 1))
    wait_until 20 "the accounts file to be looked at ($fault)" not_read $times
    expect_equal "the answer for an account ($fault)" 250 "$(answer_for "$ANI")"
    expect_equal "the answer for a stranger ($fault)" 550 "$(answer_for hantu@kawan.test)"
    letter_for "$ANI" "$fault"
done
wait_until 20 'the letters to be delivered' kilat_queue_is_empty kawan

# A letter that is accepted and not delivered yet when the accounts go: the next life has no table, so the letter waits, and
# is delivered when it has one. The mailbox's folder is in the way of its delivery until then.
mv "$STATE/kawan/mail/kawan.test" "$STATE/mail.kept"
: >"$STATE/kawan/mail/kawan.test"
letter_for "$ANI" 'menunggu'
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
rm -rf "$users" "$STATE/kawan/mail/kawan.test"
mv "$STATE/mail.kept" "$STATE/kawan/mail/kawan.test"
kilat_start kawan
expect_equal 'the answer after a restart without the file' 451 "$(answer_for "$ANI")"
expect_equal 'letters that wait' 1 "$(kilat_queue_ids kawan | wc -l)"
cp "$STATE/users.whole" "$users"
kilat_own kawan users
kilat_ctl kawan reload >/dev/null
wait_until 20 'the accounts to be read' is_answer "$ANI" 250
for id in $(kilat_queue_ids kawan); do
    kilat_ctl kawan message retry "$id" >/dev/null
done
wait_until 20 'the letter that waited' pop3_holds 4 127.0.0.52 "$pop3_port" "$ANI" "$ANI_PASSWORD"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
