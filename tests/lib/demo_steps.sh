# tests/lib/demo_steps.sh - the steps of ./demo, each one sentence of the story. Sourced by ./demo, never run.
#
# A step says in `what` what it shows, prints what is worth seeing with `show`, and ends the demo when a command
# fails (set -e) or by `fail` with a reason.
# shellcheck shell=bash
# shellcheck disable=SC2034 # `what` is for ./demo

AT_HOME=127.0.0.21    # the server of debianindonesia.test
AT_GATEWAY=127.0.0.22 # kawan.test's MX, which hands on by a route
AT_KAWAN=127.0.0.23   # the server of kawan.test, and of sahabat.test as its second MX
AT_DEAD=127.0.0.29    # the better MX of sahabat.test: nothing is there
AT_DOWN=127.0.0.30    # the only host of jauh.test: down until the last step but one
AT_NSD=127.0.0.53
AT_RESOLVER=127.0.0.54

PENULIS=penulis@debianIndonesia.test # as people write it
PENULIS_PASSWORD=pantun-lama
COLLEAGUE=rekan@debianindonesia.test
FADLI=fadli@kawan.test
FADLI_PASSWORD=layang-layang

# --- names and servers --------------------------------------------------------------------------------------------

step_names_answer() {
    what='NSD and unbound answer for the .test domains'
    smtp_port=$(port_free)
    pop3_port=$(port_free)
    nsd_port=$(port_free)
    resolver_port=$(port_free)
    demo_zones
    nsd_start "$AT_NSD" "$nsd_port" debianindonesia.test kawan.test sahabat.test jauh.test
    unbound_start "$AT_RESOLVER" "$resolver_port" "$AT_NSD" "$nsd_port" debianindonesia.test kawan.test sahabat.test jauh.test
    local domain
    for domain in debianindonesia.test kawan.test sahabat.test jauh.test; do
        printf '%-22s MX %s\n' "$domain" "$(names_short "$AT_RESOLVER" "$resolver_port" "$domain" MX | sort -n | paste -sd ';' | sed 's/;/; /g')" | show
    done
}

has_ipv6() {
    grep -q '^00000000000000000000000000000001 ' /proc/net/if_inet6 2>/dev/null
}

demo_zones() {
    zone_write debianindonesia.test "$AT_NSD" <<END
@ IN MX 10 surat
surat IN A $AT_HOME
END
    {
        printf '@ IN MX 10 gerbang\ngerbang IN A %s\n' "$AT_GATEWAY"
        if has_ipv6; then
            printf 'gerbang IN AAAA ::1\n'
        fi
    } | zone_write kawan.test "$AT_NSD"
    zone_write sahabat.test "$AT_NSD" <<END
@ IN MX 10 mati
@ IN MX 20 hidup
mati IN A $AT_DEAD
hidup IN A $AT_KAWAN
END
    zone_write jauh.test "$AT_NSD" <<END
@ IN MX 10 satu
satu IN A $AT_DOWN
END
}

# The settings that the three servers share. Private mail hosts are refused by default: here all of them are.
demo_common_settings() {
    cat <<END
dns_servers = {"$AT_RESOLVER:$resolver_port"}
outgoing_port = $smtp_port
allow_private_mail_hosts = true
END
}

