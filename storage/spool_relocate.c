#include "storage/spool_private.h"

#include "core/crc32c.h"

#include <errno.h>
#include <stdlib.h>

/* Mostly segments die whole. Where a few messages outlive the rest of their segment, they are copied to the cold lane, so
 * that the segment dies after all (QUEUE 2.7):
 *
 * - from D, when it is reclaim_after_s old and less than reclaim_live_percent of it lives, since the longer one waits the
 *   less there is to copy; at a fifth of that age when much of the disk is dead;
 * - from the cold lane itself, about an hour later: by then what had some retries to go is delivered as well, and what is left
 *   stays for days. These are copied together into segments of their own, in which hardly anything dies: mixed with
 *   younger ones they would be copied again and again.
 *
 * A message has two places from the moment its copy is durable until the owner gives one of them back. Never more than a
 * tenth of what is appended is copied: with less the disk fills up a little more. */

#define WINDOW_BYTES SPOOL_GROUP_BYTES_MAX /* a whole group fits, wherever the window begins */
#define LOOK_MS 1000
#define BUDGET_DIVISOR 10
#define AFTER_FALLBACK_S 600u
#define LIVE_PERCENT_FALLBACK 30u
/* A third of what lives is dead: sooner, since the budget has room for it. */
#define PRESSURE_DIVISOR 3
#define PRESSURE_HURRY 5
#define SECOND_AGE_FACTOR                                                                          \
    5 /* of reclaim_after_s: nearly an hour, and it was not young when it came */
#define SECOND_DEAD_DIVISOR                                                                        \
    20              /* a twentieth of what lives is dead in the cold lane: worth a round */
#define AGAIN_S 300 /* what is left after a round waits so long: an attempt was in hand */

static void relocate_task(struct shard_task *task);
static void relocate_timer(struct timer *timer);
static void relocate_op_done(struct ring_op *op);
static void relocate_pinned(struct spool_segment_waiter *waiter, int result);

void spool_relocate_init(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;

    timer_init(&relocate->timer, relocate_timer);
    shard_task_init(&relocate->task, relocate_task);
    ring_op_init(&relocate->op, relocate_op_done);
    list_node_init(&relocate->waiter.node);
    list_init(&relocate->loading);
    list_init(&relocate->moving);
    relocate->waiter.ready = relocate_pinned;
    relocate->dir_fd = spool->directory.dir_fd;
}

void spool_relocate_deinit(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;

    ASSERT(spool_relocate_idle(spool) && list_empty(&relocate->moving));
    timer_disarm(&spool->shard->timers, &relocate->timer);
    shard_undefer(&relocate->task);
    free(relocate->window);
    free(relocate->units);
}

bool spool_relocate_idle(const struct spool *spool)
{
    return spool->relocate.step == SPOOL_RELOCATE_IDLE;
}

void spool_relocate_start(struct spool *spool)
{
    shard_timer_arm(spool->shard, &spool->relocate.timer, LOOK_MS);
}

/* ---- which segment -------------------------------------------------------------------------- */

struct usage {
    uint64_t used_bytes, live_bytes; /* of sealed segments */
    uint64_t after_ns, second_ns;    /* ages of segments of D and of the cold lane */
    uint32_t live_percent;
};

static struct usage usage_of(const struct spool *spool)
{
    const struct spool_config *config = &spool->config;
    uint32_t after_s = config->reclaim_after_s != 0 ? config->reclaim_after_s : AFTER_FALLBACK_S;
    struct usage usage = {
        .after_ns = after_s * SECOND_NS,
        .second_ns = SECOND_AGE_FACTOR * after_s * SECOND_NS,
        .live_percent = config->reclaim_live_percent != 0 ? config->reclaim_live_percent
                                                          : LIVE_PERCENT_FALLBACK,
    };

    for (uint32_t i = 0; i < spool->segment_count; i++) {
        usage.used_bytes += spool->segments[i]->size_bytes;
        usage.live_bytes += spool->segments[i]->live_bytes;
    }
    if (usage.used_bytes > usage.live_bytes + usage.live_bytes / PRESSURE_DIVISOR)
        usage.after_ns /= PRESSURE_HURRY;
    return usage;
}

static bool worth(const struct spool_segment *segment, const struct usage *usage, uint64_t age_ns)
{
    uint64_t now_ns = segment->spool->shard->now_ns;

    return segment->sealed && !segment->earlier && !segment->damaged && segment->live_count > 0 &&
           now_ns >= segment->relocate_ns && now_ns - segment->sealed_ns >= age_ns &&
           segment->live_bytes * 100 < segment->size_bytes * usage->live_percent;
}

