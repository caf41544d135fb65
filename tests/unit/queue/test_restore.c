#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>

/* What a spool brings back, told by hand: to the queue of a shard whose own spool is number 0. */
static struct queue_part *part_in(struct world *world)
{
    return world->queues[0]->own;
}

static struct world *reopened(void)
{
    struct world *world = world_create(1);

    world_crash(world);
    world->spools[0].next_id = 5000;
    world_reopen(world);
    return world;
}

static int tell_destination(struct queue_part *part, uint32_t number, const char *name)
{
    return queue_owner.text(part, SPOOL_TEXT_DESTINATION, number, (const uint8_t[]){0, 0, 0},
                            slice_cstr(name));
}

static int tell_entry(struct queue_part *part, struct spool_image_entry entry)
{
    entry.location.record_bytes = MAX(entry.location.record_bytes, 64u);
    entry.units_per_item = 100;
    entry.arrival_s = 1700000000 - 100;
    return queue_owner.image(part, &entry);
}

static int tell_done(struct queue_part *part, uint64_t id, uint32_t first, uint32_t count)
{
    struct spool_recovered_note note = {
        .kind = SPOOL_NOTE_DONE, .id = id, .unit_first = first, .unit_count = count};

    return queue_owner.noted(part, &note);
}

/* ---- whole lives ---------------------------------------------------------------------------------- */

static struct world *busy_world(uint64_t ids[8])
{
    struct world *world = world_started();

    world->down = "net";
    ids[0] = world_submit(world, 0, "a@x", "later@b.mx");
    ids[1] = world_submit(world, 0, "a@x", "ok@b.mx later@b.mx later@c.org");
    ids[2] = world_submit(world, 0, "a@x", "ok@d.net later@b.mx ok@home");
    ids[3] = world_submit(world, 0, "a@x.y", "later@home");
    ids[4] = world_submit(world, 0, "a@x", "ok@d.net");
    ids[5] = world_submit(world, 0, "a@x", "later1@b.mx later2@b.mx later3@c.mx later4@e.org");
    cr_assert_eq(queue_act(world->queues[0], ids[4], QUEUE_HOLD, NULL, NULL), 0);
    world_run(world);
    return world;
}

static void compare(const struct queue_view *a, const struct queue_view *b, uint32_t i)
{
    cr_expect_eq(a->units_open, b->units_open, "message %u", i);
    cr_expect_eq(a->attempts, b->attempts, "message %u", i);
    cr_expect_eq(a->size_bytes, b->size_bytes, "message %u", i);
    cr_expect_eq(a->arrival_s, b->arrival_s, "message %u", i);
    if (a->attempts > 0)
        cr_expect_eq(a->next_wall_s, b->next_wall_s, "message %u: its time is kept", i);
    cr_expect_eq(a->state == QUEUE_STATE_HELD, b->state == QUEUE_STATE_HELD, "message %u", i);
}

/* Goal: a checkpoint, records and notes, or any mixture of them, give the same queue (QUEUE I17). */
Test(restore, a_checkpoint_knows_what_records_and_notes_know)
{
    for (int way = 0; way < 4; way++) {
        uint64_t ids[8];
        struct world *world = busy_world(ids);
        struct queue_view before[6];

        if (way == 1)
            world_checkpoint(world, 0);
        world_advance(world, 6 * MINUTE_MS); /* notes behind the checkpoint */
        if (way == 2)
            world_checkpoint(world, 0);
        for (uint32_t i = 0; i < 6 && way == 3; i++)
            world_relocate(world, ids[i]);
        for (uint32_t i = 0; i < 6; i++)
            before[i] = world_view(world, ids[i]);
        world_crash(world);
        world_recover(world);
        cr_expect_eq(world->restored, 1);
        for (uint32_t i = 0; i < 6; i++) {
            struct queue_view after = world_view(world, ids[i]);

            compare(&before[i], &after, i);
        }
        world->down = NULL;
        (void)queue_act(world->queues[0], ids[4], QUEUE_RELEASE, NULL, NULL);
        world_advance(world, HOUR_MS);
        cr_expect_eq(world_outcome(world, ids[2], 0), 'd');
        cr_expect_eq(world_outcome(world, ids[4], 0), 'd');
        world_destroy(world);
    }
}

