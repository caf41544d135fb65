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

/* ---- in flight ------------------------------------------------------------------------------ */

/* A completion that is kept back: the op's own function runs when the test lets go. */
static struct {
    ring_done_fn *done;
    struct ring_op *op;
    bool came;
} held;

static void held_came(struct ring_op *op)
{
    cr_assert_eq(op, held.op);
    held.came = true;
}

static void hold(struct ring_op *op)
{
    held.op = op;
    held.done = op->done;
    held.came = false;
    op->done = held_came;
}

static void let_go(void)
{
    held.op->done = held.done;
    held.done(held.op);
}

static void tick_some(struct world *world)
{
    for (int i = 0; i < 100; i++)
        shard_tick(&world->shard, false);
}

static void written(void *context, int result)
{
    struct world *world = context;

    world->written = true;
    world->written_result = result;
}

static void begin(struct world *world)
{
    world->written = false;
    cr_assert_eq(spool_checkpoint(world->spool, written, world), 0);
}

static void end(struct world *world)
{
    world_until(world, &world->written);
    cr_assert_eq(world->written_result, 0);
}

Test(spool_checkpoint, it_waits_for_the_group_in_flight)
{
    struct world *world = keeper_create();
    struct posting *posting;

    world_open(world);
    (void)post_one(world, 1);
    world_flush(world);
    hold(&world->spool->d.op);
    posting = posting_create(world, 1, "later", 5);
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &held.came);
    begin(world);
    tick_some(world);
    cr_assert_eq(world->spool->counters.checkpoints, 0, "what it names must be durable");
    cr_assert(!there(world, "C-00000001"));
    let_go();
    world_until(world, &posting->done);
    end(world);
    cr_assert_eq(spool_image_wants(&world->spool->checkpoint.image, &posting->append.location),
                 true);
    expect_same_after_a_crash(world, 1);
    world_destroy(world);
}

/* Goal: a copy that was asked for before its message ended must not bring it back. */
Test(spool_checkpoint, a_copy_that_gathers_brings_nobody_back)
{
    static uint8_t body[60 * KIB];
    struct world *world = keeper_create();
    uint64_t victim;

    world_open(world);
    for (int i = 0; i < 3 * 36; i++)
        (void)post(world, 1, body, sizeof(body));
    for (uint32_t i = world->message_count; i > 0; i--) {
        if (i % 20 != 0)
            world_done(world, world->messages[i - 1].id);
    }
    world_flush(world);
    for (uint32_t i = 0; i < world->spool->segment_count; i++) {
        world->spool->segments[i]->sealed_ns -=
            MIN(world->spool->segments[i]->sealed_ns, 601 * SECOND_NS);
        world->spool->segments[i]->relocate_ns = 0;
    }
    hold(&world->spool->r.maker.op); /* the cold lane has no segment yet: its groups wait */
    shard_defer(&world->shard, &world->spool->relocate.task);
    world_until(world, &held.came);
    while (spool_log_idle(&world->spool->r) || world->spool->relocate.copies == 0)
        world_tick(world);
    victim = world->messages[0].id;
    world_done(world, victim);
    world_flush(world);
    begin(world);
    tick_some(world);
    let_go();
    end(world);
    cr_assert_gt(world->spool->counters.relocated, 0);
    cr_assert_null(world_find(world, victim));
    world_flush(world);
    expect_same_after_a_crash(world, 1);
    world_destroy(world);
}

/* ---- every step of it ------------------------------------------------------------------------ */

/* What is on disk may have changed when this has. */
static uint64_t step_of(const struct world *world)
{
    const struct spool_checkpoint *checkpoint = &world->spool->checkpoint;

    return (uint64_t)checkpoint->step << 40 | (uint64_t)checkpoint->block_index << 8 |
           (checkpoint->op.in_flight ? 1u : 0u) | (world->spool->super_op.in_flight ? 2u : 0u);
}

/* Goal: a crash at any step of writing and publishing leaves what was there before, or the new one; and what is
 * accepted and told meanwhile is in the tails. */
