/* server_fixture.h - whole servers in this process, on ports of their own, and the least of clients to talk to them.
 *
 * Everything blocks here, with a time limit that ends the program with a sentence: a test that hangs says where.
 */
#ifndef KILAT_TESTS_SERVER_FIXTURE_H
#define KILAT_TESTS_SERVER_FIXTURE_H

#include "core/clock.h"
#include "core/control_wire.h"
#include "core/netaddr.h"
#include "daemon/kilatd.h"

#include <crypt.h>
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS                                                                                \
    30000 /* of one wait: far more than a sanitized server on a busy machine needs */
#define SERVERS_MAX 2

#define CHECK(condition, ...) check(condition, __FILE__, __LINE__, #condition, __VA_ARGS__)

static inline void KILAT_PRINTF(5, 6)
    check(bool fine, const char *file, int line, const char *what, const char *format, ...)
{
    va_list args;

    if (fine)
        return;
    fprintf(stderr, "%s:%d: %s: ", file, line, what);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    _exit(1); /* servers may be running: leaks do not matter any more */
}

/* One step of a test, with its time: of a step that hangs the name stands in the log. */
static inline void step_run(const char *name, void (*run)(void))
{
    uint64_t began_ns = clock_monotonic_ns();

    printf("%s ...", name);
    (void)fflush(stdout);
    run();
    printf(" %llu ms\n", (unsigned long long)((clock_monotonic_ns() - began_ns) / MS_NS));
}

/* ---- files -------------------------------------------------------------------------------------------- */

struct server {
    struct kilatd *kilatd;
    const char *domain; /* "alam.test": its name, and its only local domain */
    char folder[80], config[128], users[128], control[128];
    uint16_t smtp_port, pop3_port;
    const char *more; /* lines for its settings */
};

struct world {
    char folder[64];
    struct server servers[SERVERS_MAX];
};

static inline int world_remove(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    CHECK(file != NULL, "%s: %s", path, strerror(errno));
    fputs(text, file);
    CHECK(fclose(file) == 0, "%s", path);
}

/* A port nobody has just now. */
static inline uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &size) == 0,
          "%s", strerror(errno));
    (void)close(fd);
    return ntohs(address.sin_port);
}

/* All accounts have the password "rahasia", hashed as cheaply as can be. */
static inline void write_users(const struct server *server, const char *const *names)
{
    struct crypt_data data = {0};
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    struct buf text;

    CHECK(crypt_gensalt_rn("$2b$", 4, "0123456789abcdef", 16, setting, sizeof(setting)) != NULL,
          "no bcrypt");
    CHECK(crypt_r("rahasia", setting, &data) != NULL, "no bcrypt");
    buf_init(&text, 64 * KIB);
    for (; *names != NULL; names++)
        buf_printf(&text, "%s@%s:{CRYPT}%s\n", *names, server->domain, data.output);
    buf_append_byte(&text, 0);
    write_file(server->users, (const char *)text.data);
    buf_deinit(&text);
}

/* `more`: lines that come last. */
static inline void write_config(const struct server *server, const char *more)
{
    struct buf text;

    buf_init(&text, 64 * KIB);
    buf_printf(&text,
               "hostname = mx.%s\nlocal_domains = {%s}\nspool_directory = %s/spool\nmail_directory "
               "= %s/mail\n"
               "users_file = %s\ncontrol_socket = %s\nsmtp_listen = "
               "{\"127.0.0.1:%u\"}\npop3_listen = {\"127.0.0.1:%u\"}\n"
               "log_file = %s/log\nforce_file_system = yes\nsegment_bytes = 1M\nfile_workers = "
               "1\nmemory_max = 16M\n"
               "dns_servers = {\"127.0.0.1:1\"}\ndns_timeout = 100ms\ndns_tries = "
               "1\nrelay_networks = {\"127.0.0.0/8\"}\n",
               server->domain, server->domain, server->folder, server->folder, server->users,
               server->control, server->smtp_port, server->pop3_port, server->folder);
    buf_append_cstr(&text, more);
    buf_append_byte(&text, 0);
    write_file(server->config, (const char *)text.data);
    buf_deinit(&text);
}

