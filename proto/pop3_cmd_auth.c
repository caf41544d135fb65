#include "proto/pop3_server_private.h"

#include "core/assert.h"
#include <stdlib.h>

/* Says yes to whatever looks like a name: whether there is such a user is told by nothing but a
 * log-in that works (SECURITY 1.2 E). */
void pop3_run_user(struct pop3_server *server, const struct pop3_command *command)
{
    struct slice user = command->arguments[0];

    buf_reset(&server->user);
    if (command->argument_count != 1 || !slice_is_printable(user)) {
        pop3_fault(server, "USER needs one name");
        return;
    }
    buf_append(&server->user, user);
    if (server->user.failed)
        pop3_refusal(server, "[SYS/TEMP] no memory is left, try again later");
    else
        pop3_ok(server, "send the password");
}

/* Everything behind "PASS " is the password, spaces too (RFC 1939 7). */
void pop3_run_pass(struct pop3_server *server, const struct pop3_command *command)
{
    enum pop3_login result;

    if (server->user.size == 0) {
        pop3_fault(server, "USER comes before PASS");
        return;
    }
    if (command->rest.size == 0) {
        buf_release(&server->user);
        pop3_fault(server, "PASS needs a password");
        return;
    }
    pop3_enter(server, POP3_STATE_LOGIN); /* first: the answer may come inside the call */
    result = server->ops->login(server->context, buf_slice(&server->user), command->rest);
    if (result != POP3_LOGIN_PENDING)
        pop3_login_apply(server, result);
}

static void mailbox_open(struct pop3_server *server)
{
    uint32_t count = server->ops->count(server->context);

    server->deleted = calloc(count / 8 + 1, 1);
    if (server->deleted == NULL) {
        pop3_refusal(server, "[SYS/TEMP] no memory is left, try again later");
        pop3_enter(server, POP3_STATE_CLOSED);
        return;
    }
    server->count = count;
    for (uint32_t i = 0; i < count; i++)
        server->size_bytes += server->ops->message(server->context, i).size_bytes;
    pop3_enter(server, POP3_STATE_TRANSACTION);
    pop3_ok(server, "%u messages (%llu octets)", count, (unsigned long long)server->size_bytes);
}

void pop3_login_apply(struct pop3_server *server, enum pop3_login result)
{
    ASSERT(server->state == POP3_STATE_LOGIN);
    ASSERT(result != POP3_LOGIN_PENDING);
    buf_release(&server->user); /* after a failed PASS comes USER again (RFC 1939 7) */
    if (result == POP3_LOGIN_OK) {
        mailbox_open(server);
        return;
    }
    pop3_enter(server, POP3_STATE_AUTHORIZATION);
    if (result == POP3_LOGIN_IN_USE) { /* RFC 2449 8.1.2: the password was right */
        pop3_fault(server, "[IN-USE] the mailbox is open in another session");
    } else if (result == POP3_LOGIN_TEMPORARY) {
        pop3_fault(server, "[SYS/TEMP] the mailbox cannot be opened now, try again later");
    } else {
        /* One text for a wrong password and for a user who does not exist. */
        pop3_refusal(server, "wrong user or password");
        server->login_failures++;
        if (server->login_failures >= POP3_LOGIN_FAILURES_MAX)
            pop3_enter(server, POP3_STATE_CLOSED);
    }
}

/* The same before and after log-in (RFC 2449 5 wants at least what was announced before). */
void pop3_run_capa(struct pop3_server *server, const struct pop3_command *command)
{
    if (command->argument_count != 0) {
        pop3_fault(server, "CAPA takes no argument");
        return;
    }
    pop3_ok(server, "capability list follows");
    buf_append(&server->out, SLICE("TOP\r\nUSER\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\n"
                                   "IMPLEMENTATION Kilat\r\n.\r\n"));
}
