# tests/lib/names.sh - a name service of our own: NSD with given zones, unbound in front of it, both unpacked from
# their packages, on loopback and free high ports. Nothing of the host's name service is used or touched.
# Sourced, never run.
# shellcheck shell=bash

# shellcheck source=tests/lib/state.sh
. "$(dirname "${BASH_SOURCE[0]}")/state.sh"

# Starts NSD on `address` and `port` with the zones ZONE... (names without the last dot), whose files are
# $STATE/zones/ZONE.
nsd_start() {
    local address=$1 port=$2 zone conf=$STATE/nsd/nsd.conf
    shift 2
    mkdir -p "$STATE/nsd"
    {
        cat <<END
server:
    ip-address: $address@$port
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "$STATE/zones"
    database: ""
    pidfile: ""
    xfrdfile: ""
    zonelistfile: "$STATE/nsd/zone.list"
    xfrdir: "$STATE/nsd"
    cookie-secret-file: ""
remote-control:
    control-enable: no
END
        for zone; do
            printf 'zone:\n    name: "%s"\n    zonefile: "%s"\n' "$zone" "$zone"
        done
    } >"$conf"
    process_start nsd env LD_LIBRARY_PATH="$(packages_library_path)" "$PACKAGES_ROOT/usr/sbin/nsd" -d -c "$conf"
    wait_until 20 "NSD to answer" names_answers "$address" "$port" "$1" SOA
}

# Starts unbound on `address` and `port`; it asks the NSD at `nsd_address` and `nsd_port` for ZONE..., and refuses
# every other question, so that no question ever leaves the machine.
unbound_start() {
    local address=$1 port=$2 nsd_address=$3 nsd_port=$4 zone conf=$STATE/unbound/unbound.conf
    shift 4
    mkdir -p "$STATE/unbound"
    {
        cat <<END
server:
    interface: $address@$port
    port: $port
    num-threads: 1
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "$STATE/unbound"
    pidfile: ""
    use-syslog: no
    logfile: ""
    do-ip6: no
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "iterator"
    local-zone: "." refuse
END
        for zone; do
            printf '    local-zone: "%s." transparent\n    domain-insecure: "%s."\n' "$zone" "$zone"
        done
        printf 'remote-control:\n    control-enable: no\n'
        for zone; do
            printf 'stub-zone:\n    name: "%s."\n    stub-addr: %s@%s\n' "$zone" "$nsd_address" "$nsd_port"
        done
    } >"$conf"
    process_start unbound env LD_LIBRARY_PATH="$(packages_library_path)" "$PACKAGES_ROOT/usr/sbin/unbound" -d -p -c "$conf"
    wait_until 20 "unbound to answer" names_answers "$address" "$port" "$1" SOA
}

# Asks the server at `address` and `port`, as drill prints it.
names_ask() {
    LD_LIBRARY_PATH=$(packages_library_path) timeout 5 "$PACKAGES_ROOT/usr/bin/drill" -p "$2" @"$1" "$3" "$4"
}

# The answers alone, one a line: "10 mx.kawan.test."
names_short() {
    names_ask "$@" | awk '/^;; ANSWER SECTION/ { on = 1; next } /^$/ { on = 0 } on { $1 = $2 = $3 = $4 = ""; sub(/^ +/, ""); print }'
}

names_answers() {
    names_ask "$@" | has '^;; ANSWER SECTION' && names_ask "$@" | grep -q 'rcode: NOERROR'
}

# Writes the zone file of `zone` from the records on standard input, with SOA and NS in front.
zone_write() {
    mkdir -p "$STATE/zones"
    {
        printf '$ORIGIN %s.\n$TTL 300\n' "$1"
        printf '@ IN SOA ns hostmaster 1 3600 900 86400 60\n@ IN NS ns\nns IN A %s\n' "$2"
        cat
    } >"$STATE/zones/$1"
}
