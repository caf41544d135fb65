#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A day of mail in seconds: the spool is real, time is what age() says. Four messages of 15 KiB come each second; 90 of
 * 100 are delivered within a minute, 9 within an hour, one waits for five days. */

#define STEP_S 5
#define EACH_SECOND 4
#define LAST_STEPS (3600 / STEP_S)
#define BODY_BYTES (15 * KIB)

struct message {
    struct spool_append append;
    uint32_t ends_s; /* of the day */
    uint32_t next;   /* ends at the same step; 0: none */
    bool lives;
};

static struct {
    struct world *world;
    struct message *messages; /* by id */
    uint64_t first_id;
    uint32_t count, waiting;
    uint32_t *ends; /* by step: the first that ends then */
    uint32_t steps;
    uint32_t seed;
} day;

static uint8_t body[BODY_BYTES];

static double chance(void)
{
    day.seed = day.seed * 1664525u + 1013904223u;
    return (double)(day.seed >> 8) / (double)(1u << 24);
}

static struct message *message_of(uint64_t id)
{
    return &day.messages[id - day.first_id];
}

static int day_states(void *context, uint64_t id, const struct spool_location *location,
                      struct slice envelope, struct spool_unit *units, uint32_t unit_count,
                      bool *ret_held, struct slice *ret_reason)
{
    const struct message *message = message_of(id);

    (void)context;
    (void)envelope;
    if (!message->lives || location->segment != message->append.location.segment ||
        location->offset_16 != message->append.location.offset_16)
        return -ENOENT;
    memset(units, 0, unit_count * sizeof(*units));
    *ret_held = false;
    *ret_reason = SLICE_NONE;
    return 0;
}

static void day_relocated(void *context, uint64_t id, const struct spool_location *from,
                          const struct spool_location *to)
{
    struct message *message = message_of(id);

    (void)context;
    spool_release(day.world->spool, id, message->lives ? from : to);
    if (message->lives)
        message->append.location = *to;
}

static const struct spool_owner callbacks = {.states = day_states, .relocated = day_relocated};

static void appended(struct spool_append *append)
{
    cr_assert_eq(append->result, 0);
    CONTAINER_OF(append, struct message, append)->lives = true;
    day.waiting--;
}

static void accept_one(uint32_t now_s, bool even)
{
    struct message *message = &day.messages[day.count++];
    struct iovec piece = {body, sizeof(body)};
    double kind = chance(), u = chance(), octave = u * 5.85; /* 60 s to 3552 s */
    double lasts = kind < 0.90   ? 60 * u
                   : kind > 0.99 ? 5 * 86400.0
                   : even        ? 60 + 3540 * u
                                 : 60 * (1 << (int)octave) * (1 + octave - (int)octave);
    uint32_t step;

    message->append = (struct spool_append){
        .id = spool_next_id(day.world->spool),
        .envelope = SLICE("e"),
        .unit_count = 1,
        .body = &piece,
        .body_pieces = 1,
        .durability = SPOOL_CACHED, /* no power cut here */
        .done = appended,
    };
    cr_assert_eq(message->append.id, day.first_id + day.count - 1);
    message->ends_s = now_s + (uint32_t)lasts;
    step = message->ends_s / STEP_S + 1;
    if (step < day.steps) {
        message->next = day.ends[step];
        day.ends[step] = day.count; /* index + 1 */
    }
    day.waiting++;
    while (spool_append(day.world->spool, &message->append) < 0)
        world_tick(day.world);
}

static void end_step(uint32_t step)
{
    for (uint32_t i = day.ends[step]; i != 0; i = day.messages[i - 1].next) {
        struct message *message = &day.messages[i - 1];
        struct spool_note note = {
            .kind = SPOOL_NOTE_DONE, .id = message->append.id, .unit_count = 1};

        cr_assert(message->lives);
        cr_assert_eq(spool_note(day.world->spool, &note), 0);
        message->lives = false;
        spool_release(day.world->spool, message->append.id, &message->append.location);
    }
}

