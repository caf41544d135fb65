# tests/crash/crashfs.sh - a server whose spool and mailboxes lie on kilat-crashfs (crashfs.h), under load, and the judgement over
# what it promised. Sourced by tests/crash/test_fs.sh, test_full.sh and test_eio.sh, which run in namespaces of their own.
# shellcheck shell=bash

# shellcheck source=tests/lib/namespace.sh
. "$KILAT_TOP/tests/lib/namespace.sh"

CRASHFS=$KILAT_BUILD/tests/kilat-crashfs
CRASHFS_SERVER=glass
CRASHFS_PATIENCE_S=60
CRASHFS_SYNC_US=${CRASHFS_SYNC_US:-300} # what a sync takes: long enough for groups to gather and for cuts to fall into it

# Runs the script once more in a mount and a pid namespace, whose end takes mount and processes with it; or skips it.
crashfs_inside() {
    local status=0
    [ -z "${INSIDE:-}" ] || {
        STATE=$INSIDE
        RANDOM=$KILAT_SEED
        trap 'exit 143' TERM
        return 0
    }
    [ "$(id -u)" = 0 ] || skip "mounting the file system of the test needs root"
    [ -e /dev/fuse ] || skip "there is no FUSE here (/dev/fuse)"
    [ -x "$CRASHFS" ] || skip "kilat-crashfs was not built: libfuse 3 (libfuse3-dev) is missing"
    namespace_possible || skip "mounting needs a mount namespace"
    state_create "$(basename "$0" .sh)"
    crash_seed
    PROCESS_SIGNALS[inside]=KILL
    INSIDE=$STATE KILAT_SEED=$KILAT_SEED unshare --mount --pid --fork --kill-child \
        --propagation "$NAMESPACE_PROPAGATION" bash "$0" "$@" &
    PROCESS_PIDS[inside]=$!
    wait "${PROCESS_PIDS[inside]}" || status=$?
    unset "PROCESS_PIDS[inside]"
    exit "$status"
}

crashfs_tell() {
    printf '%s' "$*" >"$STATE/mount/.crash"
}

crashfs_says() { # word
    awk -v word="$1" '$1 == word { print $2 }' "$STATE/mount/.crash"
}

crashfs_is() { # word value
    [ "$(crashfs_says "$1")" = "$2" ]
}

# Runs `total` rounds, at most `share_max` on one file system: "COMMAND SHARE", then all of it is made anew, because mailbox and
# queue grow.
crashfs_shares() { # total, share_max, command
    local left=$1 share
    while [ "$left" -gt 0 ]; do
        share=$((left < $2 ? left : $2))
        left=$((left - share))
        rm -f "$STATE"/sent* "$STATE"/stop* "$STATE"/received* "$STATE"/fetched* "$STATE/log"/*
        "$3" "$share"
        process_stop sink || true
        process_stop later || true
        process_stop crashfs || true
        rm -rf "${STATE:?}/mount" "${STATE:?}/$CRASHFS_SERVER"
    done
}

crashfs_mounted_or_gone() {
    [ -e "$STATE/mount/.crash" ] || ! process_alive crashfs
}

# Mounts the file system and configures the server on it. More settings on standard input.
crashfs_configure() {
    local home=$STATE/$CRASHFS_SERVER
    mkdir "$STATE/mount"
    process_start crashfs "$CRASHFS" "$STATE/mount"
    wait_until 20 "the file system" crashfs_mounted_or_gone
    [ -e "$STATE/mount/.crash" ] || skip "FUSE cannot be mounted here: $(tail -n 1 "$STATE/log/crashfs.log")"
    crashfs_tell "delay $CRASHFS_SYNC_US"
    smtp_port=$(port_free)
    pop3_port=$(port_free)
    sink_port=$(port_free)
    later_port=$(port_free)
    {
        cat <<END
hostname = "surat.kawan.test"
local_domains = {"kawan.test"}
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.38:$smtp_port"}
pop3_listen = {"127.0.0.38:$pop3_port"}
allow_private_mail_hosts = true
dns_servers = {"127.0.0.1:9"}
route "*" { via = "127.0.0.39:$sink_port" }
route "nanti.test" { via = "127.0.0.40:$later_port" }
retry_first = 1s
retry_max = 5s
site_backoff_first = 1s
site_backoff_max = 2s
force_file_system = true
END
        cat
    } | kilat_configure "$CRASHFS_SERVER"
    # Small segments fill up, die and are used again within the test.
    sed -i -e 's/^segment_bytes.*/segment_bytes = 2M/' -e "s|^spool_directory.*|spool_directory = \"$STATE/mount/spool\"|" \
        -e "s|^mail_directory.*|mail_directory = \"$STATE/mount/mail\"|" "$home/kilat.conf"
    kilat_user "$CRASHFS_SERVER" fadli@kawan.test rahasia
    mkdir "$STATE/mount"/{spool,mail}
    chown "$KILAT_UID:$KILAT_UID" "$STATE/mount"/{spool,mail}
    sync "$STATE/mount"
    touch "$STATE"/sent.{sink,local,later} "$STATE"/{received,fetched}
}

