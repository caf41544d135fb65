# tests/crash/lib.sh - a server that is killed under load, and the ledger of every 250. Sourced by tests/crash/test_*.sh.
# shellcheck shell=bash

# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

LEDGER=$KILAT_BUILD/tests/kilat-ledger
LETTERS_PER_LIFE=${LETTERS_PER_LIFE:-200} # at most so many new 250s before the next kill; the moment itself is drawn

# Draws from a printed seed, so that a failing run can be tried again: KILAT_SEED=N.
crash_seed() {
    RANDOM=${KILAT_SEED:=$((RANDOM % 32768))}
    echo "seed $KILAT_SEED (KILAT_SEED=$KILAT_SEED draws the same moments again)"
}

crash_sent_lines() {
    wc -l <"$STATE/sent" 2>/dev/null || echo 0
}

crash_sent_reach() {
    [ "$(crash_sent_lines)" -ge "$1" ]
}

# Sends letters to `address` for RECIPIENT without end, while server `name` is killed `kills` times, each time after
# it has answered 250 a drawn number of times; the last life goes on until the queue is empty. What a script wants done
# between a kill and the next start it defines as crash_between_lives, and before a kill as crash_before_kill.
crash_before_kill() { # number of the life
    :
}

crash_between_lives() { # server, time of the kill in ms
    :
}

crash_under_load() {
    local name=$1 address=$2 recipient=$3 kills=$4 kill wanted killed_ms
    : >"$STATE/sent"
    process_start sender "$LEDGER" send "$address" "$recipient" "$STATE/sent" "${CRASH_SESSIONS:-8}" "$STATE/stop"
    for ((kill = 1; kill <= kills; kill++)); do
        wanted=$(($(crash_sent_lines) + RANDOM % LETTERS_PER_LIFE))
        wait_until 60 "$wanted letters to be accepted (life $kill)" crash_sent_reach "$wanted"
        crash_before_kill "$kill"
        killed_ms=$(report_now_ms)
        kilat_kill "$name"
        crash_between_lives "$name" "$killed_ms"
        kilat_start "$name"
    done
    wanted=$(($(crash_sent_lines) + LETTERS_PER_LIFE))
    wait_until 60 "$wanted letters to be accepted (last life)" crash_sent_reach "$wanted"
    : >"$STATE/stop"
    wait_until 60 "the sender to end" process_gone "${PROCESS_PIDS[sender]}"
    wait_until "${CRASH_DRAIN_S:-120}" "the queue to drain" kilat_queue_is_empty "$name"
}


# Compares what was promised (numbers in $STATE/sent) with what arrived ("NUMBER ok|altered ..." in `arrived`).
# Prints the counts; fails when a letter is missing, altered, or arrived more often than `doubles_max` allows in all.
crash_judge() {
    local arrived=$1 doubles_max=$2 missing altered doubles
    cut -d ' ' -f 1 "$STATE/sent" | sort -u >"$STATE/promised"
    awk '$2 == "ok" || $2 == "altered" { print $1, $2 }' "$arrived" | sort >"$STATE/arrived.all"
    cut -d ' ' -f 1 "$STATE/arrived.all" | sort -u >"$STATE/arrived.once"
    missing=$(comm -23 "$STATE/promised" "$STATE/arrived.once")
    altered=$(grep -c ' altered$' "$STATE/arrived.all" || true)
    doubles=$(($(wc -l <"$STATE/arrived.all") - $(wc -l <"$STATE/arrived.once")))
    printf 'promised %d, arrived %d, missing %d, altered %d, twice %d (at most %d)\n' \
        "$(wc -l <"$STATE/promised")" "$(wc -l <"$STATE/arrived.once")" "$(wc -w <<<"$missing")" "$altered" "$doubles" "$doubles_max"
    [ -z "$missing" ] || fail "promised and missing: $(head -n 20 <<<"$missing" | paste -sd ' ')"
    [ "$altered" = 0 ] || fail "altered: $(grep ' altered$' "$STATE/arrived.all" | head -n 20 | paste -sd ' ')"
    [ "$doubles" -le "$doubles_max" ] || fail "$doubles letters arrived twice, more than $doubles_max"
}
