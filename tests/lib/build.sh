# tests/lib/build.sh - builds a preset with visible progress. Sourced, never run.
# shellcheck shell=bash

# shellcheck source=tests/lib/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

# Configures and builds TARGET... (all, when none is named) of `preset`; the log is build/PRESET/build.log.
build_preset() {
    local preset=$1 log
    shift
    log=$KILAT_TOP/build/$preset/build.log
    mkdir -p "$KILAT_TOP/build/$preset"
    (cd "$KILAT_TOP" && cmake --preset "$preset") >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        report_say "build: cmake --preset $preset failed, see $log"
        return 1
    }
    ninja -C "$KILAT_TOP/build/$preset" -k 0 "$@" 2>&1 </dev/null | report_progress "build $preset" "$log" || {
        grep -E 'error:|FAILED|undefined reference' "$log" | head -n 20 >&2
        report_say "build: $preset failed, see $log"
        return 1
    }
}

# Says whether `preset` (configured) knows a target or test program of this name.
build_has() {
    ninja -C "$KILAT_TOP/build/$1" -t query "$2" >/dev/null 2>&1
}
