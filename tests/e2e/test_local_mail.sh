#!/usr/bin/env bash
# Goal: people's own programs work with us: swaks, curl and msmtp hand letters over; curl and fetchmail fetch them,
# octet for octet; what was deleted is gone, what was kept has the same UIDL after a restart.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_local_mail
server_for_kawan kawan 127.0.0.41 </dev/null
box=(127.0.0.41 "$pop3_port" "$ANI" "$ANI_PASSWORD")

# 8-bit text, lines that begin with dots, a long line, no line end at the end of the text proper.
{
    printf 'From: budi@kawan.test\r\nTo: ani@kawan.test\r\nSubject: =?utf-8?q?kop=C3=AD?=\r\nMIME-Version: 1.0\r\n'
    printf 'Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
    printf 'Selamat pagi — sudah ngopi?\r\n.titik\r\n..dua\r\n.\t\r\n%s\r\n\r\n' "$(printf 'panjang %.0s' {1..110})"
} >"$STATE/letter"

curl --silent --show-error --max-time 20 "smtp://127.0.0.41:$smtp_port/klien.test" --mail-from "$BUDI" --mail-rcpt "$ANI" \
    --upload-file "$STATE/letter"
swaks --server 127.0.0.41 --port "$smtp_port" --from "$BUDI" --to "Ani@KAWAN.test" --header 'Subject: dari swaks' \
    --body 'halo dari swaks' --hide-all
printf 'Subject: dari msmtp\n\nhalo dari msmtp\n' | msmtp --file=/dev/null --host=127.0.0.41 --port="$smtp_port" --domain=klien.test \
    --from="$BUDI" --tls=off --auth=off "$ANI"
wait_until 20 'three letters' pop3_holds 3 "${box[@]}"

fetch_by_subject() { # prints the number of the letter whose Subject matches
    local i
    for i in 1 2 3; do
        pop3 "${box[@]}" '' "$i" >"$STATE/fetched.$i"
        grep -q "^Subject:.*$1" "$STATE/fetched.$i" && printf '%s' "$i" && return
    done
    return 1
}
first=$(fetch_by_subject 'kop=C3') || fail "curl's letter did not arrive"
fetch_by_subject swaks >/dev/null || fail "swaks' letter did not arrive"
fetch_by_subject msmtp >/dev/null || fail "msmtp's letter did not arrive"
tail -c "$(stat -c %s "$STATE/letter")" "$STATE/fetched.$first" | cmp - "$STATE/letter" || fail "a letter was altered"
grep -q '^Received: ' "$STATE/fetched.$first" || fail "no Received field was added (RFC 5321 4.4)"
grep -q '^Return-Path: <budi@kawan.test>' "$STATE/fetched.$first" || fail "no Return-Path was added at delivery (RFC 5321 4.4)"

uidls=$(pop3 "${box[@]}" UIDL | tr -d '\r')
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
kilat_start kawan
expect_equal 'UIDLs after a restart' "$uidls" "$(pop3 "${box[@]}" UIDL | tr -d '\r')"

# fetchmail takes all of them and deletes them.
umask 077
cat >"$STATE/fetchmailrc" <<END
poll 127.0.0.41 protocol POP3 service $pop3_port timeout 20
    username "$ANI" password "$ANI_PASSWORD" is "ani" here fetchall nokeep no rewrite sslproto ''
    mda "/bin/cat >>$STATE/taken"
END
FETCHMAILHOME=$STATE fetchmail --fetchmailrc "$STATE/fetchmailrc" --pidfile "$STATE/fetchmail.pid" --nosyslog --nodetach --invisible ||
    fail "fetchmail ended with $?"
expect_equal 'letters that fetchmail took' 3 "$(grep -c '^Received: from' "$STATE/taken" || true)"
expect_equal 'letters left' 0 "$(pop3_count "${box[@]}")"

status=0
pop3 127.0.0.41 "$pop3_port" "$ANI" salah >/dev/null 2>&1 || status=$?
expect_equal "curl's status for a wrong password" 67 "$status"
