/* tests/e2e/hostile.h - clients that mean harm, or ask for too much: kilat-hostile.
 *
 * Plain sockets that block, with a limit of half a minute on each step, so nothing waits for ever and nothing waits
 * for luck. Every line the server says is looked at: it ends in CRLF and holds no other CR, LF or NUL. Whatever is not
 * as expected ends the program with a sentence.
 */
#ifndef KILAT_TESTS_HOSTILE_H
#define KILAT_TESTS_HOSTILE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The server under test, as the command line names it. */
struct target {
    struct sockaddr_in smtp, pop3;
    const char *control; /* path of its control socket */
};

struct client {
    int fd;
    size_t begin, end; /* of what is received and not looked at yet */
    char input[8192];
    char line[8192]; /* the last one, without CRLF */
};

/* From `source`, the host part of an address in 127.1.0.0/16; 0: the kernel's choice. */
void client_open(struct client *client, const struct sockaddr_in *server, unsigned source);
void client_open_unix(struct client *client, const char *path);
void client_close(struct client *client);
/* Closes with RST, as a peer that vanishes. */
void client_cut(struct client *client);

void client_send(struct client *client, const void *bytes, size_t size);
/* False when the server has closed meanwhile. */
bool client_try_send(struct client *client, const void *bytes, size_t size);
void client_say(struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* False at the end of the connection. */
bool client_line(struct client *client);
/* Reads until the server has closed. */
void client_expect_end(struct client *client, const char *what);

/* The code of the next reply, its last line in `line`; 0 at the end of the connection. */
int smtp_reply(struct client *client);
void smtp_expect(struct client *client, int code, const char *what);
/* Greeted, and EHLO said. */
void smtp_open(struct client *client, const struct target *target, unsigned source);
/* The same, tried again while the server says 421, as mail clients do. */
void smtp_open_patiently(struct client *client, const struct target *target, unsigned source);
/* MAIL, RCPT to ani@kawan.test, DATA: up to 354. */
void smtp_envelope(struct client *client);
void smtp_quit(struct client *client);

/* True for +OK; the line is in `line`. */
bool pop3_reply(struct client *client);
void pop3_expect(struct client *client, bool ok, const char *command);
/* Greeted, and logged in as ani@kawan.test when `wait`, however long another session keeps the mailbox. */
bool pop3_open(struct client *client, const struct target *target, bool wait);

/* The memory of process `pid` in KiB; 0 for no process. */
long memory_kib(const char *pid);

/* What can be asked for on the command line; the argument may be NULL. */
typedef void case_fn(const struct target *target, const char *argument);
case_fn case_ends, case_relay, case_strangers, case_noops, case_line, case_recipients, case_sizes,
    case_received;
case_fn case_mailbox, case_numbers, case_in_use, case_cut;
case_fn case_control, case_control_half;
case_fn case_flood, case_bodies, case_one_address, case_stalled;

#endif
