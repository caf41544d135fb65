/* tests/threads/test_leases.c - four shards with a queue and a real spool each share the sessions of two sites.
 *
 * Goal: never more sessions of a site than allowed over all shards, every message delivered once, every slot given
 * back, and an orderly end in which no shard leaves before the others have got back what they lent it.
 * Method: each shard submits mail to both sites. Its sessions, which are timers here, take a message, keep it for a
 * moment and deliver it; some sessions fail, now and then all of them for a while. One atomic counter a site is the
 * truth about sessions. */
#include "core/assert.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/shard.h"
#include "core/thread.h"
#include "queue/queue.h"
#include "storage/spool.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS 4
#define SITES 2
#define SESSIONS_MAX 3 /* of a site: fewer than shards */
#define MESSAGES 300   /* of each shard */
#define GATHERED 20    /* submissions at a time */
#define GIVE_UP_MS (60 * SECOND_MS)

struct side;

struct session {
    struct side *side;
    struct queue_slot *slot;
    struct queue_attempt *attempt;
    struct timer timer;
    uint32_t site;
    bool idle;
};

struct letter {
    struct queue_submission submission;
    struct side *side;
    struct slice recipient;
    struct iovec body;
};

struct side { /* what one shard has */
    struct shard *shard;
    struct queue *queue;
    struct spool *spool;
    char path[128];
    uint32_t submitted, accepted, delivered, sessions, failures;
    struct shard_task feed;
    struct timer give_up, idle_end;
    struct list_node idle;
    bool stopping;
};

static struct test {
    struct side sides[SHARDS];
    char directory[64];
    atomic_uint open[SITES], peak[SITES], delivered, stopped;
} test;

static const char *const domains[] = {"one.mx", "one.net", "two.mx", "two.net"};

static uint32_t site_index(struct slice name)
{
    return slice_equal(name, SLICE("mx")) ? 0 : 1;
}

/* ---- sessions ----------------------------------------------------------------------------------- */

static void count_open(uint32_t site)
{
    uint32_t now = atomic_fetch_add(&test.open[site], 1) + 1;
    uint32_t peak = atomic_load(&test.peak[site]);

    ASSERT(now <= SESSIONS_MAX);
    while (peak < now && !atomic_compare_exchange_weak(&test.peak[site], &peak, now))
        ;
}

/* The counter first: once the slot is returned another shard may have it. */
static void session_end(struct session *session, bool failed)
{
    struct side *side = session->side;
    struct queue_slot *slot = session->slot;

    shard_timer_disarm(side->shard, &session->timer);
    atomic_fetch_sub(&test.open[session->site], 1);
    side->sessions--;
    free(session);
    if (!failed) {
        queue_slot_return(slot);
        return;
    }
    side->failures++;
    queue_slot_failed(slot, (const uint8_t[]){4, 4, 1}, SLICE("connection refused"));
}

static void pull(struct session *session);

static void loaded(struct queue_attempt *attempt, void *context, int result)
{
    struct session *session = context;

    ASSERT(result == 0 && queue_attempt_count(attempt) == 1);
    shard_timer_arm(session->side->shard, &session->timer, 1);
}

static void pull(struct session *session)
{
    bool retire;

    session->attempt = queue_slot_take(session->slot, &retire);
    session->idle = session->attempt == NULL;
    if (session->attempt != NULL)
        queue_attempt_load(session->attempt, loaded, session);
    else if (retire)
        session_end(session, false);
}

static void feed_more(struct side *side);

static void deliver(struct session *session)
{
    struct queue_attempt *attempt = session->attempt;

    session->attempt = NULL;
    queue_attempt_outcome(attempt, 0, QUEUE_DELIVERED, (const uint8_t[]){2, 0, 0}, SLICE_NONE);
    queue_attempt_finish(attempt, NULL, NULL);
    session->side->delivered++;
    atomic_fetch_add(&test.delivered, 1);
    feed_more(session->side);
    pull(session);
}

static void session_fired(struct timer *timer)
{
    struct session *session = CONTAINER_OF(timer, struct session, timer);

    if (session->attempt != NULL) {
        deliver(session);
    } else if (random_below(10) == 0) {
        session_end(session, true);
    } else {
        queue_slot_succeeded(session->slot);
        pull(session);
    }
}