step_servers_start() {
    what='three kilatd start: debianindonesia.test, a gateway, kawan.test'
    local gateway_listen="\"$AT_GATEWAY:$smtp_port\""
    if has_ipv6; then
        gateway_listen="$gateway_listen, \"[::1]:$smtp_port\""
    fi
    {
        demo_common_settings
        cat <<END
hostname = "surat.debianindonesia.test"
local_domains = {"debianindonesia.test"}
relay_networks = {"127.0.0.1"}
smtp_listen = {"$AT_HOME:$smtp_port"}
pop3_listen = {"$AT_HOME:$pop3_port"}
outgoing_source = "$AT_HOME"
END
    } | kilat_configure debianindonesia
    {
        demo_common_settings
        cat <<END
hostname = "gerbang.kawan.test"
relay_domains = {"kawan.test"}
smtp_listen = {$gateway_listen}
outgoing_source = "$AT_GATEWAY"
route "kawan.test" { via = "$AT_KAWAN:$smtp_port" }
END
    } | kilat_configure gateway
    {
        demo_common_settings
        cat <<END
hostname = "dalam.kawan.test"
local_domains = {"kawan.test", "sahabat.test"}
relay_networks = {"127.0.0.1"}
smtp_listen = {"$AT_KAWAN:$smtp_port"}
pop3_listen = {"$AT_KAWAN:$pop3_port"}
outgoing_source = "$AT_KAWAN"
END
    } | kilat_configure kawan
    kilat_user debianindonesia "$PENULIS" "$PENULIS_PASSWORD"
    kilat_user debianindonesia "$COLLEAGUE" "$PENULIS_PASSWORD"
    kilat_user kawan "$FADLI" "$FADLI_PASSWORD"
    kilat_user kawan uji@kawan.test "$FADLI_PASSWORD"
    kilat_user kawan fadli@sahabat.test "$FADLI_PASSWORD"
    kilat_start debianindonesia
    kilat_start gateway
    kilat_start kawan
    printf 'SMTP on port %s of %s, %s%s and %s; POP3 on port %s; allow_private_mail_hosts is on, here only\n' \
        "$smtp_port" "$AT_HOME" "$AT_GATEWAY" "$(has_ipv6 && printf ' (and ::1)')" "$AT_KAWAN" "$pop3_port" | show
}

# --- letters ------------------------------------------------------------------------------------------------------

# Hands a short letter to the server at `address`: letter ADDRESS FROM TO SUBJECT TEXT
letter() {
    swaks --server "$1" --port "$smtp_port" --from "$2" --to "$3" --header "Subject: $4" --body "$5" --hide-all ||
        fail "swaks could not hand the letter \"$4\" to $1: run it by hand to see the dialogue"
}

# Waits until the mailbox of USER at `address` holds `count` letters.
mailbox_fills() {
    local count=$1 address=$2 user=$3 password=$4
    wait_until 20 "$count letter(s) for $user" pop3_holds "$count" "$address" "$pop3_port" "$user" "$password"
}

step_colleague() {
    what="$PENULIS writes to a colleague, who fetches it"
    letter "$AT_HOME" "$PENULIS" "$COLLEAGUE" 'rapat' 'Jam sembilan di ruang biasa.'
    mailbox_fills 1 "$AT_HOME" "$COLLEAGUE" "$PENULIS_PASSWORD"
    pop3 "$AT_HOME" "$pop3_port" "$COLLEAGUE" "$PENULIS_PASSWORD" '' 1 >"$STATE/colleague.eml"
    grep -q '^Jam sembilan di ruang biasa' "$STATE/colleague.eml" || fail "the colleague's letter has another text"
}

# A letter with an attachment and 8-bit text, with CRLF, as it stands on the wire.
demo_write_letter() {
    head -c 20000 /dev/urandom >"$STATE/attachment"
    {
        cat <<END
From: Penulis <$PENULIS>
To: Fadli <$FADLI>
Subject: naskah
Date: $(LC_ALL=C date -R)
Message-ID: <naskah.$$@debianindonesia.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="batas"

--batas
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Kawan, ini naskahnya. Terlampir — “seadanya”, café & naïveté.
.titik di awal baris
..dua titik

--batas
Content-Type: application/octet-stream; name="naskah.bin"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="naskah.bin"

END
        base64 "$STATE/attachment"
        printf -- '\n--batas--\n'
    } | sed 's/$/\r/' >"$STATE/letter.eml"
}

