#include "core/shard.h"

#include "core/assert.h"
#include "core/clock.h"
#include "core/stream.h"
#include "core/thread.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Per pair of shards; more messages than this in one tick wait on the sender's list. */
#define SHARD_CHANNEL_MESSAGES 512u
/* Taken from one other shard in one tick, so that a chatty one cannot starve timers. */
#define SHARD_MESSAGES_PER_TICK 256u
/* The receiver of a full channel has been woken and empties it in its next tick: worth a short
 * look. */
#define SHARD_FULL_RETRY_NS (100 * US_NS)

/* What leads from one shard to another, and back. For the shard itself there is no channel: its
 * messages wait on the list. */
struct shard_link {
    struct channel *out;
    struct channel *in;       /* the other's `out` */
    struct list_node waiting; /* of struct shard_message: did not fit into `out` */
    bool wake;                /* something was pushed since the last wake */
};

struct shard_group {
    struct shard_params params;
    struct shard *shards;
    struct thread **threads;
    pthread_mutex_t lock; /* of what follows; never taken while a shard ticks */
    pthread_cond_t changed;
    uint32_t begun_count;
    uint32_t over_count; /* loops that have ended */
    int error;           /* of the first shard that could not begin */
};

/* ---- messages -------------------------------------------------------------------------------- */

void shard_send(struct shard *from, uint32_t to, struct shard_message *message)
{
    struct shard_link *link = &from->links[to];

    ASSERT(to < from->count);
    message->from = from->index;
    link->wake = true;
    /* Behind those that wait already, so that messages keep their order. */
    if (to == from->index || !list_empty(&link->waiting) || !channel_push(link->out, message))
        list_push_back(&link->waiting, &message->node);
}

/* False when some still did not fit. */
static bool push_waiting(struct shard_link *link)
{
    while (!list_empty(&link->waiting)) {
        struct list_node *node = link->waiting.next;

        /* Off the list first: once pushed, the message is the receiver's. */
        list_remove(node);
        if (!channel_push(link->out, CONTAINER_OF(node, struct shard_message, node))) {
            list_push_front(&link->waiting, node);
            return false;
        }
        link->wake = true;
    }
    return true;
}

static void deliver_own(struct shard *shard, struct shard_link *link)
{
    struct list_node now;
    struct list_node *node;

    list_init(&now);
    list_splice_back(&now, &link->waiting); /* what these send to themselves is for the next tick */
    while ((node = list_pop_front(&now)) != NULL) {
        struct shard_message *message = CONTAINER_OF(node, struct shard_message, node);

        message->deliver(shard, message);
    }
}

static void deliver_messages(struct shard *shard)
{
    shard->unfinished = false;
    for (uint32_t i = 0; i < shard->count; i++) {
        struct shard_link *link = &shard->links[i];
        uint32_t count = 0;

        if (i == shard->index) {
            deliver_own(shard, link);
            continue;
        }
        for (; count < SHARD_MESSAGES_PER_TICK; count++) {
            struct shard_message *message = channel_pop(link->in);

            if (message == NULL)
                break;
            message->deliver(shard, message);
        }
        if (count == SHARD_MESSAGES_PER_TICK)
            shard->unfinished = true; /* perhaps more: nobody will wake us for them */
    }
}

/* Once a tick for each receiver, however many messages it got. */
static void push_and_wake(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->count; i++) {
        struct shard_link *link = &shard->links[i];

        if (i == shard->index)
            continue;
        (void)push_waiting(link); /* what does not fit is seen by shard_next_ns() */
        if (link->wake) {
            link->wake = false;
            ring_wake(shard->group->shards[i].ring);
        }
    }
}

/* ---- tasks ----------------------------------------------------------------------------------- */

void shard_task_init(struct shard_task *task, shard_task_fn *run)
{
    task->run = run;
    list_node_init(&task->node);
}

void shard_defer(struct shard *shard, struct shard_task *task)
{
    if (!list_linked(&task->node))
        list_push_back(&shard->tasks, &task->node);
}

void shard_undefer(struct shard_task *task)
{
    list_remove(&task->node);
}

static void run_tasks(struct shard *shard)
{
    struct list_node now;
    struct list_node *node;

    list_init(&now);
    list_splice_back(&now, &shard->tasks); /* what tasks defer is for the next tick */
    while ((node = list_pop_front(&now)) != NULL) {
        struct shard_task *task = CONTAINER_OF(node, struct shard_task, node);

        task->run(task);
    }
}

/* ---- the tick
 * ------------------------------------------------------------------------------------ */