/* Of those that are old enough, the one with the least to copy. */
static struct spool_segment *best(const struct spool *spool, char stream, const struct usage *usage,
                                  uint64_t age_ns, uint64_t *ret_dead_bytes)
{
    struct spool_segment *found = NULL;

    *ret_dead_bytes = 0;
    for (uint32_t i = 0; i < spool->segment_count; i++) {
        struct spool_segment *segment = spool->segments[i];

        if (segment->stream != stream || !worth(segment, usage, age_ns))
            continue;
        *ret_dead_bytes += segment->size_bytes - segment->live_bytes;
        if (found == NULL || segment->live_bytes < found->live_bytes)
            found = segment;
    }
    return found;
}

static bool affordable(const struct spool *spool, const struct spool_segment *segment)
{
    const struct spool_counters *counters = &spool->counters;
    uint64_t appended = counters->group_bytes + counters->journal_bytes;

    /* The floor lets a quiet spool empty its first segment. */
    return counters->relocated_bytes + segment->live_bytes <=
           appended / BUDGET_DIVISOR + spool->d.segment_bytes / BUDGET_DIVISOR;
}

/* Sets relocate->second for what comes back. */
static struct spool_segment *choose(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;
    struct usage usage = usage_of(spool);
    uint64_t dead_bytes;
    struct spool_segment *segment = best(spool, 'R', &usage, usage.second_ns, &dead_bytes);

    if (segment != NULL && !relocate->second)
        relocate->second = dead_bytes > usage.live_bytes / SECOND_DEAD_DIVISOR;
    if (segment == NULL || !relocate->second) {
        relocate->second = false;
        segment = best(spool, 'D', &usage, usage.after_ns, &dead_bytes);
    }
    return segment != NULL && affordable(spool, segment) ? segment : NULL;
}

/* ---- one record ----------------------------------------------------------------------------- */

static struct spool_unit *units_for(struct spool_relocate *relocate, uint32_t count)
{
    struct spool_unit *grown;

    if (count <= relocate->unit_capacity)
        return relocate->units;
    grown = realloc(relocate->units, count * sizeof(*grown));
    if (grown == NULL)
        return NULL;
    relocate->units = grown;
    relocate->unit_capacity = count;
    return grown;
}

struct found {
    struct spool_record record;
    struct spool_sections sections;
    struct spool_location location;
    bool chunked;
    const struct spool_unit *units;
    bool held;
    struct slice reason;
};

static bool is_message(const struct spool_record *record)
{
    return record->type == SPOOL_MSG || record->type == SPOOL_COMMIT || record->type == SPOOL_RELOC;
}

/* Appends the copy to the cold lane; relocated() follows when it is durable. */
static int copy_write(struct spool *spool, const struct found *found)
{
    const struct spool_sections *from = &found->sections;
    struct spool_record record = found->record;
    struct spool_copy *copy;
    uint32_t group_offset, front;
    uint8_t *to, *at;

    record.type = SPOOL_RELOC;
    record.flags = (uint8_t)((record.flags & ~SPOOL_RELOC_CHUNKED) |
                             (found->chunked ? SPOOL_RELOC_CHUNKED : 0u));
    record.states_bytes = spool_states_bytes(record.unit_count, found->reason.size);
    front =
        (uint32_t)(from->envelope.size + from->head.size + from->skips.size) + record.states_bytes;
    if ((uint64_t)SPOOL_RECORD_HEADER_BYTES + front + from->body.size + SPOOL_RECORD_ALIGN >
        SPOOL_RECORD_BYTES_MAX)
        return -E2BIG;
    record.record_bytes = (uint32_t)(SPOOL_RECORD_HEADER_BYTES + front + from->body.size);
    copy = calloc(1, sizeof(*copy));
    to = copy == NULL ? NULL : spool_log_reserve(&spool->r, record.record_bytes, &group_offset);
    if (to == NULL) {
        free(copy);
        return -ENOMEM;
    }
    at = to + SPOOL_RECORD_HEADER_BYTES;
    /* Envelope, head and skip table stand behind each other in the original too. */
    memcpy(at, from->envelope.data, front - record.states_bytes);
    at += front - record.states_bytes;
    spool_states_encode(at, found->held, found->units, record.unit_count, found->reason);
    at += record.states_bytes;
    memcpy(at, from->body.data, from->body.size);
    record.front_crc = crc32c(0, slice_of(to + SPOOL_RECORD_HEADER_BYTES, front));
    spool_record_encode(&record, to);
    *copy = (struct spool_copy){
        .id = record.id,
        .from = found->location,
        .to = {.offset_16 = group_offset / SPOOL_RECORD_ALIGN, .record_bytes = record.record_bytes},
        .chunked = found->chunked,
    };
    list_node_init(&copy->node);
    list_push_back(&spool->r.open->copies, &copy->node);
    spool->relocate.copies++;
    return 0;
}