/* Goal: told twice, the queue is the same. */
Test(restore, all_of_it_twice)
{
    uint64_t ids[8];
    struct world *world = busy_world(ids);
    struct queue_counters once, twice;

    world_checkpoint(world, 0);
    world_advance(world, 6 * MINUTE_MS);
    world_relocate(world, ids[1]);
    world_crash(world);
    world_recover(world);
    once = world_counters(world);
    world_crash(world);
    world_reopen(world);
    world_bring_back(world, 0);
    /* The second time each place is found at the place where it lives, and is one that is needed, not two. */
    for (uint32_t i = 0; i < world->spools[0].note_count; i++) {
        struct spool_recovered_note note = world->spools[0].journal[i].note;

        note.text = slice_cstr(world->spools[0].journal[i].text);
        cr_assert_eq(queue_owner.noted(part_in(world), &note), 0);
    }
    world_bring_end(world, 0, 0);
    world_run(world);
    twice = world_counters(world);
    cr_expect_eq(once.messages, twice.messages);
    cr_expect_eq(once.units, twice.units);
    cr_expect_eq(once.recovered_units, twice.recovered_units);
    cr_expect_eq(once.waiting, twice.waiting);
    world_destroy(world);
}

/* Goal: mail that arrives while a spool is being read is delivered at once, what the spool brings back only when all is
 * back. */
Test(restore, new_mail_does_not_wait)
{
    struct world *world = world_started();
    uint64_t old, new;

    world->no_answers = true;
    old = world_submit(world, 0, "a@x", "ok@b.mx");
    world->no_answers = false;
    world_crash(world);
    world_reopen(world);
    world_bring_back(world, 0);
    new = world_submit(world, 0, "b@x", "ok@b.mx");
    cr_expect_eq(world_outcome(world, new, 0), 'd');
    world_advance(world, HOUR_MS);
    cr_expect_eq(world_outcome(world, old, 0), '\0');
    cr_expect_eq(world_view(world, old).state, QUEUE_STATE_WAITING);
    cr_expect_eq(queue_act(world->queues[0], old, QUEUE_RETRY, NULL, NULL), -EAGAIN);
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(world_outcome(world, old, 0), 'd');
    world_destroy(world);
}

/* Goal: what an operator asks for while the spool is read is done then, whatever older notes say. */
Test(restore, a_wish_that_comes_too_early)
{
    struct world *world = world_started();
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx");
    cr_assert_eq(queue_act(world->queues[0], id, QUEUE_HOLD, NULL, NULL), 0);
    cr_assert_eq(queue_act(world->queues[0], id, QUEUE_RELEASE, NULL, NULL), 0);
    world->no_answers = false;
    world_crash(world);
    world_reopen(world);
    world_bring_back(world, 0);
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_HOLD, NULL, NULL), -EBUSY);
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_HELD);
    cr_expect(world_message(world, id)->held, "and noted");
    world_destroy(world);
}

Test(restore, nothing_of_a_spool_that_cannot_be_read)
{
    struct world *world = world_started();
    uint64_t old, new;

    world->no_answers = true;
    old = world_submit(world, 0, "a@x", "ok@b.mx");
    world->no_answers = false;
    world_crash(world);
    world_reopen(world);
    world_bring_back(world, 0);
    world_bring_end(world, 0, -EIO);
    world_run(world);
    cr_expect_eq(world->restored, 1);
    cr_expect_eq(world->restored_result, -EIO);
    new = world_submit(world, 0, "b@x", "ok@b.mx");
    world_advance(world, DAY_MS);
    cr_expect_eq(world_outcome(world, new, 0), 'd');
    cr_expect_eq(world_outcome(world, old, 0), '\0');
    world_destroy(world);
}

/* Goal: a start that failed while a spool was being read: what it still tells harms nobody, and nothing follows. */
Test(restore, an_abandoned_queue_listens)
{
    struct world *world = world_started();
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx");
    world->no_answers = false;
    world_crash(world);
    world_reopen(world);
    queue_abandon(world->queues[0]);
    world_bring_back(world, 0);
    world_bring_end(world, 0, 0);
    world_checkpoint(world, 0);
    world_run(world);
    cr_expect_eq(world->spools[0].blocks[0].entry_count, 1);
    cr_expect_eq(world->restored, 0, "nobody is called");
    cr_expect_eq(world_outcome(world, id, 0), '\0');
    world_crash(world);
    world_recover(world);
    cr_expect_eq(world_outcome(world, id, 0), 'd');
    world_destroy(world);
}

