#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static struct world *world_of_four(uint32_t sessions)
{
    struct world *world = world_create(4);

    world->config.site_sessions_max = sessions;
    for (uint32_t i = 0; i < 4; i++)
        queue_configure(world->queues[i], &world->config);
    world_start(world);
    return world;
}

static uint32_t sessions_of(struct world *world, uint32_t shard)
{
    return world->queues[shard]->slot_count;
}

static uint64_t delivered(struct world *world)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < world->shard_count; i++)
        sum += part_of(world->queues[i], (uint64_t)i << 54)->done.delivered;
    return sum;
}

Test(lease, one_limit_for_all_shards)
{
    struct world *world = world_of_four(6);

    world->keep = true;
    for (int i = 0; i < 40; i++) {
        for (uint32_t shard = 0; shard < 4; shard++)
            world_submit(world, shard, "a@x", "ok@b.mx");
    }
    cr_expect_eq(world->session_peak, 6);
    for (uint32_t shard = 0; shard < 4; shard++)
        cr_expect_geq(sessions_of(world, shard), 1, "each has its part");
    world_finish_all(world);
    world_advance(world, MINUTE_MS);
    cr_expect_eq(delivered(world), 160);
    cr_expect_leq(world->session_peak, 6);
    world_destroy(world);
}

/* Goal: a shard that holds all slots idle gives one back when another has mail. */
Test(lease, idle_slots_are_recalled)
{
    struct world *world = world_of_four(2);

    for (int i = 0; i < 6; i++)
        world_submit(world, 1, "a@x", "ok@b.mx");
    world->keep = true;
    for (int i = 0; i < 6; i++)
        world_submit(world, 1, "a@x", "ok@b.mx");
    cr_expect_eq(sessions_of(world, 1), 2);
    world_finish_all(world);
    cr_expect_eq(sessions_of(world, 1), 2, "idle, and nobody else wants them");
    world_submit(world, 2, "a@x", "ok@b.mx");
    cr_expect_eq(delivered(world), 13);
    cr_expect_eq(sessions_of(world, 1), 1);
    cr_expect_eq(sessions_of(world, 2), 1);
    world_destroy(world);
}

/* Goal: with one slot for four shards it goes round: everyone's mail moves, whoever has the biggest backlog. */
Test(lease, fewer_slots_than_shards_go_round)
{
    struct world *world = world_of_four(1);
    uint64_t ids[4];

    world->keep = true;
    for (int i = 0; i < 100; i++)
        world_submit(world, 0, "a@x", "ok@b.mx");
    for (uint32_t shard = 1; shard < 4; shard++)
        ids[shard] = world_submit(world, shard, "b@x", "ok@b.mx");
    cr_expect_eq(world->session_count, 1);
    for (int i = 0; i < 40 && delivered(world) < 103; i++) {
        /* One message of the session's each second. */
        if (world_session(world, 0) != NULL && world_session(world, 0)->attempt != NULL)
            world_session_finish(world_session(world, 0));
        world_advance(world, SECOND_MS);
        cr_assert_leq(world->session_count, 1);
    }
    for (uint32_t shard = 1; shard < 4; shard++)
        cr_expect_eq(world_outcome(world, ids[shard], 0), 'd', "shard %u", shard);
    world_finish_all(world);
    world_destroy(world);
}

Test(lease, a_failure_is_known_to_all)
{
    struct world *world = world_of_four(8);

    world->down = "mx";
    for (uint32_t shard = 0; shard < 4; shard++)
        world_submit(world, shard, "a@x", "ok@b.mx");
    cr_expect_eq(world->failures, 1);
    for (uint32_t shard = 0; shard < 4; shard++) {
        struct queue_view view = world_view(world, ((uint64_t)shard << 54) + 2);

        cr_expect(slice_equal(view.reason, SLICE("connection refused")), "shard %u", shard);
        cr_expect_gt(view.next_wall_s, world_now_s(world) + 50);
    }
    world_advance(world, 70 * SECOND_MS);
    cr_expect_eq(world->failures, 2, "one shard looks");
    world->down = NULL;
    world_advance(world, 3 * MINUTE_MS);
    cr_expect_eq(delivered(world), 4);
    world_destroy(world);
}

Test(lease, a_higher_limit_takes_effect_at_once)
{
    struct world *world = world_of_four(1);

    world->keep = true;
    for (int i = 0; i < 20; i++)
        world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world->session_count, 1);
    world->config.site_sessions_max = 4;
    for (uint32_t shard = 0; shard < 4; shard++)
        queue_configure(world->queues[shard], &world->config);
    world_run(world);
    cr_expect_eq(world->session_count, 4);
    world_finish_all(world);
    world_destroy(world);
}

/* Goal: whatever happens, no more sessions than allowed, nothing lost, and all comes to rest. */
Test(lease, a_thousand_random_steps)
{
    for (unsigned seed = 1; seed <= 20; seed++) {
        unsigned state = seed;
        uint32_t limit = 1 + (uint32_t)rand_r(&state) % 6;
        struct world *world = world_of_four(limit);
        uint32_t submitted = 0;
        static const char *const to[] = {"ok@b.mx",    "ok@c.mx", "ok@b.net",
                                         "later@b.mx", "ok@home", "ok@b.mx ok@c.net ok@home"};
        static const uint32_t units[] = {1, 1, 1, 1, 1, 3};

        world->keep = true;
        world->config.expire_ms = 50 * DAY_MS;
        for (int i = 0; i < 1000; i++) {
            uint32_t mx = 0;

            switch (rand_r(&state) % 8) {
            case 0:
            case 1:
            case 2: {
                size_t which = (size_t)rand_r(&state) % ARRAY_SIZE(to);

                world_submit(world, (uint32_t)rand_r(&state) % 4, "a@x", to[which]);
                submitted += units[which];
                break;
            }
            case 3:
            case 4:
            case 5: {
                struct world_session *session =
                    world->session_count == 0
                        ? NULL
                        : world_session(world, (uint32_t)rand_r(&state) % world->session_count);

                if (session != NULL && session->attempt != NULL)
                    world_session_finish(session);
                else if (session != NULL)
                    world_session_close(session);
                world_run(world);
                break;
            }
            case 6:
                world_advance(world, (uint64_t)rand_r(&state) % 20000);
                break;
            case 7:
                world->down = rand_r(&state) % 4 == 0 ? "mx" : NULL;
                break;
            }
            list_for_each (node, &world->sessions) {
                struct world_session *session = CONTAINER_OF(node, struct world_session, node);

                mx += slice_equal(queue_slot_site(session->slot), SLICE("mx"));
            }
            cr_assert_leq(mx, limit, "seed %u step %d", seed, i);
        }
        world->down = NULL;
        world_finish_all(world);
        world_advance(world, 3 * HOUR_MS);
        for (uint32_t shard = 0; shard < 4; shard++) {
            struct queue_counters c;

            queue_counters(world->queues[shard], &c);
            cr_assert_eq(c.ready + c.trying, 0, "seed %u: something stands still", seed);
            submitted -= (uint32_t)(c.delivered + c.waiting);
        }
        cr_assert_eq(submitted, 0, "seed %u", seed);
        world_destroy(world);
    }
}
