/* bench/storage.h - what a disk can promise: flush time, messages made durable per second, and how much of the bare
 * disk the spool's group commit leaves.
 *
 * Bare writes and the spool take turns, round by round, on the same file system: O_DIRECT and RWF_DSYNC into a file
 * whose blocks were written before, of the size that the spool's groups had in the same round. Ratios are taken within
 * a round; the medians are printed.
 */
#ifndef KILAT_BENCH_STORAGE_H
#define KILAT_BENCH_STORAGE_H

#include "bench/histogram.h"
#include "core/shard.h"

/* The subcommand. */
int storage_main(int argc, char **argv);

/* What one phase of a round has shown. */
struct storage_measured {
    double seconds;
    double cpu_us; /* of the whole process: shard, workers, and kernel workers of it */
    uint64_t messages, writes, bytes;
    struct histogram latency; /* of each message, or of each write */
};
void storage_measured_begin(struct storage_measured *measured);
void storage_measured_end(struct storage_measured *measured);

/* ---- bare writes (storage_bare.c) ---------------------------------------------------------------- */

#define STORAGE_BARE_BYTES (64 * MIB) /* of the file that is written round and round */

struct storage_bare {
    struct shard *shard;
    int fd;
    bool direct; /* false: no O_DIRECT here, each write is followed by fdatasync */
    uint8_t *memory;
    uint64_t write_bytes, at, until_ns, began_ns;
    bool durable, syncing;
    struct ring_op op;
    struct storage_measured *measured;
    void (*done)(void *context);
    void *context;
};
/* Makes and fills the file. Blocks. 0 or -errno. */
int storage_bare_init(struct storage_bare *bare, struct shard *shard, const char *directory);
void storage_bare_deinit(struct storage_bare *bare);
/* One write after the other for `seconds`; then `done`. `durable` false: written, not flushed. */
void storage_bare_run(struct storage_bare *bare, uint64_t write_bytes, bool durable, double seconds,
                      struct storage_measured *measured, void (*done)(void *context),
                      void *context);

/* ---- the spool (storage_spool.c) ----------------------------------------------------------------- */

struct storage_writer;
struct storage_spool {
    struct shard *shard;
    struct spool *spool;
    uint64_t body_bytes;
    uint8_t *body;
    struct storage_writer *writers;
    uint64_t writer_count, waiting;
    uint64_t until_ns;
    uint64_t groups_before, bytes_before;
    struct storage_measured *measured;
    void (*done)(void *context);
    void *context;
};
/* Makes a spool below `directory`. Blocks. 0 or -errno, said on standard error. */
int storage_spool_init(struct storage_spool *storage, struct shard *shard, const char *directory,
                       uint64_t body_bytes, uint64_t segment_bytes);
/* `writers` messages are always under way; each is finished at once when it is durable, as if it had been delivered.
 * After `seconds` the last ones are awaited, then `done`. */
void storage_spool_run(struct storage_spool *storage, uint64_t writers, double seconds,
                       struct storage_measured *measured, void (*done)(void *context),
                       void *context);
/* Stops it; `stopped` runs when it is destroyed. */
void storage_spool_stop(struct storage_spool *storage, void (*stopped)(void *context),
                        void *context);

#endif
