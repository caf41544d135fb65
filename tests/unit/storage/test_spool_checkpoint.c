#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Goal: a checkpoint and the tails behind it bring back what a full scan would, whatever is cut or damaged.
 * Method: a world whose owner keeps checkpoints; crashes are copies of its directory. */

static struct world *keeper_create(void)
{
    struct world *world = world_create();

    world->keeps = true;
    world->config.checkpoint_ms = 3600 * 1000; /* only when asked for */
    return world;
}

static bool there(const struct world *world, const char *name)
{
    char path[600];

    path_of(world, name, path, sizeof(path));
    return access(path, F_OK) == 0;
}

static uint64_t post_one(struct world *world, uint32_t unit_count)
{
    struct posting *posting = post(world, unit_count, "body\r\n", 6);
    uint64_t id = posting->append.id;

    posting_destroy(posting);
    return id;
}

static void defer_one(struct world *world, uint64_t id, uint32_t unit, uint32_t next_s)
{
    struct spool_note note = {
        .kind = SPOOL_NOTE_DEFER,
        .id = id,
        .unit_first = unit,
        .unit_count = 1,
        .attempts = 3,
        .in_doubt = true,
        .next_s = next_s,
        .text = slice_cstr("nobody was at home"),
    };

    cr_assert_eq(world_tell(world, &note), 0);
}

/* The same messages, with the same fates, at places that can be read. */
static void same(const struct world *a, struct world *b)
{
    cr_assert_eq(a->message_count, b->message_count, "%u and %u", a->message_count,
                 b->message_count);
    for (uint32_t i = 0; i < a->message_count; i++) {
        const struct world_message *left = &a->messages[i], *right = &b->messages[i];
        uint8_t *body;
        size_t size;
        bool hot;

        cr_assert_eq(left->id, right->id);
        cr_assert_eq(left->held, right->held);
        cr_assert_eq(left->chunked, right->chunked);
        cr_assert_eq(left->unit_count, right->unit_count);
        cr_assert_eq(memcmp(left->units, right->units, sizeof(left->units)), 0);
        cr_assert_str_eq(left->reason, right->reason);
        cr_assert_eq(read_back(b, &right->location, &body, &size, &hot), 0);
        free(body);
    }
}

/* A start over a copy of `world` as it is now. */
static struct world *again(const struct world *world)
{
    struct world *crashed = world_crash(world);

    crashed->keeps = world->keeps;
    world_open(crashed);
    return crashed;
}

static void expect_same_after_a_crash(const struct world *world, uint64_t checkpoint)
{
    struct world *crashed = again(world);

    same(world, crashed);
    cr_assert_eq(crashed->report.checkpoint, checkpoint, "%lu", crashed->report.checkpoint);
    world_destroy(crashed);
}

Test(spool_checkpoint, image_and_tails_make_the_whole)
{
    struct world *world = keeper_create();
    uint64_t ids[6];

    world_open(world);
    for (int i = 0; i < 4; i++)
        ids[i] = post_one(world, 3);
    defer_one(world, ids[0], 1, 4711);
    world_done(world, ids[1]);
    world_flush(world);
    cr_assert_eq(world_checkpoint(world), 0);
    expect_same_after_a_crash(world, 1);
    /* The tails: a new message, a note of one in the image, one of the new one. */
    ids[4] = post_one(world, 2);
    ids[5] = post_one(world, 1);
    defer_one(world, ids[2], 2, 99);
    defer_one(world, ids[4], 0, 77);
    world_done(world, ids[3]);
    world_done(world, ids[5]);
    world_flush(world);
    expect_same_after_a_crash(world, 1);
    cr_assert_eq(world->message_count, 3);
    world_destroy(world);
}

Test(spool_checkpoint, an_orderly_stop_leaves_nothing_to_replay)
{
    struct world *world = keeper_create();
    struct world *copy;

    world_open(world);
    for (int i = 0; i < 10; i++)
        defer_one(world, post_one(world, 1), 0, 5);
    world_close(world);
    copy = again(world);
    cr_assert_eq(copy->message_count, 10);
    cr_assert_eq(copy->report.entries, 10);
    cr_assert_eq(copy->report.messages, 0);
    cr_assert_eq(copy->report.notes, 0);
    /* Nothing changed: no new one. */
    world_close(copy);
    cr_assert(!there(copy, "C-00000002"));
    world_destroy(copy);
    world_destroy(world);
}

Test(spool_checkpoint, two_are_kept_and_the_older_serves)
{
    struct world *world = keeper_create();
    struct world *copy;

    world_open(world);
    for (int i = 0; i < 5; i++) {
        (void)post_one(world, 1);
        world_flush(world);
        cr_assert_eq(world_checkpoint(world), 0);
    }
    cr_assert(!there(world, "C-00000003"));
    cr_assert(there(world, "C-00000004") && there(world, "C-00000005"));
    world_done(world, world->messages[2].id);
    (void)post_one(world, 1);
    world_flush(world);
    expect_same_after_a_crash(world, 5);
    copy = world_crash(world);
    copy->keeps = true;
    flip(copy->dir, "C-00000005", 4096 + 60, 1);
    flip(copy->dir, "C-00000005", 70, 1);
    world_open(copy);
    cr_assert_eq(copy->report.checkpoint, 4);
    cr_assert_eq(copy->report.checkpoints_lost, 1);
    same(world, copy);
    world_destroy(copy);
    copy = world_crash(world);
    copy->keeps = true;
    flip(copy->dir, "C-00000005", 70, 1);
    flip(copy->dir, "C-00000004", 8, 1);
    world_open(copy);
    cr_assert_eq(copy->report.checkpoint, 0);
    cr_assert_eq(copy->report.checkpoints_lost, 2);
    same(world, copy);
    world_destroy(copy);
    world_destroy(world);
}
