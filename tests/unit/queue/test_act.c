#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>

static int act(struct world *world, uint64_t id, enum queue_action action)
{
    int r = queue_act(world->queues[0], id, action, NULL, NULL);

    world_run(world);
    return r;
}

Test(act, nobody)
{
    struct world *world = world_started();

    for (int action = QUEUE_HOLD; action <= QUEUE_BOUNCE; action++)
        cr_expect_eq(act(world, 4711, (enum queue_action)action), -ENOENT);
    world_destroy(world);
}

Test(act, hold_and_release)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "later@b.mx later@c.net");

    cr_expect_eq(act(world, id, QUEUE_RELEASE), -EALREADY);
    cr_expect_eq(act(world, id, QUEUE_HOLD), 0);
    cr_expect_eq(act(world, id, QUEUE_HOLD), -EALREADY);
    cr_expect_eq(act(world, id, QUEUE_RETRY), -EPERM);
    cr_expect(world_message(world, id)->held);
    world_advance(world, DAY_MS);
    cr_expect_eq(world->taken, 2);
    cr_expect_eq(world_counters(world).held, 2);
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_HELD);
    cr_expect_eq(act(world, id, QUEUE_RELEASE), 0);
    cr_expect_not(world_message(world, id)->held);
    cr_expect_eq(world->taken, 4);
    world_destroy(world);
}

Test(act, retry_moves_what_waits)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "later@b.mx");

    cr_expect_eq(act(world, id, QUEUE_RETRY), 0);
    cr_expect_eq(world->taken, 2);
    cr_expect_eq(world->attempt_number, 2);
    world_destroy(world);
}

/* Goal: "retry" means now, also when the site or the domain is left in peace. */
Test(act, retry_ends_a_back_off)
{
    struct world *world = world_started();
    uint64_t one, two;

    world->down = "mx";
    one = world_submit(world, 0, "a@x", "ok@b.mx");
    two = world_submit(world, 0, "a@x", "ok@b.later");
    cr_expect_eq(world->failures, 1);
    cr_expect_eq(act(world, one, QUEUE_RETRY), 0);
    cr_expect_eq(world->failures, 2);
    cr_expect_eq(world->resolves, 2);
    cr_expect_eq(act(world, two, QUEUE_RETRY), 0);
    cr_expect_eq(world->resolves, 3);
    world->down = NULL;
    cr_expect_eq(act(world, one, QUEUE_RETRY), 0);
    cr_expect_eq(world_outcome(world, one, 0), 'd');
    world_destroy(world);
}

Test(act, remove)
{
    struct world *world = world_started();
    uint64_t id =
        world_submit(world, 0, "a@x", "ok@b.mx later@b.mx later@c.net ok@c.net later@c.net");

    cr_expect_eq(act(world, id, QUEUE_REMOVE), 0);
    cr_expect_eq(world_outcome(world, id, 0), 'd', "final is final");
    cr_expect_eq(world_outcome(world, id, 1), 'r');
    cr_expect_eq(world_outcome(world, id, 2), 'r');
    cr_expect_eq(world_outcome(world, id, 4), 'r');
    cr_expect_eq(world_counters(world).removed, 3);
    cr_expect_eq(world_counters(world).messages, 0);
    cr_expect_eq(world->reports, 0);
    world_destroy(world);
}

Test(act, remove_needs_the_journal)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "later@b.mx");

    world->spools[0].journal_lost = true;
    cr_expect_eq(act(world, id, QUEUE_REMOVE), -EIO);
    cr_expect_eq(world_counters(world).messages, 1);
    world->spools[0].journal_lost = false;
    world_destroy(world);
}

Test(act, bounce_tells_the_sender)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x.net", "later@b.mx later@c.net");

    cr_expect_eq(act(world, id, QUEUE_BOUNCE), 0);
    cr_expect_eq(world->reports, 2, "one for each destination");
    cr_expect_str_eq(world->report_text, "returned by the operator");
    cr_expect_eq(world->report_status[0], 5);
    cr_expect_eq(world_counters(world).bounced, 2);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

Test(act, bounce_a_held_one)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x.net", "later@b.mx");

    cr_expect_eq(act(world, id, QUEUE_HOLD), 0);
    cr_expect_eq(act(world, id, QUEUE_BOUNCE), 0);
    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

/* Goal: an attempt in hand is never disturbed; the action follows when it ends. */
static const struct row {
    enum queue_action action;
    char outcome; /* of the recipient that was put off */
    uint32_t reports, held;
} rows[] = {
    {QUEUE_HOLD, '\0', 0, 2},
    {QUEUE_REMOVE, 'r', 0, 0},
    {QUEUE_BOUNCE, 'b', 2, 0},
};

