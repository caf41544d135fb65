#!/usr/bin/env bash
# crash: the real binary and what may happen to it and its disk, with a ledger of every 250. Each variant is a script
# test_VARIANT.sh, or several test_VARIANT_*.sh, that takes its number; SUITE_VARIANT runs one of them, `--n` says the
# number. A few kills more go to a build with ASan and UBSan and to one with TSan, both with two shards.
set -euo pipefail
# shellcheck source=tests/lib/suite.sh
. "$KILAT_TOP/tests/lib/suite.sh"

declare -A NUMBERS=([fs]=40 [disk]=30 [kill]=50 [full]=20 [eio]=20 [flip]=100)
VARIANTS=(kill fs disk full eio flip)
SANITIZED_KILLS=4

targets=(kilatd kilatctl kilat-ledger)

scripts_of() { # variant
    find "$KILAT_TOP/tests/crash" -name "test_$1.sh" -o -name "test_$1_*.sh" | sort
}

run_scripts() { # preset, variant, number
    local script name
    SUITE_TIMEOUT_S=$((900 + $3 * 20))
    for script in $(scripts_of "$2"); do
        name="$(basename "$script" .sh) ($1, $3)"
        suite_case "$name" env KILAT_PRESET="$1" bash "$script" "$3"
        tail -n 1 "$SUITE_LOGS/${name//[^A-Za-z0-9_.-]/_}.log" | sed 's/^/        /'
    done
}

variants=("${VARIANTS[@]}")
if [ -n "${SUITE_VARIANT:-}" ]; then
    variants=("$SUITE_VARIANT")
    [ -n "$(scripts_of "$SUITE_VARIANT")" ] || report_die "there is no tests/crash/test_$SUITE_VARIANT.sh"
fi
# A script that needs another program of ours says so: "# Builds: NAME".
for variant in "${variants[@]}"; do
    for script in $(scripts_of "$variant"); do
        mapfile -t -O "${#targets[@]}" targets < <(sed -n 's/^# Builds: //p' "$script" | tr ' ' '\n')
    done
done

suite_builds release "${targets[@]}" || exit 1
for variant in "${variants[@]}"; do
    run_scripts release "$variant" "${SUITE_N:-${NUMBERS[$variant]}}"
done

if [[ " ${variants[*]} " == *" kill "* ]]; then
    export KILAT_SHARDS=2
    for preset in asan tsan; do
        suite_builds "$preset" kilatd kilatctl kilat-ledger || exit 1
        sanitizers_for_servers
        run_scripts "$preset" kill "$SANITIZED_KILLS"
        sanitizers_case "$preset" "$SANITIZERS_FOLDER"
    done
fi
! suite_failed
