#!/usr/bin/env bash
# sweep.sh - which settings make Postfix fastest as a relay: main.cf as it stands here, and that with one thing changed, in turn,
# round by round.
#
#   bench/postfix/sweep.sh [ROUNDS [SECONDS]]
#
# Prints a table of medians, the cheapest CPU first. What wins goes into main.cf by hand, with the table into README.md.
set -euo pipefail

KILAT_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ROUNDS=${1:-3}
SECONDS_EACH=${2:-4}
BENCH=$KILAT_TOP/build/release/kilat-bench

# One variation a line: settings as in main.cf, several parted by "|". The first one changes nothing.
VARIATIONS=(
    "hash_queue_depth = 1"
    "smtp_connection_cache_on_demand = yes"
    "smtp_connection_cache_on_demand = yes|smtp_connection_cache_time_limit = 10s|smtp_connection_reuse_time_limit = 300s"
    "smtp_connection_cache_destinations = static:all"
    "smtp_destination_concurrency_limit = 5"
    "smtp_destination_concurrency_limit = 10"
    "smtp_destination_concurrency_limit = 40"
    "smtp_destination_concurrency_limit = 80"
    "default_process_limit = 20"
    "default_process_limit = 40"
    "default_process_limit = 100"
    "max_use = 100"
    "enable_long_queue_ids = yes"
    "smtputf8_enable = no"
    "enable_original_recipient = no"
    "hash_queue_names = incoming, active, deferred, defer"
    "qmgr_message_active_limit = 1000"
    "in_flow_delay = 1s"
    "smtpd_delay_reject = no"
    "default_process_limit = 40|smtputf8_enable = no|enable_original_recipient = no"
)

results=$(mktemp)
trap 'rm -f "$results" "$results.json"' EXIT
for ((round = 1; round <= ROUNDS; round++)); do
    for variation in "${VARIATIONS[@]}"; do
        POSTFIX_BENCH_SETTINGS=${variation//|/$'\n'} "$BENCH" compare --scenario relay-4k --rounds 1 --seconds "$SECONDS_EACH" \
            --servers postfix-tuned --json "$results.json" >/dev/null || continue # a run that does not count
        printf '%s\t%s\t%s\n' "$variation" \
            "$(grep -oE '"cpu_us_per_message": [0-9.]+' "$results.json" | cut -d ' ' -f 2)" \
            "$(grep -oE '"delivered_per_s": [0-9.]+' "$results.json" | cut -d ' ' -f 2)" >>"$results"
        tail -n 1 "$results" >&2
    done
done

printf '| CPU µs per message | delivered/s | changed |\n|---:|---:|---|\n'
# The median of three or fewer is the middle one of the sorted.
sort -t $'\t' -k 1,1 -k 2,2n "$results" | awk -F '\t' '
    function out() { if (n) printf "%s\t%s\t%s\n", cpu[int((n + 1) / 2)], rate[int((n + 1) / 2)], name }
    $1 != name { out(); name = $1; n = 0 }
    { cpu[++n] = $2; rate[n] = $3 }
    END { out() }' | sort -n | awk -F '\t' '{ printf "| %.0f | %.0f | `%s` |\n", $1, $2, $3 }'
