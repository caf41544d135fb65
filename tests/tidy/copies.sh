#!/usr/bin/env bash
# copies: on the way of a body, from the receive buffer to the next host, bytes are copied by crc32c_copy() alone, which counts
# them. Any other copy in these files is a row of copies.allow: what it copies is no body.
set -euo pipefail
cd "$KILAT_TOP"

way=(core/stream.c core/ring_uring_net.c core/ring_uring_buffers.c
    proto/smtp_server.c proto/smtp_cmd_data.c proto/smtp_body.c proto/smtp_client.c
    daemon/inbound.c daemon/outbound.c
    storage/spool_append.c storage/spool_upload.c storage/spool_group.c storage/spool_reader.c)
allow=tests/tidy/copies.allow
status=0

while IFS=: read -r file line code; do
    code=$(sed -E 's/^[[:space:]]+//; s/[[:space:]]*(\/\*.*)?$//' <<<"$code")
    grep -qF -- "$file: $code" "$allow" && continue
    echo "$file:$line: a copy on a body's way that nobody counts: $code"
    status=1
done < <(grep -nHE '\b(memcpy|memmove|mempcpy|strcpy|stpcpy|buf_append|buf_printf|stream_write)\(' "${way[@]}" | grep -vE '\(&?[a-z>.-]+, SLICE\("' || true)

# And crc32c_copy() is called where bodies become durable, and where one gives back its buffers, nowhere else.
while IFS= read -r call; do
    case $call in
    core/crc32c.* | core/stream.c:* | daemon/inbound.c:* | storage/spool_append.c:* | storage/spool_upload.c:*) ;;
    *) echo "$call: another place that copies bodies" && status=1 ;;
    esac
done < <(grep -rnE '\bcrc32c_copy\(' core storage proto queue dns daemon)

# A row whose copy is gone is dropped.
while IFS= read -r row; do
    file=${row%%: *}
    grep -qF -- "${row#*: }" "$file" || { echo "copies.allow: no longer there: $row" && status=1; }
done < <(grep -vE '^(#|$)' "$allow")
exit $status