/* ---- places ---------------------------------------------------------------------------------------- */

/* Goal: the newer place counts and the older one is let go, in a checkpoint and among the records (QUEUE I11, I14). */
Test(restore, the_newer_place_counts)
{
    for (int way = 0; way < 3; way++) {
        struct world *world = world_started();
        uint64_t id = world_submit(world, 0, "a@x", "later@b.mx");

        if (way == 1)
            world_checkpoint(world, 0);
        world_relocate(world, id);
        if (way == 2)
            world_checkpoint(world, 0);
        world_crash(world);
        world_recover(world);
        cr_expect_eq(world_message(world, id)->live, 0);
        cr_expect_eq(world_message(world, id)->cold_live, 1);
        world_advance(world, 6 * MINUTE_MS);
        cr_expect_eq(world_view(world, id).attempts, 2);
        world_destroy(world);
    }
}

Test(restore, a_copy_that_came_too_late)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "later@b.mx");
    struct spool *spool = &world->spools[0];
    struct spool_location from = {.segment = spool->place_of[id]}, to = {.segment = SPOOL_COLD};

    spool->cold_places[0] = from.segment;
    spool->cold_count = 1;
    world_message(world, id)->cold_live = 1;
    cr_assert_eq(queue_act(world->queues[0], id, QUEUE_REMOVE, NULL, NULL), 0);
    spool->owner->relocated(spool->owner_context, id, &from, &to);
    cr_expect_eq(world_message(world, id)->cold_live, 0, "nobody needs it");
    world_destroy(world);
}

Test(restore, no_copy_of_what_is_in_hand)
{
    struct world *world = world_started();
    struct spool *spool = &world->spools[0];
    struct spool_unit units[2];
    struct spool_location here, there;
    struct slice envelope, reason;
    bool held;
    uint64_t id;

    world->keep = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx later@c.mx");
    envelope =
        slice_of(world_message(world, id)->envelope, world_message(world, id)->envelope_size);
    here = there = (struct spool_location){.segment = spool->place_of[id]};
    there.segment++;
    cr_expect_eq(
        spool->owner->states(spool->owner_context, id, &here, envelope, units, 2, &held, &reason),
        -EBUSY);
    world_finish_all(world);
    cr_expect_eq(
        spool->owner->states(spool->owner_context, id, &there, envelope, units, 2, &held, &reason),
        -ENOENT);
    cr_expect_eq(
        spool->owner->states(spool->owner_context, 4711, &here, envelope, units, 2, &held, &reason),
        -ENOENT);
    cr_assert_eq(
        spool->owner->states(spool->owner_context, id, &here, envelope, units, 2, &held, &reason),
        0);
    cr_expect_eq(units[0].state, SPOOL_UNIT_DONE);
    cr_expect_eq(units[1].state, SPOOL_UNIT_WAITING);
    cr_expect_eq(units[1].attempts, 1);
    cr_expect_eq(units[1].next_s, world_view(world, id).next_wall_s);
    cr_expect_not(held);
    cr_expect(slice_equal(reason, SLICE("mailbox busy")));
    world_destroy(world);
}

/* ---- notes ----------------------------------------------------------------------------------------- */

Test(restore, an_aborted_message_never_existed)
{
    struct world *world = world_started();
    struct spool_recovered_note note = {.kind = SPOOL_NOTE_ABORT};
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx ok@c.net");
    world->no_answers = false;
    world_crash(world);
    world_reopen(world);
    world_bring_back(world, 0);
    note.id = id;
    cr_assert_eq(queue_owner.noted(part_in(world), &note), 0);
    cr_assert_eq(queue_owner.noted(part_in(world), &note), 0);
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(world_counters(world).messages, 0);
    cr_expect_eq(world_counters(world).recovered_units, 0);
    cr_expect_eq(world_message(world, id)->live, 0);
    world_destroy(world);
}

Test(restore, notes_of_other_lives_mean_nothing)
{
    struct world *world = world_started();
    uint64_t id;

    world_crash(world);
    world_reopen(world);
    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(tell_done(part_in(world), id, 0, 1), 0, "this one is ours");
    cr_expect_eq(tell_done(part_in(world), 4711, 0, UINT32_MAX), 0);
    cr_expect_eq(tell_done(part_in(world), 9ull << 54, 0, 1), 0);
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(world_counters(world).messages, 1);
    world_destroy(world);
}