static inline void server_init(struct world *world, size_t index, const char *domain)
{
    static const char *const names[] = {"penulis", "fadli", "sri", NULL};
    struct server *server = &world->servers[index];
    char base[sizeof(world->folder)];

    *server = (struct server){.domain = domain, .smtp_port = free_port(), .pop3_port = free_port()};
    memcpy(base, world->folder,
           sizeof(base)); /* gcc takes two members of one object for one another */
    (void)snprintf(server->folder, sizeof(server->folder), "%s/%zu", base, index);
    (void)snprintf(server->config, sizeof(server->config), "%s/%zu/kilat.conf", base, index);
    (void)snprintf(server->users, sizeof(server->users), "%s/%zu/users", base, index);
    (void)snprintf(server->control, sizeof(server->control), "%s/%zu/control", base, index);
    CHECK(mkdir(server->folder, 0700) == 0, "%s", server->folder);
    write_users(server, names);
}

/* Root becomes nobody first, as a server would: it refuses to run as root, and all of them live in this process. */
static inline void world_open(struct world *world)
{
    const char *base = getenv("KILAT_STATE_BASE");

    if (geteuid() == 0) {
        CHECK(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
                  setresuid(65534, 65534, 65534) == 0,
              "%s", strerror(errno));
        (void)prctl(PR_SET_DUMPABLE, 1); /* or the leak check could not look at this process */
    }
    (void)signal(SIGPIPE, SIG_IGN);
    *world = (struct world){0};
    (void)snprintf(world->folder, sizeof(world->folder), "%s/kilat-server-XXXXXX",
                   base == NULL ? "/var/tmp" : base);
    CHECK(mkdtemp(world->folder) != NULL, "%s: %s", world->folder, strerror(errno));
}

