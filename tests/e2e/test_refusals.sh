#!/usr/bin/env bash
# Goal: strangers cannot relay through us, nothing but CRLF.CRLF ends a letter, and every limit has its reply.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_refusals
server_for_kawan kawan 127.0.0.42 <<END
message_bytes_max = 64K
END

say() {
    talk 127.0.0.42 "$smtp_port" "$@"
}
expect_reply() { # what, code, answers
    tail -n 1 <<<"$3" | has "^$2" || fail "$1: expected $2, got: $(tail -n 1 <<<"$3")"
}

expect_reply 'no relay' 550 "$(say 'EHLO a.test' 'MAIL FROM:<x@asing.test>' 'RCPT TO:<y@lain.test>')"
expect_reply 'no relay by a source route' 55 "$(say 'EHLO a.test' 'MAIL FROM:<x@asing.test>' 'RCPT TO:<ani%lain.test@kawan.test>')"
expect_reply 'unknown user' 550 "$(say 'EHLO a.test' 'MAIL FROM:<x@asing.test>' 'RCPT TO:<hantu@kawan.test>')"
expect_reply 'postmaster without domain' 250 "$(say 'EHLO a.test' 'MAIL FROM:<>' 'RCPT TO:<postmaster>')"
expect_reply 'no RCPT before MAIL' 503 "$(say 'EHLO a.test' "RCPT TO:<$ANI>")"
expect_reply 'SIZE over the limit' 552 "$(say 'EHLO a.test' 'MAIL FROM:<x@asing.test> SIZE=9999999')"
expect_reply 'VRFY tells nothing' 252 "$(say 'EHLO a.test' "VRFY $ANI")"
expect_reply 'unknown command' 500 "$(say 'EHLO a.test' 'XYZZY')"

# Smuggling: none of these ends the letter, each letter is refused at its true end, and nothing is delivered twice.
for end in '\n.\n' '\n.\r\n' '\r\n.\n' '\r.\r' '\r\n.\r'; do
    answers=$(say 'EHLO a.test' 'MAIL FROM:<x@asing.test>' "RCPT TO:<$ANI>" DATA \
        "Subject: a\r\n\r\nsatu${end}MAIL FROM:<y@asing.test>\r\nRCPT TO:<$ANI>\r\nDATA\r\nSubject: b\r\n\r\ndua\r\n.")
    expect_reply "a letter with $end" 550 "$answers"
    expect_equal "answers to a letter with $end" 1 "$(grep -c '^550' <<<"$answers")"
done

# A letter over the limit gets 552 at its end.
curl_status=0
{
    printf 'Subject: besar\r\n\r\n'
    head -c 100000 /dev/zero | tr '\0' x | fold -w 70 | sed 's/$/\r/'
} >"$STATE/big"
curl --silent --max-time 20 "smtp://127.0.0.42:$smtp_port/a.test" --mail-from x@asing.test --mail-rcpt "$ANI" --upload-file "$STATE/big" || curl_status=$?
[ "$curl_status" != 0 ] || fail "a letter over message_bytes_max was accepted"
expect_equal 'letters that came through' 0 "$(pop3_count 127.0.0.42 "$pop3_port" "$ANI" "$ANI_PASSWORD")"
