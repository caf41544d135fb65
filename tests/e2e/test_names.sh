#!/usr/bin/env bash
# Goal: the name service that other tests rely on works. Method: NSD with two zones, unbound in front; MX, A and
# AAAA come through, a name outside the zones is refused, and a name that does not exist is said not to.
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state_create test_names
nsd_port=$(port_free)
resolver_port=$(port_free)
zone_write kawan.test 127.0.0.53 <<'END'
@ IN MX 10 mx
mx IN A 127.0.0.12
mx IN AAAA ::1
END
zone_write debianindonesia.test 127.0.0.53 <<'END'
@ IN MX 10 mx1
@ IN MX 20 mx2
mx1 IN A 127.0.0.21
mx2 IN A 127.0.0.22
END
nsd_start 127.0.0.53 "$nsd_port" kawan.test debianindonesia.test
unbound_start 127.0.0.54 "$resolver_port" 127.0.0.53 "$nsd_port" kawan.test debianindonesia.test

ask() {
    names_short 127.0.0.54 "$resolver_port" "$@" | sort
}
expect_equal "the MX of kawan.test" "10 mx.kawan.test." "$(ask kawan.test MX)"
expect_equal "its A" "127.0.0.12" "$(ask mx.kawan.test A)"
expect_equal "its AAAA" "::1" "$(ask mx.kawan.test AAAA)"
expect_equal "two MX" $'10 mx1.debianindonesia.test.\n20 mx2.debianindonesia.test.' "$(ask debianIndonesia.test MX | tr A-Z a-z)"
names_ask 127.0.0.54 "$resolver_port" nobody.kawan.test A | has 'rcode: NXDOMAIN' || fail "no NXDOMAIN"
names_ask 127.0.0.54 "$resolver_port" example.org A | has 'rcode: REFUSED' || fail "a question may leave the machine"
