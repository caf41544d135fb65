#!/usr/bin/env bash
# Goal: what a session holds of a big letter is bounded: with 1,000 sessions that announced 50 MB and have sent 2 MB each the
# server needs less than 400 MiB, and goes on to serve others; cut off, they leave nothing that lives, neither in the queue nor,
# after a while, on the disk. Memory is only measured as released: sanitizers bring their own.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SESSIONS=1000
MEMORY_MAX_MIB=400
[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -gt 4000 ] || skip "at most $(ulimit -Hn) open files are allowed here"
state_create test_big_bodies
ulimit -n "$(ulimit -Hn)"
[ "$(df --output=avail -k "$STATE" | tail -n 1)" -gt $((6 * 1024 * 1024)) ] || skip "less than 6 GiB are free below $STATE"
server_for_kawan kawan 127.0.0.48 <<END
message_bytes_max = 60M
memory_max = 256M
END
pid=${PROCESS_PIDS[kawan]}

memory_mib() {
    awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status"
}
mkfifo "$STATE/hold"
exec 6<>"$STATE/hold"
"$KILAT_BUILD/tests/kilat-idle" 127.0.0.48 "$smtp_port" $SESSIONS "$ANI" <"$STATE/hold" >"$STATE/said" 2>&1 6>&- &
holder=$!
sessions_are_open() {
    grep -q '^greeted-ms' "$STATE/said" || ! kill -0 "$holder" 2>/dev/null
}
wait_until 180 "$SESSIONS letters that have begun" sessions_are_open
grep -q '^ready' "$STATE/said" || fail "kilat-idle could not begin them: $(cat "$STATE/said")"
echo "$SESSIONS sessions with 2 MB of 50 MB: at most $(memory_mib) MiB resident; $(tail -n 1 "$STATE/said")"
[ "$(memory_mib)" -lt $MEMORY_MAX_MIB ] || fail "the server needed $(memory_mib) MiB"
swaks --server 127.0.0.48 --port "$smtp_port" --from "$BUDI" --to "$ANI" --body 'kecil' --hide-all || fail "a small letter is not taken meanwhile"
wait_until 20 'a letter' pop3_holds 1 127.0.0.48 "$pop3_port" "$ANI" "$ANI_PASSWORD"

kill -KILL "$holder"
wait "$holder" 2>/dev/null || true
wait_until 30 'the queue to be empty' kilat_queue_is_empty kawan
swaks --server 127.0.0.48 --port "$smtp_port" --from "$BUDI" --to "$ANI" --body 'sesudah' --hide-all || fail "the server is gone"
wait_until 20 'a second letter' pop3_holds 2 127.0.0.48 "$pop3_port" "$ANI" "$ANI_PASSWORD"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
kilat_start kawan
expect_equal 'letters after a restart' 2 "$(pop3_count 127.0.0.48 "$pop3_port" "$ANI" "$ANI_PASSWORD")"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