void spool_relocate_message(struct spool *spool, const struct spool_record *record,
                            const struct spool_sections *sections,
                            const struct spool_location *from, bool chunked)
{
    struct found found = {
        .record = *record,
        .sections = *sections,
        .location = *from,
        .chunked = chunked,
    };
    struct spool_unit *units = record->unit_count > SPOOL_UNITS_MAX
                                   ? NULL
                                   : units_for(&spool->relocate, record->unit_count);

    /* Whatever keeps it here, it keeps its segment too. */
    if (units == NULL ||
        spool->owner->states(spool->owner_context, record->id, from, sections->envelope, units,
                             record->unit_count, &found.held, &found.reason) != 0)
        return;
    found.units = units;
    (void)copy_write(spool, &found);
}

static void consider(struct spool *spool, const uint8_t *bytes, const struct spool_record *record,
                     const struct spool_location *location)
{
    struct spool_sections sections;
    bool chunked = record->type == SPOOL_COMMIT ||
                   (record->type == SPOOL_RELOC && (record->flags & SPOOL_RELOC_CHUNKED));

    /* A copy would hide damage: the next attempt says so. */
    if (!spool_record_front_ok(record, bytes) || !spool_record_body_ok(record, bytes) ||
        (chunked && spool_moving_is(spool, record->id, location)))
        return;
    spool_record_sections(record, bytes, &sections);
    spool_relocate_message(spool, record, &sections, location, chunked);
}

/* ---- one window ----------------------------------------------------------------------------- */

/* The records of a group that lies in the window as a whole. */
static void walk_group(struct spool *spool, uint32_t at, const struct spool_group_header *header)
{
    struct spool_relocate *relocate = &spool->relocate;
    uint32_t end = at + header->payload_end;

    at += SPOOL_GROUP_HEADER_BYTES;
    while (at + SPOOL_RECORD_HEADER_BYTES <= end) {
        uint64_t offset = relocate->offset + at;
        const uint8_t *bytes = relocate->window + at;
        struct spool_location location = {relocate->segment->number,
                                          (uint32_t)(offset / SPOOL_RECORD_ALIGN), 0};
        struct spool_record record;

        if (!spool_record_decode(bytes, end - at, relocate->segment->seed, offset, &record)) {
            at += SPOOL_RECORD_ALIGN; /* damage: what lives there stays */
            continue;
        }
        location.record_bytes = record.record_bytes;
        if (record.type == SPOOL_CHUNK)
            spool_moving_chunk(spool, &record, bytes, location.offset_16);
        else if (is_message(&record))
            consider(spool, bytes, &record, &location);
        at += (uint32_t)spool_record_aligned(record.record_bytes);
    }
}

/* All whole groups of the window; the next one begins behind them. */
static void walk_window(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;
    uint32_t at = 0;

    while (at + SPOOL_BLOCK_BYTES <= relocate->window_bytes) {
        struct spool_group_header header;

        if (!spool_group_header_decode(relocate->window + at, relocate->segment->seed,
                                       relocate->offset + at, &header)) {
            at += SPOOL_BLOCK_BYTES;
            continue;
        }
        if (header.group_bytes > relocate->window_bytes - at)
            break;
        walk_group(spool, at, &header);
        at += header.group_bytes;
    }
    relocate->offset += MAX(at, SPOOL_BLOCK_BYTES);
}

static void window_read(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;
    uint64_t bytes = MIN((uint64_t)WINDOW_BYTES, relocate->segment->size_bytes - relocate->offset);

    relocate->step = SPOOL_RELOCATE_READING;
    ring_read(spool->shard->ring, &relocate->op, relocate->segment->fd, relocate->window, bytes,
              relocate->offset);
}

/* ---- one segment ---------------------------------------------------------------------------- */

static int cut_job(struct ring_op *op)
{
    struct spool_relocate *relocate = CONTAINER_OF(op, struct spool_relocate, op);
    int fd;
    int r = file_open(relocate->dir_fd, relocate->name, FILE_WRITE, 0, &fd);

    if (r < 0)
        return r;
    r = file_truncate(fd, relocate->segment->used_bytes);
    (void)file_close(fd); /* a size that comes back after a crash is only space */
    return r;
}

