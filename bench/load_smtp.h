/* bench/load_smtp.h - many sessions that hand over letters, each as fast as it is answered: a closed loop.
 *
 * A session does one transaction at a time: pipelined, MAIL, RCPT and DATA go in one write and the letter
 * after 354 in another (RFC 2920); in lockstep each command waits for its answer. A letter whose
 * transaction fails is not sent again: its id stays out of the ledger, which holds each id answered 250 and no
 * other. A session that breaks is opened anew.
 */
#ifndef KILAT_BENCH_LOAD_SMTP_H
#define KILAT_BENCH_LOAD_SMTP_H

#include "bench/histogram.h"
#include "core/netaddr.h"

struct load_options {
    struct netaddr to;
    uint64_t sessions;
    uint64_t size_bytes;
    uint64_t messages;             /* 0: until `seconds` have passed */
    uint64_t seconds;              /* 0: until `messages` are done */
    uint64_t messages_per_session; /* 0: as many as there are */
    bool pipelined;
    const char *from, *rcpt; /* "%n" stands for the number of the letter, "%s" for the session's */
    const char *ledger;      /* NULL: none. Lines "TAG ID 250" */
    uint64_t tag;            /* of every letter (bench/letter.h) */
    uint64_t first_id;
    bool progress; /* a line a second on standard error */
};

struct load_result {
    uint64_t started_ns, ended_ns; /* monotonic: the first connect, the last reply */
    uint64_t accepted;
    uint64_t refused;  /* answered, with no 250 */
    uint64_t unknown;  /* the session broke before the answer */
    uint64_t sessions; /* connections made */
    uint64_t failures; /* connections that failed or broke */
    bool given_up;     /* too many of those in a row */
    char first_trouble[256];
    struct histogram accept_ns; /* from MAIL to the 250 */
};

/* Until it is done, SIGINT or SIGTERM. 0 or -errno; what went wrong with the server is in the result. */
int load_run(const struct load_options *options, struct load_result *ret_result);

/* The subcommand. */
int load_main(int argc, char **argv);

#endif