Test(act, while_an_attempt_is_in_hand)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct world *world = world_started();
        uint64_t id;

        world->keep = true;
        world->down = "net";
        id = world_submit(world, 0, "a@x.org", "ok@b.mx later@b.mx ok@c.net");
        cr_expect_eq(act(world, id, rows[i].action), -EBUSY);
        world->down = NULL;
        world_advance(world, HOUR_MS);
        cr_expect_eq(world->taken, 1, "the other destination is not begun any more");
        cr_expect_eq(world_outcome(world, id, 0), '\0');
        world_session_finish(world_session(world, 0));
        world_run(world);
        cr_expect_eq(world_outcome(world, id, 0), 'd', "the transaction counts");
        cr_expect_eq(world_outcome(world, id, 1), rows[i].outcome);
        cr_expect_eq(world->reports, rows[i].reports);
        cr_expect_eq(world_counters(world).held, rows[i].held);
        world_finish_all(world);
        world_destroy(world);
    }
}

Test(act, while_a_report_is_being_made)
{
    struct world *world = world_started();
    uint64_t id;

    world->keep_reports = true;
    id = world_submit(world, 0, "a@x.net", "never@b.mx later@b.mx");
    cr_expect_eq(act(world, id, QUEUE_REMOVE), -EBUSY);
    queue_report_done(world->report, 0);
    world_run(world);
    cr_expect_eq(world_outcome(world, id, 0), 'b');
    cr_expect_eq(world_outcome(world, id, 1), 'r');
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

/* ---- durable ------------------------------------------------------------------------------------- */

struct answer {
    int result;
    uint32_t calls;
};

static void acted(void *context, int result)
{
    struct answer *answer = context;

    answer->result = result;
    answer->calls++;
}

/* Goal: who is told "done" has it on disk: a crash forgets nothing of it. */
static const struct durable_row {
    enum queue_action action;
    bool notes;
} durable_rows[] = {
    {QUEUE_HOLD, true}, {QUEUE_REMOVE, true}, {QUEUE_BOUNCE, true}, {QUEUE_RETRY, false}};

Test(act, an_answer_waits_for_the_journal)
{
    for (size_t i = 0; i < ARRAY_SIZE(durable_rows); i++) {
        struct world *world = world_started();
        struct answer answer = {.result = 1};
        uint64_t id =
            world_submit(world, 0, "a@x.net", "later@b.mx later@c.net ok@b.mx later@b.mx");

        world->spools[0].manual = true;
        world->keep_reports = true;
        cr_assert_eq(queue_act(world->queues[0], id, durable_rows[i].action, acted, &answer), 0);
        cr_expect_eq(answer.calls, 0, "never inside the call");
        world_run(world);
        cr_expect_eq(answer.calls, durable_rows[i].notes ? 0 : 1);
        world_complete(world, 0);
        world_run(world);
        cr_expect_eq(answer.calls, 1);
        cr_expect_eq(answer.result, 0);
        world->spools[0].manual = false;
        world->keep_reports = false;
        world->spools[0].losing = true;
        world_crash(world);
        world_recover(world);
        if (durable_rows[i].action == QUEUE_HOLD)
            cr_expect_eq(world_view(world, id).state, QUEUE_STATE_HELD);
        if (durable_rows[i].action == QUEUE_REMOVE)
            cr_expect_eq(world_outcome(world, id, 3), 'r');
        if (durable_rows[i].action == QUEUE_BOUNCE) {
            cr_expect_eq(world_outcome(world, id, 0), 'b', "it fails after the restart as well");
            cr_expect_eq(world_outcome(world, id, 1), 'b');
            cr_expect_eq(world_outcome(world, id, 3), 'b');
        }
        world_destroy(world);
    }
}

Test(act, an_answer_says_that_the_journal_failed)
{
    struct world *world = world_started();
    struct answer answer = {.result = 1};
    uint64_t id = world_submit(world, 0, "a@x.net", "later@b.mx");

    world->spools[0].flush_error = -EIO;
    cr_assert_eq(queue_act(world->queues[0], id, QUEUE_HOLD, acted, &answer), 0);
    world_run(world);
    cr_expect_eq(answer.result, -EIO);
    cr_expect_eq(answer.calls, 1);
    world_destroy(world);
}

Test(act, what_is_refused_is_not_answered_twice)
{
    struct world *world = world_started();
    struct answer answer = {.result = 1};
    uint64_t id = world_submit(world, 0, "a@x.net", "later@b.mx");

    cr_expect_eq(queue_act(world->queues[0], 4711, QUEUE_HOLD, acted, &answer), -ENOENT);
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_RELEASE, acted, &answer), -EALREADY);
    world->spools[0].note_error = -EIO;
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_HOLD, acted, &answer), -EIO);
    world->spools[0].note_error = 0;
    world_run(world);
    cr_expect_eq(answer.calls, 0);
    world_destroy(world);
}

/* Goal: a queue that stops waits for what it has promised to somebody. */
Test(act, a_stop_waits_for_the_answer)
{
    struct world *world = world_started();
    struct answer answer = {.result = 1};
    uint64_t id = world_submit(world, 0, "a@x.net", "later@b.mx");

    world->spools[0].manual = true;
    cr_assert_eq(queue_act(world->queues[0], id, QUEUE_REMOVE, acted, &answer), 0);
    world_stop(world);
    cr_expect_eq(world->stopped, 0);
    world_complete(world, 0);
    world_run(world);
    cr_expect_eq(world->stopped, 1);
    cr_expect_eq(answer.calls, 1);
    world_destroy(world);
}