Test(spool_checkpoint, a_crash_at_any_step)
{
    struct world *world = keeper_create();
    struct posting *postings[64];
    uint32_t posted = 0, crashes = 0;
    uint64_t last = 0;

    world_open(world);
    for (int i = 0; i < 3; i++)
        defer_one(world, post_one(world, 2), 1, 7);
    world_flush(world);
    cr_assert_eq(world_checkpoint(world), 0);
    for (int i = 0; i < 2; i++)
        defer_one(world, post_one(world, 1), 0, 8);
    world_flush(world);
    begin(world);
    while (!world->written) {
        struct world *crashed;

        world_tick(world);
        if (step_of(world) == last)
            continue;
        last = step_of(world);
        crashed = again(world);
        crashes++;
        for (uint32_t i = 0; i < 5; i++) {
            const struct world_message *message = world_find(crashed, world->messages[i].id);

            cr_assert_not_null(message, "step %lx", last);
            cr_assert_eq(memcmp(message->units, world->messages[i].units, sizeof(message->units)),
                         0);
        }
        for (uint32_t i = 0; i < posted; i++)
            cr_assert(!postings[i]->done || world_find(crashed, postings[i]->append.id) != NULL);
        world_destroy(crashed);
        postings[posted] = posting_create(world, 1, "meanwhile", 9);
        cr_assert_eq(posting_begin(world, postings[posted++]), 0);
        cr_assert_lt(posted, ARRAY_SIZE(postings));
    }
    cr_assert_geq(crashes, 10);
    for (uint32_t i = 0; i < posted; i++)
        world_until(world, &postings[i]->done);
    world_flush(world);
    expect_same_after_a_crash(world, 2);
    world_destroy(world);
}

/* ---- J -------------------------------------------------------------------------------------- */

/* Goal: as long as the older checkpoint may be needed, so are the notes above it. */
Test(spool_checkpoint, j_is_kept_for_the_older_one)
{
    struct world *world = keeper_create();
    struct world *second, *third, *damaged;
    char name[SPOOL_NAME_SIZE];
    uint64_t id;

    world_open(world);
    id = post_one(world, 2);
    world_flush(world);
    cr_assert_eq(world_checkpoint(world), 0);
    second = again(world);
    defer_one(second, id, 0, 4);
    world_flush(second);
    cr_assert_eq(world_checkpoint(second), 0);
    defer_one(second, id, 1, 5);
    world_flush(second);
    third = again(second);
    same(second, third);
    cr_assert_eq(world_checkpoint(third), 0);
    cr_assert_eq(third->spool->directory.super.newest.number, 3);
    cr_assert(!there(third, "J-00000001"), "both have passed it");
    spool_segment_name('J', second->spool->j.current->number, name);
    cr_assert(there(third, name));
    damaged = world_crash(third);
    damaged->keeps = true;
    flip(damaged->dir, "C-00000003", 100, 1);
    world_open(damaged);
    cr_assert_eq(damaged->report.checkpoint, 2);
    same(third, damaged);
    world_destroy(damaged);
    world_destroy(third);
    world_destroy(second);
    world_destroy(world);
}

/* ---- opening -------------------------------------------------------------------------------- */

Test(spool_checkpoint, mail_is_accepted_before_anything_is_read)
{
    struct world *world = keeper_create();
    struct world *crashed;
    uint64_t before, early;

    world_open(world);
    before = post_one(world, 1);
    world_close(world);
    cr_assert_eq(world_start(world), 0);
    early = post_one(world, 1);
    cr_assert_gt(early, before);
    cr_assert_null(world_find(world, before));
    /* A crash now: neither is lost, and the new one is found behind the old epoch's log. */
    crashed = again(world);
    cr_assert_not_null(world_find(crashed, before));
    cr_assert_not_null(world_find(crashed, early));
    cr_assert_eq(crashed->report.damaged_records, 0);
    world_destroy(crashed);
    spool_restore(world->spool);
    world_until(world, &world->restored);
    cr_assert_not_null(world_find(world, before));
    cr_assert_not_null(world_find(world, early));
    world_destroy(world);
}