/* Goal: ranges beyond a message do no harm, whatever a disk says. */
Test(restore, ranges_are_cut)
{
    struct world *world = world_started();
    struct spool_recovered_note note = {.kind = SPOOL_NOTE_DEFER,
                                        .unit_first = UINT32_MAX,
                                        .unit_count = UINT32_MAX,
                                        .attempts = 3};
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "a@b.mx b@b.mx c@b.mx");
    world_crash(world);
    world_reopen(world);
    world_bring_back(world, 0);
    note.id = id;
    cr_expect_eq(queue_owner.noted(part_in(world), &note), 0);
    cr_expect_eq(tell_done(part_in(world), id, 1, UINT32_MAX), 0);
    cr_expect_eq(tell_done(part_in(world), id, 7, 1), 0);
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(world_view(world, id).units_open, 1);
    cr_expect_eq(world_view(world, id).attempts, 0);
    for (uint32_t unit = 1; unit < 3; unit++)
        world_message(world, id)->outcome[unit] = SPOOL_DELIVERED + 1;
    world_destroy(world);
}

/* Goal: a note about some recipients of a message out of a checkpoint finds its item, by its envelope. */
Test(restore, notes_behind_a_checkpoint_are_sorted_out)
{
    struct world *world = world_started();
    uint64_t id;
    struct queue_view view;

    world->down = "net";
    id = world_submit(world, 0, "a@x", "later1@b.mx x@d.net later2@b.mx y@e.net later3@c.org");
    world_checkpoint(world, 0);
    world->down = NULL;
    world_advance(world, 2 * MINUTE_MS);
    cr_assert_eq(world_outcome(world, id, 1), 'd');
    cr_assert_eq(world_outcome(world, id, 3), 'd');
    world_advance(world, 6 * MINUTE_MS);
    view = world_view(world, id);
    world_crash(world);
    world->spools[0].cold = true;
    world_recover(world);
    cr_expect_eq(world_view(world, id).units_open, 3);
    cr_expect_eq(world_view(world, id).attempts, view.attempts);
    cr_expect_eq(world_view(world, id).next_wall_s, view.next_wall_s);
    cr_expect_eq(world_counters(world).waiting, 2, "its other items are done");
    world_advance(world, HOUR_MS);
    cr_expect_geq(world_message(world, id)->units[4].attempts, 3);
    world_destroy(world);
}

/* Goal: one whose envelope cannot be read then is set aside, counted, and can be tried again. */
Test(restore, what_cannot_be_sorted_out_is_set_aside)
{
    struct world *world = world_started();
    struct queue_conservation c;
    uint64_t id;

    world->down = "net";
    id = world_submit(world, 0, "a@x", "later1@b.mx x@d.net y@e.net z@e.net");
    world_checkpoint(world, 0);
    world->down = NULL;
    world_advance(world, 2 * MINUTE_MS);
    world_crash(world);
    world->spools[0].damaged_id = id;
    world_recover(world);
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_DAMAGED);
    cr_assert_eq(queue_conservation(world->queues[0], 0, &c), 0);
    cr_expect_eq(c.set_aside, 1);
    cr_expect_eq(c.queued, 0);
    world->spools[0].damaged_id = 0;
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_RETRY, NULL, NULL), 0);
    world_run(world);
    world_advance(world, 10 * MINUTE_MS);
    cr_expect_geq(world_view(world, id).attempts, 2);
    world_destroy(world);
}

/* ---- the image ------------------------------------------------------------------------------------- */

/* Goal: what an image must not say is refused, not believed. */
Test(restore, an_image_that_names_what_it_never_told)
{
    struct world *world = reopened();
    struct queue_part *part = part_in(world);
    struct spool_image_item item = {.destination = 1, .open_count = 1};
    struct spool_image_entry entry = {.id = 7, .unit_count = 1, .item_count = 1, .items = &item};

    cr_expect_eq(tell_entry(part, entry), -EBADMSG, "no text yet at all");
    cr_assert_eq(tell_destination(part, 1, "b.mx"), 0);
    item.destination = 2;
    cr_expect_eq(tell_entry(part, entry), -EBADMSG);
    item.destination = 1;
    item.reason = 1;
    cr_expect_eq(tell_entry(part, entry), -EBADMSG);
    item.reason = 0;
    entry.item_count = 2;
    cr_expect_eq(tell_entry(part, entry), -EBADMSG);
    entry.item_count = 1;
    entry.id = 1ull << 54 | 7;
    cr_expect_eq(tell_entry(part, entry), -EBADMSG, "of another spool");
    entry.id = 6000;
    cr_expect_eq(tell_entry(part, entry), -EBADMSG, "of this life");
    cr_expect_eq(tell_destination(part, 0, "b.mx"), -EBADMSG);
    cr_expect_eq(tell_destination(part, UINT32_MAX, "b.mx"), -EBADMSG);
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(world_counters(world).messages, 0);
    cr_expect_eq(world_counters(world).destinations, 0, "and what it told is forgotten");
    world_destroy(world);
}

