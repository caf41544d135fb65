#!/usr/bin/env bash
# mutants: breaks the code on purpose, one row of tests/mutants.tsv at a time, and expects the named test to go red.
#
# A copy of the tree below build/mutants/tree is changed, never the tree itself. Before its mutant a test is run
# once unchanged and must be green, or a red one would say nothing. `./check mutants` tries every row; as part of
# all suites, as many as fit into SUITE_BUDGET_S, beginning with another row each day; `--n N` tries N of them.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

TREE=$KILAT_TOP/build/mutants/tree
REPORTS=$SUITE_LOGS/reports
declare -A GREEN=()

# Prints a file of the tree as the copy has it: a fault may leave a function unused, so warnings are no errors there.
original() {
    case $1 in
    ./cmake/flags.cmake) sed 's/ -Werror//' "$KILAT_TOP/$1" ;;
    *) cat "$KILAT_TOP/$1" ;;
    esac
}

# Brings the copy up to date; a file that did not change keeps its time, so only what changed is built again.
copy_tree() {
    local file
    mkdir -p "$TREE"
    (cd "$KILAT_TOP" && find . -path ./build -prune -o -path ./.git -prune -o -type f -print) | while read -r file; do
        original "$file" | cmp -s - "$TREE/$file" && continue
        mkdir -p "$TREE/$(dirname "$file")"
        original "$file" >"$TREE/$file"
    done
    (cd "$TREE" && find . -path ./build -prune -o -type f -print) | while read -r file; do
        [ -e "$KILAT_TOP/$file" ] || rm "$TREE/$file"
    done
}

# Sets preset, targets and command for a suite and its test, as the file's head explains.
plan() {
    local suite=$1 test=$2 program=${2%%:*} filter=''
    [ "$program" = "$test" ] || filter=${test#*:}
    preset=asan
    targets=("$program")
    command=("$TREE/build/asan/tests/$program")
    case $suite in
    unit) [ -z "$filter" ] || command+=(--filter "$filter") ;;
    thread) ;;
    dialog)
        targets=(dialog_run)
        command=("$TREE/build/asan/tests/dialog_run" "$TREE/tests/dialog")
        ;;
    sim)
        targets=(kilat-sim)
        command=("$TREE/build/asan/tests/kilat-sim" --seeds "${filter:-$test}")
        [ -z "$filter" ] || command+=(--world "$program")
        if [ "$test" = exhaustive ]; then
            preset=release
            command=("$TREE/build/release/tests/kilat-sim" --exhaustive)
        fi
        ;;
    fuzz)
        preset=fuzz
        command=("$TREE/build/fuzz/tests/$program" -max_total_time="${filter:-20}" -max_len=4096
            -artifact_prefix="$SUITE_LOGS/" "$TREE/tests/fuzz/corpus/${program#fuzz_}")
        ;;
    crash | e2e)
        preset=release
        targets=(kilatd kilatctl kilat-bench kilat-ledger kilat-without-uring kilat-idle kilat-hostile)
        mapfile -t -O "${#targets[@]}" targets < <(sed -n 's/^# Builds: //p' "$TREE/tests/$suite/$program.sh" | tr ' ' '\n')
        command=(env KILAT_TOP="$TREE" KILAT_PRESET=release bash "$TREE/tests/$suite/$program.sh")
        [ -z "$filter" ] || command+=("$filter")
        ;;
    *) return 1 ;;
    esac
}

build_copy() {
    [ -e "$TREE/build/$preset/build.ninja" ] || (cd "$TREE" && cmake --preset "$preset") || return 1
    ninja -C "$TREE/build/$preset" "${targets[@]}"
}

# 0: green; 77: cannot be run here; else red. A sanitizer's report is red whatever the exit status says.
run_copy() {
    local output=$1 status=0
    sanitizers_to "$REPORTS"
    for _ in 1 2; do
        status=0
        timeout --kill-after=10 "${MUTANT_TIMEOUT_S:-120}" "${command[@]}" >"$output" 2>&1 </dev/null || status=$?
        # On a loaded machine Criterion now and then never begins: that says nothing about the code.
        [ "$status" = 124 ] && [ ! -s "$output" ] || break
    done
    [ "$status" = 0 ] || return "$status"
    sanitizers_clean "$REPORTS" "$output" >/dev/null
}