/* Goal: a stop while earlier lives are read ends it, and the next start begins anew. */
Test(spool_checkpoint, a_stop_in_the_middle_of_a_restore)
{
    struct world *world = keeper_create();

    world_open(world);
    for (int i = 0; i < 20; i++)
        (void)post_one(world, 1);
    world_flush(world);
    cr_assert_eq(world_checkpoint(world), 0);
    for (int i = 0; i < 20; i++)
        (void)post_one(world, 1);
    world_close(world);
    for (int ticks = 0; ticks < 12; ticks++) {
        cr_assert_eq(world_start(world), 0);
        spool_restore(world->spool);
        for (int i = 0; i < ticks; i++)
            shard_tick(&world->shard, false);
        world_close(world);
    }
    world_open(world);
    cr_assert_eq(world->message_count, 40);
    world_destroy(world);
}

/* Goal: the numbers of segments go on above the places that SUPER names, though the segments are gone: what lies below
 * c_d is not read again. */
Test(spool_checkpoint, numbers_never_fall_below_a_checkpoint)
{
    struct world *world = keeper_create();
    uint64_t id;

    world_open(world);
    for (int life = 0; life < 4; life++) {
        world_done(world, post_one(world, 1));
        world_close(world);
        world_open(world);
    }
    /* Nothing lives: all that is left of D goes. */
    while (world->spool->segment_count > 2)
        world_tick(world);
    world_done(world, post_one(world, 1));
    world_close(world);
    for (int i = 1; i < 20; i++) {
        char name[SPOOL_NAME_SIZE], path[600];

        spool_segment_name('D', (uint32_t)i, name);
        path_of(world, name, path, sizeof(path));
        (void)unlink(path); /* as if used again before a crash */
    }
    world_open(world);
    id = post_one(world, 1);
    expect_same_after_a_crash(world, world->report.checkpoint);
    cr_assert_not_null(world_find(world, id));
    world_destroy(world);
}

Test(spool_checkpoint, a_failed_write_leaves_the_last_one)
{
    struct world *world = keeper_create();
    int fd;

    world_open(world);
    (void)post_one(world, 1);
    world_flush(world);
    cr_assert_eq(world_checkpoint(world), 0);
    (void)post_one(world, 1);
    /* The descriptor of the directory leads nowhere for a moment. */
    fd = world->spool->checkpoint.dir_fd;
    world->spool->checkpoint.dir_fd = -1;
    cr_assert_lt(world_checkpoint(world), 0);
    world->spool->checkpoint.dir_fd = fd;
    cr_assert_eq(world->spool->counters.checkpoint_failures, 1);
    cr_assert_eq(world->spool->directory.super.newest.number, 1);
    expect_same_after_a_crash(world, 1);
    cr_assert_eq(world_checkpoint(world), 0);
    cr_assert_eq(world->spool->directory.super.newest.number, 3,
                 "a number is never used for two files");
    expect_same_after_a_crash(world, 3);
    world_destroy(world);
}

Test(spool_checkpoint, refusals)
{
    struct world *world = world_create();

    world_open(world);
    cr_assert_eq(spool_checkpoint(world->spool, written, world), -ENOTSUP);
    world_close(world);
    world->keeps = true;
    cr_assert_eq(world_start(world), 0);
    cr_assert_eq(spool_checkpoint(world->spool, written, world), -EAGAIN);
    spool_restore(world->spool);
    world_until(world, &world->restored);
    begin(world);
    cr_assert_eq(spool_checkpoint(world->spool, written, world), -EALREADY);
    end(world);
    world_destroy(world);
}

Test(spool_checkpoint, written_by_itself_when_much_or_long)
{
    struct world *world = keeper_create();

    world->config.checkpoint_bytes = 64 * KIB;
    world_open(world);
    while (world->spool->counters.checkpoints == 0)
        (void)post_one(world, 1);
    cr_assert_geq(world->spool->counters.group_bytes, 64 * KIB);
    world_close(world);
    world->config.checkpoint_ms = 20;
    world->config.checkpoint_bytes = 0;
    world_open(world);
    (void)post_one(world, 1);
    while (world->spool->counters.checkpoints == 0)
        world_tick(world);
    world_destroy(world);
}
