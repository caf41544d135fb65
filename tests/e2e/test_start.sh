#!/usr/bin/env bash
# Goal: what cannot work is said before anything is touched, in a sentence that helps: a wrong name or value in the settings,
# a missing file, a kernel that is too old, io_uring that is switched off.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_start
kilatd=$KILAT_BUILD/kilatd
port=$(port_free)

# Expects that kilatd, started with ARGUMENT..., ends by itself with a failure and says `pattern`.
expect_refusal() {
    local what=$1 pattern=$2 status=0
    shift 2
    timeout 20 "$@" >"$STATE/said" 2>&1 || status=$?
    [ "$status" != 0 ] && [ "$status" -lt 124 ] || fail "$what: exit status $status: $(cat "$STATE/said")"
    grep -qiE "$pattern" "$STATE/said" || fail "$what: expected \"$pattern\", got: $(cat "$STATE/said")"
}
configure() {
    kilat_configure satu <<END
hostname = "satu.test"
local_domains = {"satu.test"}
smtp_listen = {"127.0.0.44:$port"}
pop3_listen = {}
dns_servers = {"127.0.0.1:9"}
$1
END
}

expect_refusal 'a missing file' 'tidak-ada.conf' "$kilatd" --config "$STATE/tidak-ada.conf"
configure 'warna = "biru"'
expect_refusal 'an unknown name' 'kilat\.conf:[0-9]+.*warna' "$kilatd" --config "$STATE/satu/kilat.conf"
configure 'smtp_command_timeout = "soon"'
expect_refusal 'a bad value' 'kilat\.conf:[0-9]+: smtp_command_timeout: expected' "$kilatd" --check --config "$STATE/satu/kilat.conf"
configure ''
"$kilatd" --check --config "$STATE/satu/kilat.conf" || fail "--check refuses good settings"
[ -z "$(ls "$STATE/satu/spool")" ] || fail "--check touched the spool"
expect_refusal 'an old kernel' '6\.1' setarch "$(uname -m)" --uname-2.6 "$kilatd" --config "$STATE/satu/kilat.conf"
expect_refusal 'io_uring forbidden by a seccomp filter' 'io_uring.*seccomp|seccomp.*io_uring' \
    "$KILAT_BUILD/tests/kilat-without-uring" "$kilatd" --config "$STATE/satu/kilat.conf"
[ -z "$(ls "$STATE/satu/spool")" ] || fail "a refused start touched the spool"

# The same settings start where nothing is in the way; a second server on the same spool or port is refused.
kilat_start satu
expect_refusal 'a second server' "in use by process ${PROCESS_PIDS[satu]}\$" "$kilatd" --config "$STATE/satu/kilat.conf"
kilat_stop satu || fail "SIGTERM did not end kilatd in good order"
if [ "$(id -u)" = 0 ]; then
    kilat_start satu
    expect_equal 'the uid of a server started as root' "$KILAT_UID" "$(stat -c %u "/proc/${PROCESS_PIDS[satu]}")"
    expect_equal 'its capabilities' 0000000000000000 "$(awk '/^CapEff/ { print $2 }' "/proc/${PROCESS_PIDS[satu]}/status")"
    kilat_stop satu
fi