# Replaces the one place where `search` stands in `file` of the copy; fails when there is none or several.
change() {
    local file=$1 search replacement content rest
    search=$(printf '%b' "$2")
    replacement=$(printf '%b' "$3")
    content=$(<"$TREE/$file")
    rest=${content#*"$search"}
    [ "$rest" != "$content" ] || { echo "$file does not have: $search" && return 1; }
    [ "${rest#*"$search"}" = "$rest" ] || { echo "$file has more than one: $search" && return 1; }
    printf '%s%s%s\n' "${content%%"$search"*}" "$replacement" "$rest" >"$TREE/$file"
}

# Tries one row. Prints what happened; 0 when the test caught it, 77 when this machine cannot run it.
try_mutant() {
    local id=$1 file=$2 search=$3 replacement=$4 suite=$5 test=$6 why=$7 status=0
    local preset targets command
    echo "$id: $why"
    plan "$suite" "$test" || { echo "unknown suite \"$suite\"" && return 1; }
    [ -e "$TREE/$file" ] || { echo "there is no $file" && return 1; }
    if [ -z "${GREEN[$suite $test]:-}" ]; then
        build_copy || { echo "the unchanged tree does not build" && return 1; }
        run_copy "$SUITE_LOGS/$id.unchanged" || {
            status=$?
            tail -n 30 "$SUITE_LOGS/$id.unchanged"
            [ "$status" != 77 ] || return 77
            echo "$suite $test is red without any change"
            return 1
        }
        GREEN[$suite $test]=yes
    fi
    change "$file" "$search" "$replacement" || return 1
    if ! build_copy; then
        echo "the mutant does not build"
        status=1
    elif run_copy "$SUITE_LOGS/$id.changed"; then
        tail -n 10 "$SUITE_LOGS/$id.changed"
        echo "NOT CAUGHT: $suite $test stays green though $why"
        status=1
    fi
    cp "$KILAT_TOP/$file" "$TREE/$file"
    return $status
}

main() {
    local rows=() count wanted first i row started_ms case_ms log status fields
    mapfile -t rows < <(grep -vE '^(#|$)' "$KILAT_TOP/tests/mutants.tsv")
    count=${#rows[@]}
    [ "$count" -gt 0 ] || report_die "tests/mutants.tsv has no row"
    wanted=${SUITE_N:-0}
    if [ "$wanted" = 0 ] || [ "$wanted" -gt "$count" ]; then wanted=$count; fi
    first=0
    [ "$wanted" = "$count" ] && [ -z "${SUITE_BUDGET_S:-}" ] || first=$((10#$(date +%j) * 7 % count))
    copy_tree
    started_ms=0
    for ((i = 0; i < wanted; i++)); do
        row=${rows[(first + i) % count]}
        IFS=$'\t' read -r -a fields <<<"$row"
        [ ${#fields[@]} = 7 ] || report_die "tests/mutants.tsv: seven fields expected, ${#fields[@]} in: $row"
        if [ -n "${SUITE_BUDGET_S:-}" ] && [ "$i" -gt 0 ] && [ $(($(report_now_ms) - started_ms)) -ge $((SUITE_BUDGET_S * 1000)) ]; then
            printf '  the time is up after %d of %d mutants; ./check mutants tries all\n' "$i" "$count"
            break
        fi
        log=$SUITE_LOGS/${fields[0]}.log
        case_ms=$(report_now_ms)
        status=0
        try_mutant "${fields[@]}" >"$log" 2>&1 || status=$?
        suite_record "${fields[0]}" "$status" "$log" "$case_ms"
        [ "$i" != 0 ] || started_ms=$(report_now_ms) # the first one has also built the copy
    done
}

main
! suite_failed
