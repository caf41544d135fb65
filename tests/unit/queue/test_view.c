#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>

struct seen {
    uint64_t ids[32];
    uint32_t count;
};

static void see(void *context, const struct queue_view *view)
{
    struct seen *seen = context;

    seen->ids[seen->count++] = view->id;
}

Test(view, pages_in_order_of_id)
{
    struct world *world = world_started();
    struct seen seen = {.count = 0};
    uint64_t last = 0, removed;
    uint32_t pages = 0;

    for (int i = 0; i < 10; i++)
        world_submit(world, 0, "a@x", "later@b.mx");
    cr_expect_eq(queue_list(world->queues[0], 0, SLICE_NONE, 3, see, &seen), 3);
    removed = seen.ids[2];
    cr_expect_eq(queue_act(world->queues[0], removed, QUEUE_REMOVE, NULL, NULL), 0);
    while (queue_list(world->queues[0], seen.ids[seen.count - 1], SLICE_NONE, 3, see, &seen) > 0)
        pages++;
    cr_expect_eq(pages, 3, "also behind a page whose last message is gone");
    cr_expect_eq(seen.count, 10);
    for (uint32_t i = 0; i < seen.count; i++) {
        cr_expect_gt(seen.ids[i], last);
        last = seen.ids[i];
    }
    world_destroy(world);
}

Test(view, by_destination)
{
    struct world *world = world_started();
    struct seen seen = {.count = 0};
    uint64_t two;

    world_submit(world, 0, "a@x", "later@b.mx");
    two = world_submit(world, 0, "a@x", "later@b.mx later@c.mx");
    world_submit(world, 0, "a@x", "later@home");
    cr_expect_eq(queue_list(world->queues[0], 0, SLICE("C.mx"), 10, see, &seen), 1);
    cr_expect_eq(seen.ids[0], two);
    cr_expect_eq(queue_list(world->queues[0], 0, SLICE("local"), 10, see, &seen), 1);
    cr_expect_eq(queue_list(world->queues[0], 0, SLICE("nowhere"), 10, see, &seen), 0);
    world_destroy(world);
}

Test(view, says_why)
{
    struct world *world = world_started();
    uint64_t asked, hung, local;

    world->no_answers = true;
    asked = world_submit(world, 0, "a@x", "ok@b.mx");
    world->no_answers = false;
    cr_expect(
        slice_equal(world_view(world, asked).reason, SLICE("its mail hosts are being looked up")));
    cr_expect_eq(world_view(world, asked).site.size, 0);
    world->keep = true;
    hung = world_submit(world, 0, "a@x", "ok@c.net");
    cr_expect_eq(world_view(world, hung).state, QUEUE_STATE_TRYING);
    cr_expect(slice_equal(world_view(world, hung).site, SLICE("net")));
    cr_expect(slice_equal(world_view(world, hung).destination, SLICE("c.net")));
    world->no_local = true;
    local = world_submit(world, 0, "a@x", "ok@home");
    cr_expect(slice_equal(world_view(world, local).destination, SLICE("local")));
    cr_expect_eq(world_view(world, local).expires_wall_s, world_now_s(world) + 5 * 86400);
    cr_expect_eq(world_view(world, local).size_bytes, 6);
    world_finish_all(world);
    world_destroy(world);
}

Test(view, where_it_lies)
{
    struct world *world = world_started();
    struct spool_location location;
    uint64_t id = world_submit(world, 0, "a@x", "later@b.mx");

    cr_expect(queue_locate(world->queues[0], id, &location));
    cr_expect_eq(location.segment, 0);
    cr_expect_not(queue_locate(world->queues[0], id + 1, &location));
    cr_expect(queue_unit_open(world->queues[0], id, 0));
    cr_expect_not(queue_unit_open(world->queues[0], id, 1));
    cr_expect_not(queue_unit_open(world->queues[0], id + 1, 0));
    world_destroy(world);
}
