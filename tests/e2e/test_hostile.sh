#!/usr/bin/env bash
# Goal: who means harm gets an answer and nothing else: no end of data but CRLF.CRLF however the network cuts it, no relaying,
# no memory, no mailbox of somebody else, no letter deleted that was not to be. Method: kilat-hostile against one server, whose
# mailbox is read back.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_hostile
server_for_kawan kawan 127.0.0.50 <<END
message_bytes_max = 64K
bare_newline = "reject"
END
hostile() {
    "$KILAT_BUILD/tests/kilat-hostile" 127.0.0.50 "$smtp_port" "$pop3_port" "$STATE/kawan/control" "$@"
}
# Sanitizers keep what is freed, so memory is only measured as released.
measured=0
[ "${KILAT_PRESET:-release}" != release ] || measured=${PROCESS_PIDS[kawan]}

# Waits until all letters are delivered, and compares the mailbox with how many were accepted.
mailbox_holds() {
    wait_until 30 'all letters to be delivered' kilat_queue_is_empty kawan
    hostile mailbox "$1"
}
case_of() { # what, CASE, ARGUMENT...
    local what=$1
    shift
    hostile "$@" >"$STATE/said" || fail "$what"
}

case_of 'ends of data, refused' ends reject
mailbox_holds "$(cat "$STATE/said")"
sed -i 's/^bare_newline.*/bare_newline = "normalize"/' "$STATE/kawan/kilat.conf"
kilat_ctl kawan reload >/dev/null
case_of 'ends of data, normalized' ends normalize
mailbox_holds "$(cat "$STATE/said")"

case_of 'relaying' relay
case_of 'strangers' strangers
expect_equal 'what strangers and relayers left in the queue' '' "$(kilat_queue_ids kawan)"
mailbox_holds 0

case_of 'pipelined NOOPs' noops
case_of 'an endless line' line "$measured"
case_of 'sizes' sizes
mailbox_holds "$(cat "$STATE/said")"
case_of 'Received fields' received
mailbox_holds "$(cat "$STATE/said")"
case_of 'recipients' recipients
mailbox_holds "$(cat "$STATE/said")"

case_of 'nonsense on the control socket' control
swaks --server 127.0.0.50 --port "$smtp_port" --from "$BUDI" --to "$ANI" --body 'satu surat' --hide-all
wait_until 30 'a letter' kilat_queue_is_empty kawan
case_of 'numbers of letters' numbers
case_of 'two sessions on one mailbox' in-use
case_of 'deletes without QUIT' cut

kilat_ctl kawan status >/dev/null || fail "kilatctl has no answer"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
