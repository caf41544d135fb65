#!/usr/bin/env bash
# Goal: whatever bits flip and wherever a file is cut in a spool, kilatd starts, delivers all that is still whole, takes new
# mail, delivers nothing altered, never dies, and says in its log that something was damaged when something was lost.
# Method: two spools with mail that waits and mail that was delivered, over several segments, one left by kill -9 and one by
# an orderly stop. Each round copies one of them, damages one to four places drawn from the round's seed, and reads it by
# the offline tools: what these find whole and unfinished has to arrive, and so do letters sent after the start.
set -euo pipefail
# shellcheck source=tests/crash/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

rounds=${1:-100}
FIRST_NEW=1000000 # numbers of the letters of the rounds
DELIVERED=300
WAITING=900

flip_configure() { # server, port, port of the sink
    kilat_configure "$1" <<END
hostname = "flip.test"
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.43:$2"}
pop3_listen = {}
allow_private_mail_hosts = true
dns_servers = {"127.0.0.1:9"}
route "*" { via = "127.0.0.44:$3" }
retry_first = 1s
retry_max = 1s
site_backoff_first = 1s
END
    sed -i 's/^segment_bytes = .*/segment_bytes = 2M/' "$STATE/$1/kilat.conf"
}

all_arrived() {
    [ -z "$(cut -d ' ' -f 1 "$STATE/received" | sort | comm -13 - "$STATE/expected")" ]
}

send_until() { # lines of the ledger, first number
    rm -f "$STATE/stop"
    process_start sender "$LEDGER" send "127.0.0.43:$port" siapa@sink.test "$STATE/sent" 4 "$STATE/stop" "$2"
    wait_until 60 "$1 letters to be taken" crash_sent_reach "$1"
}

send_end() {
    : >"$STATE/stop"
    wait_until 60 "the sender to end" process_gone "${PROCESS_PIDS[sender]}"
}

# Mail that was delivered, and mail that waits because nobody listens any more.
make_spools() {
    flip_configure base "$port" "$sink_port"
    : >"$STATE/sent"
    process_start sink "$LEDGER" sink "127.0.0.44:$sink_port" "$STATE/received"
    kilat_start base
    send_until "$DELIVERED" 1
    send_end
    wait_until 60 "the first letters to arrive" kilat_queue_is_empty base
    process_stop sink || true
    send_until $(($(crash_sent_lines) + WAITING)) 100000
    kilat_kill base
    send_end
    cp -a "$STATE/base/spool" "$STATE/killed"
    kilat_start base
    kilat_stop base || fail "kilatd did not end in good order"
    mv "$STATE/base/spool" "$STATE/stopped"
    for kind in killed stopped; do
        "$LEDGER" spool "$STATE/$kind" | cut -d ' ' -f 1 | sort >"$STATE/$kind.waiting"
        [ "$(wc -l <"$STATE/$kind.waiting")" -ge "$WAITING" ] || fail "the $kind spool holds too little"
    done
}

# The letters that arrived in this round are those of `wanted` (or more, finished before and no longer known to be), each
# once and unaltered.
judge_round() { # what was done to the spool
    local twice
    ! grep ' altered ' "$STATE/received" || fail "$1: an altered letter was delivered"
    cut -d ' ' -f 1 "$STATE/received" | sort >"$STATE/arrived"
    twice=$(uniq -d "$STATE/arrived")
    [ -z "$twice" ] || fail "$1: arrived twice: $(head -n 5 <<<"$twice" | paste -sd ' ')"
}

# What a checkpoint names is found to be damaged only when it is read to be delivered.
damage_is_told() {
    grep -qE 'event=(spool|queue)[.a-z]*\.damaged |damaged_records=[1-9]|torn_groups=[1-9]' "$STATE/log/trial.log"
}

play_round() { # number
    local kind=stopped seed=$((KILAT_SEED * 100000 + $1)) what lost
    [ $(($1 % 2)) = 0 ] || kind=killed
    rm -rf "$STATE/trial/spool"
    cp -a "$STATE/$kind" "$STATE/trial/spool"
    what="round $1 ($kind): $("$LEDGER" flip "$STATE/trial/spool/0000" "$seed")"
    printf '%s\n' "$what"
    "$LEDGER" spool --damaged "$STATE/trial/spool" | sed -n 's/ waiting$//p' | sort >"$STATE/wanted"
    : >"$STATE/received"
    : >"$STATE/sent"
    : >"$STATE/log/trial.log"
    kilat_start trial || fail "$what: kilatd did not start"
    send_until 3 $((FIRST_NEW + $1 * 1000))
    send_end
    cut -d ' ' -f 1 "$STATE/sent" | sort - "$STATE/wanted" >"$STATE/expected"
    wait_until 30 "$(wc -l <"$STATE/expected") letters to arrive" all_arrived || true
    lost=$(comm -23 "$STATE/$kind.waiting" "$STATE/wanted" | wc -l)
    [ "$lost" = 0 ] || wait_until 20 "the log to tell of the damage" damage_is_told ||
        fail "$what: $lost letters were lost and the log says nothing"
    set_aside=$((set_aside + lost))
    [ "$lost" = 0 ] || hit=$((hit + 1))
    kilat_stop trial || fail "$what: kilatd died or did not end in good order"
    judge_round "$what"
    lost=$(comm -23 "$STATE/expected" "$STATE/arrived")
    [ -z "$lost" ] || fail "$what: whole and not delivered: $(head -n 5 <<<"$lost" | paste -sd ' ')"
}

state_create test_flip
crash_seed
port=$(port_free)
sink_port=$(port_free)
: >"$STATE/received"
make_spools
flip_configure trial "$port" "$sink_port"
process_start sink "$LEDGER" sink "127.0.0.44:$sink_port" "$STATE/received"
hit=0 set_aside=0
for ((round = 1; round <= rounds; round++)); do
    play_round "$round"
done
printf 'rounds %d, of which %d hit mail that waits: %d letters set aside or cut, all others delivered, none altered\n' \
    "$rounds" "$hit" "$set_aside"
