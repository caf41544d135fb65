#!/usr/bin/env bash
# Goal: kilatctl answers what an administrator asks, for people and for programs, and errors say what to do. Method: one
# server whose only next host is down, so that letters wait; they are listed, shown, held, released, bounced and removed.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_control
down_port=$(port_free)
server_for_kawan kawan 127.0.0.45 <<END
relay_networks = {"127.0.0.0/8"}
route "jauh.test" { via = "127.0.0.46:$down_port" }
END
ctl() {
    kilat_ctl kawan "$@"
}
send() {
    swaks --server 127.0.0.45 --port "$smtp_port" --from "$ANI" --to "$1" --header "Subject: $2" --body "$2" --hide-all
}

ctl info | has 'ring|kernel' || fail "info does not tell of the ring"
ctl status >/dev/null
ctl --json status | tr -d '\n' | has '^\[[{].*[}]\]$' || fail "--json status is no array of objects"
expect_equal 'an empty queue' '' "$(kilat_queue_ids kawan)"

send dia@jauh.test satu
send dia@jauh.test dua
send dia@jauh.test tiga
wait_until 20 'three letters in the queue' kilat_queue_holds kawan 3
mapfile -t ids < <(kilat_queue_ids kawan)
tells_why() {
    ctl message show "${ids[0]}" | has -i 'refused|connect'
}
wait_until 20 'the reason of the first attempt' tells_why
ctl message show "${ids[0]}" | has 'dia@jauh.test' || fail "message show does not name the recipient"
ctl --json message show "${ids[0]}" | has '"recipients"' || fail "message show --json has no recipients"

ctl message hold "${ids[0]}"
ctl message show "${ids[0]}" | has -i held || fail "a held letter does not say so"
ctl message release "${ids[0]}"
ctl message remove "${ids[1]}"
ctl message bounce "${ids[2]}"
wait_until 20 'the report of the bounced letter' pop3_holds 1 127.0.0.45 "$pop3_port" "$ANI" "$ANI_PASSWORD"
expect_equal 'what is left in the queue' "${ids[0]}" "$(kilat_queue_ids kawan)"

# The next host comes up; "retry" does not wait for the back-off.
: >"$STATE/received"
process_start sink "$KILAT_BUILD/tests/kilat-ledger" sink "127.0.0.46:$down_port" "$STATE/received"
port_wait 127.0.0.46 "$down_port"
ctl message retry "${ids[0]}"
wait_until 20 'the queue to be empty' kilat_queue_is_empty kawan

# Errors: a status for programs, a sentence for people.
if ctl message show 0 >"$STATE/said" 2>&1; then fail "a letter that does not exist is shown"; fi
[ -s "$STATE/said" ] || fail "no sentence about a letter that does not exist"
if ctl bicara >"$STATE/said" 2>&1; then fail "an unknown command succeeds"; fi
if "$KILAT_BUILD/kilatctl" --socket "$STATE/tidak-ada" status >"$STATE/said" 2>&1; then fail "a missing socket is no error"; fi
grep -q "$STATE/tidak-ada" "$STATE/said" || fail "the missing socket is not named"

# A reload takes new settings, and keeps the old ones when the new ones are wrong.
sed -i 's/^local_domains.*/local_domains = {"kawan.test", "baru.test"}/' "$STATE/kawan/kilat.conf"
kilat_user kawan ani@baru.test "$ANI_PASSWORD"
ctl reload
accepts_new_domain() {
    send ani@baru.test baru
}
wait_until 10 'the new domain to be ours' accepts_new_domain
printf 'warna = "biru"\n' >>"$STATE/kawan/kilat.conf"
ctl reload >"$STATE/said" 2>&1 || true
send ani@baru.test masih || fail "wrong settings at a reload broke the running server"

ctl stop
wait_until 20 'the server to end' process_gone "${PROCESS_PIDS[kawan]}"
