#!/usr/bin/env bash
# Goal: an idle session costs little: 5,000 of them at most 16 KiB each of the server's memory, and a new client is greeted in
# under 100 ms meanwhile; closing them all at once harms nothing. Memory is only measured as released: sanitizers bring their own.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SESSIONS=5000
[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -gt 12000 ] || skip "at most $(ulimit -Hn) open files are allowed here"
state_create test_idle_sessions
ulimit -n "$(ulimit -Hn)"
server_for_kawan kawan 127.0.0.47 </dev/null
pid=${PROCESS_PIDS[kawan]}

memory_kib() {
    awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"
}
before=$(memory_kib)
mkfifo "$STATE/hold"
exec 6<>"$STATE/hold"
"$KILAT_BUILD/tests/kilat-idle" 127.0.0.47 "$smtp_port" $SESSIONS <"$STATE/hold" >"$STATE/said" 6>&- &
idle=$!
sessions_are_open() {
    grep -q '^greeted-ms' "$STATE/said" || ! kill -0 "$idle" 2>/dev/null
}
wait_until 60 "$SESSIONS idle sessions" sessions_are_open
grep -q '^ready' "$STATE/said" || fail "kilat-idle could not open them: $(cat "$STATE/said")"
each=$((($(memory_kib) - before) * 1024 / SESSIONS))
greeted=$(awk '/^greeted-ms/ { print $2 }' "$STATE/said")
echo "$SESSIONS idle sessions: $each bytes each; a new client was greeted in $greeted ms"
[ "$each" -le 16384 ] || fail "an idle session costs $each bytes"
[ "$greeted" -lt 100 ] || fail "a new client waited $greeted ms"

# All of them end at once.
kill -KILL "$idle"
wait "$idle" 2>/dev/null || true
swaks --server 127.0.0.47 --port "$smtp_port" --from "$BUDI" --to "$ANI" --body 'masih di sini' --hide-all || fail "the server is gone"
wait_until 20 'a letter' pop3_holds 1 127.0.0.47 "$pop3_port" "$ANI" "$ANI_PASSWORD"
kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
