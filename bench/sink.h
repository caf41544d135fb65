/* bench/sink.h - the next host of a measurement: takes every message, looks at it, counts it.
 *
 * Every letter of kilat-bench (bench/letter.h) is checked octet by octet through its sum, and each id is
 * remembered, so that "delivered" means: once, unaltered. Other mail is taken and counted as foreign.
 * The 250 promises nothing: a sink keeps no message.
 */
#ifndef KILAT_BENCH_SINK_H
#define KILAT_BENCH_SINK_H

#include "core/netaddr.h"
#include <stdatomic.h>

/* Lies in memory that the watcher shares. Only the sink writes, at the end of each letter. */
struct sink_counters {
    atomic_uint_fast64_t distinct; /* unaltered, each id once: what counts as delivered */
    atomic_uint_fast64_t altered;
    atomic_uint_fast64_t twice;
    atomic_uint_fast64_t foreign;
    atomic_uint_fast64_t sessions;
    atomic_uint_fast64_t letter_bytes;
    atomic_uint_fast64_t first_ns, last_ns; /* monotonic, of the first and the last letter */
    atomic_bool listens;
};

struct sink_options {
    struct netaddr listen;
    bool pipelining;    /* whether EHLO offers it */
    const char *ledger; /* NULL: none. Lines "TAG ID ok|altered|twice" */
    uint64_t messages;  /* ends after so many letters; 0: when it is told to */
    struct sink_counters *counters;
};
/* Runs until SIGTERM, SIGINT or `messages`. 0 or -errno. */
int sink_run(const struct sink_options *options);

/* The subcommand. */
int sink_main(int argc, char **argv);

#endif