static void do_connect(void *context, struct queue_slot *slot)
{
    struct session *session = calloc(1, sizeof(*session));

    ASSERT(session != NULL);
    session->side = context;
    session->slot = slot;
    session->site = site_index(queue_slot_site(slot));
    timer_init(&session->timer, session_fired);
    queue_slot_set_user(slot, session);
    count_open(session->site);
    session->side->sessions++;
    shard_timer_arm(session->side->shard, &session->timer, 1);
}

static void more(void *context, struct queue_slot *slot)
{
    struct session *session = queue_slot_user(slot);

    (void)context;
    if (session->idle)
        pull(session);
}

static void recall(void *context, struct queue_slot *slot)
{
    struct session *session = queue_slot_user(slot);

    (void)context;
    if (session->idle)
        session_end(session, false);
}

/* ---- the rest of the owner's side ----------------------------------------------------------------- */

static bool is_local(void *context, struct slice domain)
{
    (void)context;
    (void)domain;
    return false;
}

static void resolve(void *context, uint32_t destination, struct slice name)
{
    struct side *side = context;
    size_t dot = slice_find(name, '.');

    queue_resolved(side->queue, destination, slice_skip(name, dot + 1), 50);
}

static void local(void *context)
{
    (void)context;
}

static void report(void *context, struct queue_report *failed)
{
    (void)context;
    queue_report_done(failed, 0);
}

static struct queue *peer(struct shard *shard)
{
    return ((struct side *)shard->user)->queue;
}

static const struct queue_ops ops = {
    .is_local = is_local,
    .resolve = resolve,
    .connect = do_connect,
    .more = more,
    .recall = recall,
    .local = local,
    .report = report,
    .peer = peer,
};

static void submitted(struct queue_submission *submission)
{
    struct letter *letter = CONTAINER_OF(submission, struct letter, submission);

    ASSERT(submission->result == 0);
    letter->side->accepted++;
    free(letter);
}

static void submit(struct side *side)
{
    static const char sender[] = "a@example.org";
    static const char *const recipients[] = {"x@one.mx", "x@one.net", "x@two.mx", "x@two.net"};
    struct letter *letter = calloc(1, sizeof(*letter));

    static_assert(ARRAY_SIZE(recipients) == ARRAY_SIZE(domains), "one of each");
    ASSERT(letter != NULL);
    letter->side = side;
    letter->recipient = slice_cstr(recipients[side->submitted % ARRAY_SIZE(recipients)]);
    letter->body = (struct iovec){(void *)(uintptr_t)sender, sizeof(sender)};
    letter->submission = (struct queue_submission){
        .sender = slice_cstr(sender),
        .recipients = &letter->recipient,
        .recipient_count = 1,
        .body = &letter->body,
        .body_pieces = 1,
        .id = queue_next_id(side->queue),
        .done = submitted,
    };
    ASSERT(queue_submit(side->queue, &letter->submission) == 0);
    side->submitted++;
}

static void feed(struct shard_task *task)
{
    struct side *side = CONTAINER_OF(task, struct side, feed);

    while (side->submitted < MESSAGES && side->submitted - side->delivered < GATHERED)
        submit(side);
}

static void feed_more(struct side *side)
{
    shard_defer(side->shard, &side->feed);
}

/* ---- the end ----------------------------------------------------------------------------------- */

static void spool_stopped(void *context)
{
    shard_stop(((struct side *)context)->shard);
}

static void queue_stopped(void *context)
{
    struct side *side = context;

    ASSERT(side->sessions == 0);
    atomic_fetch_add(&test.stopped, 1);
    spool_stop(side->spool, spool_stopped, side);
}

/* Every shard looks by itself whether all have finished, and then begins to stop. */
static void look(struct timer *timer)
{
    struct side *side = CONTAINER_OF(timer, struct side, idle_end);

    if (atomic_load(&test.delivered) < SHARDS * MESSAGES) {
        shard_timer_arm(side->shard, timer, 5);
        return;
    }
    queue_stop(side->queue, queue_stopped, side);
}

static void gave_up(struct timer *timer)
{
    struct side *side = CONTAINER_OF(timer, struct side, give_up);
    struct queue_counters c;

    queue_counters(side->queue, &c);
    fprintf(stderr, "shard %u: %u accepted, %u delivered, %u ready, %u trying, %u sessions\n",
            side->shard->index, side->accepted, side->delivered, c.ready, c.trying, c.sessions);
    abort();
}

