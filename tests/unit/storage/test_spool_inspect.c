#include "spool_fixture.h"

#include "storage/spool_inspect.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct spool_inspect_events no_events;

/* ---- the same as recovery says ---------------------------------------------------------------- */

static struct spool_inspect *inspect_open(const char *dir,
                                          const struct spool_inspect_events *events)
{
    struct spool_inspect *inspect = NULL;
    struct buf error;

    buf_init(&error, 1000);
    cr_assert_eq(spool_inspect_open(dir, &inspect, &error), 0, "%.*s",
                 SLICE_ARG(buf_slice(&error)));
    cr_assert_eq(spool_inspect_scan(inspect, events, &error), 0, "%.*s",
                 SLICE_ARG(buf_slice(&error)));
    buf_deinit(&error);
    return inspect;
}

struct seen {
    struct world_message messages[64];
    uint32_t count;
};

static int see(void *context, const struct spool_recovered_message *message)
{
    struct seen *seen = context;
    struct world_message *kept = &seen->messages[seen->count++];

    cr_assert_leq(seen->count, ARRAY_SIZE(seen->messages));
    *kept = (struct world_message){.id = message->id,
                                   .location = message->location,
                                   .head_bytes = message->head_bytes,
                                   .body_bytes = message->body_bytes,
                                   .arrival_s = message->arrival_s,
                                   .flags = message->flags,
                                   .held = message->held,
                                   .unit_count = message->unit_count};
    (void)slice_to_cstr(message->envelope, kept->envelope, sizeof(kept->envelope));
    (void)slice_to_cstr(message->reason, kept->reason, sizeof(kept->reason));
    for (uint32_t i = 0; i < MIN(message->unit_count, ARRAY_SIZE(kept->units)); i++)
        kept->units[i] = message->units[i];
    return 0;
}

static void expect_same(const struct world_message *got, const struct world_message *wanted)
{
    cr_assert_eq(got->id, wanted->id);
    cr_expect_eq(got->location.segment, wanted->location.segment);
    cr_expect_eq(got->location.offset_16, wanted->location.offset_16);
    cr_expect_str_eq(got->envelope, wanted->envelope);
    cr_expect_str_eq(got->reason, wanted->reason);
    cr_expect_eq(got->head_bytes, wanted->head_bytes);
    cr_expect_eq(got->body_bytes, wanted->body_bytes);
    cr_expect_eq(got->arrival_s, wanted->arrival_s);
    cr_expect_eq(got->flags, wanted->flags);
    cr_expect_eq(got->held, wanted->held);
    cr_expect_eq(got->unit_count, wanted->unit_count);
    for (uint32_t i = 0; i < wanted->unit_count; i++) {
        cr_expect_eq(got->units[i].state, wanted->units[i].state);
        cr_expect_eq(got->units[i].attempts, wanted->units[i].attempts);
        cr_expect_eq(got->units[i].next_s, wanted->units[i].next_s);
    }
}

static void note(struct world *world, struct spool_note note)
{
    cr_assert_eq(spool_note(world->spool, &note), 0);
}

static int take(void *context, struct slice piece)
{
    buf_append(context, piece);
    return 0;
}

/* Goal: a tool sees what the next start would see. Method: a spool with messages small and finished, of several
 * recipients, deferred, held and given up, is inspected while it runs, and then its copy recovered. */
Test(spool_inspect, sees_what_recovery_presents)
{
    static uint8_t body[9000];
    struct world *world = world_create(), *crashed;
    struct spool_inspect *inspect;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct posting *posts[12];

    fill_body(body, sizeof(body), 7);
    world_open(world);
    for (uint32_t i = 0; i < ARRAY_SIZE(posts); i++)
        posts[i] = post(world, 1 + i % 3, body, 700 * i);
    note(world,
         (struct spool_note){.kind = SPOOL_NOTE_DONE, .id = posts[0]->append.id, .unit_count = 1});
    note(world,
         (struct spool_note){
             .kind = SPOOL_NOTE_DONE, .id = posts[2]->append.id, .unit_first = 1, .unit_count = 2});
    note(world, (struct spool_note){.kind = SPOOL_NOTE_DEFER,
                                    .id = posts[4]->append.id,
                                    .unit_count = 2,
                                    .attempts = 3,
                                    .next_s = 12345,
                                    .text = SLICE("the host is away")});
    note(world, (struct spool_note){.kind = SPOOL_NOTE_HOLD, .id = posts[5]->append.id});
    note(world, (struct spool_note){.kind = SPOOL_NOTE_HOLD, .id = posts[6]->append.id});
    note(world, (struct spool_note){.kind = SPOOL_NOTE_RELEASE, .id = posts[6]->append.id});
    note(world, (struct spool_note){.kind = SPOOL_NOTE_ABORT, .id = posts[7]->append.id});
    world_close(world);

    inspect = inspect_open(world->dir, &no_events);
    cr_assert_eq(spool_inspect_messages(inspect, see, seen), 0);
    cr_expect_eq(spool_inspect_totals(inspect)->damaged, 0);
    cr_expect_eq(spool_inspect_totals(inspect)->torn, 0);
    cr_expect_eq(spool_inspect_totals(inspect)->finished, 2);
    cr_expect_eq(spool_inspect_totals(inspect)->held, 1);
    crashed = world_crash(world);
    cr_assert_eq(world_recover(crashed), 0, "%s", crashed->error);
    cr_assert_eq(seen->count, crashed->message_count);
    for (uint32_t i = 0; i < seen->count; i++)
        expect_same(&seen->messages[i], &crashed->messages[i]);
    spool_recovery_destroy(&crashed->recovery);

    /* What is read is head and body as they were given. */
    for (uint32_t i = 0; i < seen->count; i++) {
        struct posting *posting = NULL;
        struct buf text;

        for (uint32_t j = 0; j < ARRAY_SIZE(posts); j++)
            if (posts[j]->append.id == seen->messages[i].id)
                posting = posts[j];
        buf_init(&text, MIB);
        cr_assert_eq(spool_inspect_read(inspect, &seen->messages[i].location, take, &text), 0);
        cr_assert_eq(text.size, posting->append.head.size + posting->append.body_bytes);
        cr_expect_arr_eq(text.data, posting->append.head.data, posting->append.head.size);
        if (posting->append.body_bytes > 0)
            cr_expect_arr_eq(text.data + posting->append.head.size, posting->body,
                             posting->append.body_bytes);
        buf_deinit(&text);
    }
    spool_inspect_close(&inspect);
    world_destroy(crashed);
    world_destroy(world);
    free(seen);
}