static void read_clocks(struct shard *shard)
{
    shard->now_ns = clock_monotonic_ns();
    shard->wall_ns = clock_wall_ns();
    log_set_time(shard->log, shard->wall_ns);
}

uint64_t shard_next_ns(const struct shard *shard)
{
    uint64_t next_ns = timer_wheel_next_ns(&shard->timers);

    if (!list_empty(&shard->tasks) || shard->unfinished)
        return 0;
    for (uint32_t i = 0; i < shard->count; i++) {
        if (list_empty(&shard->links[i].waiting))
            continue;
        if (i == shard->index)
            return 0;
        next_ns = MIN(next_ns, shard->now_ns + SHARD_FULL_RETRY_NS);
    }
    return next_ns;
}

void shard_signal(struct shard *shard, uint32_t signals)
{
    /* Who signals may be no shard, so nothing else keeps the ring from going between the two steps:
     * a shard that is told to stop ends as soon as it sees the word. */
    pthread_mutex_lock(&shard->group->lock);
    atomic_fetch_or(&shard->signals, signals);
    if (shard->ring != NULL)
        ring_wake(shard->ring);
    pthread_mutex_unlock(&shard->group->lock);
}

static void take_signals(struct shard *shard)
{
    uint32_t signals;

    if (atomic_load_explicit(&shard->signals, memory_order_relaxed) == 0)
        return;
    signals = atomic_exchange(&shard->signals, 0);
    if (shard->group->params.signalled != NULL)
        shard->group->params.signalled(shard, signals);
}

void shard_tick(struct shard *shard, bool may_wait)
{
    uint64_t deadline_ns = may_wait ? shard_next_ns(shard) : 0;

    ring_wait(shard->ring, deadline_ns);
    read_clocks(shard);          /* before anything runs: after a long sleep, deadlines begin now */
    (void)ring_run(shard->ring); /* how many ran does not matter here */
    take_signals(shard);
    deliver_messages(shard);
    (void)timer_wheel_advance(&shard->timers, shard->now_ns);
    run_tasks(shard);
    stream_feed_starved(shard);
    push_and_wake(shard);
    shard->ticks++;
}

void shard_stop(struct shard *shard)
{
    shard->stopping = true;
}

/* ---- the life of a shard
 * ------------------------------------------------------------------------- */

static void report_begun(struct shard_group *group, int result)
{
    pthread_mutex_lock(&group->lock);
    group->begun_count++;
    if (result < 0 && group->error == 0)
        group->error = result;
    pthread_cond_broadcast(&group->changed);
    pthread_mutex_unlock(&group->lock);
}

static int make_ring_and_start(struct shard *shard)
{
    const struct shard_params *params = &shard->group->params;
    int r;

    r = ring_create(&params->ring, &shard->ring);
    if (r < 0)
        return r;
    read_clocks(shard);
    timer_wheel_init(&shard->timers, shard->now_ns);
    r = params->start == NULL ? 0 : params->start(shard, params->context);
    if (r < 0) {
        ring_destroy(&shard->ring);
        return r;
    }
    shard->begun = true;
    return 0;
}

int shard_begin(struct shard *shard)
{
    int r = make_ring_and_start(shard);

    report_begun(shard->group, r);
    return r;
}

void shard_end(struct shard *shard)
{
    const struct shard_params *params = &shard->group->params;

    if (!shard->begun)
        return;
    shard->begun = false;
    if (params->stop != NULL)
        params->stop(shard, params->context);
    pthread_mutex_lock(&shard->group->lock); /* see shard_signal() */
    ring_destroy(&shard->ring);
    pthread_mutex_unlock(&shard->group->lock);
}

/* Waits until all shards have begun, or one has failed: its error, otherwise 0. Where there are no
 * threads (in simulation) each has begun before its thread_start_shard() came back, and nobody
 * waits. */
static int meet_begun(struct shard_group *group)
{
    int error;

    pthread_mutex_lock(&group->lock);
    while (group->error == 0 && group->begun_count < group->params.count)
        pthread_cond_wait(&group->changed, &group->lock);
    error = group->error;
    pthread_mutex_unlock(&group->lock);
    return error;
}

/* A ring must not go while another shard may still wake it. */
static void meet_over(struct shard_group *group)
{
    pthread_mutex_lock(&group->lock);
    group->over_count++;
    pthread_cond_broadcast(&group->changed);
    while (group->over_count < group->params.count)
        pthread_cond_wait(&group->changed, &group->lock);
    pthread_mutex_unlock(&group->lock);
}

static void shard_loop(struct shard *shard)
{
    (void)shard_begin(shard); /* reported to the group, which has the answer for all */
    if (meet_begun(shard->group) == 0) {
        while (!shard->stopping)
            shard_tick(shard, true);
        meet_over(shard->group);
    }
    shard_end(shard);
}