step_letter_to_fadli() {
    what="penulis writes to $FADLI: attachment, 8-bit text, three hops"
    demo_write_letter
    curl --silent --show-error --verbose --max-time 20 "smtp://$AT_HOME:$smtp_port/klien.test" --mail-from "$PENULIS" \
        --mail-rcpt "$FADLI" --upload-file "$STATE/letter.eml" 2>"$STATE/dialogue" || {
        cat "$STATE/dialogue"
        fail "curl could not hand the letter over"
    }
    sed -n 's/\r$//; /^[<>] /p' "$STATE/dialogue" | show
    {
        printf 'address   %s: name "%s", domain "%s"\n' "$FADLI" "${FADLI%@*}" "${FADLI#*@}"
        kilat_ctl debianindonesia dns MX "${FADLI#*@}"
    } | show
    mailbox_fills 1 "$AT_KAWAN" "$FADLI" "$FADLI_PASSWORD"
    pop3 "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD" TOP '1 0' >"$STATE/top.eml" 2>/dev/null ||
        pop3 "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD" '' 1 >"$STATE/top.eml"
    received_chain "$STATE/top.eml" | show
    [ "$(grep -c '^Received:' "$STATE/top.eml")" = 3 ] || fail "three hops add three Received fields, not $(grep -c '^Received:' "$STATE/top.eml")"
}

# The Received fields of a letter, unfolded, the first hop first.
received_chain() {
    sed 's/\r$//' "$1" | awk '
        /^$/ { over = 1 } # and reads on: who leaves early ends the writer by SIGPIPE
        over { next }
        /^Received:/ { fields[++n] = $0; on = 1; next }
        on && /^[ \t]/ { sub(/^[ \t]+/, " "); fields[n] = fields[n] $0; next }
        { on = 0 }
        END { for (i = n; i > 0; i--) printf "hop %d  %s\n", n - i + 1, fields[i] }'
}

step_kept_over_kill() {
    what='fadli is away; kill -9 of his server and a restart keep his letter'
    kilat_kill kawan
    kilat_start kawan
    expect_equal 'letters for fadli after kill -9' 1 "$(pop3_count "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD")"
}

# Sets uidl to the unique id of the only letter.
fadli_uidl() {
    pop3 "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD" UIDL | awk '/^1 / { sub(/\r$/, ""); print $2 }'
}

step_two_programs_same_uidl() {
    what='curl fetches it and leaves it there; fetchmail finds the same UIDL'
    pop3 "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD" '' 1 >"$STATE/first.eml"
    uidl=$(fadli_uidl)
    [ -n "$uidl" ] || fail "UIDL gave nothing"
    # fetchmail hands what it fetches to a program and notes the UIDL of what it leaves on the server.
    (
        umask 077
        cat >"$STATE/fetchmailrc" <<END
poll $AT_KAWAN protocol POP3 service $pop3_port uidl timeout 20
    username "$FADLI" password "$FADLI_PASSWORD" is "fadli" here keep no rewrite sslproto ''
    mda "/bin/cat >>$STATE/second.eml"
END
    )
    FETCHMAILHOME=$STATE fetchmail --fetchmailrc "$STATE/fetchmailrc" --idfile "$STATE/fetchids" --pidfile "$STATE/fetchmail.pid" \
        --nosyslog --nodetach --invisible || fail "fetchmail ended with status $?"
    grep -qF -- "$uidl" "$STATE/fetchids" || fail "fetchmail noted another UIDL than $uidl: $(cat "$STATE/fetchids")"
    printf 'UIDL %s, seen by both\n' "$uidl" | show
}

step_cut_connection_keeps() {
    what='DELE, then the line is cut before QUIT: the letter stays'
    local reply
    exec 5<>"/dev/tcp/$AT_KAWAN/$pop3_port"
    read -rt 10 reply <&5
    for command in "USER $FADLI" "PASS $FADLI_PASSWORD" 'DELE 1'; do
        printf '%s\r\n' "$command" >&5
        read -rt 10 reply <&5
        [[ $reply == +OK* ]] || fail "${command%% *}: $reply"
    done
    exec 5>&-
    wait_until 10 'the mailbox to be free again' pop3_holds 1 "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD"
    expect_equal 'UIDL after the cut' "$uidl" "$(fadli_uidl)"
}

