/* core/shard.h - one pinned thread with one ring and one of everything; and their group.
 *
 * A tick: submit and wait (ring_wait), run a bounded number of completions, take messages of other
 * shards, fire timers, run deferred tasks; all that these have queued goes out with the next
 * ring_wait(). Callbacks neither nest nor starve. Each thing has one owner; shards share nothing
 * writable and send messages.
 */
#ifndef KILAT_CORE_SHARD_H
#define KILAT_CORE_SHARD_H

#include "core/channel.h"
#include "core/list.h"
#include "core/log.h"
#include "core/ring.h"
#include "core/timer.h"
#include <stdatomic.h>

struct shard_group;

/* Runs once, at the end of the tick in which it was deferred (or of the next one, when deferred by
 * a task). */
struct shard_task;
typedef void shard_task_fn(struct shard_task *task);
struct shard_task {
    struct list_node node;
    shard_task_fn *run;
};

struct shard {
    uint32_t index; /* 0 .. count - 1 */
    uint32_t count;
    struct ring *ring;
    struct timer_wheel timers;
    uint64_t now_ns;  /* monotonic; read once per tick */
    uint64_t wall_ns; /* wall clock of that moment */
    struct log *log;
    struct list_node tasks;
    struct list_node starved; /* streams that wait for receive buffers (core/stream.h) */
    struct shard_group *group;
    struct shard_link *links; /* private: what leads to each of the others */
    uint64_t ticks;
    uint64_t kept_bytes;   /* that paused streams hold in memory of their own (core/stream.h) */
    uint64_t copied_bytes; /* ... and have copied there, ever */
    bool begun;            /* start() has succeeded */
    atomic_uint signals;   /* set by shard_signal(), taken by the next tick */
    bool unfinished;       /* private: this tick has left messages for the next */
    bool stopping;
    uint64_t in_hand; /* what the program works on just now, for the line of a crash; 0: nothing */
    void *user;       /* the program's state of this shard (daemon/: struct node) */
};

struct shard_params {
    uint32_t count; /* shards; 0: one per CPU this process may use */
    struct ring_params ring;
    struct log **logs; /* one a shard, borrowed */
    /* Runs on the shard's own thread once its ring exists, before its first tick. Messages to
     * others may be sent and arrive when those tick, which none does before all have started. 0,
     * or -errno: the whole group stops again and shard_group_start() returns it. */
    int (*start)(struct shard *shard, void *context);
    /* Runs on the shard's thread after the loops of all shards have ended (shard_stop()), before
     * the ring goes; may tick until its last operations have completed. */
    void (*stop)(struct shard *shard, void *context);
    /* Runs on the shard's thread after shard_signal(), once for all that came together. */
    void (*signalled)(struct shard *shard, uint32_t signals);
    void *context;
    /* For valgrind and callgrind (which cannot follow two threads that wait in the kernel), and for
     * tests: one shard and no thread. start() runs inside shard_group_start(), whose caller then
     * calls shard_tick() itself, or lets shard_group_join() do so until the shard is stopped. Give
     * the ring no workers, and jobs run inline as well. */
    bool one_thread;
};

/* Starts all threads and returns when every start() has succeeded. Shard: boot. 0 or -errno. */
int shard_group_start(const struct shard_params *params, struct shard_group **ret_group);
/* Waits for all shards to have ended (shard_stop() by someone) and frees them. */
void shard_group_join(struct shard_group **group);
struct shard *shard_group_get(struct shard_group *group, uint32_t index);

/* Shard: any, also threads that are none. Sets bits that mean something to the program, and wakes
 * the shard: signalled() runs there. How a signal of the operating system reaches a shard. */
void shard_signal(struct shard *shard, uint32_t signals);
/* Ends this shard's loop after the current tick. Shard: owner. The program has let go of everything
 * before: nothing may be in flight but what stop() awaits. */
void shard_stop(struct shard *shard);

/* The life of a shard, for whoever drives it: the loop that thread_start_shard() is given, or the
 * simulation's scheduler (which has no loop, and no thread of its own for each shard):
 *     shard_begin()  makes the ring, runs start(); 0 or -errno, leaving nothing behind
 *     shard_tick()   while !shard->stopping
 *     shard_end()    runs stop(), destroys the ring; nothing for one that has not begun
 */
int shard_begin(struct shard *shard);
void shard_end(struct shard *shard);
/* One tick; waits for events only when `may_wait`. */
void shard_tick(struct shard *shard, bool may_wait);
/* When shard_tick() has something to do without any event: 0 now, UINT64_MAX never. */
uint64_t shard_next_ns(const struct shard *shard);

void shard_task_init(struct shard_task *task, shard_task_fn *run);
/* Nothing when it is deferred already. */
void shard_defer(struct shard *shard, struct shard_task *task);
void shard_undefer(struct shard_task *task);

static inline void shard_timer_arm(struct shard *shard, struct timer *timer, uint64_t after_ms)
{
    timer_arm(&shard->timers, timer, shard->now_ns + after_ms * MS_NS);
}
static inline void shard_timer_disarm(struct shard *shard, struct timer *timer)
{
    timer_disarm(&shard->timers, timer);
}

/* Gives `message` to shard `to` of the same group (also to itself): its deliver() runs there, in a
 * later tick. Lends the message until deliver() is called; deliver() may send it back. Messages
 * between two shards keep their order. Never full: what the bounded channel does not take waits on
 * a list of the sender's. */
void shard_send(struct shard *from, uint32_t to, struct shard_message *message);

#endif
