# tests/crash/disk.sh - a server on a disk that records, and the same server on what power cuts leave of it. Sourced by
# tests/crash/test_disk.sh, which runs it in namespaces of its own.
# shellcheck shell=bash

# shellcheck source=tests/lib/namespace.sh
. "$KILAT_TOP/tests/lib/namespace.sh"

RECORDER=$KILAT_BUILD/tests/kilat-recorder
DISK_SERVER=disk
DISK_BYTES=400M            # XFS refuses to be smaller than 300 MB
DISK_LETTERS=${DISK_LETTERS:-1500} # to the mailbox, while others send to hosts that take them at once, or only after the cut
DISK_PATIENCE_S=60
DISK_FATES=(none none all some some torn torn torn)
DISK_OWED=0
DISK_DOUBLES=0

# Ends the test as one that cannot be run here, with the reason, unless all it needs is there.
disk_possible() {
    local kind
    [ "$(id -u)" = 0 ] || skip "recording a disk needs root"
    [ -e /dev/loop-control ] || skip "there are no loop devices here (/dev/loop-control)"
    [ -e /dev/fuse ] || skip "there is no FUSE here (/dev/fuse)"
    [ -x "$RECORDER" ] || skip "kilat-recorder was not built: libfuse 3 (libfuse3-dev) is missing"
    for kind; do
        command -v "mkfs.$kind" >/dev/null || skip "mkfs.$kind is missing"
    done
    namespace_possible || skip "mounting needs a mount namespace"
    losetup --find >/dev/null 2>&1 || skip "no loop device can be had here"
}

disk_make() { # file system, file
    truncate -s "$DISK_BYTES" "$2"
    case $1 in
    ext4) mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$2" ;;
    xfs) mkfs.xfs -q -K "$2" ;;
    *) fail "no such file system here: $1" ;;
    esac
}

# --- the recording ------------------------------------------------------------------------------------------------

# Sets disk_loop.
disk_mount_recorded() { # file system
    process_start recorder "$RECORDER" disk "$STATE/memory" "$STATE/glass" \
        "$STATE/sent.sink" "$STATE/sent.local" "$STATE/sent.later" "$STATE/received" "$STATE/fetched"
    wait_until 20 "the recorded disk" test -e "$STATE/glass/disk"
    disk_loop=$(losetup --find --show --direct-io=on "$STATE/glass/disk")
    mount -t "$1" ${DISK_MOUNT_OPTIONS:+-o "$DISK_MOUNT_OPTIONS"} "$disk_loop" "$STATE/$DISK_SERVER"
    losetup --detach "$disk_loop" # it is in use, so it goes with the mount, whatever ends that
}

disk_configure() {
    smtp_port=$(port_free)
    cached_port=$(port_free)
    pop3_port=$(port_free)
    sink_port=$(port_free)
    later_port=$(port_free)
    kilat_configure "$DISK_SERVER" <<END
hostname = "surat.kawan.test"
local_domains = {"kawan.test"}
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.34:$smtp_port"}
smtp_listen_cached = {"127.0.0.34:$cached_port"}
pop3_listen = {"127.0.0.34:$pop3_port"}
allow_private_mail_hosts = true
dns_servers = {"127.0.0.1:9"}
route "*" { via = "127.0.0.35:$sink_port" }
route "nanti.test" { via = "127.0.0.36:$later_port" }
retry_first = 1s
site_backoff_first = 1s
# What otherwise takes minutes happens within the recording.
checkpoint_bytes = 4M
checkpoint_interval = 1s
reclaim_after = 1s
reclaim_live_percent = 60
END
    # Small segments fill up, die and are used again within the recording.
    sed -i 's/^segment_bytes.*/segment_bytes = 2M/' "$STATE/$DISK_SERVER/kilat.conf"
    kilat_user "$DISK_SERVER" fadli@kawan.test rahasia
}

# One shard or two; with fewer than before, a spool is adopted. Sets disk_shards.
disk_draw_shards() {
    disk_shards=$((1 + RANDOM % 2))
    sed -i "s/^shards = .*/shards = $disk_shards/" "$STATE/$DISK_SERVER/kilat.conf"
}

disk_sent_reach() { # ledger count
    [ "$(wc -l <"$STATE/sent.$1")" -ge "$2" ]
}

# No number twice: letters that were not answered before a cut may be on the disk all the same.
disk_send() { # ledger, recipient, sessions, first number, port
    process_start "sender-$1" "$LEDGER" send "127.0.0.34:$5" "$2" "$STATE/sent.$1" "$3" "$STATE/stop.$1" \
        $(($4 + disk_generation * 100000))
}