/* Young and old do not share a segment of the cold lane: the one in use ends here, and its unused rest is given back. True:
 * a job is under way. */
static bool part_lanes(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;
    struct spool_segment *segment = spool->r.current;

    if (segment == NULL || segment->used_bytes == SPOOL_BLOCK_BYTES)
        return false;
    relocate->segment = segment;
    relocate->step = SPOOL_RELOCATE_CUTTING;
    spool_segment_hold(segment); /* perhaps all in it is dead by now */
    spool_log_end_segment(&spool->r);
    spool_segment_name('R', segment->number & ~SPOOL_COLD, relocate->name);
    ring_job(spool->shard->ring, &relocate->op, RING_JOB_FILE, cut_job);
    return true;
}

static void segment_end(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;
    struct spool_segment *segment = relocate->segment;

    segment->relocate_ns = spool->shard->now_ns + AGAIN_S * SECOND_NS;
    spool_moving_drop(spool);
    relocate->segment = NULL;
    relocate->step = SPOOL_RELOCATE_IDLE;
    spool_segment_unpin(segment);
    spool_segment_unhold(segment);
    spool_stop_check(spool);
    if (!relocate->failed)
        shard_defer(spool->shard, &relocate->task);
}

/* First the COMMITs of big messages, one by one, then the segment itself. */
static void load_next(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;

    if (!spool->stopping && spool_moving_load(spool, &relocate->load)) {
        relocate->step = SPOOL_RELOCATE_LOADING;
        spool_segment_hold(relocate->load->segment);
        if (spool_segment_pin(relocate->load->segment, &relocate->waiter) == 0)
            spool_moving_read(spool, relocate->load);
        return;
    }
    relocate->step = SPOOL_RELOCATE_OPENING;
    if (spool_segment_pin(relocate->segment, &relocate->waiter) == 0)
        window_read(spool);
}

static void segment_begin(struct spool *spool, struct spool_segment *segment)
{
    struct spool_relocate *relocate = &spool->relocate;

    if (relocate->window == NULL)
        relocate->window = aligned_alloc(SPOOL_BLOCK_BYTES, WINDOW_BYTES);
    if (relocate->window == NULL)
        return;
    relocate->segment = segment;
    relocate->offset = SPOOL_BLOCK_BYTES;
    relocate->failed = relocate->finishing = false;
    spool_segment_hold(segment);
    spool_moving_collect(spool, segment);
    load_next(spool);
}

static void load_end(struct spool *spool, int32_t result)
{
    struct spool_relocate *relocate = &spool->relocate;
    struct spool_segment *segment = relocate->load->segment;

    spool_moving_loaded(spool, relocate->load, result);
    relocate->load = NULL;
    spool_segment_unhold(segment);
    load_next(spool);
}

static void relocate_pinned(struct spool_segment_waiter *waiter, int result)
{
    struct spool_relocate *relocate = CONTAINER_OF(waiter, struct spool_relocate, waiter);
    struct spool *spool = CONTAINER_OF(relocate, struct spool, relocate);

    if (relocate->step == SPOOL_RELOCATE_LOADING) {
        if (result == 0)
            spool_moving_read(spool, relocate->load);
        else
            load_end(spool, result);
        return;
    }
    if (result == 0) {
        window_read(spool);
        return;
    }
    spool_moving_drop(spool);
    relocate->segment->relocate_ns = spool->shard->now_ns + AGAIN_S * SECOND_NS;
    spool_segment_unhold(relocate->segment);
    relocate->segment = NULL;
    relocate->step = SPOOL_RELOCATE_IDLE;
    spool_stop_check(spool);
}

/* ---- the steps ------------------------------------------------------------------------------ */

static void relocate_timer(struct timer *timer)
{
    struct spool_relocate *relocate = CONTAINER_OF(timer, struct spool_relocate, timer);
    struct spool *spool = CONTAINER_OF(relocate, struct spool, relocate);

    if (spool->stopping)
        return;
    spool_relocate_start(spool);
    if (relocate->step == SPOOL_RELOCATE_IDLE)
        shard_defer(spool->shard, &relocate->task);
}

