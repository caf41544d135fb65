#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static uint8_t body[60 * KIB];

static struct posting *begin(struct world *world, enum spool_durability durability, size_t size)
{
    struct posting *posting = posting_create(world, 1, body, size);

    posting->append.durability = (uint8_t)durability;
    cr_assert_eq(posting_begin(world, posting), 0);
    return posting;
}

static struct posting *post_as(struct world *world, enum spool_durability durability, size_t size)
{
    struct posting *posting = begin(world, durability, size);

    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
    return posting;
}

static struct spool_counters counted(struct world *world)
{
    struct spool_counters counters;

    spool_counters(world->spool, &counters);
    return counters;
}

/* Goal: a synced 250 waits for a flush that covers what was acknowledged as cached before it; a write that is durable by
 * itself (FUA) would not. Both ways of writing. */
Test(spool_cached, a_synced_message_flushes_the_cached_ones_before_it)
{
    for (int buffered = 0; buffered < 2; buffered++) {
        struct world *world = world_create();
        const struct spool_log *log;
        uint64_t flushes, durable_lsn;

        world->config.buffered = buffered == 1;
        world_open(world);
        log = &world->spool->d;
        (void)post_as(world, SPOOL_SYNCED, 100);
        flushes = counted(world).flushes;
        durable_lsn = log->durable_lsn;
        cr_assert_eq(durable_lsn, log->previous_lsn);
        for (uint64_t i = 1; i < 4; i++) {
            (void)post_as(world, SPOOL_CACHED, 100);
            cr_assert_eq(counted(world).groups_cached, i);
            cr_assert_eq(counted(world).flushes, flushes, "nobody waits for one");
            cr_assert_eq(log->durable_lsn, durable_lsn, "no later group may call it durable");
            cr_assert(!spool_log_flushed(log));
        }
        (void)post_as(world, SPOOL_SYNCED, 100);
        cr_assert_eq(counted(world).flushes, flushes + 1);
        cr_assert(spool_log_flushed(log));
        cr_assert_eq(log->durable_lsn, log->previous_lsn);
        if (counted(world).direct) {
            (void)post_as(world, SPOOL_SYNCED, 100);
            cr_assert_eq(counted(world).flushes, flushes + 1, "the write alone is durable again");
        }
        world_destroy(world);
    }
}

static uint32_t order_next;
struct ordered {
    struct spool_append append;
    uint32_t order;
};

static void ordered_done(struct spool_append *append)
{
    cr_assert_eq(append->result, 0);
    CONTAINER_OF(append, struct ordered, append)->order = ++order_next;
}

Test(spool_cached, answers_come_in_the_order_of_the_appends)
{
    struct world *world = world_create();
    struct ordered all[40] = {0};
    struct iovec piece = {body, sizeof(body)};

    world_open(world);
    for (uint32_t i = 0; i < ARRAY_SIZE(all); i++) {
        all[i].append = (struct spool_append){
            .id = spool_next_id(world->spool),
            .envelope = SLICE("e"),
            .unit_count = 1,
            .body = &piece,
            .body_pieces = 1,
            .durability = i % 3 == 0 ? SPOOL_SYNCED : SPOOL_CACHED,
            .done = ordered_done,
        };
        while (spool_append(world->spool, &all[i].append) == -EAGAIN)
            world_tick(world);
        if (i % 5 == 0)
            world_tick(world);
    }
    while (order_next < ARRAY_SIZE(all))
        world_tick(world);
    for (uint32_t i = 0; i < ARRAY_SIZE(all); i++)
        cr_assert_eq(all[i].order, i + 1);
    world_destroy(world);
}

Test(spool_cached, a_segment_is_flushed_before_the_next_one_begins)
{
    struct world *world = world_create();
    struct posting *posting = NULL;
    uint64_t flushes;

    world_open(world);
    (void)post_as(world, SPOOL_CACHED, sizeof(body));
    flushes = counted(world).flushes;
    for (int i = 0; i < 40; i++)
        posting = post_as(world, SPOOL_CACHED, sizeof(body));
    cr_assert_eq(posting->append.location.segment, 2);
    cr_assert_eq(counted(world).flushes, flushes + 1);
    world_destroy(world);
}

static void stopped(void *context)
{
    *(bool *)context = true;
}

Test(spool_cached, an_ordered_stop_flushes)
{
    struct world *world = world_create();
    bool ended = false;

    world_open(world);
    (void)post_as(world, SPOOL_CACHED, 100);
    cr_assert(!spool_log_flushed(&world->spool->d));
    spool_stop(world->spool, stopped, &ended);
    world_until(world, &ended);
    cr_assert(spool_log_flushed(&world->spool->d));
    spool_destroy(&world->spool);
    world_open(world);
    cr_assert_eq(world->message_count, 1);
    world_destroy(world);
}

Test(spool_cached, a_flush_can_be_asked_for)
{
    struct world *world = world_create();

    world_open(world);
    (void)post_as(world, SPOOL_CACHED, 100);
    spool_log_want_flush(&world->spool->d);
    while (!spool_log_flushed(&world->spool->d))
        world_tick(world);
    cr_assert_eq(world->spool->d.durable_lsn, world->spool->d.previous_lsn);
    world_destroy(world);
}

/* Goal: what was acknowledged as cached and did not survive is no damage: nobody said that it was durable. */
Test(spool_cached, a_lost_cached_group_is_a_torn_tail)
{
    struct world *world = world_create();
    struct world *crashed;
    struct posting *lost;

    world_open(world);
    (void)post_as(world, SPOOL_SYNCED, 100);
    lost = post_as(world, SPOOL_CACHED, 100);
    (void)post_as(world, SPOOL_CACHED, 100);
    crashed = world_crash(world);
    for (uint64_t at = 0; at < SPOOL_BLOCK_BYTES;
         at += 16) /* the whole block is not what was written */
        flip(crashed->dir, "D-00000001",
             ROUND_UP((uint64_t)lost->append.location.offset_16 * 16, SPOOL_BLOCK_BYTES) -
                 SPOOL_BLOCK_BYTES + at,
             0x55);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 2);
    cr_assert_null(world_find(crashed, lost->append.id));
    cr_assert_eq(crashed->report.damaged_records, 0);
    world_destroy(crashed);
    world_destroy(world);
}
