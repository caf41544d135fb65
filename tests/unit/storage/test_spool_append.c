#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Goal: what was appended is presented by recovery, byte for byte, and can be read back. */
Test(spool_append, one_message_survives_a_crash)
{
    struct world *world = world_create();
    struct world *crashed;
    struct posting *posting;
    uint8_t *body;
    size_t size;
    bool hot;

    world_open(world);
    cr_assert_eq(world->message_count, 0);
    posting = post(world, 3, "Subject: x\r\n\r\nhello\r\n", 21);
    cr_assert_eq(posting->append.body_bytes, 21);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 1);
    cr_assert_eq(crashed->messages[0].id, posting->append.id);
    cr_assert_str_eq(crashed->messages[0].envelope, posting->envelope);
    cr_assert_eq(crashed->messages[0].unit_count, 3);
    cr_assert_eq(crashed->messages[0].arrival_s, 1234);
    cr_assert_eq(crashed->messages[0].flags, SPOOL_EIGHT_BIT);
    cr_assert_eq(crashed->messages[0].body_bytes, 21);
    cr_assert_eq(crashed->messages[0].head_bytes, strlen(posting->head));
    cr_assert_eq(memcmp(&crashed->messages[0].location, &posting->append.location,
                        sizeof(struct spool_location)),
                 0);
    cr_assert_eq(read_back(crashed, &crashed->messages[0].location, &body, &size, &hot), 0);
    cr_assert(!hot);
    cr_assert_eq(size, 21);
    cr_assert_eq(memcmp(body, posting->body, 21), 0);
    free(body);
    cr_assert_eq(crashed->report.damaged_records, 0);
    cr_assert_eq(crashed->report.torn_groups, 0);
    world_destroy(crashed);
    world_destroy(world);
}

/* Goal: one body, one copy; and the reader lends group memory while it is hot. */
Test(spool_append, a_body_is_copied_once_and_read_from_memory)
{
    struct world *world = world_create();
    struct spool_counters counters;
    struct posting *posting;
    uint8_t *body;
    size_t size;
    bool hot;

    world_open(world);
    posting = post(world, 1, "body\r\n", 6);
    cr_assert_eq(read_back(world, &posting->append.location, &body, &size, &hot), 0);
    cr_assert(hot);
    cr_assert_eq(size, 6);
    free(body);
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.body_bytes, 6);
    cr_assert_eq(counters.body_copied_bytes, 6);
    cr_assert_eq(counters.appended, 1);
    cr_assert_eq(counters.groups, 1);
    cr_assert_eq(counters.reads_hot, 1);
    cr_assert_eq(counters.reads_cold, 0);
    world_destroy(world);
}

struct ordered {
    struct spool_append append;
    struct world *world;
    uint32_t *next;
    uint32_t index;
    bool *all;
    uint32_t count;
};

/* Asserts that the write is behind us: nothing of this group flies, and the bytes on disk verify
 * at their place. */
static void ordered_done(struct spool_append *append)
{
    struct ordered *ordered = CONTAINER_OF(append, struct ordered, append);
    struct spool_log *log = &ordered->world->spool->d;
    uint8_t header[SPOOL_RECORD_HEADER_BYTES];
    struct spool_record record;
    uint64_t offset = (uint64_t)append->location.offset_16 * SPOOL_RECORD_ALIGN;
    struct spool_segment *segment =
        spool_segment_find(ordered->world->spool, append->location.segment);
    char name[SPOOL_NAME_SIZE], path[600];
    int fd;

    cr_assert_null(log->flying);
    cr_assert_eq(append->result, 0);
    cr_assert_eq(ordered->index, *ordered->next, "in the order of the appends");
    spool_segment_name('D', append->location.segment, name);
    path_of(ordered->world, name, path, sizeof(path));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, header, sizeof(header), (off_t)offset), (ssize_t)sizeof(header));
    (void)close(fd);
    cr_assert(spool_record_decode(header, SPOOL_RECORD_BYTES_MAX, segment->seed, offset, &record));
    cr_assert_eq(record.id, append->id);
    if (++*ordered->next == ordered->count)
        *ordered->all = true;
}

