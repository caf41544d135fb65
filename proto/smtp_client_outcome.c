#include "proto/smtp_client_private.h"

#include "core/assert.h"

/* A recipient's outcome is told exactly once: this is the only place that calls ops->outcome, and
 * it asks the fate first. */
void smtp_client_tell(struct smtp_client *client, uint32_t recipient, enum smtp_outcome outcome,
                      const struct smtp_remote_reply *reply)
{
    uint8_t *fate = smtp_client_fate(client, recipient);

    if (*fate == SMTP_FATE_TOLD || *fate == SMTP_FATE_UNSENT)
        return;
    if (*fate == SMTP_FATE_ACCEPTED)
        client->accepted--;
    ASSERT(client->untold > 0);
    client->untold--;
    *fate = SMTP_FATE_TOLD;
    if (!client->doomed)
        client->ops->outcome(client->context, recipient, outcome, reply);
}

uint8_t *smtp_client_fate(struct smtp_client *client, uint32_t recipient)
{
    ASSERT(recipient < client->fates.size);
    return client->fates.data + recipient;
}

void smtp_client_tell_all(struct smtp_client *client, enum smtp_outcome outcome,
                          const struct smtp_remote_reply *reply)
{
    for (uint32_t i = 0; client->untold > 0 && i < client->transaction.recipient_count; i++)
        smtp_client_tell(client, i, outcome, reply);
}

/* What we refuse ourselves, before a byte of it is sent. */

static const struct smtp_remote_reply refuse_eight_bit = {
    .status = {5, 6, 3},
    .text = SLICE("the message has 8-bit content and the host does not offer 8BITMIME"),
};
static const struct smtp_remote_reply refuse_size = {
    .status = {5, 3, 4},
    .text = SLICE("the message is larger than the host's announced SIZE"),
};
static const struct smtp_remote_reply refuse_sender = {
    .status = {5, 1, 7},
    .text = SLICE("the sender's address cannot be written in SMTP"),
};
static const struct smtp_remote_reply refuse_recipient = {
    .status = {5, 1, 3},
    .text = SLICE("the recipient's address cannot be written in SMTP"),
};

/* An address stands between "<" and ">" of a command line. It was parsed when the message came, but
 * it has been on disk since: what could end the line or the path is not put on the wire again. */
static bool address_is_sendable(struct slice address)
{
    return address.size <= SMTP_ADDRESS_MAX && slice_is_printable(address);
}

void smtp_client_judge(struct smtp_client *client)
{
    const struct smtp_transaction *transaction = &client->transaction;
    const struct smtp_capabilities *offered = &client->capabilities;

    if (transaction->eight_bit && !offered->eight_bit) {
        smtp_client_tell_all(client, SMTP_NEVER, &refuse_eight_bit);
        return;
    }
    /* RFC 1870 7: a message larger than the announced maximum need not be tried. */
    if (offered->size_max > 0 && transaction->body_bytes > offered->size_max) {
        smtp_client_tell_all(client, SMTP_NEVER, &refuse_size);
        return;
    }
    if (!address_is_sendable(transaction->sender)) {
        smtp_client_tell_all(client, SMTP_NEVER, &refuse_sender);
        return;
    }
    for (uint32_t i = 0; i < transaction->recipient_count; i++) {
        if (transaction->recipients[i].size > 0 && address_is_sendable(transaction->recipients[i]))
            continue;
        smtp_client_tell(client, i, SMTP_NEVER, &refuse_recipient);
        *smtp_client_fate(client, i) = SMTP_FATE_UNSENT;
    }
}

/* The first digit decides (RFC 5321 4.2.1), with one exception for RCPT. */
static enum smtp_outcome reply_outcome(const struct smtp_remote_reply *reply, bool to_rcpt)
{
    /* "Too many recipients" once was 552 by mistake (RFC 5321 4.5.3.1.10). */
    if (to_rcpt && reply->code == 552)
        return SMTP_LATER;
    return reply->code < 300 ? SMTP_DELIVERED : reply->code < 500 ? SMTP_LATER : SMTP_NEVER;
}

static void judge_rcpt(struct smtp_client *client, const struct smtp_remote_reply *reply)
{
    uint32_t recipient = client->receive.recipient;
    uint8_t *fate = smtp_client_fate(client, recipient);

    if (reply->code >= 300) {
        smtp_client_tell(client, recipient, reply_outcome(reply, true), reply);
    } else if (*fate == SMTP_FATE_OPEN) { /* with MAIL refused it is decided, whatever comes now */
        *fate = SMTP_FATE_ACCEPTED;
        client->accepted++;
    }
}

void smtp_client_judge_reply(struct smtp_client *client, const struct smtp_remote_reply *reply)
{
    enum smtp_client_step step = client->receive.step;
    bool refused = reply->code >= 400;

    /* 3xx is no answer but to DATA, and there only 354 is; 2xx to DATA would leave us without
     * knowing who speaks. */
    if (step == SMTP_STEP_DATA ? !refused && reply->code != 354 : !refused && reply->code >= 300) {
        smtp_client_end_nonsense(client, "a reply does not fit its command");
        return;
    }
    switch (step) {
    case SMTP_STEP_RSET:
        if (refused) {
            smtp_client_end(client, false, false, reply);
            return;
        }
        client->mail_left_open = false;
        break;
    case SMTP_STEP_MAIL:
        client->mail_refused = refused;
        client->mail_left_open = !refused;
        if (refused)
            smtp_client_tell_all(client, reply_outcome(reply, false), reply);
        break;
    case SMTP_STEP_RCPT:
        judge_rcpt(client, reply);
        break;
    case SMTP_STEP_DATA:
        if (!refused)
            break;
        smtp_client_tell_all(client, reply_outcome(reply, false), reply);
        return; /* the cursor stays: no body follows */
    case SMTP_STEP_DOT:
        client->mail_left_open = false;
        smtp_client_tell_all(client, reply_outcome(reply, false), reply);
        break;
    case SMTP_STEP_BODY: /* no reply is due there: smtp_client_judge_excess() */
    case SMTP_STEPS:
        ASSERT(false);
    }
    smtp_client_cursor_next(client, &client->receive);
    if (step == SMTP_STEP_DATA)
        smtp_client_go_ahead(client);
}

void smtp_client_judge_excess(struct smtp_client *client, const struct smtp_remote_reply *reply)
{
    bool in_body =
        client->phase == SMTP_CLIENT_TRANSACTION && client->receive.step == SMTP_STEP_BODY;

    /* Servers that have seen enough of a body say so and close. To take it as nonsense would send
     * the same message again and again until it expires. */
    if (in_body && reply->code >= 400) {
        smtp_client_tell_all(client, reply_outcome(reply, false), reply);
        smtp_client_end(client, false, false, reply);
        return;
    }
    smtp_client_end_nonsense(client, "a reply came that answers nothing");
}
