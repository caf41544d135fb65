# tests/lib/report.sh - how scripts tell what they do: one line per thing, with its time.
#
# Sourced, never run. A suite records each of its cases through suite_case; `check` adds the records up.
# shellcheck shell=bash

report_now_ms() {
    local now=$EPOCHREALTIME
    printf '%s' "$((${now/[.,]/} / 1000))"
}

# Prints how long ago `started_ms` was, as "12.3 s".
report_since() {
    local started_ms=$1 passed_ms
    passed_ms=$(($(report_now_ms) - started_ms))
    printf '%d.%d s' $((passed_ms / 1000)) $((passed_ms % 1000 / 100))
}

report_say() {
    printf '%s\n' "$*" >&2
}

report_die() {
    report_say "$0: $*"
    exit 1
}

# Copies what a build or an installation prints to the file `log`, and shows a line each time another
# tenth is done: a watcher sees that it moves, a log file stays readable. Understands ninja's [n/m].
report_progress() {
    local what=$1 log=$2 expected=${3:-0}
    awk -v what="$what" -v log_file="$log" -v total="$expected" '
        { print > log_file; fflush(log_file) }
        match($0, /^\[[0-9]+\/[0-9]+\]/) {
            split(substr($0, 2, RLENGTH - 2), at, "/"); done = at[1]; total = at[2]
        }
        /^(Unpacking|Setting up) / { done++ }
        /^Get:/ && !told { told = 1; printf "  %s: fetching\n", what; fflush() }
        {
            tenth = total > 0 ? int(10 * done / total) : 0
            if (tenth > shown) { shown = tenth; printf "  %s: %d %% (%d of %d)\n", what, tenth * 10, done, total; fflush() }
        }' >&2
}

# One case of the suite that `check` runs: `suite_case NAME COMMAND...`. Its output goes to a file of its
# own and is shown, its last lines, only when it fails. A case over SUITE_TIMEOUT_S seconds has failed.
suite_case() {
    local name=$1 log started_ms status=0
    shift
    log=$SUITE_LOGS/${name//[^A-Za-z0-9_.-]/_}.log
    started_ms=$(report_now_ms)
    timeout --kill-after=10 "${SUITE_TIMEOUT_S:-600}" "$@" >"$log" 2>&1 </dev/null || status=$?
    suite_record "$name" "$status" "$log" "$started_ms"
}

# Records one case whose `status` is known already: 0 passed, 77 could not be run here, else failed.
suite_record() {
    local name=$1 status=$2 log=$3 started_ms=$4 word=pass
    case $status in
    0) ;;
    77) word=skip ;;
    *) word=fail ;;
    esac
    printf '%s\t%s\n' "$word" "$name" >>"$SUITE_RESULTS"
    printf '  %-4s  %-44s %9s\n' "$word" "$name" "$(report_since "$started_ms")"
    case $word in
    skip) tail -n 1 "$log" | sed 's/^/        /' ;;
    fail)
        printf '        exit status %s%s; the whole output: %s\n' "$status" \
            "$([ "$status" = 124 ] && printf ' (over its time limit)')" "$log"
        tail -n 40 "$log" | sed 's/^/        | /'
        ;;
    esac
}

suite_failed() {
    grep -q '^fail' "$SUITE_RESULTS"
}
