/* bench/restart.h - a server that starts with millions of deferred messages: how soon it accepts, how soon it delivers,
 * what it needs.
 *
 * The spools are filled by our own queue in this process, one after the other: every message is tried once, refused for
 * now, and waits a day; the last few are ready (half of them for a host that can only be reached at the second start). Then the server beside this program is started on them, afresh and after
 * kill -9, and watched from outside: the time to the first 250 for new mail, to the first old letter at the next host, and
 * until everything is known again; its memory; its CPU while nothing is due.
 */
#ifndef KILAT_BENCH_RESTART_H
#define KILAT_BENCH_RESTART_H

#include "core/defs.h"

/* The subcommand. */
int restart_main(int argc, char **argv);

struct restart_fill {
    const char *path; /* of the spool's directory */
    uint32_t number;
    uint64_t messages;     /* deferred by a day */
    uint64_t due;          /* ready: half of them for first.due.test, half for second.due.test */
    uint64_t destinations; /* that the deferred ones go to */
    uint64_t body_bytes;
};
/* 0 or -errno, said on standard error. */
int restart_fill_run(const struct restart_fill *fill);

#endif
