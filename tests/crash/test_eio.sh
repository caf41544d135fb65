#!/usr/bin/env bash
# Goal: one write, read, sync, rename or open that fails costs nobody a letter, and does not end the server: what cannot be
# kept is answered 4xx instead of 250.
# Method: the file system (crashfs.h) fails the n-th next operation of each kind in turn, n drawn, five times a round: a failed
# write leaves some of its sectors, a failed sync drops what it was to write, as Linux does. The server has to go on taking
# mail; in half of the rounds the power is then cut, so that nothing can rest on what was dropped. In some rounds a fault
# falls into a start: that may fail, with a sentence, and the next one has to succeed.
# Argument: rounds.
# Builds: kilat-crashfs
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/crash/crashfs.sh
. "$(dirname "${BASH_SOURCE[0]}")/crashfs.sh"

KINDS=(write sync syncdir rename open read)
declare -A AMONG=([write]=40 [sync]=20 [syncdir]=20 [rename]=20 [open]=40 [read]=4) # n is below that
FAULTS=5    # of a round, one after the other
REACHED_S=2 # reads are rare: what is hot is sent from memory

rounds=${1:-20}
crashfs_inside "$@"

failed_reaches() {
    [ "$(crashfs_says failed)" -ge "$1" ]
}

# A start into which a fault falls. It may end, if it says why.
start_with_fault() {
    KILAT_STARTS[$CRASHFS_SERVER]=$(($(kilat_ready_lines "$CRASHFS_SERVER") + 1))
    process_start "$CRASHFS_SERVER" "$KILAT_BUILD/kilatd" --config "$STATE/$CRASHFS_SERVER/kilat.conf"
    wait_until "$CRASHFS_PATIENCE_S" "a start to be decided" kilat_decided "$CRASHFS_SERVER" || fail "the start is not decided"
    kilat_is_ready "$CRASHFS_SERVER" && return 0
    wait "${PROCESS_PIDS[$CRASHFS_SERVER]}" && status=0 || status=$?
    unset "PROCESS_PIDS[$CRASHFS_SERVER]"
    [ "$status" -lt 126 ] || fail "a start into which a fault fell ended with status $status"
    tail -n 1 "$STATE/log/$CRASHFS_SERVER.log" | has 'nput/output error' || fail "a start that failed does not say why"
    refused_starts=$((refused_starts + 1))
    crashfs_start
}

faults=0
cuts=0
refused_starts=0
letters=0

run_rounds() {
    local round kind what met fault before wanted
    crashfs_configure <<<''
    crashfs_start
    crashfs_load
    for ((round = 1; round <= $1; round++)); do
        kind=${KINDS[round % ${#KINDS[@]}]}
        what='' met=0
        if ((RANDOM % 4 == 0)); then
            crashfs_kill
            cuts=$((cuts + 1))
            what='one of them in a start, '
            crashfs_tell "fail $kind $((1 + RANDOM % AMONG[$kind]))"
            start_with_fault
        fi
        for ((fault = 0; fault < FAULTS; fault++)); do
            before=$(crashfs_says failed)
            crashfs_tell "fail $kind $((1 + RANDOM % AMONG[$kind]))"
            wait_until "$REACHED_S" "$kind to fail" failed_reaches $((before + 1)) 2>/dev/null || break
            met=$((met + 1))
        done
        crashfs_tell "fail $kind 0"
        faults=$((faults + met))
        wanted=$(($(crashfs_sent) + 20 + RANDOM % 100))
        wait_until 60 "letters in round $round" crashfs_sent_reach "$wanted" || fail "no letters are taken any more after $kind failed"
        process_alive "$CRASHFS_SERVER" || fail "$kind failed, and kilatd ended"
        if ((RANDOM % 2 == 0)); then
            crashfs_cut none "$RANDOM"
            cuts=$((cuts + 1))
            what="${what}cut off, "
            crashfs_start
        fi
        echo "round $round: $met times $kind, $what$(crashfs_sent) letters"
    done
    crashfs_finish
    crashfs_judge $((cuts * 200))
    letters=$((letters + $(crashfs_sent)))
}

crashfs_shares "$rounds" 40 run_rounds
echo "$rounds rounds, $faults faults, $refused_starts starts refused with a sentence, $cuts cuts and kills:" \
    "of $letters letters answered 250 none missing, none altered"
