# tests/e2e/lib.sh - everything an end-to-end test needs. Sourced first by each tests/e2e/test_*.sh and by ./demo.
# shellcheck shell=bash

KILAT_TOP=${KILAT_TOP:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
# shellcheck source=tests/lib/names.sh
. "$KILAT_TOP/tests/lib/names.sh"
# shellcheck source=tests/lib/kilat.sh
. "$KILAT_TOP/tests/lib/kilat.sh"
# shellcheck source=tests/lib/postfix.sh
. "$KILAT_TOP/tests/lib/postfix.sh"

# Fails the test with a sentence.
fail() {
    report_say "FAILED: $*"
    exit 1
}

# Ends the test as one that this machine cannot run.
skip() {
    printf '%s\n' "$*"
    exit 77
}

expect_equal() { # what, wanted, got
    [ "$2" = "$3" ] || fail "$1: expected \"$2\", got \"$3\""
}

# --- one server with two accounts, for tests that need no name service ---------------------------------------------

ANI=ani@kawan.test
ANI_PASSWORD=rahasia-ani
BUDI=budi@kawan.test
BUDI_PASSWORD=rahasia-budi

# Starts a server `name` for kawan.test at `address`; more settings may stand on standard input. Sets smtp_port and
# pop3_port. Its resolver answers nothing: what such a test needs, it routes.
server_for_kawan() {
    local name=$1 address=$2
    smtp_port=$(port_free)
    pop3_port=$(port_free)
    {
        cat <<END
hostname = "surat.kawan.test"
local_domains = {"kawan.test"}
smtp_listen = {"$address:$smtp_port"}
pop3_listen = {"$address:$pop3_port"}
dns_servers = {"127.0.0.1:9"}
allow_private_mail_hosts = true
END
        [ -t 0 ] || cat
    } | kilat_configure "$name"
    kilat_user "$name" "$ANI" "$ANI_PASSWORD"
    kilat_user "$name" "$BUDI" "$BUDI_PASSWORD"
    kilat_start "$name"
}

# Says LINE... to `address` and `port` one after the other, each after the answer to the one before, and prints the
# answers. In a line, \n and \r are as in printf.
talk() {
    local address=$1 port=$2 line answer
    shift 2
    exec 5<>"/dev/tcp/$address/$port"
    answer=$(talk_answer)
    printf '%s\n' "$answer"
    for line; do
        printf '%b\r\n' "$line" >&5
        talk_answer || break
    done
    exec 5>&-
}

# One whole answer of SMTP from descriptor 5, without CR.
talk_answer() {
    local line
    while IFS= read -rt 20 line <&5; do
        printf '%s\n' "${line%$'\r'}"
        [[ $line == ???-* ]] || return 0
    done
    return 1
}
