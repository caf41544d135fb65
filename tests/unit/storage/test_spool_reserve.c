#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

/* A disk without room: keep_free_bytes asks for more than any has. */

static uint8_t body[60 * KIB];

static void full(struct world *world)
{
    world->spool->config.keep_free_bytes = 1ull << 60;
}

static void roomy(struct world *world)
{
    world->spool->config.keep_free_bytes = 0;
}

static int post_result(struct world *world, uint8_t flags)
{
    struct posting *posting = posting_create(world, 1, body, sizeof(body));
    int r;

    posting->append.flags = flags;
    r = posting_begin(world, posting);
    if (r < 0)
        return r;
    world_until(world, &posting->done);
    return posting->append.result;
}

/* Ordinary messages until one is refused for want of room. */
static uint32_t post_until_full(struct world *world)
{
    for (uint32_t taken = 0;; taken++) {
        int r = post_result(world, 0);

        if (r < 0) {
            cr_assert_eq(r, -ENOSPC);
            return taken;
        }
        cr_assert_lt(taken, 1000);
    }
}

/* Goal: QUEUE I22: accepting ends while a spare is left; reports, notes and J go on. */
Test(spool_reserve, accepting_leaves_the_last_spare)
{
    struct world *world = world_create();

    world_open(world);
    cr_assert_eq(post_result(world, 0), 0);
    full(world);
    (void)post_until_full(world);
    cr_assert_eq(spool_ready(world->spool), -ENOSPC);
    cr_assert_eq(world->spool->d.maker.spare_count, 1);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(post_result(world, SPOOL_REPORT), 0, "report %d", i);
    cr_assert(spool_journal_ok(world->spool));
    world_destroy(world);
}

Test(spool_reserve, service_returns_with_the_room)
{
    struct world *world = world_create();
    uint64_t began_ns;

    world_open(world);
    cr_assert_eq(post_result(world, 0), 0);
    full(world);
    (void)post_until_full(world);
    roomy(world);
    began_ns = world->shard.now_ns;
    while (spool_ready(world->spool) < 0)
        world_tick(world);
    cr_assert_eq(post_result(world, 0), 0);
    cr_assert_lt(world->shard.now_ns - began_ns, 5 * SECOND_NS);
    world_destroy(world);
}

/* Goal: what is delivered makes room by itself: dead segments come back without a byte of free disk. */
Test(spool_reserve, delivering_makes_room)
{
    struct world *world = world_create();
    struct posting *postings[40];

    world_open(world);
    for (int i = 0; i < 40; i++)
        postings[i] = post(world, 1, body, sizeof(body));
    full(world);
    (void)post_until_full(world);
    for (int i = 0; i < 40; i++) {
        struct spool_note note = {
            .kind = SPOOL_NOTE_DONE, .id = postings[i]->append.id, .unit_count = 1};

        cr_assert_eq(spool_note(world->spool, &note), 0);
        spool_release(world->spool, postings[i]->append.id, &postings[i]->append.location);
    }
    while (spool_ready(world->spool) < 0)
        world_tick(world);
    cr_assert_eq(post_result(world, 0), 0);
    world_destroy(world);
}

/* Goal: J has segments before it needs them. */
Test(spool_reserve, the_journal_has_spares)
{
    struct world *world = world_create();

    world_open(world);
    while (world->spool->j.maker.spare_count < 2 || world->spool->j.next == NULL)
        world_tick(world);
    world_destroy(world);
}
