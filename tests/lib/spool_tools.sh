# tests/lib/spool_tools.sh - a server with mail that waits, and what is looked at before and after kilatctl spool. Sourced.
# shellcheck shell=bash

LETTERS=7

spool_tool() {
    "$KILAT_BUILD/kilatctl" "$@"
}

state_hash() { # everything below a directory: names, sizes, content, times of change
    (cd "$1" && find . -printf '%P %s %T@ %C@ %m\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum
}

letters_send() { # port
    local i
    for ((i = 1; i <= LETTERS; i++)); do
        {
            printf 'Subject: surat %d\n\n' "$i"
            [ "$i" != 4 ] || head -c 300000 /dev/zero | tr '\0' x | fold -w 70
            printf '.dot\nisi surat %d\n' "$i"
        } >"$STATE/letter"
        curl --silent --show-error --crlf --mail-from "penulis@kawan.test" --mail-rcpt "siapa$i@jauh.test" \
            --upload-file "$STATE/letter" "smtp://127.0.0.41:$1" || fail "letter $i was not taken"
    done
}

# A relay whose next host listens at 127.0.0.42, or does not.
spool_server() { # server, port, port of the next host
    kilat_configure "$1" <<END
hostname = "tools.test"
relay_networks = {"127.0.0.0/8"}
smtp_listen = {"127.0.0.41:$2"}
pop3_listen = {}
allow_private_mail_hosts = true
dns_servers = {"127.0.0.1:9"}
route "*" { via = "127.0.0.42:$3" }
retry_first = 1h
END
}