static void append_in_order(bool buffered)
{
    enum { COUNT = 300 };
    static struct ordered ordered[COUNT];
    struct world *world = world_create();
    struct spool_counters counters;
    uint32_t next = 0;
    bool all = false;
    uint8_t body[3000];

    world->config.buffered = buffered;
    world_open(world);
    fill_body(body, sizeof(body), 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct iovec piece = {body, i * 10};

        ordered[i] = (struct ordered){
            .append = {.id = spool_next_id(world->spool),
                       .envelope = SLICE("e"),
                       .unit_count = 1,
                       .body = &piece,
                       .body_pieces = 1,
                       .done = ordered_done},
            .world = world,
            .next = &next,
            .index = i,
            .all = &all,
            .count = COUNT,
        };
        cr_assert_eq(spool_append(world->spool, &ordered[i].append), 0);
        if (i % 17 == 0)
            world_tick(world);
    }
    world_until(world, &all);
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.appended, COUNT);
    cr_assert_lt(counters.groups, COUNT, "appends of one tick share a group");
    cr_assert_eq(counters.direct, !buffered && world->spool->direct);
    world_destroy(world);
}

Test(spool_append, done_comes_in_order_and_after_the_write)
{
    append_in_order(false);
}

Test(spool_append, done_comes_in_order_and_after_the_sync_without_direct_io)
{
    append_in_order(true);
}

/* Goal: segments follow one another; nothing is lost at the seam. */
Test(spool_append, many_segments)
{
    enum { COUNT = 200 };
    struct world *world = world_create();
    struct world *crashed;
    static struct posting *postings[COUNT];
    uint8_t body[60000];

    world->config.hot_bytes_max = 0;
    world_open(world);
    for (uint32_t i = 0; i < COUNT; i++) {
        fill_body(body, sizeof(body), i);
        postings[i] = post(world, 1, body, sizeof(body));
    }
    cr_assert_gt(postings[COUNT - 1]->append.location.segment, 4);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct world *of = i % 2 == 0 ? world : crashed;
        uint8_t *read;
        size_t size;
        bool hot;

        cr_assert_eq(crashed->messages[i].id, postings[i]->append.id, "in order of id");
        cr_assert_eq(read_back(of, &postings[i]->append.location, &read, &size, &hot), 0);
        cr_assert(!hot);
        cr_assert_eq(size, sizeof(body));
        cr_assert_eq(memcmp(read, postings[i]->body, size), 0);
        free(read);
        posting_destroy(postings[i]);
    }
    cr_assert_eq(crashed->report.damaged_records, 0);
    cr_assert_eq(crashed->report.torn_groups, 0);
    world_destroy(crashed);
    world_destroy(world);
}

Test(spool_append, too_big_is_refused)
{
    struct world *world = world_create();
    struct posting *posting;
    static uint8_t big[SPOOL_ENVELOPE_MAX + 1];

    world_open(world);
    posting = posting_create(world, 1, big, SPOOL_INLINE_BODY_MAX + 1);
    cr_assert_eq(posting_begin(world, posting), -E2BIG);
    posting->piece.iov_len = 0;
    posting->append.envelope = slice_of(big, sizeof(big));
    cr_assert_eq(posting_begin(world, posting), -E2BIG);
    posting->append.envelope = slice_of(big, SPOOL_ENVELOPE_MAX);
    posting->append.head = slice_of(big, SPOOL_ENVELOPE_MAX);
    cr_assert_eq(posting_begin(world, posting), -E2BIG);
    posting->append.head = slice_of(big, 1000);
    posting->append.unit_count = SPOOL_UNITS_MAX + 1;
    cr_assert_eq(posting_begin(world, posting), -E2BIG);
    posting->append.unit_count = 70000;
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
    world_destroy(world);
}

/* Goal: what the memory of a group held before never reaches the disk. */
Test(spool_append, gaps_are_zero)
{
    struct world *world = world_create();
    struct posting *posting;
    uint8_t bytes[SPOOL_BLOCK_BYTES];
    uint64_t offset;
    char path[600];
    int fd;

    world_open(world);
    (void)post(world, 1, "x", 1);
    memset(world->spool->d.slab->data + world->spool->d.slab->used_bytes, 0xa5,
           SPOOL_SLAB_BYTES - world->spool->d.slab->used_bytes);
    posting = post(world, 1, "y", 1);
    offset = (uint64_t)posting->append.location.offset_16 * 16 - SPOOL_GROUP_HEADER_BYTES;
    path_of(world, "D-00000001", path, sizeof(path));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_eq(pread(fd, bytes, sizeof(bytes), (off_t)offset), (ssize_t)sizeof(bytes));
    (void)close(fd);
    for (size_t i = SPOOL_GROUP_HEADER_BYTES + posting->append.location.record_bytes;
         i < sizeof(bytes); i++)
        cr_assert_eq(bytes[i], 0, "byte %zu", i);
    world_destroy(world);
}

struct room {
    struct spool_waiter waiter;
    bool ready;
};

static void room_ready(struct spool_waiter *waiter)
{
    CONTAINER_OF(waiter, struct room, waiter)->ready = true;
}

