#include "proto/pop3_server_private.h"

#include "core/assert.h"

#define POP3_LISTING_PORTION (16 * KIB)
#define POP3_UID_MAX 70 /* RFC 1939 7 */
static_assert(POP3_LISTING_PORTION < POP3_SERVER_OUT_PAUSE,
              "a portion alone never stops the input");

bool pop3_is_deleted(const struct pop3_server *server, uint32_t index)
{
    return server->deleted[index / 8] >> (index % 8) & 1;
}

/* The message an argument names, or false with a refusal written. Only 1..count is a message;
 * one that is marked deleted is not there any more (RFC 1939 5). */
static bool message_named(struct pop3_server *server, struct slice argument, uint32_t *ret_index)
{
    uint64_t number;

    if (!slice_parse_u64(argument, UINT64_MAX, &number)) {
        pop3_fault(server, "a message number is expected");
        return false;
    }
    if (number < 1 || number > server->count || pop3_is_deleted(server, (uint32_t)(number - 1))) {
        pop3_refusal(server, "no such message");
        return false;
    }
    *ret_index = (uint32_t)(number - 1);
    return true;
}

static bool arguments_are(struct pop3_server *server, const struct pop3_command *command,
                          uint32_t count, const char *text)
{
    if (command->argument_count == count)
        return true;
    pop3_fault(server, text);
    return false;
}

static void ok_with_totals(struct pop3_server *server)
{
    pop3_ok(server, "%u messages (%llu octets)", server->count - server->deleted_count,
            (unsigned long long)server->size_bytes);
}

void pop3_run_stat(struct pop3_server *server, const struct pop3_command *command)
{
    if (arguments_are(server, command, 0, "STAT takes no argument"))
        pop3_ok(server, "%u %llu", server->count - server->deleted_count,
                (unsigned long long)server->size_bytes);
}

/* A name comes from a directory entry: what no UIDL may hold is shown as "?" rather than sent. */
static void append_uid(struct buf *out, struct slice uid)
{
    uint8_t *to;

    uid = slice_first(uid, POP3_UID_MAX);
    to = buf_extend(out, uid.size);
    for (size_t i = 0; to != NULL && i < uid.size; i++)
        to[i] = uid.data[i] >= 0x21 && uid.data[i] <= 0x7e ? uid.data[i] : '?';
}

/* "n size" or "n uid", the scan listing and the unique-id listing (RFC 1939 5, 7). */
static void append_listing_line(struct pop3_server *server, uint32_t index)
{
    struct pop3_message message = server->ops->message(server->context, index);

    buf_append_u64(&server->out, (uint64_t)index + 1);
    buf_append_byte(&server->out, ' ');
    if (server->listing_uids)
        append_uid(&server->out, message.uid);
    else
        buf_append_u64(&server->out, message.size_bytes);
    buf_append(&server->out, SLICE("\r\n"));
}

void pop3_listing_continue(struct pop3_server *server)
{
    ASSERT(server->state == POP3_STATE_LISTING);
    while (server->listing_next < server->count) {
        if (server->out.size >= POP3_LISTING_PORTION || server->out.failed)
            return;
        if (!pop3_is_deleted(server, server->listing_next))
            append_listing_line(server, server->listing_next);
        server->listing_next++;
    }
    buf_append(&server->out, SLICE(".\r\n"));
    pop3_enter(server, POP3_STATE_TRANSACTION);
}

static void run_listing(struct pop3_server *server, const struct pop3_command *command, bool uids)
{
    uint32_t index;

    server->listing_uids = uids;
    if (command->argument_count == 0) {
        ok_with_totals(server);
        server->listing_next = 0;
        pop3_enter(server, POP3_STATE_LISTING);
        pop3_listing_continue(server);
    } else if (arguments_are(server, command, 1, "at most one message number is expected") &&
               message_named(server, command->arguments[0], &index)) {
        buf_append(&server->out, SLICE("+OK "));
        append_listing_line(server, index);
    }
}

void pop3_run_list(struct pop3_server *server, const struct pop3_command *command)
{
    run_listing(server, command, false);
}

void pop3_run_uidl(struct pop3_server *server, const struct pop3_command *command)
{
    run_listing(server, command, true);
}

