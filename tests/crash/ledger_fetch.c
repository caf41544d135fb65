/* A user who fetches letters by POP3 and deletes them, again and again, whatever happens to the server meanwhile. What is
 * known of a letter stands in the ledger: "leaving" before QUIT is sent, since from then on it may be gone; "gone" once
 * QUIT was answered, since from then on it has to be. */
#include "tests/crash/ledger.h"

#include <err.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MESSAGE_MAX (2 * LEDGER_LETTER_MAX)
#define LETTERS_MAX 40 /* of one session, so that there are many QUITs */
#define PATIENCE_S 30
#define PAUSE_MS 20

struct user {
    struct sockaddr_in server;
    const char *name, *password;
    int ledger_fd;
    FILE *in, *out;
    char line[4096];
    char *message;
    uint64_t numbers[LETTERS_MAX];
    size_t count; /* letters marked as deleted in this session */
};

/* Sends VERB ARGUMENT and reads the first line of the answer. False: -ERR, or the server has gone. */
static bool ask(struct user *user, const char *verb, const char *argument)
{
    fprintf(user->out, "%s%s%s\r\n", verb, argument[0] == '\0' ? "" : " ", argument);
    fflush(user->out);
    return fgets(user->line, sizeof(user->line), user->in) != NULL &&
           strncmp(user->line, "+OK", 3) == 0;
}

/* After the +OK of RETR. False when the server has gone. */
static bool read_letter(struct user *user, size_t *ret_size)
{
    *ret_size = 0;
    while (fgets(user->line, sizeof(user->line), user->in) != NULL) {
        const char *line = user->line;
        size_t size = strlen(line);

        if (strcmp(line, ".\r\n") == 0)
            return true;
        if (line[0] == '.')
            line++, size--;
        if (*ret_size + size > MESSAGE_MAX)
            errx(2, "fetch: a message is too long");
        memcpy(user->message + *ret_size, line, size);
        *ret_size += size;
    }
    return false;
}

/* Fetches and deletes letters 1 to `wanted`; false when the server has gone. */
static bool fetch_letters(struct user *user, unsigned long wanted)
{
    size_t size;
    bool unaltered;

    for (user->count = 0; user->count < wanted; user->count++) {
        uint64_t *number = &user->numbers[user->count];

        char argument[24];

        snprintf(argument, sizeof(argument), "%zu", user->count + 1);
        if (!ask(user, "RETR", argument) || !read_letter(user, &size))
            return false;
        if (!ledger_check(user->message, size, false, number, &unaltered))
            unaltered = false;
        if (!unaltered)
            ledger_note(user->ledger_fd, *number, "altered");
        if (!ask(user, "DELE", argument))
            return false;
    }
    return true;
}

/* One session, from the greeting to the answer to QUIT. */
static void fetch(struct user *user)
{
    unsigned long waiting;

    if (fgets(user->line, sizeof(user->line), user->in) == NULL || !ask(user, "USER", user->name) ||
        !ask(user, "PASS", user->password) || !ask(user, "STAT", ""))
        return;
    waiting = strtoul(user->line + strlen("+OK"), NULL, 10);
    if (!fetch_letters(user, waiting < LETTERS_MAX ? waiting : LETTERS_MAX))
        return;
    for (size_t i = 0; i < user->count; i++)
        ledger_note(user->ledger_fd, user->numbers[i], "leaving");
    if (!ask(user, "QUIT", ""))
        return;
    for (size_t i = 0; i < user->count; i++)
        ledger_note(user->ledger_fd, user->numbers[i], "gone");
}

static void visit(struct user *user)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        err(2, "socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&user->server, sizeof(user->server)) < 0) {
        close(fd);
        return;
    }
    user->in = fdopen(fd, "r");
    user->out = fdopen(dup(fd), "w");
    if (user->in == NULL || user->out == NULL)
        errx(2, "out of memory");
    fetch(user);
    fclose(user->in);
    fclose(user->out);
}

int ledger_fetch(int argc, char **argv)
{
    struct user user = {.message = malloc(MESSAGE_MAX)};

    if (argc != 6)
        errx(2, "fetch: expected ADDRESS:PORT USER PASSWORD LEDGER STOP-FILE");
    if (user.message == NULL)
        errx(2, "out of memory");
    ledger_address(argv[1], &user.server);
    user.name = argv[2];
    user.password = argv[3];
    user.ledger_fd = ledger_open(argv[4]);
    while (access(argv[5], F_OK) != 0) {
        visit(&user);
        (void)poll(NULL, 0,
                   PAUSE_MS); /* so that something is there to fetch, or the server is up again */
    }
    free(user.message);
    return 0;
}
