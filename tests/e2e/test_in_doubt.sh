#!/usr/bin/env bash
# Goal: a delivery whose end was sent and whose answer never came is marked, logged and counted as in doubt, and follows the
# setting: sent again by default, or held until somebody decides. One that was cut earlier is in no doubt.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_in_doubt
sink_port=$(port_free)

# A host that hangs up: after MAIL for the sender "dini@", else after the final dot, without a word.
cat >"$STATE/sink.pl" <<'END'
use IO::Socket::INET;
my ($port, $log) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.54', LocalPort => $port, Listen => 10, ReuseAddr => 1) or die;
while (my $client = $listener->accept) {
    print $client "220 ragu.test\r\n";
    my $data = 0;
    while (my $line = <$client>) {
        if ($data) {
            next unless $line eq ".\r\n";
            open my $file, '>>', $log; print $file "dot\n"; close $file;
            last;
        }
        last if $line =~ /^MAIL FROM:<dini@/;
        $data = $line =~ /^DATA/;
        print $client $data ? "354 go on\r\n" : "250 ok\r\n";
    }
    close $client;
}
END
process_start sink perl "$STATE/sink.pl" "$sink_port" "$STATE/dots"
port_wait 127.0.0.54 "$sink_port"
server_for_kawan kawan 127.0.0.53 <<END
relay_networks = {"127.0.0.0/8"}
retry_first = 1s
site_backoff_first = 1s
route "ragu.test" { via = "127.0.0.54:$sink_port" }
END
letter() { # sender
    talk 127.0.0.53 "$smtp_port" 'EHLO a.test' "MAIL FROM:<$1>" 'RCPT TO:<x@ragu.test>' DATA 'Subject: a\r\n\r\na\r\n.' | tail -n 1 | has '^250' || fail 'the letter was not taken'
}
dots() {
    [ "$(wc -l <"$STATE/dots" 2>/dev/null || echo 0)" -ge "$1" ]
}
in_doubt() {
    kilat_ctl kawan status | awk '$1 == "in_doubt" { print $2 }'
}
held() {
    kilat_ctl kawan message show "$1" | has '^state +held'
}

letter lama@asing.test
wait_until 30 'the letter to be sent again' dots 2
[ "$(in_doubt)" -ge 1 ] || fail "status counts $(in_doubt) in doubt"
grep 'event=delivery ' "$STATE/log/kawan.log" | has 'outcome="in doubt"' || fail 'the log does not say so'
kilat_ctl kawan message remove "$(kilat_queue_ids kawan)" >/dev/null || true
wait_until 30 'the queue to be empty' kilat_queue_is_empty kawan

echo 'in_doubt = "hold"' >>"$STATE/kawan/kilat.conf"
kilat_ctl kawan reload >/dev/null
rm "$STATE/dots"
letter ragu@asing.test
id=$(kilat_queue_ids kawan)
wait_until 30 'the letter to be held' held "$id"
expect_equal 'times it was sent' 1 "$(wc -l <"$STATE/dots")"
kilat_ctl kawan message release "$id" >/dev/null
wait_until 30 'a released one to be sent again' dots 2
wait_until 30 'and to be held again' held "$id"
kilat_ctl kawan message remove "$id" >/dev/null

# Cut before its end: that did not arrive, whatever the setting.
before=$(in_doubt)
letter dini@asing.test
id=$(kilat_queue_ids kawan)
tried() {
    kilat_ctl kawan message show "$id" | has '^attempts +[1-9]'
}
wait_until 30 'an attempt' tried
held "$id" && fail 'a delivery that was cut early is held'
expect_equal 'in doubt' "$before" "$(in_doubt)"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