# --- starts and ends ----------------------------------------------------------------------------------------------

crashfs_decided() {
    crashfs_is frozen 1 || kilat_decided "$CRASHFS_SERVER"
}

# Starts the server; a cut may fall into that.
crashfs_start() {
    KILAT_STARTS[$CRASHFS_SERVER]=$(($(kilat_ready_lines "$CRASHFS_SERVER") + 1))
    process_start "$CRASHFS_SERVER" "$KILAT_BUILD/kilatd" --config "$STATE/$CRASHFS_SERVER/kilat.conf"
    wait_until "$CRASHFS_PATIENCE_S" "kilatd to be ready, or the file system to stand still" crashfs_decided
    crashfs_is frozen 1 || kilat_is_ready "$CRASHFS_SERVER" || fail "kilatd does not start: $(tail -n 1 "$STATE/log/$CRASHFS_SERVER.log")"
}

# The kernel ends a ring some time after its process, and keeps what it listened on until then.
crashfs_sockets_closed() {
    ! grep -qF "$STATE/$CRASHFS_SERVER/control" /proc/net/unix
}

crashfs_kill() {
    kilat_kill "$CRASHFS_SERVER"
    wait_until 20 "the sockets of the killed server to close" crashfs_sockets_closed
}

# Kills the server and forgets. The kill comes first: no answer to what it still asks for reaches it alive.
crashfs_cut() { # fate, seed
    local pid=${PROCESS_PIDS[$CRASHFS_SERVER]}
    unset "PROCESS_PIDS[$CRASHFS_SERVER]"
    kill -KILL "$pid"
    crashfs_tell "cut $1 $2"
    wait "$pid" 2>/dev/null || true
    wait_until 20 "the sockets of the killed server to close" crashfs_sockets_closed
    crashfs_tell go
}

# --- the load -----------------------------------------------------------------------------------------------------

crashfs_send() { # ledger, recipient, sessions, first number
    process_start "sender-$1" "$LEDGER" send "127.0.0.38:$smtp_port" "$2" "$STATE/sent.$1" "$3" "$STATE/stop" "$4"
}

# Some letters are for a host that takes none until the end: they lie in the spool all the time, and are read from it. The
# user of the mailbox fetches and deletes letters.
crashfs_load() {
    process_start sink "$LEDGER" sink "127.0.0.39:$sink_port" "$STATE/received"
    crashfs_send sink siapa@sink.test 4 1
    crashfs_send local fadli@kawan.test 2 1000000
    crashfs_send later nanti@nanti.test 1 2000000
    process_start user "$LEDGER" fetch "127.0.0.38:$pop3_port" fadli@kawan.test rahasia "$STATE/fetched" "$STATE/stop.user"
}

