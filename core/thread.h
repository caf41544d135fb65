/* core/thread.h - the few threads there are: shards, workers, one log writer. Part of the door: in
 * simulation nothing here makes a thread, and the world's scheduler runs shards and jobs in turn.
 */
#ifndef KILAT_CORE_THREAD_H
#define KILAT_CORE_THREAD_H

#include "core/defs.h"

struct shard;
struct log;

/* ---- shards ---------------------------------------------------------------------------------- */

struct thread;
/* Runs `run(shard)` on a thread of its own, pinned to the `cpu`th of the CPUs this process may use
 * (modulo their number); run() is shard.c's loop. In simulation the call runs shard_begin() at
 * once, returns its error, and gives the shard to the scheduler, which calls shard_tick() and at
 * last shard_end(). 0 or -errno. Shard: boot. */
int thread_start_shard(struct shard *shard, void (*run)(struct shard *shard), uint32_t cpu,
                       struct thread **ret_thread);
/* Waits until it has ended and frees it. */
void thread_join(struct thread **thread);
/* CPUs this process may use. */
uint32_t thread_cpu_count(void);

/* ---- workers --------------------------------------------------------------------------------- */

struct worker_pool;
/* `file_threads` and `hash_threads` > 0. Shard: boot; outlives the rings that name it. 0 or -errno.
 */
int worker_pool_create(uint32_t file_threads, uint32_t hash_threads, struct worker_pool **ret_pool);
/* Finishes what is queued, then ends the threads. */
void worker_pool_destroy(struct worker_pool **pool);

/* ---- the log's writer ------------------------------------------------------------------------ */

/* Writes what the shards' logs have gathered to `fd` (which may block); wakes every `interval` or
 * when half of a log is full. In simulation lines go to the world's trace. `logs` is borrowed until
 * stopped. */
struct log_writer;
int log_writer_start(struct log **logs, uint32_t log_count, int fd, struct log_writer **ret_writer);
/* Writes what is left, then ends. */
void log_writer_stop(struct log_writer **writer);
/* Another file from now on (rotation); the old descriptor is closed by the writer, the last one
 * never. Shard: any. */
void log_writer_reopen(struct log_writer *writer, int fd);

#endif
