/* Sends letters over several sessions for as long as it is wanted, whatever happens to the server meanwhile: a
 * connection that breaks is made anew, and a letter without its 250 is not in the ledger. Each letter is a new number,
 * also after a break, because what became of the old one is not known. */
#include "tests/crash/ledger.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SESSIONS_MAX 64
#define REPLY_MAX 4096
#define PATIENCE_S 30
#define REFUSED_PAUSE_MS                                                                           \
    10 /* a sender that tries again at once keeps the server busy with refusals alone */
#define HEAD_MAX 512

struct sender {
    struct sockaddr_in server;
    const char *recipient, *stop_path;
    char *pause_path;
    int ledger_fd;
    atomic_uint_fast64_t next_number;
    atomic_uint_fast64_t refused;
};

struct connection {
    int fd;
    char input[REPLY_MAX];
    size_t size;
};

static bool send_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* The code of the next reply, 0 when the connection has ended. */
static int reply(struct connection *connection)
{
    for (;;) {
        char *end = memchr(connection->input, '\n', connection->size);

        if (end != NULL) {
            bool last = connection->size < 4 || connection->input[3] != '-';
            int code = atoi(connection->input);
            size_t line = (size_t)(end + 1 - connection->input);

            memmove(connection->input, end + 1, connection->size - line);
            connection->size -= line;
            if (last)
                return code;
            continue;
        }
        ssize_t got = connection->size == REPLY_MAX
                          ? 0
                          : recv(connection->fd, connection->input + connection->size,
                                 REPLY_MAX - connection->size, 0);

        if (got <= 0)
            return 0;
        connection->size += (size_t)got;
    }
}

/* Connects and says EHLO; false when nobody listens or the server goes away. */
static bool greet(struct sender *sender, struct connection *connection)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int one = 1;

    connection->size = 0;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        err(2, "socket");
    (void)setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(connection->fd, (struct sockaddr *)&sender->server, sizeof(sender->server)) == 0 &&
        reply(connection) == 220 && send_all(connection->fd, "EHLO ledger.test\r\n", 18) &&
        reply(connection) == 250)
        return true;
    close(connection->fd);
    return false;
}

static size_t stuff(const char *letter, size_t size, char *wire)
{
    size_t out = 0;

    for (size_t i = 0; i < size; i++) {
        if (letter[i] == '.' && (i == 0 || letter[i - 1] == '\n'))
            wire[out++] = '.';
        wire[out++] = letter[i];
    }
    memcpy(wire + out, ".\r\n", 3);
    return out + 3;
}

/* Begins a letter: MAIL, RCPT and DATA pipelined, behind the body in front of them. */
static size_t write_head(const struct sender *sender, char *wire)
{
    return (size_t)sprintf(wire, "MAIL FROM:<ledger@ledger.test>\r\nRCPT TO:<%s>\r\nDATA\r\n",
                           sender->recipient);
}

/* Reads the answers to a head. 1: go on with the body; 0: the connection is of no more use; -1: refused, and reset. */
static int read_head(struct sender *sender, struct connection *connection)
{
    int mail = reply(connection), rcpt = reply(connection), data = reply(connection);

    if (data == 0)
        return 0;
    if (data == 354)
        return 1;
    atomic_fetch_add(&sender->refused, 1);
    (void)poll(NULL, 0, REFUSED_PAUSE_MS);
    return mail / 100 != 5 && rcpt / 100 != 5 && send_all(connection->fd, "RSET\r\n", 6) &&
                   reply(connection) == 250
               ? -1
               : 0;
}

/* Letters over one connection until it ends or the stop file is there. The next letter's head goes out right behind the
 * body, so a letter costs one turn around for its head and the last one's 250 together. */
static void send_letters(struct sender *sender, struct connection *connection, char *letter,
                         char *wire)
{
    size_t size = write_head(sender, wire);

    while (send_all(connection->fd, wire, size)) {
        uint64_t number;
        bool stop;
        int head = read_head(sender, connection), data;

        if (head == 0)
            return;
        if (head < 0) {
            size = write_head(sender, wire);
            continue;
        }
        while (access(sender->pause_path, F_OK) == 0)
            (void)poll(NULL, 0, 5);
        number = atomic_fetch_add(&sender->next_number, 1);
        size = stuff(letter, ledger_letter(number, letter), wire);
        stop = access(sender->stop_path, F_OK) == 0;
        if (!stop)
            size += write_head(sender, wire + size);
        if (!send_all(connection->fd, wire, size))
            return;
        data = reply(connection);
        if (data == 250)
            ledger_note(sender->ledger_fd, number, "250");
        else if (data != 0)
            atomic_fetch_add(&sender->refused, 1);
        if (data == 0 || stop)
            return;
        size = 0; /* the head is on its way */
    }
}

static void *run_session(void *argument)
{
    struct sender *sender = argument;
    char *letter = malloc(LEDGER_LETTER_MAX), *wire = malloc(2 * LEDGER_LETTER_MAX + HEAD_MAX);
    struct connection connection;

    if (letter == NULL || wire == NULL)
        errx(2, "out of memory");
    while (access(sender->stop_path, F_OK) != 0) {
        if (!greet(sender, &connection)) {
            (void)poll(NULL, 0, 5); /* the server is down: look again soon */
            continue;
        }
        send_letters(sender, &connection, letter, wire);
        close(connection.fd);
    }
    free(letter);
    free(wire);
    return NULL;
}

int ledger_send(int argc, char **argv)
{
    struct sender sender = {.next_number = 1};
    pthread_t threads[SESSIONS_MAX];
    unsigned long sessions;

    if (argc < 6)
        errx(2, "send: too few arguments");
    ledger_address(argv[1], &sender.server);
    sender.recipient = argv[2];
    if (strlen(sender.recipient) > HEAD_MAX / 2)
        errx(2, "send: the recipient is too long");
    sender.ledger_fd = ledger_open(argv[3]);
    sessions = strtoul(argv[4], NULL, 10);
    sender.stop_path = argv[5];
    if (asprintf(&sender.pause_path, "%s.pause", sender.stop_path) < 0)
        errx(2, "out of memory");
    if (argc > 6)
        sender.next_number = strtoull(argv[6], NULL, 10);
    if (sessions == 0 || sessions > SESSIONS_MAX)
        errx(2, "send: 1 to %d sessions", SESSIONS_MAX);
    for (unsigned long i = 0; i < sessions; i++)
        if (pthread_create(&threads[i], NULL, run_session, &sender) != 0)
            errx(2, "cannot start a thread");
    for (unsigned long i = 0; i < sessions; i++)
        pthread_join(threads[i], NULL);
    printf("next number %" PRIu64 ", refused %" PRIu64 "\n", (uint64_t)sender.next_number,
           (uint64_t)sender.refused);
    free(sender.pause_path);
    return 0;
}