static inline void world_close(struct world *world)
{
    (void)nftw(world->folder, world_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- servers ------------------------------------------------------------------------------------------ */

static inline void server_start(struct server *server)
{
    struct buf error;
    int r;

    buf_init(&error, 16 * KIB);
    r = kilatd_create(server->config, &server->kilatd, &error);
    if (r == 0)
        r = kilatd_start(server->kilatd, &error);
    CHECK(r == 0, "%s: %.*s", server->domain, SLICE_ARG(buf_slice(&error)));
    buf_deinit(&error);
}

static inline void server_end(struct server *server)
{
    kilatd_join(server->kilatd);
    kilatd_destroy(&server->kilatd);
}

static inline void server_stop(struct server *server, uint64_t patience_ms)
{
    kilatd_stop(server->kilatd, patience_ms);
    server_end(server);
}

/* ---- a connection -------------------------------------------------------------------------------------- */

struct client {
    int fd;
    struct buf input;
    char line[1200]; /* the last one read, without its end */
};

static inline void client_connect(struct client *client, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    buf_init(&client->input, 16 * MIB);
    CHECK(client->fd >= 0 && connect(client->fd, (struct sockaddr *)&address, sizeof(address)) == 0,
          "port %u: %s", port, strerror(errno));
}

static inline void client_close(struct client *client)
{
    (void)close(client->fd);
    buf_deinit(&client->input);
}

static inline bool client_try_send(struct client *client, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t sent = send(client->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes = slice_skip(bytes, (size_t)sent);
    }
    return true;
}

static inline void client_send(struct client *client, const char *text)
{
    CHECK(client_try_send(client, slice_cstr(text)), "%s", text);
}

/* A command in one segment, or each would wait for the other side's delayed acknowledgement. */
static inline void client_say(struct client *client, const char *command)
{
    char line[1200];

    (void)snprintf(line, sizeof(line), "%s\r\n", command);
    client_send(client, line);
}

/* False: the end of the connection. */
static inline bool client_receive(struct client *client)
{
    struct pollfd wait = {.fd = client->fd, .events = POLLIN};
    uint8_t bytes[16 * KIB];
    ssize_t count;

    CHECK(poll(&wait, 1, PATIENCE_MS) == 1, "no answer; the last line was: %s", client->line);
    count = recv(client->fd, bytes, sizeof(bytes), 0);
    if (count <= 0)
        return false;
    buf_append(&client->input, slice_of(bytes, (size_t)count));
    return true;
}

static inline bool client_line(struct client *client)
{
    size_t end;

    while ((end = slice_find(buf_slice(&client->input), '\n')) == SIZE_MAX)
        if (!client_receive(client))
            return false;
    CHECK(end > 0 && client->input.data[end - 1] == '\r', "a line that ends with a bare LF");
    (void)slice_to_cstr(slice_of(client->input.data, end - 1), client->line, sizeof(client->line));
    buf_consume(&client->input, end + 1);
    return true;
}

/* Reads a reply to its last line; its code, or 0 at the end of the connection. */
static inline int smtp_reply(struct client *client)
{
    do
        if (!client_line(client))
            return 0;
    while (strlen(client->line) > 3 && client->line[3] == '-');
    return atoi(client->line);
}

static inline void smtp_expect(struct client *client, int code)
{
    int got = smtp_reply(client);

    CHECK(got == code, "expected %d, got: %s", code, got == 0 ? "the end" : client->line);
}

static inline void smtp_say(struct client *client, const char *command, int code)
{
    client_say(client, command);
    smtp_expect(client, code);
}

static inline void smtp_open(struct client *client, const struct server *server)
{
    client_connect(client, server->smtp_port);
    smtp_expect(client, 220);
    smtp_say(client, "EHLO client.test", 250);
}

static inline void smtp_close(struct client *client)
{
    smtp_say(client, "QUIT", 221);
    client_close(client);
}

/* `body` is on the wire as it stands, its final CRLF included. */
static inline void smtp_letter(struct client *client, const char *from, const char *to,
                               struct slice body)
{
    char command[400];

    (void)snprintf(command, sizeof(command), "MAIL FROM:<%s>", from);
    smtp_say(client, command, 250);
    (void)snprintf(command, sizeof(command), "RCPT TO:<%s>", to);
    smtp_say(client, command, 250);
    smtp_say(client, "DATA", 354);
    CHECK(client_try_send(client, body), "the body");
    smtp_say(client, ".", 250);
}

static inline void send_letter(const struct server *server, const char *from, const char *to,
                               const char *body)
{
    struct client client;

    smtp_open(&client, server);
    smtp_letter(&client, from, to, slice_cstr(body));
    smtp_close(&client);
}

/* ---- POP3 ------------------------------------------------------------------------------------------------ */

static inline bool pop3_say(struct client *client, const char *command)
{
    client_say(client, command);
    CHECK(client_line(client), "%s: the end", command);
    return strncmp(client->line, "+OK", 3) == 0;
}

static inline void pop3_open(struct client *client, const struct server *server, const char *user)
{
    char command[200];

    client_connect(client, server->pop3_port);
    CHECK(client_line(client) && strncmp(client->line, "+OK", 3) == 0, "%s", client->line);
    (void)snprintf(command, sizeof(command), "USER %s@%s", user, server->domain);
    CHECK(pop3_say(client, command), "%s", client->line);
    CHECK(pop3_say(client, "PASS rahasia"), "%s", client->line);
}

static inline unsigned pop3_count(struct client *client)
{
    unsigned count = 0;

    CHECK(pop3_say(client, "STAT") && sscanf(client->line, "+OK %u", &count) == 1, "%s",
          client->line);
    return count;
}

static inline void pop3_retrieve(struct client *client, unsigned number, struct buf *out)
{
    char command[40];

    buf_reset(out);
    (void)snprintf(command, sizeof(command), "RETR %u", number);
    CHECK(pop3_say(client, command), "%s", client->line);
    for (;;) {
        CHECK(client_line(client), "the end within a message");
        if (strcmp(client->line, ".") == 0)
            return;
        buf_append_cstr(out, client->line[0] == '.' ? client->line + 1 : client->line);
        buf_append_cstr(out, "\r\n");
    }
}

static inline void pop3_close(struct client *client)
{
    CHECK(pop3_say(client, "QUIT"), "%s", client->line);
    client_close(client);
}

/* ---- control ----------------------------------------------------------------------------------------------- */

struct answer {
    struct buf text, error;
    uint32_t status;
};

static inline int control_open(const struct server *server)
{
    struct netaddr address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(netaddr_unix(server->control, &address) && fd >= 0 &&
              connect(fd, &address.any, address.size) == 0,
          "%s: %s", server->control, strerror(errno));
    return fd;
}

/* "json queue list": words parted by blanks. */
static inline void control_request(const char *words, struct buf *out)
{
    struct slice arguments[CONTROL_ARGUMENTS_MAX], rest = slice_cstr(words);
    size_t count = 0;

    while (rest.size > 0)
        arguments[count++] = slice_split(&rest, ' ');
    control_write_request(out, arguments, count);
}

/* False: the connection ended before the answer did. */
static inline bool control_read(struct client *client, struct answer *answer)
{
    struct control_frame frame;
    struct slice error;
    size_t size;
    int r;

    for (;;) {
        while ((r = control_frame_parse(buf_slice(&client->input), &frame, &size)) == 0)
            if (!client_receive(client))
                return false;
        CHECK(r == 1, "an answer that is no frame");
        if (frame.word == CONTROL_REPLY_PART) {
            buf_append(&answer->text, frame.payload);
        } else {
            CHECK(control_read_end(&frame, &answer->status, &error), "an end that is none");
            buf_append(&answer->error, error);
            buf_consume(&client->input, size);
            return true;
        }
        buf_consume(&client->input, size);
    }
}

/* Asks, and gives the exit status back. `answer` may be NULL; answer_free() otherwise. */
static inline uint32_t control_ask(const struct server *server, const char *words,
                                   struct answer *answer)
{
    struct client client = {.fd = control_open(server)};
    struct answer own, *into = answer == NULL ? &own : answer;
    struct buf request;
    uint32_t status;

    *into = (struct answer){.status = UINT32_MAX};
    buf_init(&into->text, 16 * MIB);
    buf_init(&into->error, MIB);
    buf_init(&client.input, 16 * MIB);
    buf_init(&request, MIB);
    control_request(words, &request);
    CHECK(client_try_send(&client, buf_slice(&request)), "%s", words);
    CHECK(control_read(&client, into), "%s: no whole answer", words);
    buf_append_byte(&into->text, 0);
    buf_append_byte(&into->error, 0);
    status = into->status;
    client_close(&client);
    buf_deinit(&request);
    if (answer == NULL) {
        buf_deinit(&own.text);
        buf_deinit(&own.error);
    }
    return status;
}

static inline void answer_free(struct answer *answer)
{
    buf_deinit(&answer->text);
    buf_deinit(&answer->error);
}

static inline bool answer_has(const struct answer *answer, const char *text)
{
    return strstr((const char *)answer->text.data, text) != NULL;
}

static inline bool error_has(const struct answer *answer, const char *text)
{
    return strstr((const char *)answer->error.data, text) != NULL;
}

/* ---- waiting ---------------------------------------------------------------------------------------------- */

/* Asks again until it is so. */
static inline void wait_until(bool (*condition)(void *context), void *context, const char *what)
{
    uint64_t until_ns = clock_monotonic_ns() + PATIENCE_MS * MS_NS;

    while (!condition(context)) {
        CHECK(clock_monotonic_ns() < until_ns, "waited in vain: %s", what);
        (void)poll(NULL, 0, 10);
    }
}

struct waiting {
    const struct server *server;
    const char *user;     /* of a mailbox, or NULL */
    const char *question; /* to the control socket, or NULL */
    const char *part;     /* of its answer */
    unsigned count;       /* of letters in the mailbox */
};

static inline bool waiting_is_over(void *context)
{
    const struct waiting *waiting = context;
    struct answer answer;
    struct client client;
    unsigned count;
    bool over;

    if (waiting->user != NULL) {
        pop3_open(&client, waiting->server, waiting->user);
        count = pop3_count(&client);
        pop3_close(&client);
        return count >= waiting->count;
    }
    (void)control_ask(waiting->server, waiting->question, &answer);
    over = answer_has(&answer, waiting->part);
    answer_free(&answer);
    return over;
}

static inline void wait_for_letters(const struct server *server, const char *user, unsigned count)
{
    struct waiting waiting = {.server = server, .user = user, .count = count};

    wait_until(waiting_is_over, &waiting, user);
}

static inline void wait_for_answer(const struct server *server, const char *question,
                                   const char *part)
{
    struct waiting waiting = {.server = server, .question = question, .part = part};

    wait_until(waiting_is_over, &waiting, part);
}

#endif