crashfs_sent() {
    cat "$STATE"/sent.* | wc -l
}

# The answer to MAIL: its code.
crashfs_mail_code() {
    local line code=0
    exec 5<>"/dev/tcp/127.0.0.38/$smtp_port" || return 1
    printf 'EHLO probe.test\r\nMAIL FROM:<probe@probe.test>\r\nQUIT\r\n' >&5
    while read -rt 10 line <&5; do
        [[ $line != 221* ]] || break
        code=${line:0:3}
    done
    exec 5>&-
    printf '%s' "$code"
}

crashfs_mail_answers() { # code
    [ "$(crashfs_mail_code)" = "$1" ]
}

crashfs_sent_reach() {
    [ "$(crashfs_sent)" -ge "$1" ]
}

# The senders end, the queue drains, the server stops: then everything promised has to be where it belongs.
crashfs_finish() {
    local sender
    : >"$STATE/stop"
    : >"$STATE/stop.user"
    crashfs_tell 'delay 0' # nothing but time depends on it any more
    wait_until "$CRASHFS_PATIENCE_S" "the user to end" process_gone "${PROCESS_PIDS[user]}"
    for sender in sender-sink sender-local sender-later; do
        wait_until "$CRASHFS_PATIENCE_S" "$sender to end" process_gone "${PROCESS_PIDS[$sender]}"
    done
    process_start later "$LEDGER" sink "127.0.0.40:$later_port" "$STATE/received"
    wait_until "${CRASH_DRAIN_S:-100}" "the queue to drain" kilat_queue_is_empty "$CRASHFS_SERVER" || {
        kilat_ctl "$CRASHFS_SERVER" queue list | head -n 5 || true
        fail "the queue does not drain"
    }
    kilat_stop "$CRASHFS_SERVER" || fail "kilatd did not end in good order"
}

crashfs_fetched() { # word
    awk -v word="$1" '$2 == word { print $1 }' "$STATE/fetched" | sort
}

crashfs_none() { # what, list of numbers
    [ -z "$2" ] || fail "$1: $(head -n 20 <<<"$2" | paste -sd ' ')"
}

# Relayed letters: none missing, none altered. Local ones: each in the mailbox once, unless the user may have deleted it; none
# whose deletion was confirmed came back; nothing in tmp/.
crashfs_judge() { # how many may have been sent twice
    local mailbox=$STATE/mount/mail/kawan.test/fadli
    cat "$STATE/sent.sink" "$STATE/sent.later" >"$STATE/sent"
    printf 'relayed: '
    crash_judge "$STATE/received" "$1"
    "$LEDGER" read "$mailbox" >"$STATE/mailbox"
    cut -d ' ' -f 1 "$STATE/mailbox" | sort >"$STATE/mailbox.numbers"
    crashfs_fetched gone >"$STATE/gone"
    printf 'local: promised %d, in the mailbox %d, deleted %d\n' "$(wc -l <"$STATE/sent.local")" \
        "$(wc -l <"$STATE/mailbox.numbers")" "$(wc -l <"$STATE/gone")"
    crashfs_none "promised and missing" "$(comm -23 <(cut -d ' ' -f 1 "$STATE/sent.local" | sort -u) \
        <(sort -u "$STATE/mailbox.numbers" <(crashfs_fetched leaving)))"
    crashfs_none altered "$(grep -hE ' altered( |$)' "$STATE/mailbox" "$STATE/fetched" || true)"
    crashfs_none "in the mailbox twice" "$(uniq -d "$STATE/mailbox.numbers")"
    crashfs_none "deleted and there again" "$(comm -12 "$STATE/mailbox.numbers" "$STATE/gone")$(uniq -d "$STATE/gone")"
    expect_equal "files left in tmp/" 0 "$(find "$mailbox/tmp" -type f | wc -l)"
}