disk_gone_lines() {
    grep -c ' gone ' "$STATE/fetched" || true
}

# Or there is no letter left to delete.
disk_gone_reach() {
    [ "$(disk_gone_lines)" -ge "$1" ] || [ -z "$(find "$STATE/$DISK_SERVER/mail" -path '*/fadli/new/*' -type f)" ]
}

disk_send_stop() {
    : >"$STATE/stop.$1"
    wait_until "$DISK_PATIENCE_S" "the sender to $1 to end" process_gone "${PROCESS_PIDS[sender-$1]}"
}

# Each third of the load ends in the middle of the work: two by kill -9, the last in good order.
disk_load() {
    local to part before gone
    before=$(wc -l <"$STATE/sent.local")
    process_start sink "$LEDGER" sink "127.0.0.35:$sink_port" "$STATE/received"
    disk_send sink siapa@sink.test 4 1 "$smtp_port"
    disk_send local fadli@kawan.test 3 1000000 "$smtp_port"
    disk_send later nanti@nanti.test 1 2000000 "$smtp_port"
    # Nothing is owed of these, but they lie between the others, whose 250 has to wait for a flush that covers them.
    disk_send cached siapa@sink.test 2 3000000 "$cached_port"
    process_start fetcher "$LEDGER" fetch "127.0.0.34:$pop3_port" fadli@kawan.test rahasia "$STATE/fetched" "$STATE/stop.fetcher"
    for part in 1 2; do
        wait_until "$DISK_PATIENCE_S" "a third of the letters" disk_sent_reach local $((before + DISK_LETTERS * part / 3))
        kilat_kill "$DISK_SERVER"
        report_now_ms >>"$STATE/interruptions"
        echo >>"$STATE/interruptions"
        kilat_start "$DISK_SERVER"
    done
    wait_until "$DISK_PATIENCE_S" "all letters" disk_sent_reach local $((before + DISK_LETTERS))
    for to in sink local later cached; do
        disk_send_stop "$to"
    done
    # While nothing else makes the file system sync, so that a delete that is not durable by itself is lost by a cut.
    gone=$(disk_gone_lines)
    wait_until "$DISK_PATIENCE_S" "letters to be deleted" disk_gone_reach $((gone + 100))
    : >"$STATE/stop.fetcher"
    wait_until "$DISK_PATIENCE_S" "the user to end" process_gone "${PROCESS_PIDS[fetcher]}"
}

