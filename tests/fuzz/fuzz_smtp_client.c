/* A lying server, and an owner at odd moments, against the SMTP client.
 *
 * The input is a script: its first byte chooses the transactions, the rest is cut at every "|". A
 * part of one letter is something the owner does (see act()), any other is what the server says.
 * What must hold: every recipient has exactly one outcome before the session is ready or has ended,
 * nothing follows the end, each byte written belongs to a command that is in its place, the final
 * dot follows a 354, and what people get to see is printable.
 */
#include "proto/smtp_client.h"

#include <stdlib.h>

#define MUST(condition) ((condition) ? (void)0 : abort())
#define RECIPIENTS_MAX 300 /* more than a window of commands */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct smtp_client *client;
    uint8_t choice;
    bool open;       /* a transaction is under way */
    bool ended;      /* ops->ended was called */
    bool in_body;    /* ops->body was called and not answered */
    bool wrote_data; /* DATA stands on the wire */
    bool saw_354;    /* since then */
    uint8_t matched; /* digits of a 354 */
    bool wrote_dot;  /* of this transaction */
    uint32_t wrote_rcpt, wrote_mail;
    uint32_t transactions;
    uint8_t told[RECIPIENTS_MAX];
    uint32_t told_count, recipient_count, sendable_count;
    struct slice recipients[RECIPIENTS_MAX];
};

/* Every line that the client wrote, in the only order there is. */
static void check_line(struct fuzz *fuzz, struct slice line)
{
    if (slice_starts_nocase(line, SLICE("EHLO ")) || slice_starts_nocase(line, SLICE("HELO ")) ||
        slice_equal(line, SLICE("QUIT"))) {
        MUST(fuzz->wrote_mail == 0 || !fuzz->open);
    } else if (slice_equal(line, SLICE("RSET"))) {
        MUST(fuzz->wrote_mail == 0);
    } else if (slice_starts_nocase(line, SLICE("MAIL FROM:<"))) {
        MUST(fuzz->wrote_mail++ == 0);
    } else if (slice_starts_nocase(line, SLICE("RCPT TO:<"))) {
        MUST(fuzz->wrote_mail == 1 && !fuzz->wrote_data);
        MUST(++fuzz->wrote_rcpt <= fuzz->sendable_count);
    } else if (slice_equal(line, SLICE("DATA"))) {
        MUST(!fuzz->wrote_data && fuzz->wrote_rcpt == fuzz->sendable_count);
        fuzz->wrote_data = true;
        fuzz->saw_354 = false;
    } else {
        MUST(slice_equal(line, SLICE(".")));
        MUST(fuzz->saw_354 && !fuzz->wrote_dot);
        fuzz->wrote_dot = true;
    }
}

static void check_output(struct fuzz *fuzz)
{
    struct buf *out = smtp_client_out(fuzz->client);
    struct slice rest = buf_slice(out);

    while (rest.size > 0) {
        size_t end = slice_find(rest, '\n');
        MUST(end != SIZE_MAX && end > 0 && rest.data[end - 1] == '\r');
        MUST(slice_is_printable(slice_first(rest, end - 1)));
        check_line(fuzz, slice_first(rest, end - 1));
        rest = slice_skip(rest, end + 1);
    }
    buf_reset(out);
}

static void check_reply(const struct smtp_remote_reply *reply)
{
    MUST(slice_is_printable(reply->text) && reply->text.size > 0 && reply->text.size <= 512);
    MUST(reply->code == 0 || (reply->code >= 200 && reply->code < 600));
    MUST(reply->code == 0 || reply->status[0] == 0 || reply->status[0] == reply->code / 100);
}

static void on_ready(void *context)
{
    struct fuzz *fuzz = context;

    MUST(!fuzz->ended && smtp_client_idle(fuzz->client));
    MUST(!fuzz->open || fuzz->told_count == fuzz->recipient_count);
    fuzz->open = false;
}

static void on_outcome(void *context, uint32_t recipient, enum smtp_outcome outcome,
                       const struct smtp_remote_reply *reply)
{
    struct fuzz *fuzz = context;

    MUST(fuzz->open && !fuzz->ended && recipient < fuzz->recipient_count);
    MUST(fuzz->told[recipient]++ == 0);
    fuzz->told_count++;
    check_reply(reply);
    if (outcome == SMTP_DELIVERED) {
        check_output(fuzz);
        MUST(fuzz->wrote_dot && reply->code >= 200 && reply->code < 300);
    }
    MUST(outcome != SMTP_NEVER || reply->code == 0 || reply->code >= 500);
}

static void on_body(void *context)
{
    struct fuzz *fuzz = context;

    check_output(fuzz);
    MUST(fuzz->open && fuzz->wrote_data && fuzz->saw_354 && !fuzz->in_body);
    MUST(fuzz->told_count < fuzz->recipient_count);
    fuzz->in_body = true;
    if (fuzz->choice & 1) {
        fuzz->in_body = false;
        smtp_client_body_sent(fuzz->client);
    }
}