static void look(struct spool *spool)
{
    struct spool_relocate *relocate = &spool->relocate;
    bool second = relocate->second;
    struct spool_segment *segment;

    if (spool->stopping || spool->owner == NULL || !spool->restored || !spool_journal_ok(spool) ||
        !spool_log_idle(&spool->r))
        return;
    segment = choose(spool);
    if (relocate->second != second && part_lanes(spool))
        return; /* it is chosen again afterwards */
    if (segment != NULL)
        segment_begin(spool, segment);
}

/* The task runs again when all that gathered is durable. */
static void copies_await(struct spool *spool)
{
    spool_log_flush(&spool->r);
    if (spool->relocate.copies == 0)
        shard_defer(spool->shard, &spool->relocate.task);
}

static void relocate_task(struct shard_task *task)
{
    struct spool_relocate *relocate = CONTAINER_OF(task, struct spool_relocate, task);
    struct spool *spool = CONTAINER_OF(relocate, struct spool, relocate);

    if (relocate->step == SPOOL_RELOCATE_IDLE) {
        look(spool);
        return;
    }
    ASSERT(relocate->step == SPOOL_RELOCATE_COPYING && relocate->copies == 0);
    if (relocate->failed || spool->stopping) {
        segment_end(spool);
    } else if (relocate->offset + SPOOL_BLOCK_BYTES <= relocate->segment->size_bytes) {
        window_read(spool);
    } else if (!relocate->finishing) {
        relocate->finishing = true;
        spool_moving_finish(spool);
        copies_await(spool);
    } else {
        segment_end(spool);
    }
}

static void relocate_op_done(struct ring_op *op)
{
    struct spool_relocate *relocate = CONTAINER_OF(op, struct spool_relocate, op);
    struct spool *spool = CONTAINER_OF(relocate, struct spool, relocate);
    struct spool_segment *segment = relocate->segment;

    if (relocate->step == SPOOL_RELOCATE_LOADING) {
        spool_segment_unpin(relocate->load->segment);
        load_end(spool, op->result);
        return;
    }
    if (relocate->step == SPOOL_RELOCATE_CUTTING) {
        if (op->result == 0)
            segment->size_bytes = segment->used_bytes;
        relocate->segment = NULL;
        relocate->step = SPOOL_RELOCATE_IDLE;
        spool_segment_unhold(segment);
        shard_defer(spool->shard, &relocate->task);
        spool_stop_check(spool);
        return;
    }
    relocate->step = SPOOL_RELOCATE_COPYING;
    relocate->window_bytes = op->result < 0 ? 0 : (uint32_t)op->result;
    /* What cannot be read stays where it is: whoever needs it finds out, or the scrubber. */
    if (op->result <= 0)
        relocate->offset += WINDOW_BYTES;
    else if (!spool->stopping)
        walk_window(spool);
    copies_await(spool);
}

/* ---- durable -------------------------------------------------------------------------------- */

static void copy_durable(struct spool *spool, const struct spool_group *group,
                         struct spool_copy *copy)
{
    const uint8_t *bytes = group->data + (size_t)copy->to.offset_16 * SPOOL_RECORD_ALIGN;

    copy->to.segment = group->segment->number;
    copy->to.offset_16 += (uint32_t)(group->offset / SPOOL_RECORD_ALIGN);
    if (copy->moving != NULL) {
        spool_moving_chunk_durable(spool, copy);
        return;
    }
    spool_live_add(spool, copy->id, &copy->to, copy->chunked);
    if (copy->chunked) {
        struct spool_record record;
        struct spool_sections sections;
        struct spool_chunk_list list;

        if (spool_record_decode(bytes, SPOOL_RECORD_BYTES_MAX, group->segment->seed,
                                (uint64_t)copy->to.offset_16 * SPOOL_RECORD_ALIGN, &record)) {
            spool_record_sections(&record, bytes, &sections);
            if (spool_chunk_list_decode(sections.body, &list))
                spool_live_chunks(spool, &copy->to, &list);
        }
    }
    spool->counters.relocated++;
    spool->owner->relocated(spool->owner_context, copy->id, &copy->from, &copy->to);
}

void spool_relocate_group_done(struct spool *spool, struct spool_group *group, int result)
{
    struct spool_relocate *relocate = &spool->relocate;
    struct list_node *node;

    while ((node = list_pop_front(&group->copies)) != NULL) {
        struct spool_copy *copy = CONTAINER_OF(node, struct spool_copy, node);

        if (result == 0)
            copy_durable(spool, group, copy);
        else
            relocate->failed = true;
        relocate->copies--;
        free(copy);
    }
    if (relocate->copies == 0 && relocate->step == SPOOL_RELOCATE_COPYING)
        shard_defer(spool->shard, &relocate->task);
}