/* ---- the beginning ------------------------------------------------------------------------------ */

static int open_spool(struct side *side)
{
    struct spool_config config = {
        .path = side->path,
        .number = side->shard->index,
        .segment_bytes = MIB,
        .spare_segments = 1,
        .hot_bytes_max = MIB,
        .gather_bytes_max = MIB,
        .journal_flush_ms = 5,
        .force_file_system = true,
    };
    struct spool_recovery *recovery;
    struct buf error;
    int r;

    (void)snprintf(side->path, sizeof(side->path), "%s/%u", test.directory, side->shard->index);
    buf_init(&error, KIB);
    r = spool_open(&config, &recovery, &error);
    if (r < 0)
        fprintf(stderr, "%.*s\n", SLICE_ARG(buf_slice(&error)));
    buf_deinit(&error);
    return r < 0 ? r : spool_start(side->shard, &recovery, &side->spool);
}

static int start(struct shard *shard, void *context)
{
    const struct queue_config config = {
        .retry_first_ms = 50,
        .retry_max_ms = 100,
        .expire_ms = DAY_MS,
        .site_sessions_max = SESSIONS_MAX,
        .site_messages_max = 7,
        .site_recipients_max = 100,
        .site_backoff_first_ms = 10,
        .site_backoff_max_ms = 50,
        .messages_max = 10000,
    };
    struct side *side = &test.sides[shard->index];
    int r;

    (void)context;
    side->shard = shard;
    shard->user = side;
    timer_init(&side->give_up, gave_up);
    timer_init(&side->idle_end, look);
    shard_task_init(&side->feed, feed);
    r = queue_create(shard, NULL, &config, &ops, side, &side->queue);
    if (r == 0)
        r = open_spool(side);
    if (r < 0)
        return r;
    r = queue_add_spool(side->queue, side->spool, true);
    if (r < 0)
        return r;
    queue_start(side->queue);
    spool_restore(side->spool);
    shard_timer_arm(shard, &side->give_up, GIVE_UP_MS);
    shard_timer_arm(shard, &side->idle_end, 5);
    shard_defer(shard, &side->feed);
    return 0;
}

static void stop(struct shard *shard, void *context)
{
    struct side *side = shard->user;
    struct queue_counters c;

    (void)context;
    queue_counters(side->queue, &c);
    ASSERT(c.accepted == MESSAGES && c.delivered == MESSAGES && c.messages == 0);
    ASSERT(c.sessions == 0);
    shard_timer_disarm(shard, &side->give_up);
    queue_destroy(&side->queue);
    spool_destroy(&side->spool);
}

int main(void)
{
    struct log *logs[SHARDS] = {NULL};
    struct shard_params params = {.count = SHARDS, .logs = logs, .start = start, .stop = stop};
    struct worker_pool *workers;
    struct shard_group *group;
    char command[128];
    uint32_t failures = 0;
    int r = worker_pool_create(2, 1, &workers);

    ASSERT(r == 0);
    params.ring.workers = workers;
    (void)snprintf(test.directory, sizeof(test.directory), "/tmp/kilat-leases-XXXXXX");
    ASSERT(mkdtemp(test.directory) != NULL);
    r = shard_group_start(&params, &group);
    if (r < 0) {
        fprintf(stderr, "cannot start: %s\n", strerror(-r));
        return r == -EPERM || r == -ENOSYS ? 77 : 1;
    }
    shard_group_join(&group);
    worker_pool_destroy(&workers);
    (void)snprintf(command, sizeof(command), "rm -r %s", test.directory);
    ASSERT(system(command) == 0);
    for (uint32_t i = 0; i < SHARDS; i++)
        failures += test.sides[i].failures;
    printf("%u messages, at most %u and %u sessions, %u sessions failed\n",
           atomic_load(&test.delivered), atomic_load(&test.peak[0]), atomic_load(&test.peak[1]),
           failures);
    ASSERT(atomic_load(&test.open[0]) == 0 && atomic_load(&test.open[1]) == 0);
    ASSERT(atomic_load(&test.stopped) == SHARDS);
    return 0;
}
