#!/usr/bin/env bash
# Goal: with fewer shards than before nothing waits for the old number to come back: the spools that are left over are
# adopted and delivered by those that remain, also by one thread alone; new mail goes to the own spools only.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_fewer_shards
export KILAT_SHARDS=3
server_for_kawan kawan 127.0.0.51 </dev/null
home=$STATE/kawan

letter() { # subject
    talk 127.0.0.51 "$smtp_port" 'EHLO a.test' 'MAIL FROM:<x@asing.test>' "RCPT TO:<$ANI>" DATA "Subject: $1\r\n\r\nisi\r\n." | tail -n 1 | has '^250' || fail "letter $1 was not taken"
}
states() {
    kilat_ctl kawan status | awk '$1 == "spool" { number = $2 } $1 == "spool_adopted" { adopted = $2 } $1 == "spool_state" { print number, adopted, $2 }' | sort
}
all_ready() {
    [ "$(states | grep -c ready)" = 3 ]
}
spools_with_mail() {
    kilat_ctl kawan status | awk '$1 == "spool_queued" && $2 > 0' | wc -l
}

# A file where the mailboxes' directory belongs: every letter waits. The kernel spreads connections over the shards.
: >"$home/mail/kawan.test"
kilat_own kawan mail
sent=0
while [ "$(spools_with_mail)" -lt 3 ]; do
    sent=$((sent + 1))
    [ "$sent" -le 100 ] || fail "100 letters did not reach all of three shards"
    letter "nomor $sent"
done
kilat_kill kawan
sed -i 's/^shards = 3/shards = 1/' "$home/kilat.conf"
kilat_start kawan
wait_until 20 'all spools to be ready' all_ready
expect_equal 'the spools' $'0000 no ready\n0001 yes ready\n0002 yes ready' "$(states)"
expect_equal 'letters in the queue' "$sent" "$(kilat_queue_ids kawan | wc -l)"
letter 'yang baru'
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"

# The same by one thread, and now there is a place to deliver to.
echo 'single_thread = true' >>"$home/kilat.conf"
rm "$home/mail/kawan.test"
kilat_start kawan
wait_until 20 'all spools to be ready' all_ready
for id in $(kilat_queue_ids kawan); do
    kilat_ctl kawan message retry "$id" >/dev/null || true
done
wait_until 30 'all letters in the mailbox' pop3_holds $((sent + 1)) 127.0.0.51 "$pop3_port" "$ANI" "$ANI_PASSWORD"
expect_equal 'letters in the mailbox' $((sent + 1)) "$(pop3_count 127.0.0.51 "$pop3_port" "$ANI" "$ANI_PASSWORD")"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"

# And back: each shard finds its own again, and nothing is delivered twice.
sed -i 's/^shards = 1/shards = 3/; s/^single_thread.*//' "$home/kilat.conf"
kilat_start kawan
wait_until 20 'all spools to be ready' all_ready
expect_equal 'the spools' $'0000 no ready\n0001 no ready\n0002 no ready' "$(states)"
expect_equal 'letters in the mailbox' $((sent + 1)) "$(pop3_count 127.0.0.51 "$pop3_port" "$ANI" "$ANI_PASSWORD")"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