/* Goal: the walk neither loses nor repeats a message, whatever goes and comes while it goes on. */
Test(restore, a_checkpoint_while_messages_come_and_go)
{
    struct world *world = world_create(1);
    struct spool *spool = &world->spools[0];
    uint32_t blocks = 0;
    const uint32_t count = 24000;

    world->config.messages_max = 60000;
    queue_configure(world->queues[0], &world->config);
    world->no_answers = true;
    world_start(world);
    spool->unchecked = true;
    for (uint32_t i = 0; i < count; i++)
        world_submit(world, 0, "a@x", "ok@b.mx");
    world_checkpoint_begin(world, 0);
    while (world_checkpoint_block(world, 0)) {
        uint64_t at = index_entry(&world->queues[0]->index, part_in(world)->image_next)->id;

        blocks++;
        for (uint64_t id = at - 50; id < at + 50; id++)
            (void)queue_act(world->queues[0], id, QUEUE_REMOVE, NULL, NULL);
        for (int i = 0; i < 50; i++)
            world_submit(world, 0, "b@x", "ok@c.mx");
    }
    world_checkpoint_end(world, 0);
    cr_expect_geq(blocks, 1);
    cr_expect_eq(part_in(world)->messages, count - blocks * 50);
    world_crash(world);
    world_recover(world);
    cr_expect_eq(part_in(world)->messages, count - blocks * 50);
    world_destroy(world);
}

/* Goal: what was appended after a checkpoint began is left to the scan (QUEUE I14): else its place would be told twice, or
 * told though its group was lost. */
Test(restore, a_checkpoint_holds_what_was_there_when_it_began)
{
    struct world *world = world_started();
    uint64_t old, new;

    world->no_answers = true;
    old = world_submit(world, 0, "a@x", "ok@b.mx");
    world_checkpoint_begin(world, 0);
    new = world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_not(world_checkpoint_block(world, 0));
    cr_expect_eq(world->spools[0].blocks[0].entry_count, 1);
    world_checkpoint_end(world, 0);
    world_crash(world);
    world_recover(world);
    cr_expect_eq(world_view(world, old).units_open, 1);
    cr_expect_eq(world_view(world, new).units_open, 1);
    world_destroy(world);
}

/* Goal: coming back costs the same for each message, also beside new mail: none is looked for from the end. */
Test(restore, many_come_back_in_any_order)
{
    struct world *world = reopened();
    struct queue_part *part = part_in(world);
    struct spool_image_item item = {.destination = 1, .open_count = 1};
    struct spool_image_entry entry = {.unit_count = 1, .item_count = 1, .items = &item};
    uint64_t last = 0;

    world->config.messages_max = 60000;
    queue_configure(world->queues[0], &world->config);
    world->no_answers = true;
    world->spools[0].unchecked = true;
    cr_assert_eq(tell_destination(part, 1, "b.mx"), 0);
    for (uint64_t i = 0; i < 4000; i++) {
        entry.id = 1 + (i * 1237) % 4000; /* far from each other */
        cr_assert_eq(tell_entry(part, entry), 0);
        if (i % 100 == 0)
            world_submit(world, 0, "b@x", "ok@c.mx");
    }
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(part->messages, 4040);
    for (uint32_t at = index_older_first(&world->queues[0]->index, INDEX_NONE); at != INDEX_NONE;
         at = index_older_first(&world->queues[0]->index, at)) {
        cr_assert_gt(index_entry(&world->queues[0]->index, at)->id, last, "in order of age");
        last = index_entry(&world->queues[0]->index, at)->id;
    }
    cr_expect_eq(world_counters(world).ready, 4040);
    world_destroy(world);
}

/* ---- several spools -------------------------------------------------------------------------------- */

