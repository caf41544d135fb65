# tests/lib/packages.sh - what we need from Debian: installed where it is a tool, unpacked where it is a server.
#
# Sourced, never run. Servers (Postfix, NSD, unbound) are never installed: an installation would start
# them, and a mail server would push out the host's own. Their packages are downloaded and unpacked below
# build/packages/root, with the libraries the host lacks, and started from there.
# shellcheck shell=bash

KILAT_TOP=${KILAT_TOP:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
# shellcheck source=tests/lib/report.sh
. "$KILAT_TOP/tests/lib/report.sh"

PACKAGES_DIR=$KILAT_TOP/build/packages
PACKAGES_ROOT=$PACKAGES_DIR/root

# shellcheck disable=SC2034 # used by those who source this file
{
    PACKAGES_BUILD=(cmake ninja-build gcc libc6-dev pkg-config binutils
        liburing-dev libssl-dev libjemalloc-dev libldns-dev libconfuse-dev libcrypt-dev)
    PACKAGES_UNIT=(libcriterion-dev)
    PACKAGES_CLANG=(clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev llvm-14 shellcheck)
    PACKAGES_CLIENTS=(curl swaks msmtp fetchmail ca-certificates iproute2 procps util-linux mount)
    PACKAGES_SERVERS=(nsd unbound ldnsutils)
    PACKAGES_POSTFIX=(postfix)
    PACKAGES_MODEL=(gcc libc6-dev spin)
    PACKAGES_FUSE=(libfuse3-dev fuse3)
    PACKAGES_DISKS=(e2fsprogs xfsprogs)
}

packages_as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        report_die "this needs root: run it as root, or install sudo"
    fi
}

packages_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" = 'ii ' ]
}

# Refreshes apt's lists once per run, and only when what they know was not enough.
packages_update() {
    [ -z "${packages_updated:-}" ] || return 0
    packages_updated=1
    report_say "packages: refreshing apt's lists"
    packages_as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
}

packages_apt_install() {
    local log=$PACKAGES_DIR/install.log
    packages_as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get install -y -q --no-install-recommends \
        -o Dpkg::Use-Pty=0 "$@" 2>&1 </dev/null | report_progress packages "$log" "$packages_steps"
}

# Installs what is missing of NAME...; says nothing when nothing is.
packages_install() {
    local name missing=() packages_steps
    for name; do
        packages_installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    mkdir -p "$PACKAGES_DIR"
    report_say "packages: installing ${missing[*]}"
    packages_steps=$(apt-get install -s --no-install-recommends "${missing[@]}" 2>/dev/null | grep -c '^Inst ') || true
    if [ "$packages_steps" = 0 ]; then
        packages_update
        packages_steps=$(apt-get install -s --no-install-recommends "${missing[@]}" 2>/dev/null | grep -c '^Inst ') || true
    fi
    packages_steps=$((packages_steps * 2)) # each is unpacked, then set up
    packages_apt_install "${missing[@]}" || {
        packages_update # a list may name a version which is no longer there
        packages_apt_install "${missing[@]}"
    } || {
        tail -n 20 "$PACKAGES_DIR/install.log" >&2
        report_die "packages: installation failed, see $PACKAGES_DIR/install.log"
    }
}

# The packages that `name` would bring, but only libraries: nothing else of them is needed to run it.
packages_libraries() {
    apt-get install -s --no-install-recommends "$1" 2>/dev/null |
        awk '/^Inst lib/ { print $2 }'
}

packages_unpack_one() {
    local name=$1 into=$PACKAGES_DIR/download/$1 library
    rm -rf "$into"
    mkdir -p "$into" "$PACKAGES_ROOT"
    (
        cd "$into"
        # shellcheck disable=SC2046 # one word per package
        apt-get download -q -o APT::Sandbox::User="$(id -un)" "$name" $(packages_libraries "$name")
    ) >"$into/log" 2>&1 || return 1
    for library in "$into"/*.deb; do
        dpkg-deb -x "$library" "$PACKAGES_ROOT" || return 1
    done
    touch "$PACKAGES_DIR/unpacked.$name"
}

# Downloads and unpacks NAME... below build/packages/root; what lies there already is left alone.
packages_unpack() {
    local name
    for name; do
        [ -e "$PACKAGES_DIR/unpacked.$name" ] && continue
        report_say "packages: unpacking $name (not installed)"
        packages_unpack_one "$name" || {
            packages_update
            packages_unpack_one "$name"
        } || {
            cat "$PACKAGES_DIR/download/$name/log" >&2
            report_die "packages: $name could not be downloaded and unpacked"
        }
    done
}

# Where an unpacked program finds its libraries. For Postfix this also goes into import_environment.
packages_library_path() {
    local root=${1:-$PACKAGES_ROOT} arch
    arch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || printf '%s-linux-gnu' "$(uname -m)")
    printf '%s' "$root/usr/lib/$arch:$root/lib/$arch:$root/usr/lib/postfix:$root/usr/lib"
}