/* ---- the group
 * ----------------------------------------------------------------------------------- */

static void destroy_links(struct shard_group *group)
{
    for (uint32_t i = 0; i < group->params.count; i++) {
        struct shard *shard = &group->shards[i];

        for (uint32_t j = 0; shard->links != NULL && j < group->params.count; j++)
            channel_destroy(&shard->links[j].out); /* `in` is the other's */
        free(shard->links);
        shard->links = NULL;
    }
}

static void destroy_group(struct shard_group *group)
{
    if (group->shards != NULL)
        destroy_links(group);
    free(group->shards);
    free(group->threads);
    pthread_cond_destroy(&group->changed);
    pthread_mutex_destroy(&group->lock);
    free(group);
}

static int create_links(struct shard_group *group)
{
    uint32_t count = group->params.count;

    for (uint32_t i = 0; i < count; i++) {
        group->shards[i].links = calloc(count, sizeof(struct shard_link));
        if (group->shards[i].links == NULL)
            return -ENOMEM;
        for (uint32_t j = 0; j < count; j++)
            list_init(&group->shards[i].links[j].waiting);
    }
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < count; j++) {
            struct shard_link *link = &group->shards[i].links[j];
            int r = i == j ? 0 : channel_create(SHARD_CHANNEL_MESSAGES, &link->out);

            if (r < 0)
                return r;
            group->shards[j].links[i].in = link->out;
        }
    }
    return 0;
}

static void init_shard(struct shard_group *group, uint32_t index)
{
    struct shard *shard = &group->shards[index];
    struct log **logs = group->params.logs;

    shard->index = index;
    shard->count = group->params.count;
    shard->group = group;
    shard->log = logs == NULL ? NULL : logs[index];
    list_init(&shard->tasks);
    list_init(&shard->starved);
}

static int create_group(const struct shard_params *params, struct shard_group **ret_group)
{
    struct shard_group *group = calloc(1, sizeof(*group));
    int r = -ENOMEM;

    if (group == NULL)
        return -ENOMEM;
    group->params = *params;
    if (group->params.one_thread)
        group->params.count = 1;
    if (group->params.count == 0)
        group->params.count = thread_cpu_count();
    (void)pthread_mutex_init(&group->lock, NULL); /* neither can fail with these arguments */
    (void)pthread_cond_init(&group->changed, NULL);
    group->shards = calloc(group->params.count, sizeof(*group->shards));
    group->threads = calloc(group->params.count, sizeof(*group->threads));
    if (group->shards != NULL && group->threads != NULL) {
        for (uint32_t i = 0; i < group->params.count; i++)
            init_shard(group, i);
        r = create_links(group);
    }
    if (r < 0) {
        destroy_group(group);
        return r;
    }
    *ret_group = group;
    return 0;
}

static void give_up(struct shard_group *group, int error)
{
    pthread_mutex_lock(&group->lock);
    if (group->error == 0)
        group->error = error;
    pthread_cond_broadcast(&group->changed);
    pthread_mutex_unlock(&group->lock);
}

int shard_group_start(const struct shard_params *params, struct shard_group **ret_group)
{
    struct shard_group *group;
    int r;

    r = create_group(params, &group);
    if (r < 0)
        return r;
    if (params->one_thread)
        r = shard_begin(&group->shards[0]);
    for (uint32_t i = 0; r == 0 && !params->one_thread && i < group->params.count; i++)
        r = thread_start_shard(&group->shards[i], shard_loop, i, &group->threads[i]);
    if (r < 0)
        give_up(group, r);
    r = meet_begun(group);
    if (r < 0) {
        for (uint32_t i = 0; i < group->params.count; i++)
            group->shards[i].stopping = true; /* no loop has begun, none looks at it */
        shard_group_join(&group);
        return r;
    }
    *ret_group = group;
    return 0;
}

static void run_here(struct shard *shard)
{
    while (shard->begun && !shard->stopping)
        shard_tick(shard, true);
    shard_end(shard);
}

void shard_group_join(struct shard_group **group)
{
    if (*group == NULL)
        return;
    if ((*group)->params.one_thread)
        run_here(&(*group)->shards[0]);
    for (uint32_t i = 0; i < (*group)->params.count; i++)
        thread_join(&(*group)->threads[i]);
    destroy_group(*group);
    *group = NULL;
}

struct shard *shard_group_get(struct shard_group *group, uint32_t index)
{
    ASSERT(index < group->params.count);
    return &group->shards[index];
}
