#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Gives a body to an upload in chunks of `chunk` bytes, ticking when too much gathers. */
static struct spool_upload *upload_body(struct world *world, uint64_t id, const uint8_t *body,
                                        size_t size, size_t chunk)
{
    struct spool_upload *upload;

    cr_assert_eq(spool_upload_begin(world->spool, id, &upload), 0);
    for (size_t at = 0; at < size;) {
        size_t bytes = MIN(chunk, size - at);
        struct iovec pieces[2] = {{(void *)(body + at), bytes / 3},
                                  {(void *)(body + at + bytes / 3), bytes - bytes / 3}};
        int r = spool_upload_chunk(upload, pieces, 2);

        if (r == -EAGAIN) {
            world_tick(world);
            continue;
        }
        cr_assert_eq(r, 0);
        at += bytes;
    }
    cr_assert_eq(spool_upload_bytes(upload), size);
    return upload;
}

static struct posting *post_upload(struct world *world, const uint8_t *body, size_t size,
                                   size_t chunk)
{
    struct posting *posting = posting_create(world, 1, NULL, 0);

    posting->append.upload = upload_body(world, posting->append.id, body, size, chunk);
    cr_assert_eq(posting_begin(world, posting), 0);
    cr_assert_null(posting->append.upload, "taken");
    cr_assert(!posting->done);
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, 0);
    return posting;
}

static void check_body(struct world *world, const struct spool_location *location,
                       const uint8_t *body, size_t size, bool want_hot)
{
    uint8_t *read;
    size_t read_size;
    bool hot;

    cr_assert_eq(read_back(world, location, &read, &read_size, &hot), 0);
    cr_assert_eq(hot, want_hot);
    cr_assert_eq(read_size, size);
    cr_assert_eq(memcmp(read, body, size), 0);
    free(read);
}

Test(spool_upload, a_large_body_comes_back_hot_and_cold)
{
    static const size_t sizes[] = {1, 65537, 1000000, 5000000};
    static const size_t chunks[] = {65536, 65536, 200000, SPOOL_CHUNK_BYTES_MAX};
    struct world *world = world_create();
    struct world *crashed;
    struct posting *postings[ARRAY_SIZE(sizes)];
    struct spool_counters counters;
    uint8_t *body = malloc(5000000);
    uint64_t total = 0;

    fill_body(body, 5000000, 9);
    world_open(world);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        postings[i] = post_upload(world, body, sizes[i], chunks[i]);
        total += sizes[i];
        cr_assert_eq(postings[i]->append.body_bytes, sizes[i]);
        check_body(world, &postings[i]->append.location, body, sizes[i], true);
    }
    spool_counters(world->spool, &counters);
    cr_assert_eq(counters.body_copied_bytes, total);
    cr_assert_eq(counters.body_bytes, total);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, ARRAY_SIZE(sizes));
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        cr_assert_eq(crashed->messages[i].id, postings[i]->append.id);
        cr_assert_eq(crashed->messages[i].body_bytes, sizes[i]);
        check_body(crashed, &crashed->messages[i].location, body, sizes[i], false);
        posting_destroy(postings[i]);
    }
    cr_assert_eq(crashed->report.damaged_records, 0);
    world_destroy(crashed);
    world_destroy(world);
    free(body);
}

Test(spool_upload, without_direct_io)
{
    struct world *world = world_create();
    static uint8_t body[300000];
    struct posting *posting;

    world->config.buffered = true;
    world->config.hot_bytes_max = 0;
    fill_body(body, sizeof(body), 2);
    world_open(world);
    posting = post_upload(world, body, sizeof(body), 65536);
    check_body(world, &posting->append.location, body, sizeof(body), false);
    world_destroy(world);
}

/* Goal: COMMIT is not written before the last chunk is durable (QUEUE I6). */
Test(spool_upload, commit_waits_for_the_chunks)
{
    struct world *world = world_create();
    static uint8_t body[300000];
    struct posting *posting;
    struct spool_counters before, after;

    world_open(world);
    post(world, 1, "x", 1);
    spool_counters(world->spool, &before);
    posting = posting_create(world, 1, NULL, 0);
    posting->append.upload = upload_body(world, posting->append.id, body, sizeof(body), 65536);
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &posting->done);
    spool_counters(world->spool, &after);
    cr_assert_eq(after.groups - before.groups, 2, "the chunks in one group, COMMIT in the next");
    world_destroy(world);
}