/* ---- damage -------------------------------------------------------------------------------------- */

struct told {
    struct spool_inspect_place place;
    bool torn;
    uint32_t count;
};

static void tell(void *context, const struct spool_inspect_place *place, bool torn,
                 const char *what)
{
    struct told *told = context;

    (void)what;
    *told = (struct told){*place, torn, told->count + 1};
}

/* Goal: damage is told with its segment and the offset of the record, and what is not damaged is there. */
Test(spool_inspect, damage_is_told_with_its_place)
{
    static uint8_t body[5000];
    struct world *world = world_create();
    struct told told = {0};
    struct spool_inspect_events events = {.context = &told, .damage = tell};
    struct spool_inspect *inspect;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct posting *first, *second;
    char name[SPOOL_NAME_SIZE];
    uint64_t offset;

    fill_body(body, sizeof(body), 3);
    world_open(world);
    first = post(world, 1, body, sizeof(body));
    second = post(world, 1, body, 100);
    world_close(world);
    offset = (uint64_t)first->append.location.offset_16 * 16;
    spool_segment_name('D', first->append.location.segment, name);
    flip(world->dir, name, offset + 3000, 0x10);
    inspect = inspect_open(world->dir, &events);
    cr_assert_eq(spool_inspect_messages(inspect, see, seen), 0);
    cr_expect_eq(told.count, 1);
    cr_expect_not(told.torn);
    cr_expect_eq(told.place.stream, 'D');
    cr_expect_eq(told.place.segment, first->append.location.segment);
    cr_expect_eq(told.place.offset, offset - SPOOL_GROUP_HEADER_BYTES, "its group");
    cr_assert_eq(seen->count, 2);
    cr_expect_eq(spool_inspect_read(inspect, &first->append.location, take, NULL), -EBADMSG);
    {
        struct buf text;

        buf_init(&text, MIB);
        cr_expect_eq(spool_inspect_read(inspect, &second->append.location, take, &text), 0);
        buf_deinit(&text);
    }
    spool_inspect_close(&inspect);
    world_destroy(world);
    free(seen);
}

/* Goal: a file that was cut between two groups is told, though everything left in it verifies. */
Test(spool_inspect, a_file_cut_between_two_groups_is_told)
{
    static uint8_t body[5000];
    struct world *world = world_create();
    struct told told = {0};
    struct spool_inspect_events events = {.context = &told, .damage = tell};
    struct spool_inspect *inspect;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct posting *second;
    char name[SPOOL_NAME_SIZE], path[600];
    uint64_t offset;

    fill_body(body, sizeof(body), 3);
    world_open(world);
    (void)post(world, 1, body, sizeof(body));
    second = post(world, 1, body, 100);
    offset = (uint64_t)second->append.location.offset_16 * 16 - SPOOL_GROUP_HEADER_BYTES;
    spool_segment_name('D', second->append.location.segment, name);
    world_close(world);
    path_of(world, name, path, sizeof(path));
    cr_assert_eq(truncate(path, (off_t)offset), 0);
    inspect = inspect_open(world->dir, &events);
    cr_assert_eq(spool_inspect_messages(inspect, see, seen), 0);
    cr_expect_eq(seen->count, 1);
    cr_assert_eq(told.count, 1);
    cr_expect(told.torn, "nothing behind it says that it was acknowledged");
    cr_expect_eq(told.place.offset, offset);
    spool_inspect_close(&inspect);
    world_destroy(world);
    free(seen);
}

/* ---- refusals -------------------------------------------------------------------------------------- */

static int open_error(const char *dir, char text[600])
{
    struct spool_inspect *inspect = NULL;
    struct buf error;
    int r;

    buf_init(&error, 599);
    r = spool_inspect_open(dir, &inspect, &error);
    (void)slice_to_cstr(buf_slice(&error), text, 600);
    buf_deinit(&error);
    spool_inspect_close(&inspect);
    return r;
}

Test(spool_inspect, what_is_no_spool_is_refused_with_a_sentence)
{
    struct world *world = world_create();
    struct spool_super super;
    char text[600];
    int fd;

    cr_expect_eq(open_error("/nowhere/at/all", text), -ENOENT);
    cr_expect(strstr(text, "/nowhere/at/all"));
    cr_expect_eq(open_error(world->dir, text), -ENOENT);
    cr_expect(strstr(text, "no SUPER"), "%s", text);

    world_open(world);
    world_close(world);
    cr_assert_eq(file_open_dir_path(world->dir, &fd), 0);
    cr_assert_eq(spool_super_read(fd, &super), 0);
    super.features.incompat |= 0x800;
    cr_assert_eq(spool_super_write(fd, &super), 0);
    (void)file_close(fd);
    cr_expect_eq(open_error(world->dir, text), -EPROTONOSUPPORT);
    cr_expect(strstr(text, "use the newer program"), "%s", text);
    world_destroy(world);
}
