#include "proto/smtp_server_private.h"

#include "core/assert.h"
#include "proto/smtp_reply.h"
#include <stdio.h>
#include <stdlib.h>

/* EHLO and HELO (RFC 5321 4.1.1.1). No reply to them has an enhanced code (RFC 2034 4), and none
 * repeats what the client has said. */

/* RFC 5321 wants a domain or an address literal; clients in the field say all sorts of words, and
 * RFC 5321 4.1.4 forbids to refuse mail for that. What cannot be a word is refused. */
bool smtp_check_helo(struct smtp_server *server, struct smtp_command *command)
{
    struct slice name = slice_trim(command->argument);

    command->argument = name;
    if (name.size > 0 && name.size <= SMTP_DOMAIN_MAX && slice_is_printable(name) &&
        slice_find(name, ' ') == SIZE_MAX)
        return true;
    smtp_server_reply(server, SMTP_REPLY(501, 0, 0, 0, "Say your domain or address literal"));
    return false;
}

static void write_ehlo(struct smtp_server *server)
{
    struct smtp_reply line = {.code = 250, .text = server->config->hostname};
    char size[48];

    smtp_reply_write_more(&server->out, &line);
    line.text = SLICE("PIPELINING");
    smtp_reply_write_more(&server->out, &line);
    (void)snprintf(size, sizeof(size), "SIZE %llu",
                   (unsigned long long)server->config->limits.message_bytes_max);
    line.text = slice_cstr(size);
    smtp_reply_write_more(&server->out, &line);
    line.text = SLICE("8BITMIME");
    smtp_reply_write_more(&server->out, &line);
    line.text = SLICE("ENHANCEDSTATUSCODES");
    smtp_reply_write(&server->out, &line);
}

/* A second EHLO is a RSET with another name (RFC 5321 4.1.4), but only once it is accepted. */
void smtp_run_helo(struct smtp_server *server, const struct smtp_command *command)
{
    struct smtp_reply reply = server->ops->helo(server->context, command->argument);
    uint8_t *name;

    ASSERT(!smtp_reply_is_pending(&reply));
    if (!smtp_reply_accepts(&reply)) {
        memset(reply.status, 0, sizeof(reply.status));
        smtp_server_reply(server, reply);
        return;
    }
    name = malloc(command->argument.size);
    if (name == NULL) {
        smtp_server_close(server, 3, 2, "Short of memory, closing");
        return;
    }
    memcpy(name, command->argument.data, command->argument.size);
    free(server->helo);
    server->helo = name;
    server->facts.helo = slice_of(name, command->argument.size);
    server->facts.extended = command->verb == SMTP_VERB_EHLO;
    server->errors_in_row = 0;
    smtp_server_transaction_end(server);
    smtp_server_enter(server, SMTP_STATE_READY);
    if (server->facts.extended)
        write_ehlo(server);
    else
        smtp_server_reply(server,
                          (struct smtp_reply){.code = 250, .text = server->config->hostname});
}