Test(spool_upload, what_was_given_up_is_no_message)
{
    struct world *world = world_create();
    struct world *crashed;
    static uint8_t body[300000];
    struct spool_upload *early, *late, *none = NULL;
    struct posting *after;

    world_open(world);
    spool_upload_abort(&none);
    early = upload_body(world, spool_next_id(world->spool), body, sizeof(body), 65536);
    spool_upload_abort(&early); /* its chunks still gather */
    cr_assert_null(early);
    late = upload_body(world, spool_next_id(world->spool), body, sizeof(body), 65536);
    after = post(world, 1, "x", 1);
    spool_upload_abort(&late); /* its chunks are durable */
    cr_assert_eq(spool_upload_begin(world->spool, spool_next_id(world->spool), &late), 0);
    spool_upload_abort(&late);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 1);
    cr_assert_eq(crashed->messages[0].id, after->append.id);
    cr_assert_eq(crashed->report.damaged_records, 0);
    world_destroy(crashed);
    world_destroy(world);
}

static void break_fd(int fd)
{
    int bad = open("/dev/null", O_RDONLY | O_CLOEXEC);

    cr_assert_eq(dup2(bad, fd), fd);
    (void)close(bad);
}

Test(spool_upload, a_chunk_that_cannot_be_written_fails_the_message)
{
    struct world *world = world_create();
    static uint8_t body[100000];
    struct posting *posting;

    world_open(world);
    post(world, 1, "x", 1);
    while (world->spool->d.next == NULL)
        world_tick(world);
    break_fd(world->spool->d.current->fd);
    break_fd(world->spool->d.next->fd);
    posting = posting_create(world, 1, NULL, 0);
    posting->append.upload = upload_body(world, posting->append.id, body, sizeof(body), 65536);
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.result, -EIO);
    world_destroy(world);
}

/* Goal: a damaged chunk is reported, its message is presented and cannot be read, and nothing else suffers. */
Test(spool_upload, a_damaged_chunk_is_reported_and_kept)
{
    struct world *world = world_create();
    struct world *crashed;
    static uint8_t body[300000];
    struct posting *big, *small;
    struct spool_location chunk;
    char name[SPOOL_NAME_SIZE];
    uint8_t *read;
    size_t size;
    bool hot;

    fill_body(body, sizeof(body), 3);
    world_open(world);
    post(world, 1, "a", 1);
    big = post_upload(world, body, sizeof(body), 65536);
    small = post(world, 1, "b", 1);
    crashed = world_crash(world);
    chunk = big->append.location;
    spool_segment_name('D', chunk.segment, name);
    flip(crashed->dir, name, (uint64_t)chunk.offset_16 * 16 - 200000,
         1); /* in a chunk in front of it */
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 3, "COMMIT was written after its chunks were durable");
    cr_assert_not_null(world_find(crashed, small->append.id));
    cr_assert_geq(crashed->report.damaged_records, 1);
    cr_assert_eq(read_back(crashed, &big->append.location, &read, &size, &hot), -EBADMSG);
    world_close(crashed);
    world_open(crashed);
    cr_assert_eq(crashed->message_count, 3);
    cr_assert_geq(crashed->report.damaged_records, 1, "still there, still reported");
    world_destroy(crashed);
    world_destroy(world);
}

Test(spool_upload, ranges_that_are_left_out)
{
    static const struct spool_skip skips[] = {
        {0, 10}, {65530, 20}, {131072, 65536}, {250000, 50000}};
    struct world *world = world_create();
    struct world *crashed;
    static uint8_t body[300000];
    uint8_t *want = malloc(sizeof(body));
    size_t want_size = 0;
    struct posting *posting;

    fill_body(body, sizeof(body), 4);
    for (size_t i = 0, s = 0; i < sizeof(body);) {
        if (s < ARRAY_SIZE(skips) && i == skips[s].offset)
            i += skips[s++].bytes;
        else
            want[want_size++] = body[i++];
    }
    world_open(world);
    posting = posting_create(world, 1, NULL, 0);
    posting->append.skips = skips;
    posting->append.skip_count = ARRAY_SIZE(skips);
    posting->append.upload = upload_body(world, posting->append.id, body, sizeof(body), 65536);
    cr_assert_eq(posting_begin(world, posting), 0);
    world_until(world, &posting->done);
    cr_assert_eq(posting->append.body_bytes, want_size);
    check_body(world, &posting->append.location, want, want_size, true);
    crashed = world_crash(world);
    world_open(crashed);
    cr_assert_eq(crashed->messages[0].body_bytes, want_size);
    check_body(crashed, &posting->append.location, want, want_size, false);
    world_destroy(crashed);
    world_destroy(world);
    free(want);
}
