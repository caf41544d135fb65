# tests/lib/sanitizers.sh - any report of a sanitizer fails the suite, whatever the program's exit status says.
#
# Reports go to files of one folder (log_path). gcc's UBSan beside ASan does not obey log_path and prints to
# stderr instead, so the logs of the cases are searched as well. Sourced, never run.
# shellcheck shell=bash

SANITIZERS_REPORT='runtime error: |ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|SUMMARY: [A-Za-z]*Sanitizer'

# From here on every sanitized program writes its reports below `folder`.
sanitizers_to() {
    local folder=$1
    rm -rf "$folder"
    mkdir -p "$folder"
    chmod 1777 "$folder" # a server that has given up root reports as well
    export ASAN_OPTIONS="log_path=$folder/asan:detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1"
    export UBSAN_OPTIONS="log_path=$folder/ubsan:print_stacktrace=1"
    export TSAN_OPTIONS="log_path=$folder/tsan:halt_on_error=0:second_deadlock_stack=1"
}

# The same for servers that give up root and may not reach a folder of the clone: a folder of its own on disk, which goes
# when the suite ends. Sets SANITIZERS_FOLDER.
sanitizers_for_servers() {
    [ -z "${SANITIZERS_FOLDER:-}" ] || rm -rf "$SANITIZERS_FOLDER"
    SANITIZERS_FOLDER=$(mktemp -d "${KILAT_STATE_BASE:-/var/tmp}/kilat-reports.XXXXXX")
    trap 'rm -rf "$SANITIZERS_FOLDER"' EXIT
    sanitizers_to "$SANITIZERS_FOLDER"
}

# Prints the reports below `folder`, and in the files LOG..., and fails when there is one. A test that makes a fault on purpose,
# to show that it is caught, says so by its name: ..._is_caught; its report is what it wants.
sanitizers_clean() {
    local folder=$1 file found=0
    shift
    for file in "$folder"/*; do
        [ -s "$file" ] || continue
        ! grep -qE '^ +#0 .* in [a-z_0-9]+_is_caught_impl ' "$file" || continue
        found=1
        printf '== %s\n' "$file"
        head -n 60 "$file"
    done
    for file; do
        if grep -qE "$SANITIZERS_REPORT" "$file"; then
            found=1
            printf '== %s\n' "$file"
            grep -E -A 12 "$SANITIZERS_REPORT" "$file" | head -n 60
        fi
    done
    [ "$found" = 0 ]
}

# The same as a case of the suite that is running, over all logs it has written so far.
sanitizers_case() {
    local name=$1 folder=$2 log=$SUITE_LOGS/$1-reports.txt started_ms status=0
    started_ms=$(report_now_ms)
    sanitizers_clean "$folder" "$SUITE_LOGS"/*.log >"$log" || status=$?
    suite_record "$name: no sanitizer report" "$status" "$log" "$started_ms"
}
