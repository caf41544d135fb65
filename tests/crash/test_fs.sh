#!/usr/bin/env bash
# Goal: what was answered with 250 needs no more than what was synced: file content and names that were not are gone after
# a cut, and still no letter is missing, none altered, and each local one is in its mailbox once.
# Method: spool and mailboxes lie on a strict file system (crashfs.h). After a drawn number of its operations it stands still,
# so a cut falls between any two steps, also of a start; the server is killed, what is not durable is lost (none or some of it
# stays), and a server goes on with the rest, under load all the time.
# Argument: cuts.
# Builds: kilat-crashfs
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/crash/crashfs.sh
. "$(dirname "${BASH_SOURCE[0]}")/crashfs.sh"

OPERATIONS_MAX=600 # between two cuts, at most
FATES=(none none none some some some all)

cuts=${1:-40}
crashfs_inside "$@"

in_start=0
letters=0

run_cuts() {
    local number fate operations wanted
    crashfs_configure <<<''
    crashfs_start
    crashfs_load
    for ((number = 1; number <= $1; number++)); do
        fate=${FATES[RANDOM % ${#FATES[@]}]}
        operations=$((RANDOM % OPERATIONS_MAX))
        if ((RANDOM % 4 == 0)); then # counted from the start on, so some fall into it
            crashfs_kill
            crashfs_tell "freeze $((operations / 4))"
            crashfs_start
            kilat_is_ready "$CRASHFS_SERVER" || in_start=$((in_start + 1))
        else
            crashfs_tell "freeze $operations"
        fi
        wait_until 20 "operation $operations of life $number" crashfs_is frozen 1 || fail "nothing was written for 20 s"
        echo "cut $number: $fate after $operations operations, $(crashfs_sent) letters answered 250, $(crashfs_says dirty_sectors) sectors not durable"
        crashfs_cut "$fate" "$RANDOM"
        crashfs_start
    done
    wanted=$(($(crashfs_sent) + 200))
    wait_until 60 "letters in the last life" crashfs_sent_reach "$wanted"
    crashfs_finish
    crashfs_judge $(($1 * 200))
    letters=$((letters + $(crashfs_sent)))
}

crashfs_shares "$cuts" 50 run_cuts
echo "$cuts cuts, $in_start of them in a start: of $letters letters answered 250 none missing, none altered"