static void send_message(struct pop3_server *server, uint32_t index, bool top, uint64_t lines_max)
{
    server->sending = index;
    server->sending_top = top;
    pop3_enter(server, POP3_STATE_SENDING); /* first: the owner may be done inside the call */
    server->ops->send(server->context, index, lines_max);
}

void pop3_run_retr(struct pop3_server *server, const struct pop3_command *command)
{
    uint32_t index;

    if (!arguments_are(server, command, 1, "RETR needs a message number") ||
        !message_named(server, command->arguments[0], &index))
        return;
    pop3_ok(server, "%llu octets",
            (unsigned long long)server->ops->message(server->context, index).size_bytes);
    send_message(server, index, false, UINT64_MAX);
}

void pop3_run_top(struct pop3_server *server, const struct pop3_command *command)
{
    uint32_t index;
    uint64_t lines;

    if (!arguments_are(server, command, 2, "TOP needs a message number and a number of lines"))
        return;
    if (!slice_parse_u64(command->arguments[1], UINT64_MAX - 1, &lines)) {
        pop3_fault(server, "a number of lines is expected");
        return;
    }
    if (!message_named(server, command->arguments[0], &index))
        return;
    pop3_ok(server, "top of message follows");
    send_message(server, index, true, lines);
}

void pop3_server_sent(struct pop3_server *server, bool failed)
{
    struct pop3_totals *totals = &server->totals;

    if (server->state == POP3_STATE_CLOSED)
        return; /* the time was up meanwhile */
    ASSERT(server->state == POP3_STATE_SENDING);
    if (failed) { /* a final dot would call it complete */
        pop3_enter(server, POP3_STATE_CLOSED);
        return;
    }
    buf_append(&server->out, SLICE(".\r\n"));
    if (server->sending_top) {
        totals->topped++;
    } else {
        totals->retrieved++;
        totals->retrieved_bytes +=
            server->ops->message(server->context, server->sending).size_bytes;
    }
    pop3_enter(server, POP3_STATE_TRANSACTION);
}

void pop3_run_dele(struct pop3_server *server, const struct pop3_command *command)
{
    uint32_t index;

    if (!arguments_are(server, command, 1, "DELE needs a message number") ||
        !message_named(server, command->arguments[0], &index))
        return;
    server->deleted[index / 8] |= (uint8_t)(1u << (index % 8));
    server->deleted_count++;
    server->size_bytes -= server->ops->message(server->context, index).size_bytes;
    pop3_ok(server, "message %u deleted", index + 1);
}

void pop3_run_noop(struct pop3_server *server, const struct pop3_command *command)
{
    if (arguments_are(server, command, 0, "NOOP takes no argument"))
        pop3_ok(server, "here");
}

void pop3_run_rset(struct pop3_server *server, const struct pop3_command *command)
{
    if (!arguments_are(server, command, 0, "RSET takes no argument"))
        return;
    for (uint32_t i = 0; server->deleted_count > 0 && i < server->count; i++) {
        if (!pop3_is_deleted(server, i))
            continue;
        server->deleted[i / 8] &= (uint8_t) ~(1u << (i % 8));
        server->deleted_count--;
        server->size_bytes += server->ops->message(server->context, i).size_bytes;
    }
    ok_with_totals(server);
}

void pop3_run_quit(struct pop3_server *server, const struct pop3_command *command)
{
    if (!arguments_are(server, command, 0, "QUIT takes no argument"))
        return;
    if (server->state == POP3_STATE_AUTHORIZATION) {
        pop3_ok(server, "bye");
        pop3_enter(server, POP3_STATE_CLOSED);
        return;
    }
    pop3_enter(server, POP3_STATE_UPDATE);
    server->ops->quit(server->context, server->deleted, server->deleted_count);
}

void pop3_server_quit_done(struct pop3_server *server, int error)
{
    if (server->state == POP3_STATE_CLOSED)
        return;
    ASSERT(server->state == POP3_STATE_UPDATE);
    if (error == 0) {
        server->totals.deleted = server->deleted_count;
        pop3_ok(server, "bye, %u messages left", server->count - server->deleted_count);
    } else {
        pop3_refusal(server, "[SYS/TEMP] some deleted messages not removed");
    }
    pop3_enter(server, POP3_STATE_CLOSED);
}