static void pass(uint64_t seconds)
{
    struct spool *spool = day.world->spool;

    for (uint32_t i = 0; i < spool->segment_count; i++) {
        struct spool_segment *segment = spool->segments[i];

        segment->sealed_ns -= MIN(segment->sealed_ns, seconds * SECOND_NS);
        segment->relocate_ns -= MIN(segment->relocate_ns, seconds * SECOND_NS);
    }
    spool_log_flush(&spool->j);
    shard_defer(&day.world->shard, &spool->relocate.task);
    do
        shard_tick(&day.world->shard, false);
    while (!spool_relocate_idle(spool) || day.waiting > 0 || !spool_log_idle(&spool->j) ||
           spool->reuse.segment != NULL || !list_empty(&spool->dead_segments));
}

static double amplification(void)
{
    struct spool *spool = day.world->spool;
    uint64_t used = 0, live = 0;

    for (uint32_t i = 0; i < spool->segment_count; i++) {
        /* What is not used yet of the two that are being filled is spare, like the spares. */
        used += spool->segments[i]->sealed ? spool->segments[i]->size_bytes
                                           : spool->segments[i]->used_bytes;
        live += spool->segments[i]->live_bytes;
    }
    return (double)used / (double)live;
}

static void run_day(const char *name, bool even, double most)
{
    struct world *world = world_create_in(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ".");
    struct spool_counters counters;
    double copied, worst = 0, end = 0; /* of its last hour, on average */

    day.world = world;
    day.steps = 86400 / STEP_S;
    day.seed = 1;
    day.messages = calloc(86400 * EACH_SECOND + 1, sizeof(*day.messages));
    day.ends = calloc(day.steps + 1, sizeof(uint32_t));
    cr_assert(day.messages && day.ends);
    fill_body(body, sizeof(body), 1);
    world->config.buffered = true;
    world->config.hot_bytes_max = 0;
    world_open(world);
    world->spool->owner = &callbacks;
    world->spool->restored = true;
    day.first_id = spool_next_id(world->spool) + 1;
    for (uint32_t step = 0; step < day.steps; step++) {
        for (uint32_t i = 0; i < STEP_S * EACH_SECOND; i++)
            accept_one(step * STEP_S, even);
        pass(STEP_S);
        end_step(step);
        if (step >= day.steps - LAST_STEPS)
            end += amplification() / LAST_STEPS;
        if (step > day.steps / 2)
            worst = MAX(worst, amplification());
    }
    spool_counters(world->spool, &counters);
    copied =
        (double)counters.relocated_bytes / (double)(counters.group_bytes + counters.journal_bytes);
    printf("%s: after a day %.2f times the live bytes on disk (%.2f on average in the last "
           "hour, %.2f at most since noon), "
           "%.1f%% of the appended bytes copied, %.1f MiB live, %" PRIu64
           " segments reused, %" PRIu64 " removed\n",
           name, amplification(), end, worst, 100 * copied, (double)counters.live_bytes / MIB,
           counters.segments_reused, counters.segments_removed);
    cr_assert_leq(amplification(), most);
    cr_assert_leq(copied, 0.10);
    for (uint32_t i = 0; i < day.count; i += 997) {
        uint8_t *read;
        size_t size;
        bool hot;

        if (!day.messages[i].lives)
            continue;
        cr_assert_eq(read_back(world, &day.messages[i].append.location, &read, &size, &hot), 0);
        cr_assert(size == sizeof(body) && memcmp(read, body, size) == 0);
        free(read);
    }
    free(day.messages);
    free(day.ends);
    world_destroy(world);
}

Test(spool_day, a_mixed_day_costs_little_space_and_few_copies)
{
    run_day("retries that grow apart", false, 1.6); /* 1.52 with segments of 2 MiB */
}