step_fetched_whole_and_deleted() {
    what='fetched, equal octet for octet, deleted; a third look finds nothing'
    pop3 "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD" '' 1 >"$STATE/fetched.eml"
    tail -c "$(stat -c %s "$STATE/letter.eml")" "$STATE/fetched.eml" | cmp - "$STATE/letter.eml" ||
        fail "what fadli fetched differs from what penulis sent"
    sed 's/\r$//' "$STATE/fetched.eml" | sed -n '/filename="naskah.bin"/,/^--batas--/{/^[A-Za-z0-9+/=]*$/p}' | base64 -d |
        cmp - "$STATE/attachment" || fail "the attachment differs"
    pop3 "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD" DELE 1
    expect_equal 'letters left' 0 "$(pop3_count "$AT_KAWAN" "$pop3_port" "$FADLI" "$FADLI_PASSWORD")"
}

step_answer_travels_back() {
    what="fadli's answer travels back to penulis"
    letter "$AT_KAWAN" "$FADLI" "$PENULIS" 'Re: naskah' 'Sudah kubaca. Bagus sekali!'
    mailbox_fills 1 "$AT_HOME" "$PENULIS" "$PENULIS_PASSWORD"
    pop3 "$AT_HOME" "$pop3_port" "$PENULIS" "$PENULIS_PASSWORD" '' 1 >"$STATE/answer.eml"
    grep -q '^Sudah kubaca' "$STATE/answer.eml" || fail "the answer has another text"
}

# --- what goes wrong, and how it is told --------------------------------------------------------------------------

step_wrong_password() {
    what='a wrong password is refused'
    local status=0
    pop3 "$AT_KAWAN" "$pop3_port" "$FADLI" salah >/dev/null 2>"$STATE/wrong" || status=$?
    expect_equal "curl's status for a refused log-in" 67 "$status"
}

step_unknown_user_reported() {
    what='a letter to a user who does not exist comes back as a report'
    letter "$AT_HOME" "$PENULIS" hantu@kawan.test 'halo?' 'Ada orang?'
    mailbox_fills 2 "$AT_HOME" "$PENULIS" "$PENULIS_PASSWORD"
    pop3 "$AT_HOME" "$pop3_port" "$PENULIS" "$PENULIS_PASSWORD" '' 2 | sed 's/\r$//' >"$STATE/report.eml"
    grep -qi '^Content-Type: multipart/report' "$STATE/report.eml" || fail "what came back is not a report"
    grep -iE '^(Final-Recipient|Action|Status|Diagnostic-Code):' "$STATE/report.eml" | show
    grep -qi '^Status: 5\.1\.1' "$STATE/report.eml" || fail "the report does not say 5.1.1"
}

step_second_mx() {
    what='sahabat.test: the better MX is dead, the letter arrives by the second'
    letter "$AT_HOME" "$PENULIS" fadli@sahabat.test 'lewat belakang' 'Pintu depan terkunci.'
    mailbox_fills 1 "$AT_KAWAN" fadli@sahabat.test "$FADLI_PASSWORD"
}

queue_tells_why() {
    kilat_ctl "$1" queue list | has -i 'refused|connect'
}

step_host_down() {
    what='jauh.test is down: kilatctl says why the letter waits, and until when'
    letter "$AT_HOME" "$PENULIS" dia@jauh.test 'sabar' 'Sampai nanti.'
    wait_until 20 'the first attempt to fail' queue_tells_why debianindonesia
    kilat_ctl debianindonesia queue list | show
}