# Records a server under load on a new disk; $STATE/memory holds the recording then. Sets disk_from, the first moment that
# may be cut.
disk_record() { # file system
    rm -f "$STATE"/memory/*
    disk_generation=0
    disk_make "$1" "$STATE/memory/base"
    touch "$STATE"/sent.{sink,local,later,cached} "$STATE"/{received,fetched,interruptions}
    truncate -s 0 "$STATE"/sent.{sink,local,later,cached} "$STATE"/{received,fetched,interruptions}
    disk_begin "$1"
    disk_configure
    disk_draw_shards
    kilat_start "$DISK_SERVER"
    sync -f "$STATE/$DISK_SERVER"
    sync "$disk_loop" # also where the file system sends no flushes: what follows is about letters
    disk_from=$("$RECORDER" now "$STATE/memory")
    disk_load
    disk_end "$1"
}

# The same on what the last cut left, with the ledgers as they were then: now recovery is cut as well.
disk_record_again() { # file system
    local facts
    disk_generation=$((disk_generation + 1))
    read -ra facts < <("$RECORDER" cut "$STATE/memory" "${disk_last[@]}" "$STATE/memory/next")
    rm -f "$STATE"/memory/{image,base,durable,durable.at}
    mv "$STATE/memory/next" "$STATE/memory/base"
    truncate -s "${facts[2]}" "$STATE/sent.sink"
    truncate -s "${facts[3]}" "$STATE/sent.local"
    truncate -s "${facts[4]}" "$STATE/sent.later"
    truncate -s "${facts[5]}" "$STATE/received"
    truncate -s "${facts[6]}" "$STATE/fetched"
    tail -n 1 "$STATE/received" | cut -d ' ' -f 3 >>"$STATE/interruptions"
    disk_begin "$1"
    disk_draw_shards
    sync -f "$STATE/$DISK_SERVER" # the settings lie there as well, and who edits them without a sync may find them empty
    disk_from=$("$RECORDER" now "$STATE/memory")
    kilat_start "$DISK_SERVER"
    disk_load
    disk_end "$1"
}

disk_begin() {
    disk_started_ms=$(report_now_ms)
    rm -f "$STATE"/stop.*
    cp --sparse=always "$STATE/memory/base" "$STATE/memory/image"
    disk_mount_recorded "$1"
}

# What the spools did since the server's last start, so that one sees what was cut.
disk_spool_says() {
    printf '%s: ' "$1"
    kilat_ctl "$DISK_SERVER" --json status | grep -oE '"(segments_reused|segments_removed|relocated|relocated_bytes|checkpoints[a-z_]*)": ?[0-9]+' | tr -d '"' | paste -sd ' '
}

disk_end() {
    disk_spool_says "$1"
    kilat_stop "$DISK_SERVER" || fail "kilatd did not end in good order"
    process_stop sink || true
    umount "$STATE/$DISK_SERVER"
    process_stop recorder || fail "the recorder failed: $(tail -n 1 "$STATE/log/recorder.log")"
    umount "$STATE/glass"
    rm "$STATE/memory/image"
    printf '%s, recording %d, %d shards: %d letters answered 250, %d moments, %d MiB written, in %s\n' "$1" \
        "$disk_generation" "$disk_shards" "$(cat "$STATE"/sent.* | wc -l)" \
        $(($("$RECORDER" now "$STATE/memory") - disk_from)) $(($(stat -c %s "$STATE/memory/data") >> 20)) \
        "$(report_since "$disk_started_ms")"
}

# --- the cuts -----------------------------------------------------------------------------------------------------

# The numbers in the first `bytes` of a ledger, sorted.
disk_numbers() {
    head -c "$2" "$1" | cut -d ' ' -f 1 | LC_ALL=C sort -u
}

# Of the sink's ledger on standard input: the numbers of letters known as delivered, because the sink had them a second before
# it fell silent, and no kill or earlier cut came within a second of that.
disk_early() {
    awk -v interruptions="$(paste -sd ' ' "$STATE/interruptions")" '
        { taken_ms[$1] = $3; last_ms = $3 }
        END {
            count = split(interruptions, at_ms, " ")
            for (number in taken_ms) {
                known = taken_ms[number] < last_ms - 1000
                for (i = 1; i <= count; i++)
                    if (taken_ms[number] > at_ms[i] - 1000 && taken_ms[number] < at_ms[i] + 1000)
                        known = 0
                if (known)
                    print number
            }
        }'
}

# The numbers with `word` in the ledger of the user, sorted.
disk_fetched() {
    awk -v word="$1" '$2 == word { print $1 }' "$STATE/cut/fetched" | LC_ALL=C sort -u
}

disk_missing() {
    LC_ALL=C comm -23 "$STATE/cut/owed" "$STATE/cut/arrived"
}

disk_arrived_all() {
    cut -d ' ' -f 1 "$STATE/arrived" | LC_ALL=C sort -u >"$STATE/cut/arrived"
    [ -z "$(disk_missing)" ]
}

disk_queue_is_empty() {
    local list
    list=$(kilat_ctl "$DISK_SERVER" --json queue list) && [[ $list != *'"id"'* ]]
}

# What the ledgers say at the cut. Of letters to others: owed (answered 250, not at the sink), before (at the sink), early (at
# the sink for a second, so known as delivered). Of local ones: owed.local (answered 250, no QUIT about them), gone.
disk_ledgers() {
    local sink=$1 local_bytes=$2 later=$3 received=$4 fetched=$5
    rm -rf "$STATE/cut"
    mkdir "$STATE/cut"
    { disk_numbers "$STATE/sent.sink" "$sink" && disk_numbers "$STATE/sent.later" "$later"; } | LC_ALL=C sort >"$STATE/cut/promised"
    disk_numbers "$STATE/received" "$received" >"$STATE/cut/before"
    head -c "$received" "$STATE/received" | disk_early | LC_ALL=C sort >"$STATE/cut/early"
    LC_ALL=C comm -23 "$STATE/cut/promised" "$STATE/cut/before" >"$STATE/cut/owed"
    head -c "$fetched" "$STATE/fetched" >"$STATE/cut/fetched"
    disk_numbers "$STATE/sent.local" "$local_bytes" | LC_ALL=C comm -23 - <(disk_fetched leaving) >"$STATE/cut/owed.local"
    disk_fetched gone >"$STATE/cut/gone"
}

# Whether the mailbox holds all it has to. What is in it stands in cut/mailbox then.
disk_mailbox_all() {
    local mailbox=$STATE/$DISK_SERVER/mail/kawan.test/fadli
    : >"$STATE/cut/mailbox"
    [ ! -d "$mailbox/new" ] || "$LEDGER" read "$mailbox" >"$STATE/cut/mailbox"
    cut -d ' ' -f 1 "$STATE/cut/mailbox" | LC_ALL=C sort >"$STATE/cut/mailbox.numbers"
    [ -z "$(LC_ALL=C comm -23 "$STATE/cut/owed.local" <(uniq "$STATE/cut/mailbox.numbers"))" ]
}

# Lets a server work off what it finds on the disk of the cut, and notes what is where then. That something is missing is
# for the judgement to say; an empty queue alone may only mean that not all of it was read yet.
disk_resume() { # cut
    : >"$STATE/arrived"
    process_start sink "$LEDGER" sink "127.0.0.35:$sink_port" "$STATE/arrived"
    process_start later "$LEDGER" sink "127.0.0.36:$later_port" "$STATE/arrived"
    disk_draw_shards
    kilat_start "$DISK_SERVER" || fail "$1: kilatd does not start"
    wait_until "$DISK_PATIENCE_S" "what is owed" disk_arrived_all || disk_none "$1" "answered 250 and missing" "$(disk_missing)"
    wait_until "$DISK_PATIENCE_S" "an empty queue" disk_queue_is_empty || fail "$1: the queue does not drain"
    wait_until "$DISK_PATIENCE_S" "what is owed to the mailbox" disk_mailbox_all || true
    kilat_stop "$DISK_SERVER" || fail "$1: kilatd did not end in good order"
    process_stop sink || true
    process_stop later || true
    disk_arrived_all || true
    disk_mailbox_all || true
}

disk_none() { # cut, what, list of numbers
    [ -z "$3" ] || fail "$1: $2: $(head -n 20 <<<"$3" | paste -sd ' ')"
}

disk_judge() { # cut
    disk_none "$1" "answered 250 and missing" "$(disk_missing)"
    disk_none "$1" "altered" "$(grep -hE ' altered( |$)' "$STATE/arrived" "$STATE/cut/mailbox" "$STATE/cut/fetched")"
    disk_none "$1" "known as delivered and sent again" "$(LC_ALL=C comm -12 "$STATE/cut/early" "$STATE/cut/arrived")"
    disk_none "$1" "answered 250 and not in the mailbox" \
        "$(LC_ALL=C comm -23 "$STATE/cut/owed.local" <(uniq "$STATE/cut/mailbox.numbers"))"
    disk_none "$1" "deleted and there again" "$(LC_ALL=C comm -12 "$STATE/cut/gone" <(uniq "$STATE/cut/mailbox.numbers"))"
    disk_none "$1" "in the mailbox twice" "$(uniq -d "$STATE/cut/mailbox.numbers")"
    disk_none "$1" "left in tmp/" "$(find "$STATE/$DISK_SERVER/mail" -path '*/fadli/tmp/*' -type f)"
}

# One cut at `moment`: built, mounted, resumed and judged.
disk_cut() {
    local kind=$1 moment=$2 fate=$3 seed=$4 cut facts doubles
    read -ra facts < <("$RECORDER" cut "$STATE/memory" "$moment" "$fate" "$seed" "$STATE/memory/cut")
    [ ${#facts[@]} = 8 ] || fail "$kind: the disk at moment $moment could not be built"
    cut="$kind, recording $disk_generation, cut at moment $moment, $fate $seed (${facts[1]} of ${facts[0]} pending writes there)"
    disk_ledgers "${facts[@]:2}"
    mount -t "$kind" -o loop "$STATE/memory/cut" "$STATE/$DISK_SERVER" || fail "$cut: the file system does not mount"
    disk_resume "$cut"
    disk_judge "$cut"
    umount "$STATE/$DISK_SERVER"
    doubles=$(LC_ALL=C comm -12 "$STATE/cut/before" "$STATE/cut/arrived" | wc -l)
    DISK_OWED=$((DISK_OWED + $(wc -l <"$STATE/cut/owed")))
    DISK_DOUBLES=$((DISK_DOUBLES + doubles))
    printf '%s, %d shards: %d owed, %d in the mailbox, %d deleted, %d twice\n' "$cut" "$disk_shards" "$(wc -l <"$STATE/cut/owed")" \
        "$(wc -l <"$STATE/cut/mailbox.numbers")" "$(wc -l <"$STATE/cut/gone")" "$doubles"
}

# Cuts the recording at `count` moments; the last one is disk_last then.
disk_replay() {
    local kind=$1 count=$2 moment started_ms
    started_ms=$(report_now_ms)
    while read -r moment; do
        disk_last=("$moment" "${DISK_FATES[RANDOM % ${#DISK_FATES[@]}]}" "$RANDOM")
        disk_cut "$kind" "${disk_last[@]}"
    done < <("$RECORDER" draw "$STATE/memory" "$disk_from" "$count" "$RANDOM")
    printf '%s: %d cuts in %s\n' "$kind" "$count" "$(report_since "$started_ms")"
}