static void on_ended(void *context, bool site_failed, bool in_doubt,
                     const struct smtp_remote_reply *reply)
{
    struct fuzz *fuzz = context;

    (void)site_failed;
    MUST(!fuzz->ended);
    MUST(!fuzz->open || fuzz->told_count == fuzz->recipient_count);
    MUST(!in_doubt || fuzz->open);
    check_reply(reply);
    fuzz->ended = true;
}

static const struct smtp_client_ops ops = {
    .ready = on_ready,
    .outcome = on_outcome,
    .body = on_body,
    .ended = on_ended,
};

static void begin(struct fuzz *fuzz)
{
    static const uint32_t counts[] = {1, 2, 3, RECIPIENTS_MAX};
    struct smtp_transaction transaction = {
        .sender = fuzz->choice & 2 ? SLICE("a@b.test") : SLICE(""),
        .recipients = fuzz->recipients,
        .recipient_count = counts[(fuzz->choice >> 2) & 3],
        .body_bytes = 1000,
        .eight_bit = (fuzz->choice & 16) != 0,
    };

    fuzz->recipient_count = transaction.recipient_count;
    fuzz->sendable_count = 0;
    for (uint32_t i = 0; i < transaction.recipient_count; i++) {
        bool bad = (fuzz->choice & 32) && i % 3 == 1;
        fuzz->recipients[i] = bad ? SLICE("x>\r\nDATA") : SLICE("user@kawan.test");
        fuzz->sendable_count += !bad;
    }
    memset(fuzz->told, 0, sizeof(fuzz->told));
    fuzz->told_count = fuzz->wrote_mail = fuzz->wrote_rcpt = 0;
    fuzz->wrote_data = fuzz->saw_354 = fuzz->wrote_dot = false;
    fuzz->open = true;
    fuzz->transactions++;
    smtp_client_begin(fuzz->client, &transaction);
}

static bool act(struct fuzz *fuzz, uint8_t letter)
{
    switch (letter) {
    case 'N': /* the next message */
        if (smtp_client_idle(fuzz->client) && fuzz->transactions < 20)
            begin(fuzz);
        return true;
    case 'B': /* the body is sent */
    case 'F': /* the body cannot be read */
        if (!fuzz->in_body)
            return true;
        fuzz->in_body = false;
        letter == 'B' ? smtp_client_body_sent(fuzz->client) : smtp_client_body_failed(fuzz->client);
        return true;
    case 'Q':
        if (smtp_client_idle(fuzz->client))
            smtp_client_quit(fuzz->client);
        return true;
    case 'T':
        smtp_client_timeout(fuzz->client);
        return true;
    case 'L':
        smtp_client_lost(fuzz->client, -104);
        return true;
    default:
        return false;
    }
}

/* Looks for the digits of a 354 wherever it is cut, which is less than a reply has to be. */
static void server_says(struct fuzz *fuzz, struct slice piece)
{
    static const char go[] = "354";

    for (size_t i = 0; i < piece.size; i++) {
        fuzz->matched =
            piece.data[i] == go[fuzz->matched] ? fuzz->matched + 1 : piece.data[i] == go[0];
        if (fuzz->matched < 3)
            continue;
        fuzz->saw_354 = true;
        fuzz->matched = 0;
    }
    smtp_client_input(fuzz->client, piece);
    check_output(fuzz);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct smtp_client_config config = {
        .hostname = SLICE("kilat.test"),
        .greeting_ms = 1,
        .mail_ms = 1,
        .rcpt_ms = 1,
        .data_ms = 1,
        .block_ms = 1,
        .dot_ms = 1,
        .reply_line_max = 512,
    };
    struct slice rest = slice_of(data, size);
    struct fuzz *fuzz;

    if (size == 0)
        return 0;
    fuzz = calloc(1, sizeof(*fuzz));
    MUST(fuzz != NULL);
    fuzz->choice = data[0];
    MUST(smtp_client_create(&config, &ops, fuzz, &fuzz->client) == 0);
    rest = slice_skip(rest, 1);
    while (rest.size > 0) {
        struct slice piece = slice_split(&rest, '|');
        uint8_t *copy;
        size_t half;

        if (piece.size == 0)
            continue;
        if (piece.size == 1 && act(fuzz, piece.data[0])) {
            check_output(fuzz);
            continue;
        }
        copy = malloc(piece.size); /* of its exact size, so that reading past it is seen */
        MUST(copy != NULL);
        memcpy(copy, piece.data, piece.size);
        half = fuzz->choice & 64 ? piece.size / 2 : piece.size;
        server_says(fuzz, slice_of(copy, half));
        server_says(fuzz, slice_of(copy + half, piece.size - half));
        free(copy);
        (void)smtp_client_patience_ms(fuzz->client);
    }
    smtp_client_lost(fuzz->client, 0);
    MUST(fuzz->ended);
    MUST(!fuzz->open || fuzz->told_count == fuzz->recipient_count);
    smtp_client_destroy(&fuzz->client);
    free(fuzz);
    return 0;
}