/* Goal: an adopted spool's mail is delivered, noted there, reported there; new mail never goes there. */
Test(restore, an_adopted_spool)
{
    struct world *world = world_create(2);
    struct queue_conservation c;
    uint64_t old[3], new;
    uint32_t held = 0;

    world->no_answers = true;
    world_start(world);
    for (int i = 0; i < 3; i++)
        old[i] = world_submit(world, 1, "a@x.net", i == 0 ? "never@b.mx" : "ok@b.mx");
    world_crash(world);
    world->no_answers = false;
    world_alone(world);
    world_reopen(world);
    world_bring_end(world, 0, 0);
    new = world_submit(world, 0, "b@x", "ok@b.mx");
    world_adopt(world, 0, 1);
    cr_expect_eq(world->restored, 2);
    cr_expect_eq(new >> 54, 0);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(world_outcome(world, old[i], 0), i == 0 ? 'b' : 'd');
    cr_expect_eq(world->spools[1].message_count, 4, "the report is beside what it reports on");
    cr_assert_eq(queue_conservation(world->queues[0], 1, &c), 0);
    cr_expect_eq(c.recovered, 3);
    cr_expect_eq(c.generated, 1);
    cr_expect_eq(c.bounced, 1);
    cr_expect_eq(c.delivered, 3);
    cr_assert_eq(queue_conservation(world->queues[0], 0, &c), 0);
    cr_expect_eq(c.accepted, 1);
    cr_expect_eq(queue_conservation(world->queues[0], 2, &c), -ENOENT);
    while (queue_spool_number(world->queues[0], held, &held))
        held++;
    cr_expect_eq(held, 2);
    for (uint32_t i = 0; i < world->spools[1].message_count; i++)
        cr_expect_eq(world->spools[1].messages[i]->live, 0);
    world->shard_count = 2;
    world_destroy(world);
}

/* Goal: each spool's messages expire in their own time, also the one whose numbers are the higher ones. */
Test(restore, an_adopted_spool_ages)
{
    struct world *world = world_create(2);
    uint64_t old, new;

    world->no_answers = true;
    world_start(world);
    old = world_submit(world, 1, "a@x.net", "ok@b.mx");
    world_advance(world, DAY_MS);
    world_crash(world);
    world_alone(world);
    world_reopen(world);
    world_bring_end(world, 0, 0);
    new = world_submit(world, 0, "b@x.net", "ok@b.mx");
    world_adopt(world, 0, 1);
    world_advance(world, 4 * DAY_MS + HOUR_MS);
    cr_expect_eq(world_outcome(world, old, 0), 'e');
    cr_expect_eq(world_outcome(world, new, 0), '\0');
    world_advance(world, DAY_MS);
    cr_expect_eq(world_outcome(world, new, 0), 'e');
    world->shard_count = 2;
    world_destroy(world);
}

/* ---- set aside --------------------------------------------------------------------------------------- */

Test(restore, a_message_that_is_named_is_set_aside)
{
    struct world *world = world_started();
    uint64_t poison, other;

    world->no_answers = true;
    poison = world_submit(world, 0, "a@x", "ok@b.mx ok@c.net");
    other = world_submit(world, 0, "a@x", "ok@b.mx");
    world->no_answers = false;
    world_crash(world);
    world_reopen(world);
    cr_expect_eq(queue_set_aside(world->queues[0], poison, SLICE("named by two crashes")), 0);
    cr_expect_eq(queue_set_aside(world->queues[0], 4711, SLICE("who is that")), 0);
    world_bring_back(world, 0);
    world_bring_end(world, 0, 0);
    world_run(world);
    cr_expect_eq(world_outcome(world, other, 0), 'd');
    cr_expect_eq(world_view(world, poison).state, QUEUE_STATE_HELD);
    cr_expect(slice_equal(world_view(world, poison).reason, SLICE("named by two crashes")));
    cr_expect(world_message(world, poison)->held);
    world_crash(world);
    world_recover(world);
    cr_expect_eq(world_view(world, poison).state, QUEUE_STATE_HELD);
    cr_expect(slice_equal(world_view(world, poison).reason, SLICE("named by two crashes")));
    cr_expect_eq(queue_act(world->queues[0], poison, QUEUE_RELEASE, NULL, NULL), 0);
    world_run(world);
    cr_expect_eq(world_outcome(world, poison, 1), 'd');
    world_destroy(world);
}
