#!/usr/bin/env bash
# Goal: the Postfix that other tests talk to works. Method: swaks hands it a letter, which lies in a Maildir then.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

namespace_possible || skip "Postfix needs root and mount and pid namespaces"
state_create test_postfix
port=$(port_free)
postfix_start postfix "$KILAT_TOP/tests/e2e/postfix" "$port" </dev/null
swaks --server 127.0.0.1 --port "$port" --from penulis@kawan.test --to fadli@tetangga.test \
    --header 'Subject: halo' --body 'selamat pagi'

letter_arrived() {
    compgen -G "$STATE/postfix/mail/inbox/new/*" >/dev/null
}
wait_until 20 "the letter in the Maildir" letter_arrived
grep -q '^selamat pagi' "$STATE"/postfix/mail/inbox/new/*
postfix_stop postfix
ps -eo args | grep -v grep | grep -q "$STATE/postfix/root" && fail "a Postfix process is left" || true
