# tests/lib/namespace.sh - whether this machine lets us mount things that nobody else sees. Sourced, never run.
# shellcheck shell=bash

# Sets NAMESPACE_PROPAGATION to how unshare(1) makes a mount namespace here whose mounts nobody else sees; fails where
# that cannot be. In a chroot "/" is no mount point, so unshare cannot make it private; but it may be private already.
namespace_possible() {
    [ "$(id -u)" = 0 ] || return 1
    for NAMESPACE_PROPAGATION in private unchanged; do
        unshare --mount --pid --fork --propagation "$NAMESPACE_PROPAGATION" true 2>/dev/null || continue
        namespace_mounts_are_unseen && return 0
    done
    return 1
}

# Mounts something in such a namespace and looks whether it shows outside.
namespace_mounts_are_unseen() {
    local probe line='' unseen=1
    probe=$(mktemp -d /var/tmp/kilat-probe.XXXXXX)
    coproc PROBE {
        # shellcheck disable=SC2016 # for the inner shell
        unshare --mount --propagation "$NAMESPACE_PROPAGATION" bash -c '
            mount -t tmpfs none "$1" && : >"$1/inside" && echo mounted
            read -r _
            umount "$1"' - "$probe" 2>/dev/null
    }
    read -rt 10 line <&"${PROBE[0]}" || true
    if [ "$line" = mounted ] && [ ! -e "$probe/inside" ]; then
        unseen=0
    fi
    printf "\n" >&"${PROBE[1]}" || true # it has seen enough
    wait "$PROBE_PID" 2>/dev/null || true
    rmdir "$probe"
    return $unseen
}
