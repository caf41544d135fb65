#!/usr/bin/env bash
# Goal: a spool in memory is refused, because nothing there survives a power cut; forced, it works, also where O_DIRECT is
# refused. Method: tmpfs and ramfs in a mount namespace of our own; ramfs knows no O_DIRECT.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -z "${INSIDE:-}" ]; then
    namespace_possible || skip "mounting needs root and a mount namespace"
    exec unshare --mount --propagation "$NAMESPACE_PROPAGATION" env INSIDE=yes bash "$0"
fi

state_create test_file_systems
port=$(port_free)
pop3_port=$(port_free)
configure() { # more settings
    kilat_configure kawan <<END
hostname = "surat.kawan.test"
local_domains = {"kawan.test"}
smtp_listen = {"127.0.0.48:$port"}
pop3_listen = {"127.0.0.48:$pop3_port"}
dns_servers = {"127.0.0.1:9"}
$1
END
}

for kind in tmpfs ramfs; do
    configure ''
    mount -t "$kind" none "$STATE/kawan/spool"
    configure ''
    status=0
    timeout 20 "$KILAT_BUILD/kilatd" --config "$STATE/kawan/kilat.conf" >"$STATE/said" 2>&1 || status=$?
    [ "$status" != 0 ] && [ "$status" -lt 124 ] || fail "a spool on $kind was not refused (exit status $status)"
    grep -q 'force_file_system' "$STATE/said" || fail "the refusal does not name force_file_system: $(cat "$STATE/said")"

    configure 'force_file_system = true'
    kilat_user kawan "$ANI" "$ANI_PASSWORD"
    kilat_start kawan
    swaks --server 127.0.0.48 --port "$port" --from "$BUDI" --to "$ANI" --body "di $kind" --hide-all
    arrived() {
        pop3 127.0.0.48 "$pop3_port" "$ANI" "$ANI_PASSWORD" '' 1 | has "^di $kind"
    }
    wait_until 20 "the letter by way of $kind" arrived
    pop3 127.0.0.48 "$pop3_port" "$ANI" "$ANI_PASSWORD" DELE 1
    # What was queued is found again by the next life, as far as this process's memory lives on.
    kilat_kill kawan
    kilat_start kawan
    kilat_stop kawan || fail "SIGTERM did not end kilatd in good order"
    umount "$STATE/kawan/spool"
done