/* Goal: what gathers is bounded; who is refused is called when there is room. */
Test(spool_append, gathering_is_bounded)
{
    struct world *world = world_create();
    struct posting *first, *second;
    struct room room = {.waiter.ready = room_ready}, cancelled = room;
    static uint8_t body[60000];

    world->config.gather_bytes_max = 100000;
    world_open(world);
    first = posting_create(world, 1, body, sizeof(body));
    second = posting_create(world, 1, body, sizeof(body));
    cr_assert_eq(posting_begin(world, first), 0);
    cr_assert_eq(posting_begin(world, second), -EAGAIN);
    list_node_init(&room.waiter.node);
    list_node_init(&cancelled.waiter.node);
    spool_await_room(world->spool, &cancelled.waiter);
    spool_await_room(world->spool, &room.waiter);
    spool_cancel_wait(&cancelled.waiter);
    world_until(world, &room.ready);
    cr_assert(first->done);
    cr_assert(!cancelled.ready);
    cr_assert_eq(posting_begin(world, second), 0);
    world_until(world, &second->done);
    world_destroy(world);
}

/* ---- errors of the disk --------------------------------------------------------------------- */

/* From now on writes to the current segment of `log` fail. */
static void break_segment(struct spool_segment *segment)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    cr_assert_geq(fd, 0);
    cr_assert_eq(dup2(fd, segment->fd), segment->fd);
    (void)close(fd);
}

static void tick_until_ready(struct world *world, struct spool_log *log)
{
    while (log->next == NULL)
        world_tick(world);
}

Test(spool_append, a_failed_write_goes_to_another_segment_once)
{
    struct world *world = world_create();
    struct world *crashed;
    struct posting *before, *during, *after;

    world_open(world);
    before = post(world, 1, "a", 1);
    tick_until_ready(world, &world->spool->d);
    break_segment(world->spool->d.current);
    during = post(world, 1, "b", 1);
    cr_assert_eq(before->append.location.segment, 1);
    cr_assert_eq(during->append.location.segment, 2);
    after = post(world, 1, "c", 1);
    cr_assert_eq(after->append.location.segment, 2);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 3);
    cr_assert_eq(crashed->report.damaged_records, 0, "a group that failed was never acknowledged");
    world_destroy(crashed);
    world_destroy(world);
}

Test(spool_append, failing_twice_ends_with_an_error_and_an_abort)
{
    struct world *world = world_create();
    struct world *crashed;
    struct posting *during, *after;
    struct spool_counters counters;

    world_open(world);
    (void)post(world, 1, "a", 1);
    tick_until_ready(world, &world->spool->d);
    break_segment(world->spool->d.current);
    break_segment(world->spool->d.next);
    during = posting_create(world, 1, "b", 1);
    cr_assert_eq(posting_begin(world, during), 0);
    world_until(world, &during->done);
    cr_assert_eq(during->append.result, -EIO);
    after = posting_create(world, 1, "c", 1);
    cr_assert_eq(posting_begin(world, after), -EIO, "refused for a while");
    while (posting_begin(world, after) == -EIO)
        world_tick(world);
    world_until(world, &after->done);
    cr_assert_eq(after->append.result, 0);
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.append_failures, 1);
    cr_assert_gt(counters.journal_flushes, 0, "the abort");
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 2);
    cr_assert_null(world_find(crashed, during->append.id));
    cr_assert_eq(crashed->report.damaged_records, 0);
    world_destroy(crashed);
    world_destroy(world);
}

/* Goal: no segment to be had is an answer, and service returns by itself. */
Test(spool_append, without_segments_appends_are_refused_until_one_can_be_made)
{
    struct world *world = world_create();
    struct spool_maker *maker;
    struct posting *posting;
    static uint8_t body[60000];
    int r = 0, good_fd;

    world_open(world);
    maker = &world->spool->d.maker;
    post(world, 1, "a", 1);
    tick_until_ready(world, &world->spool->d);
    good_fd = maker->spare_fd;
    maker->spare_fd = -1; /* a bad descriptor: no spare can be made or named */
    for (int i = 0; i < 200 && r == 0; i++) {
        posting = posting_create(world, 1, body, sizeof(body));
        r = posting_begin(world, posting);
        if (r == 0)
            world_until(world, &posting->done);
        if (r == 0 && posting->append.result < 0)
            r = posting->append.result;
    }
    cr_assert_eq(r, -EIO);
    maker->spare_fd = good_fd;
    posting = posting_create(world, 1, body, sizeof(body));
    while (posting_begin(world, posting) < 0)
        world_tick(world);
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
    world_destroy(world);
}
