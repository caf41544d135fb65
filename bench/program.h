/* bench/program.h - what the subcommands share: their options, one shard, an orderly end.
 *
 * A subcommand runs on one shard in its one thread, mostly without workers: a load or a sink that is cheaper than
 * what it measures needs no more, and whoever watches the machine has one thread to look at.
 */
#ifndef KILAT_BENCH_PROGRAM_H
#define KILAT_BENCH_PROGRAM_H

#include "core/buf.h"
#include "core/shard.h"

#define PROGRAM_USAGE 64 /* exit status: wrong usage (sysexits.h) */

/* ---- options --------------------------------------------------------------------------------- */

enum option_kind { OPTION_U64, OPTION_TEXT, OPTION_ADDRESS, OPTION_CHOICE };
struct option_row {
    const char *name; /* "--to" */
    enum option_kind kind;
    void *to; /* uint64_t, const char *, struct netaddr, uint64_t (an index) */
    uint64_t min, max;
    const char *const *choices; /* ends with NULL */
};
/* Reads NAME VALUE pairs from `argv`, behind the subcommand's name, into where the
 * rows point. The last row's name is NULL. False, with a sentence on standard error, when something is not as it
 * should be. */
bool options_read(int argc, char **argv, const struct option_row *rows);

/* ---- one shard ------------------------------------------------------------------------------- */

struct program {
    int (*start)(struct shard *shard, void *context); /* as struct shard_params */
    void (*stop)(struct shard *shard, void *context);
    void (*interrupted)(struct shard *shard); /* SIGINT or SIGTERM came */
    void *context;
    uint32_t buffer_count;       /* receive buffers, 0: the ring's default */
    struct worker_pool *workers; /* NULL: jobs run inline */
};
/* Until shard_stop(). 0, or -errno when the ring or start() failed. Takes over SIGINT and SIGTERM. */
int program_run(const struct program *program);

/* ---- a file of lines, written behind the loop's back ----------------------------------------- */

/* Lines gather in memory and are written once a tick, so that a ledger costs next to nothing. */
struct ledger {
    int fd; /* -1: nothing is kept */
    struct shard *shard;
    struct buf lines;
    struct shard_task flush;
};
/* `path` NULL: all calls do nothing. 0 or -errno. */
int ledger_open(struct ledger *ledger, struct shard *shard, const char *path);
void ledger_note(struct ledger *ledger, uint64_t tag, uint64_t id, const char *word);
void ledger_close(struct ledger *ledger);

#endif