step_kill_with_queue() {
    what='kill -9 with 50 more letters in the queue, a restart: none is missing'
    many_letters "$AT_HOME" "$PENULIS" dia@jauh.test 50
    wait_until 20 '51 letters in the queue' kilat_queue_holds debianindonesia 51
    kilat_queue_ids debianindonesia >"$STATE/queue.before"
    kilat_kill debianindonesia
    kilat_start debianindonesia
    kilat_queue_ids debianindonesia >"$STATE/queue.after"
    cmp "$STATE/queue.before" "$STATE/queue.after" || fail "the queue is not what it was: $(diff "$STATE/queue.before" "$STATE/queue.after" | head -n 3)"
    # Now the host comes up, and all of them arrive there.
    process_start sink "$KILAT_BUILD/kilat-bench" sink --listen "$AT_DOWN:$smtp_port"
    port_wait "$AT_DOWN" "$smtp_port"
    kilat_queue_ids debianindonesia | while read -r id; do
        # The first to arrive wakes the site, and the others may be gone before they are asked for.
        kilat_ctl debianindonesia message retry "$id" ||
            ! grep -qx "$id" <<<"$(kilat_queue_ids debianindonesia)"
    done
    wait_until 30 'the queue to drain' kilat_queue_is_empty debianindonesia
    printf '51 letters before, 51 after; then jauh.test came up and took them all\n' | show
}

# Hands `count` short letters to the server at `address`, over one connection of curl.
many_letters() {
    local address=$1 from=$2 to=$3 count=$4 i calls=()
    for ((i = 1; i <= count; i++)); do
        printf 'Subject: surat %d\r\n\r\nsurat %d\r\n' "$i" "$i" >"$STATE/surat.$i"
        [ "$i" = 1 ] || calls+=(--next)
        calls+=(--silent --show-error --max-time 20 "smtp://$address:$smtp_port/klien.test" --mail-from "$from"
            --mail-rcpt "$to" --upload-file "$STATE/surat.$i")
    done
    curl "${calls[@]}" || fail "curl could not hand over all $count letters"
}

# --- how fast -----------------------------------------------------------------------------------------------------

# CPU that the three servers have used so far, in ticks of the kernel (user and system).
servers_ticks() {
    local name ticks=0
    for name in debianindonesia gateway kawan; do
        ticks=$((ticks + $(awk '{ print $14 + $15 }' "/proc/${PROCESS_PIDS[$name]}/stat")))
    done
    printf '%s' "$ticks"
}

# The first piece of the bench's report that matches.
bench_figure() {
    grep -oE "$1" "$STATE/bench" | head -n 1
}

step_bench() {
    what='ten seconds of kilat-bench through all three servers'
    local ticks delivered
    ticks=$(servers_ticks)
    "$KILAT_BUILD/kilat-bench" load --to "$AT_HOME:$smtp_port" --from "$PENULIS" --recipient uji@kawan.test \
        --sessions 20 --size 4096 --seconds 10 >"$STATE/bench"
    for name in debianindonesia gateway; do
        wait_until 60 "the queue of $name to drain" kilat_queue_is_empty "$name"
    done
    wait_until 60 'the queue of kawan to drain' kilat_queue_is_empty kawan
    ticks=$(($(servers_ticks) - ticks))
    delivered=$(find "$STATE/kawan/mail/kawan.test/uji/new" -type f | wc -l)
    cat "$STATE/bench"
    [ "$delivered" -gt 0 ] || fail 'no letter came through'
    {
        printf '%10s %12s %10s %10s   %s\n' letters letters/s 'p50 ms' 'p99 ms' 'CPU us per letter, all three servers'
        printf '%10s %12s %10s %10s   %s\n' "$delivered" "$(bench_figure '[0-9]+/s' | tr -d /s)" "$(bench_figure 'p50 [0-9.]+' | cut -c 5-)" \
            "$(bench_figure 'p99 [0-9.]+' | cut -c 5-)" $((ticks * 1000000 / $(getconf CLK_TCK) / delivered))
    } | show
}

demo_print_how_to_connect() {
    cat <<END

Everything is left running.

  a mail program   POP3 $AT_KAWAN port $pop3_port, user $FADLI, password $FADLI_PASSWORD
                   SMTP $AT_KAWAN port $smtp_port, no log-in
  the other side   POP3 $AT_HOME port $pop3_port, user $PENULIS, password $PENULIS_PASSWORD
                   SMTP $AT_HOME port $smtp_port
  kilatctl         $KILAT_BUILD/kilatctl --socket $STATE/debianindonesia/control status
                   (gateway and kawan have theirs beside it)
  names            the same with "dns MX kawan.test" for "status"
  logs             $STATE/log
END
}
