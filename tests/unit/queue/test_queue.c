#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

Test(queue, a_message_is_delivered_and_forgotten)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "ok@b.mx");
    struct queue_counters c = world_counters(world);

    cr_expect_eq(world->submit_result, 0);
    cr_expect_eq(world_outcome(world, id, 0), 'd');
    cr_expect_eq(c.accepted, 1);
    cr_expect_eq(c.delivered, 1);
    cr_expect_eq(c.messages, 0);
    cr_expect_eq(world->resolves, 1);
    cr_expect_eq(world->connects, 1);
    world_destroy(world);
}

Test(queue, nothing_moves_before_the_append_is_durable)
{
    struct world *world = world_started();
    uint64_t id;
    struct queue_view view;

    world->spools[0].manual = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world->submit_result, 1, "no answer yet");
    cr_expect_not(queue_show(world->queues[0], id, &view));
    cr_expect_eq(world_counters(world).messages, 0);
    cr_expect_eq(world->resolves, 0);
    world_complete(world, 0);
    world_run(world);
    cr_expect_eq(world->submit_result, 0);
    cr_expect_eq(world_counters(world).delivered, 1);
    world_destroy(world);
}

Test(queue, a_failed_group_leaves_nothing_behind)
{
    struct world *world = world_started();

    world->spools[0].group_error = -EIO;
    world_submit(world, 0, "a@x", "ok@b.mx ok@c.mx ok@home");
    cr_expect_eq(world->submit_result, -EIO);
    cr_expect_eq(world_counters(world).messages, 0);
    cr_expect_eq(world_counters(world).accepted, 0);
    cr_expect_eq(world_counters(world).destinations, 0);
    cr_expect_eq(world->queues[0]->index.entry_count, 0);
    world->spools[0].group_error = 0;
    world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world_counters(world).delivered, 1);
    world_destroy(world);
}

Test(queue, a_refused_append_leaves_nothing_behind)
{
    struct world *world = world_started();

    world->spools[0].append_error = -ENOSPC;
    cr_expect_eq(world_submit(world, 0, "a@x", "ok@b.mx ok@c.mx"), 0);
    cr_expect_eq(world->submit_result, -ENOSPC);
    cr_expect_eq(world->queues[0]->index.entry_count, 0);
    cr_expect_eq(queue_admits(world->queues[0]), -ENOSPC, "a full disk is answered for at MAIL");
    world->spools[0].append_error = 0;
    world_advance(world, 1500);
    cr_expect_eq(queue_admits(world->queues[0]), 0);
    world_destroy(world);
}

Test(queue, a_spool_without_room_is_answered_for_at_mail)
{
    struct world *world = world_started();

    world->spools[0].ready_error = -ENOSPC;
    cr_expect_eq(queue_admits(world->queues[0]), -ENOSPC);
    world->spools[0].ready_error = 0;
    cr_expect_eq(queue_admits(world->queues[0]), 0, "at once, when there is");
    world_destroy(world);
}

Test(queue, more_messages_than_allowed_are_put_off_but_reports_are_not)
{
    struct world *world = world_create(1);
    const uint32_t units[] = {0};

    world->config.messages_max = 2;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    world->no_answers = true;
    world_submit(world, 0, "a@x", "ok@b.mx");
    world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world_submit(world, 0, "a@x", "ok@b.mx"), 0);
    cr_expect_eq(world->submit_result, -EAGAIN);
    cr_expect_eq(queue_admits(world->queues[0]), -EAGAIN);
    cr_expect_neq(world_submit_report(world, 0, "ok@b.mx", 77, units, 1), 0);
    cr_expect_eq(world_counters(world).generated, 1);
    cr_expect_eq(world_counters(world).messages, 3);
    world_destroy(world);
}

Test(queue, an_envelope_too_long_for_the_spool_is_refused)
{
    struct world *world = world_started();
    static struct slice recipients[ENVELOPE_RECIPIENTS_MAX];
    static char long_name[300];
    struct queue_submission submission = {.recipients = recipients, .id = 1};

    memset(long_name, 'a', sizeof(long_name));
    memcpy(long_name + 290, "@b.mx", 5);
    for (size_t i = 0; i < ARRAY_SIZE(recipients); i++)
        recipients[i] = slice_of(long_name, 295);
    submission.recipient_count = ENVELOPE_RECIPIENTS_MAX;
    cr_expect_eq(queue_submit(world->queues[0], &submission), -E2BIG);
    submission.recipient_count = 0;
    cr_expect_eq(queue_submit(world->queues[0], &submission), -EINVAL);
    cr_expect_eq(world->queues[0]->index.entry_count, 0);
    world_destroy(world);
}

/* Goal: ten thousand recipients in as many domains cost neither time nor correctness. */
Test(queue, ten_thousand_domains_in_one_message)
{
    static char names[ENVELOPE_RECIPIENTS_MAX][16];
    static struct slice recipients[ENVELOPE_RECIPIENTS_MAX];
    struct world *world = world_create(1);
    struct recipient_source source = {.array = recipients};
    struct queue *queue = world->queues[0];
    uint32_t entry, items = 0;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        snprintf(names[i], sizeof(names[i]), "u@d%zu.mx", i);
        recipients[i] = slice_cstr(names[i]);
    }
    cr_assert_eq(index_alloc(&queue->index, ENVELOPE_RECIPIENTS_MAX, &entry), 0);
    cr_assert_eq(message_build(queue, entry, &source, ENVELOPE_RECIPIENTS_MAX, NULL, NULL), 0);
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item))
        items += index_item(&queue->index, item)->open_count == 1;
    cr_expect_eq(items, ENVELOPE_RECIPIENTS_MAX);
    message_unbuild(queue, entry);
    cr_expect_leq(queue->idle_destination_count, QUEUE_IDLE_DESTINATIONS + 1);
    world_destroy(world);
}

Test(queue, destinations_without_mail_are_forgotten_beyond_a_bound)
{
    struct world *world = world_started();
    char name[32];

    for (int i = 0; i < QUEUE_IDLE_DESTINATIONS + 100; i++) {
        struct destination *destination;

        snprintf(name, sizeof(name), "d%d.mx", i);
        cr_assert_eq(destination_get(world->queues[0], slice_cstr(name), &destination), 0);
    }
    cr_expect_leq(world->queues[0]->destination_count, QUEUE_IDLE_DESTINATIONS + 1);
    world_destroy(world);
}

static void has_stopped(void *context)
{
    (*(uint32_t *)context)++;
}

Test(queue, a_stop_waits_for_what_is_in_hand_and_begins_nothing)
{
    struct world *world = world_started();
    struct queue_counters c;
    uint32_t stopped = 0;

    world->config.site_sessions_max = 1;
    queue_configure(world->queues[0], &world->config);

    world->keep = true;
    world_submit(world, 0, "a@x", "ok@b.mx");
    world_submit(world, 0, "b@x", "ok@b.mx");
    queue_stop(world->queues[0], has_stopped, &stopped);
    world_run(world);
    c = world_counters(world);
    cr_expect_eq(c.sessions, 1, "its transaction goes on");
    cr_expect_eq(stopped, 0);
    world_session_finish(world_session(world, 0));
    world_run(world);
    c = world_counters(world);
    cr_expect_eq(c.delivered, 1, "what was in hand");
    cr_expect_eq(c.ready, 1, "and nothing new");
    cr_expect_eq(c.sessions, 0);
    cr_expect_eq(stopped, 1);
    cr_expect_eq(world_submit(world, 0, "a@x", "ok@b.mx"), 0);
    world_destroy(world);
}
