#!/usr/bin/env bash
# Goal: a power cut at any write of the disk loses no letter that was answered with 250 and alters none; local letters are in
# their mailbox once; nothing that was known to be delivered goes out again.
# Method: ext4 and XFS stand on a disk that records each write and each flush together with the length of the ledgers
# (recorder.h). A server works on it under load, is killed and goes on. Then, for each of as many moments as wanted, the
# disk is built as a power cut would leave it, mounted without any repair, and a server has to keep what was promised.
# Arguments: cuts [file system]. DISK_MOUNT_OPTIONS: more options for the recorded mount, to see the test go red.
# Builds: kilat-recorder
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/crash/disk.sh
. "$(dirname "${BASH_SOURCE[0]}")/disk.sh"

CUTS_PER_ROUND=100 # more of them would look at the same recordings again
cuts=${1:-30}
read -ra file_systems <<<"${2:-ext4 xfs}"

if [ -z "${INSIDE:-}" ]; then
    disk_possible "${file_systems[@]}"
    state_create test_disk
    crash_seed
    # Everything happens inside, whose end takes all mounts, loop devices and processes with it, whatever ended it.
    PROCESS_SIGNALS[inside]=KILL
    INSIDE=$STATE KILAT_SEED=$KILAT_SEED setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child \
        --propagation "$NAMESPACE_PROPAGATION" bash "$0" "$@" &
    PROCESS_PIDS[inside]=$!
    status=0
    wait "${PROCESS_PIDS[inside]}" || status=$?
    unset "PROCESS_PIDS[inside]"
    exit "$status"
fi

STATE=$INSIDE
RANDOM=$KILAT_SEED
trap 'exit 143' TERM
mkdir "$STATE/memory" "$STATE/glass" "$STATE/$DISK_SERVER"
mount -t tmpfs -o mode=0711 none "$STATE/memory"
# In rounds: each records every file system anew, cuts that, and records once more on what the last of these cuts left.
left=$cuts
while [ "$left" -gt 0 ]; do
    round=$((left < CUTS_PER_ROUND ? left : CUTS_PER_ROUND))
    left=$((left - round))
    for ((i = 0; i < ${#file_systems[@]}; i++)); do
        share=$((round / (${#file_systems[@]} - i)))
        [ "$share" -gt 0 ] || continue
        round=$((round - share))
        disk_record "${file_systems[i]}"
        disk_replay "${file_systems[i]}" $(((share + 1) / 2))
        [ "$share" -gt 1 ] || continue
        disk_record_again "${file_systems[i]}"
        disk_replay "${file_systems[i]}" $((share / 2))
    done
done
printf '%d cuts: %d letters owed after them, 0 missing, 0 altered; %d sent twice, having reached the sink within the last second before a cut\n' \
    "$cuts" "$DISK_OWED" "$DISK_DOUBLES"
