# tests/lib/suite.sh - what the suites share. Sourced by tests/suites/*.sh, which `check` starts.
# shellcheck shell=bash

# shellcheck source=tests/lib/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"
# shellcheck source=tests/lib/sanitizers.sh
. "$(dirname "${BASH_SOURCE[0]}")/sanitizers.sh"

# Builds PRESET [TARGET...] as a case of its own: a build that fails is one failure, told once.
suite_builds() {
    local preset=$1 started_ms status=0
    shift
    started_ms=$(report_now_ms)
    mkdir -p "$KILAT_TOP/build/$preset"
    build_preset "$preset" "$@" || status=$?
    if [ "$status" != 0 ]; then # the lines that matter last, where a failure shows them
        grep -E -A 3 'error:|FAILED|undefined reference' "$KILAT_TOP/build/$preset/build.log" >"$SUITE_LOGS/build-$preset.log" ||
            cp "$KILAT_TOP/build/$preset/build.log" "$SUITE_LOGS/build-$preset.log"
    fi
    suite_record "build $preset" "$status" "$SUITE_LOGS/build-$preset.log" "$started_ms"
    [ "$status" = 0 ]
}

suite_skip() {
    local log=$SUITE_LOGS/${1//[^A-Za-z0-9_.-]/_}.log
    printf '%s\n' "$2" >"$log"
    suite_record "$1" 77 "$log" "$(report_now_ms)"
}

# Runs the ctest programs of `preset`, each as one case, sanitizer reports gathered for all of them.
suite_ctest() {
    local preset=$1 names name reports=$SUITE_LOGS/$1-reports
    sanitizers_to "$reports"
    names=$(ctest --test-dir "$KILAT_TOP/build/$preset" -N ${2:+-R "$2"} | awk '/ Test +#/ { print $3 }')
    [ -n "$names" ] || {
        suite_skip "$preset: tests" "there is no test program yet"
        return 0
    }
    for name in $names; do
        case $name in
        dialog | sim) continue ;; # suites of their own
        esac
        # On a loaded machine Criterion now and then never begins; a test that hangs by itself hangs twice.
        suite_case "$preset: $name" ctest --repeat after-timeout:2 --test-dir "$KILAT_TOP/build/$preset" --verbose \
            --timeout 240 -R "^$name\$"
    done
    sanitizers_case "$preset" "$reports"
}
