#include "core/shard.h"
#include "core/assert.h"
#include "core/thread.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static const struct ring_params small_ring = {.entries = 64, .buffer_count = 16};

static struct shard_group *start_here(void)
{
    const struct shard_params params = {.ring = small_ring, .one_thread = true};
    struct shard_group *group = NULL;

    cr_assert_eq(shard_group_start(&params, &group), 0);
    return group;
}

static void end_here(struct shard_group *group)
{
    shard_stop(shard_group_get(group, 0));
    shard_group_join(&group);
    cr_expect_null(group);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

struct counted {
    struct shard_task task;
    struct shard *shard;
    struct shard_task *also; /* deferred by this one */
    int runs;
};

static void run_counted(struct shard_task *task)
{
    struct counted *counted = CONTAINER_OF(task, struct counted, task);

    counted->runs++;
    if (counted->also != NULL)
        shard_defer(counted->shard, counted->also);
}

Test(shard, a_task_runs_once_at_the_end_of_its_tick)
{
    struct shard_group *group = start_here();
    struct shard *shard = shard_group_get(group, 0);
    struct counted first = {.shard = shard}, second = {.shard = shard};

    shard_task_init(&first.task, run_counted);
    shard_task_init(&second.task, run_counted);
    first.also = &second.task;
    shard_defer(shard, &first.task);
    shard_defer(shard, &first.task);
    cr_expect_eq(shard_next_ns(shard), 0);
    shard_tick(shard, true);
    cr_expect_eq(first.runs, 1);
    cr_expect_eq(second.runs, 0, "deferred by a task: the next tick's");
    shard_tick(shard, true);
    cr_expect_eq(second.runs, 1);
    cr_expect_eq(shard_next_ns(shard), UINT64_MAX);
    shard_defer(shard, &second.task);
    shard_undefer(&second.task);
    shard_undefer(&second.task);
    shard_tick(shard, false);
    cr_expect_eq(second.runs, 1);
    end_here(group);
}

static void run_for_ever(struct shard_task *task)
{
    struct counted *counted = CONTAINER_OF(task, struct counted, task);

    counted->runs++;
    shard_defer(counted->shard, task);
}

Test(shard, a_task_that_defers_itself_starves_nobody)
{
    struct shard_group *group = start_here();
    struct shard *shard = shard_group_get(group, 0);
    struct counted counted = {.shard = shard};

    shard_task_init(&counted.task, run_for_ever);
    shard_defer(shard, &counted.task);
    for (int i = 1; i <= 5; i++) {
        shard_tick(shard, true);
        cr_expect_eq(counted.runs, i);
    }
    shard_undefer(&counted.task);
    end_here(group);
}

/* ---- timers ---------------------------------------------------------------------------------- */

static int fired;

static void count_fired(struct timer *timer)
{
    (void)timer;
    fired++;
}

Test(shard, a_tick_waits_for_the_next_timer)
{
    struct shard_group *group = start_here();
    struct shard *shard = shard_group_get(group, 0);
    uint64_t start_ns = shard->now_ns;
    struct timer timer;

    timer_init(&timer, count_fired);
    shard_timer_arm(shard, &timer, 30);
    cr_expect_lt(shard_next_ns(shard), start_ns + 39 * MS_NS);
    while (fired == 0)
        shard_tick(shard, true);
    cr_expect_geq(shard->now_ns, start_ns + 30 * MS_NS);
    cr_expect_leq(shard->ticks, 10, "asleep meanwhile");
    end_here(group);
}

/* ---- messages -------------------------------------------------------------------------------- */

struct letter {
    struct shard_message message;
    int deliveries;
};

static void count_and_return(struct shard *on, struct shard_message *message)
{
    struct letter *letter = CONTAINER_OF(message, struct letter, message);

    letter->deliveries++;
    shard_send(on, on->index, message);
}

Test(shard, a_message_to_oneself_comes_in_a_later_tick)
{
    struct shard_group *group = start_here();
    struct shard *shard = shard_group_get(group, 0);
    struct letter letter = {.message.deliver = count_and_return};

    shard_send(shard, 0, &letter.message);
    cr_expect_eq(letter.deliveries, 0);
    for (int i = 1; i <= 3; i++) {
        cr_expect_eq(shard_next_ns(shard), 0);
        shard_tick(shard, true);
        cr_expect_eq(letter.deliveries, i, "once a tick, although it sends itself again");
    }
    end_here(group);
}

/* Far more than the channel holds, before the receiver has looked once; then more while those still wait. */
enum { FLOOD = 9000, AT_ONCE = 3000, LATER = 100 };

struct flood {
    struct letter letters[FLOOD];
    struct shard_message sender; /* goes from shard 0 to itself, once a tick */
    int sent;
    int received;
};

static void take_flood(struct shard *on, struct shard_message *message)
{
    struct flood *flood = on->user;
    struct letter *letter = CONTAINER_OF(message, struct letter, message);

    cr_assert_eq(message->from, 0);
    cr_assert_eq(letter - flood->letters, flood->received, "in order");
    if (++flood->received == FLOOD)
        shard_stop(on);
}

static void send_some(struct shard *from, struct flood *flood, int count)
{
    for (; count > 0 && flood->sent < FLOOD; count--) {
        struct shard_message *message = &flood->letters[flood->sent++].message;

        message->deliver = take_flood;
        shard_send(from, 1, message);
    }
}

/* Shard 0 stops when all of its letters have left it, which its next time tells. */
static void send_more(struct shard *on, struct shard_message *message)
{
    struct flood *flood = CONTAINER_OF(message, struct flood, sender);

    if (flood->sent == FLOOD && shard_next_ns(on) == UINT64_MAX) {
        shard_stop(on);
        return;
    }
    send_some(on, flood, LATER);
    shard_send(on, 0, message);
}

static int start_flood(struct shard *shard, void *context)
{
    struct flood *flood = context;

    shard->user = flood;
    if (shard->index == 1)
        return 0;
    send_some(shard, flood, AT_ONCE);
    flood->sender.deliver = send_more;
    shard_send(shard, 0, &flood->sender);
    return 0;
}

Test(shard, a_flood_of_messages_arrives_in_order)
{
    struct flood *flood = calloc(1, sizeof(*flood));
    const struct shard_params params = {
        .count = 2, .ring = small_ring, .start = start_flood, .context = flood};
    struct shard_group *group = NULL;

    cr_assert_eq(shard_group_start(&params, &group), 0);
    shard_group_join(&group);
    cr_expect_eq(flood->received, FLOOD);
    free(flood);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

struct counts {
    _Atomic int started;
    _Atomic int stopped;
    uint32_t fails;
};

static int count_start(struct shard *shard, void *context)
{
    struct counts *counts = context;

    if (shard->index == counts->fails)
        return -EADDRINUSE;
    counts->started++;
    shard_stop(shard);
    return 0;
}

static void count_stop(struct shard *shard, void *context)
{
    struct counts *counts = context;

    cr_assert_not_null(shard->ring);
    counts->stopped++;
}

Test(shard, the_error_of_one_stops_all)
{
    for (uint32_t fails = 0; fails < 3; fails++) {
        struct counts counts = {.fails = fails};
        const struct shard_params params = {.count = 3,
                                            .ring = small_ring,
                                            .start = count_start,
                                            .stop = count_stop,
                                            .context = &counts};
        struct shard_group *group = NULL;

        cr_expect_eq(shard_group_start(&params, &group), -EADDRINUSE);
        cr_expect_null(group);
        cr_expect_eq(counts.stopped, counts.started, "who has started is stopped");
    }
}

Test(shard, as_many_as_there_are_cpus)
{
    struct counts counts = {.fails = UINT32_MAX};
    const struct shard_params params = {
        .ring = small_ring, .start = count_start, .stop = count_stop, .context = &counts};
    struct shard_group *group = NULL;

    cr_assert_eq(shard_group_start(&params, &group), 0);
    shard_group_join(&group);
    cr_expect_eq(counts.stopped, (int)thread_cpu_count());
}
