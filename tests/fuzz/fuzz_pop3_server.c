/* A POP3 client that sends anything, against the server.
 *
 * Goal: no crash; nothing before a log-in but the log-in; deletes only by QUIT, and only those that
 * a reference has marked; answers that do not depend on where the network cut the bytes.
 * Method: the same bytes are played whole and cut at odd places, and what was written is compared.
 * The first byte chooses the cut, and what the owner does late.
 */
#include "proto/pop3_server.h"

#include <stdlib.h>

#define MUST(condition) ((condition) ? (void)0 : abort())
#define MESSAGES 9
#define OUT_MAX (8 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct pop3_server *server;
    uint8_t choice;
    uint32_t logins;
    bool open, quit;
    bool owes_login, owes_sent, owes_quit;
    enum pop3_login login;
    struct buf said;
};

static enum pop3_login on_login(void *context, struct slice user, struct slice password)
{
    struct fuzz *fuzz = context;

    MUST(!fuzz->open && user.size > 0 && slice_is_printable(user));
    MUST(password.size > 0 && slice_find(password, '\n') == SIZE_MAX);
    MUST(++fuzz->logins <= 100);
    fuzz->login = password.data[0] == 'x'   ? POP3_LOGIN_REFUSED
                  : password.data[0] == 'i' ? POP3_LOGIN_IN_USE
                  : password.data[0] == 't' ? POP3_LOGIN_TEMPORARY
                                            : POP3_LOGIN_OK;
    fuzz->open = fuzz->login == POP3_LOGIN_OK;
    fuzz->owes_login = (fuzz->choice & 1) != 0;
    return fuzz->owes_login ? POP3_LOGIN_PENDING : fuzz->login;
}

static uint32_t on_count(void *context)
{
    MUST(((struct fuzz *)context)->open);
    return MESSAGES;
}

static struct pop3_message on_message(void *context, uint32_t index)
{
    MUST(((struct fuzz *)context)->open && index < MESSAGES);
    return (struct pop3_message){.size_bytes = 10 + index, .uid = SLICE("uid\x80")};
}

static void on_send(void *context, uint32_t index, uint64_t lines_max)
{
    struct fuzz *fuzz = context;

    MUST(fuzz->open && index < MESSAGES);
    buf_append(pop3_server_out(fuzz->server),
               lines_max == UINT64_MAX ? SLICE("all\r\n") : SLICE("top\r\n"));
    fuzz->owes_sent = (fuzz->choice & 2) != 0;
    if (!fuzz->owes_sent)
        pop3_server_sent(fuzz->server, false);
}

static void on_quit(void *context, const uint8_t *deleted, uint32_t deleted_count)
{
    struct fuzz *fuzz = context;
    uint32_t count = 0;

    MUST(fuzz->open && !fuzz->quit);
    for (uint32_t i = 0; i < MESSAGES; i++)
        count += deleted[i / 8] >> (i % 8) & 1;
    MUST(count == deleted_count);
    fuzz->quit = true;
    fuzz->owes_quit = (fuzz->choice & 4) != 0;
    if (!fuzz->owes_quit)
        pop3_server_quit_done(fuzz->server, fuzz->choice & 8 ? -5 : 0);
}

static const struct pop3_server_ops ops = {
    .login = on_login,
    .count = on_count,
    .message = on_message,
    .send = on_send,
    .quit = on_quit,
};

/* Takes what was written, and lets the owner do what it owes. */
static void turn(struct fuzz *fuzz)
{
    if (fuzz->owes_login) {
        fuzz->owes_login = false;
        pop3_server_login_done(fuzz->server, fuzz->login);
    }
    if (fuzz->owes_sent) {
        fuzz->owes_sent = false;
        pop3_server_sent(fuzz->server, (fuzz->choice & 16) != 0);
    }
    if (fuzz->owes_quit) {
        fuzz->owes_quit = false;
        pop3_server_quit_done(fuzz->server, fuzz->choice & 8 ? -5 : 0);
    }
    buf_append(&fuzz->said, buf_slice(pop3_server_out(fuzz->server)));
    buf_reset(pop3_server_out(fuzz->server));
    pop3_server_output_drained(fuzz->server);
}

/* Every line of ours ends in CRLF, is printable, and is as short as RFC 2449 4 asks. */
static void check_said(const struct fuzz *fuzz)
{
    struct slice rest = buf_slice(&fuzz->said);

    while (rest.size > 0) {
        size_t end = slice_find(rest, '\n');
        struct slice line;

        MUST(end != SIZE_MAX && end > 0 && rest.data[end - 1] == '\r');
        line = slice_first(rest, end - 1);
        MUST(slice_is_printable(line) && line.size < 510);
        rest = slice_skip(rest, end + 1);
    }
}

static void play(struct fuzz *fuzz, struct slice wire, size_t step)
{
    static const struct pop3_server_config config = {
        .hostname = SLICE("pop.kawan.test"),
        .command_line_max = 255,
        .errors_max = 20,
        .idle_ms = 1,
        .login_ms = 1,
    };
    struct slice offered = slice_first(wire, 0);

    buf_init(&fuzz->said, OUT_MAX);
    MUST(pop3_server_create(&config, &ops, fuzz, &fuzz->server) == 0);
    pop3_server_greet(fuzz->server);
    while (!pop3_server_closed(fuzz->server)) {
        size_t more = MIN(step, wire.size - offered.size), used;
        uint8_t *copy = malloc(offered.size + more); /* of its exact size, for the sanitizer */

        MUST(copy != NULL || offered.size + more == 0);
        offered.size += more;
        if (offered.size > 0)
            memcpy(copy, offered.data, offered.size);
        used = pop3_server_input(fuzz->server, slice_of(copy, offered.size));
        free(copy);
        MUST(used <= offered.size);
        wire = slice_skip(wire, used);
        offered = slice_of(wire.data, offered.size - used);
        turn(fuzz);
        if (used == 0 && more == 0 && pop3_server_out(fuzz->server)->size == 0 &&
            !pop3_server_pending(fuzz->server))
            break;
    }
    turn(fuzz);
    MUST(!pop3_server_pending(fuzz->server));
    check_said(fuzz);
    pop3_server_timeout(fuzz->server);
    pop3_server_destroy(&fuzz->server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz none;
    struct fuzz whole, cut;

    if (size == 0 || size > 64 * KIB)
        return 0;
    whole = cut = none;
    whole.choice = cut.choice = data[0];
    play(&whole, slice_of(data + 1, size - 1), SIZE_MAX);
    play(&cut, slice_of(data + 1, size - 1), 1 + data[0] / 32u);
    MUST(slice_equal(buf_slice(&whole.said), buf_slice(&cut.said)));
    MUST(whole.quit == cut.quit && whole.logins == cut.logins);
    buf_deinit(&whole.said);
    buf_deinit(&cut.said);
    return 0;
}
