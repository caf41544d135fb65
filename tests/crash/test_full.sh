#!/usr/bin/env bash
# Goal: a disk that fills up costs nobody a letter: then MAIL is answered 452, what was accepted is delivered, and mail is
# taken again within five seconds after there is room; a server also starts on a full disk.
# Method: the file system (crashfs.h) is told to have a drawn number of bytes left while letters come in, and to have room again
# at a drawn moment; in some rounds the server is killed, or the power is cut, while the disk is full.
# Argument: rounds.
# Builds: kilat-crashfs
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/crash/crashfs.sh
. "$(dirname "${BASH_SOURCE[0]}")/crashfs.sh"

LEFT_MAX=$((12 << 20))  # bytes, when a round begins
RETURN_MS_MAX=5000

rounds=${1:-20}
crashfs_inside "$@"

# What was answered 250 for the sink has arrived there: nothing but refusals happens meanwhile.
relayed_all() {
    [ -z "$(comm -23 <(cut -d ' ' -f 1 "$STATE/sent.sink" | sort -u) <(cut -d ' ' -f 1 "$STATE/received" | sort -u))" ]
}

slowest_ms=0
restarts=0
letters=0

run_rounds() {
    local round left what started_ms took_ms wanted
    crashfs_configure <<<''
    crashfs_start
    crashfs_load
    for ((round = 1; round <= $1; round++)); do
        left=$((RANDOM * 32768 % LEFT_MAX))
        what=waits
        crashfs_tell "space $left"
        wait_until 60 "452 in round $round" crashfs_mail_answers 452 || fail "MAIL is not refused on a full disk"
        if ((RANDOM % 2 == 0)); then
            wait_until 60 "what was accepted to be delivered" relayed_all || fail "deliveries stand still on a full disk"
            what='delivers all'
        fi
        case $((RANDOM % 4)) in
        0)
            crashfs_kill
            what="$what, is killed"
            ;;
        1)
            crashfs_cut none "$RANDOM"
            what="$what, is cut off"
            ;;
        esac
        if [ -z "${PROCESS_PIDS[$CRASHFS_SERVER]:-}" ]; then
            restarts=$((restarts + 1))
            crashfs_start
        fi
        crashfs_tell 'space max'
        started_ms=$(report_now_ms)
        wait_until 60 "250 in round $round" crashfs_mail_answers 250 || fail "MAIL is still refused"
        took_ms=$(($(report_now_ms) - started_ms))
        [ "$took_ms" -le "$RETURN_MS_MAX" ] || fail "mail was taken only $took_ms ms after there was room"
        slowest_ms=$((took_ms > slowest_ms ? took_ms : slowest_ms))
        echo "round $round: $left bytes left, $what; 250 after $took_ms ms; $(crashfs_sent) letters"
        wanted=$(($(crashfs_sent) + RANDOM % 200))
        wait_until 60 "letters in round $round" crashfs_sent_reach "$wanted" || fail "no letters are taken"
    done
    crashfs_finish
    crashfs_judge $((restarts * 200))
    letters=$((letters + $(crashfs_sent)))
}

crashfs_shares "$rounds" 40 run_rounds
echo "$rounds rounds, $restarts starts on a full disk: of $letters letters answered 250 none missing, none altered;" \
    "mail was taken again after $slowest_ms ms at most"
