#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define STEPS 600
#define SEEDS 40

static const char *const recipients[] = {
    "ok@b.mx",
    "later@b.mx",
    "never@b.mx",
    "ok@c.never",
    "ok@c.later",
    "ok@home",
    "later@home never@home ok@home",
    "ok@b.mx later@c.mx never@d.net ok@e.never ok@home",
    "ok1@b.mx ok2@b.mx later3@b.mx never4@b.mx ok5@b.mx later6@b.mx ok7@b.mx",
    "never1@b.mx never2@c.net never3@home",
};
static const char *const senders[] = {"a@x.net", "", "b@home", "c@y.never"};

static uint64_t ids[STEPS];
static uint32_t id_count;

static void act(struct world *world, unsigned *state)
{
    if (id_count == 0)
        return;
    (void)queue_act(world->queues[0], ids[(uint32_t)rand_r(state) % id_count],
                    (enum queue_action)(rand_r(state) % 5), NULL, NULL);
    world_run(world);
}

static void submit(struct world *world, unsigned *state)
{
    uint64_t id = world_submit(world, 0, senders[(size_t)rand_r(state) % ARRAY_SIZE(senders)],
                               recipients[(size_t)rand_r(state) % ARRAY_SIZE(recipients)]);

    if (id != 0)
        ids[id_count++] = id;
}

static void session(struct world *world, unsigned *state)
{
    struct world_session *session =
        world->session_count == 0
            ? NULL
            : world_session(world, (uint32_t)rand_r(state) % world->session_count);

    if (session != NULL && session->attempt != NULL)
        world_session_finish(session);
    else if (session != NULL)
        world_session_close(session);
    world_run(world);
}

static void trouble(struct world *world, unsigned *state)
{
    struct spool *spool = &world->spools[0];

    spool->journal_lost = rand_r(state) % 6 == 0;
    spool->flush_error = rand_r(state) % 6 == 0 ? -EIO : 0;
    spool->open_error = rand_r(state) % 6 == 0 ? -ENOMEM : 0;
    spool->group_error = rand_r(state) % 6 == 0 ? -EIO : 0;
    spool->append_error = rand_r(state) % 6 == 0 ? -ENOSPC : 0;
    spool->cold = rand_r(state) % 2 == 0;
    world->down = rand_r(state) % 4 == 0 ? "mx" : NULL;
    world->keep = rand_r(state) % 2 == 0;
    world->unload = rand_r(state) % 8 == 0;
    world->report_error = rand_r(state) % 4 == 0 ? -ENOSPC : 0;
}

static void step(struct world *world, unsigned *state)
{
    switch (rand_r(state) % 10) {
    case 0:
    case 1:
    case 2:
        submit(world, state);
        break;
    case 3:
    case 4:
        session(world, state);
        break;
    case 5:
        act(world, state);
        break;
    case 6:
        trouble(world, state);
        break;
    case 7:
        if (rand_r(state) % 10 == 0)
            world->spools[0].losing = true;
        if (rand_r(state) % 10 == 0 && !world->spools[0].losing)
            world_checkpoint(world, 0);
        if (rand_r(state) % 20 == 0) {
            world_crash(world);
            world_recover(world);
        }
        if (id_count > 0 && !world->spools[0].losing)
            world_relocate(world, ids[(uint32_t)rand_r(state) % id_count]);
        break;
    default:
        world_advance(world, (uint64_t)rand_r(state) % (10 * MINUTE_MS));
    }
}

static void calm(struct world *world)
{
    struct spool *spool = &world->spools[0];

    spool->journal_lost = spool->cold = false;
    spool->flush_error = spool->open_error = spool->group_error = spool->append_error = 0;
    world->down = NULL;
    world->unload = false;
    world->report_error = 0;
}

/* Every unit of every message that was accepted has one end. */
static void check_ends(struct world *world, unsigned seed)
{
    for (uint32_t m = 0; m < world->spools[0].message_count; m++) {
        const struct world_message *message = world->spools[0].messages[m];

        for (uint32_t unit = 0; message->durable && unit < message->unit_count; unit++)
            cr_assert_neq(message->outcome[unit], 0, "seed %u: message %lu unit %u has no end",
                          seed, (unsigned long)message->id, unit);
    }
}

/* Goal: whatever happens, in whatever order, each unit ends once, and nothing is left behind. That no end is noted
 * twice, and nothing noted about what is not durable, the world's spool checks by itself; that nothing is lost from
 * the counters, world_run() does after every step. */
Test(random, every_unit_ends_once)
{
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct world *world = world_create(1);
        unsigned state = seed;
        struct queue_counters c;

        id_count = 0;
        world->config.site_recipients_max = 1 + seed % 5;
        world->config.site_messages_max = 1 + seed % 4;
        world->config.expire_ms = 6 * HOUR_MS;
        queue_configure(world->queues[0], &world->config);
        world_start(world);
        for (int i = 0; i < STEPS; i++)
            step(world, &state);
        if (world->spools[0].losing) {
            world_crash(world);
            world_recover(world);
        }
        calm(world);
        world_finish_all(world);
        world_advance(world, 2 * SECOND_MS); /* what could not be read when it came back is, now */
        for (uint32_t i = 0; i < id_count; i++) {
            (void)queue_act(world->queues[0], ids[i], QUEUE_RELEASE, NULL, NULL);
            (void)queue_act(world->queues[0], ids[i], QUEUE_RETRY, NULL, NULL);
        }
        world_advance(world, 2 * DAY_MS);
        queue_counters(world->queues[0], &c);
        cr_assert_eq(c.messages, 0, "seed %u: %u messages are left", seed, c.messages);
        check_ends(world, seed);
        world_destroy(world);
    }
}
