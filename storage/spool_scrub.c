#include "storage/spool_private.h"

#include <errno.h>
#include <stdlib.h>

/* Reads what nobody reads: a message that waits for days lies on blocks that may have gone bad meanwhile. One window after
 * the other of each sealed segment is read and verified at a low rate while the logs are quiet, each segment once a day,
 * so that damage is told before the retry needs the message. A damaged segment is never used again. */

#define WINDOW_BYTES SPOOL_GROUP_BYTES_MAX /* holds a whole group */
#define RATE_FALLBACK_KIB 1024u
#define BUSY_MS 100u
#define NOTHING_MS 60000u
#define AGAIN_S 86400u
#define SETTLED_S 60u /* a segment that was sealed just now is in nobody's way of forgetting */

static void scrub_timer(struct timer *timer);
static void scrub_read_done(struct ring_op *op);
static void scrub_pinned(struct spool_segment_waiter *waiter, int result);

static struct spool *spool_of(struct spool_scrub *scrub)
{
    return CONTAINER_OF(scrub, struct spool, scrub);
}

void spool_scrub_init(struct spool *spool)
{
    struct spool_scrub *scrub = &spool->scrub;

    timer_init(&scrub->timer, scrub_timer);
    ring_op_init(&scrub->op, scrub_read_done);
    list_node_init(&scrub->waiter.node);
    scrub->waiter.ready = scrub_pinned;
}

void spool_scrub_deinit(struct spool *spool)
{
    struct spool_scrub *scrub = &spool->scrub;

    ASSERT(!scrub->busy);
    timer_disarm(&spool->shard->timers, &scrub->timer);
    if (scrub->segment != NULL)
        spool_segment_unhold(scrub->segment);
    free(scrub->window);
}

static uint32_t rate_kib(const struct spool *spool)
{
    return spool->config.scrub_kib_per_s != 0 ? spool->config.scrub_kib_per_s : RATE_FALLBACK_KIB;
}

static void scrub_arm(struct spool *spool, uint64_t delay_ms)
{
    if (!spool->stopping)
        shard_timer_arm(spool->shard, &spool->scrub.timer, delay_ms);
}

/* One window takes so long at the rate that is set. */
static void scrub_pace(struct spool *spool)
{
    scrub_arm(spool, MAX((uint64_t)WINDOW_BYTES / KIB * 1000 / rate_kib(spool), 1u));
}

void spool_scrub_start(struct spool *spool)
{
    if (spool->config.scrub_kib_per_s != SPOOL_SCRUB_NEVER)
        scrub_pace(spool);
}

/* ---- damage --------------------------------------------------------------------------------- */

/* False: it is read once more first, for a bit that flipped on the way is not one on the disk. */
static bool scrub_damage(struct spool *spool, uint64_t offset, uint64_t id)
{
    struct spool_scrub *scrub = &spool->scrub;
    char text[SPOOL_ID_TEXT_SIZE] = "";

    if (!scrub->again)
        return false;
    if (id != 0)
        spool_id_format(id, text);
    scrub->segment->damaged = true;
    spool->counters.scrub_damaged++;
    log_event(spool->shard->log, LOG_ERROR, "spool.scrub.damaged",
              log_cstr("spool", spool->config.path), log_u64("segment", scrub->segment->number),
              log_u64("offset", offset), log_cstr("id", text));
    return true;
}

/* ---- one window ----------------------------------------------------------------------------- */

/* False: something does not verify, and the window is to be read again. */
static bool scrub_group(struct spool *spool, uint32_t at, const struct spool_group_header *header)
{
    struct spool_scrub *scrub = &spool->scrub;
    uint32_t end = at + header->payload_end;

    at += SPOOL_GROUP_HEADER_BYTES;
    for (uint32_t i = 0; i < header->record_count && at < end; i++) {
        const uint8_t *bytes = scrub->window + at;
        uint64_t offset = scrub->offset + at;
        struct spool_record record;

        /* Behind a header that is gone nothing can be told apart: said once for the group. */
        if (end - at < SPOOL_RECORD_HEADER_BYTES ||
            !spool_record_decode(bytes, end - at, scrub->segment->seed, offset, &record))
            return scrub_damage(spool, offset, 0);
        if ((!spool_record_front_ok(&record, bytes) || !spool_record_body_ok(&record, bytes)) &&
            !scrub_damage(spool, offset, record.id))
            return false;
        at += (uint32_t)spool_record_aligned(record.record_bytes);
    }
    return true;
}

/* A group behind blocks that hold none: they were not used when it names the one before them. */
static bool scrub_hole(struct spool *spool, const struct spool_group_header *header)
{
    struct spool_scrub *scrub = &spool->scrub;
    bool damage = scrub->hole != 0 && header->previous_lsn != scrub->last_lsn &&
                  header->previous_lsn != 0 && header->durable_lsn >= header->previous_lsn;

    if (damage && !scrub_damage(spool, scrub->hole, 0))
        return false;
    scrub->hole = 0;
    scrub->last_lsn = header->lsn;
    return true;
}

/* True: all of it is done, and `*ret_bytes` of it will not be needed again. */
static bool scrub_window(struct spool *spool, uint32_t window_bytes, uint32_t *ret_bytes)
{
    struct spool_scrub *scrub = &spool->scrub;
    uint32_t at = 0;

    while (at + SPOOL_BLOCK_BYTES <= window_bytes) {
        struct spool_group_header header;

        if (!spool_group_header_decode(scrub->window + at, scrub->segment->seed, scrub->offset + at,
                                       &header)) {
            if (scrub->hole == 0)
                scrub->hole = scrub->offset + at;
            at += SPOOL_BLOCK_BYTES;
            continue;
        }
        if (header.group_bytes > window_bytes - at)
            break;
        if (!scrub_hole(spool, &header) || !scrub_group(spool, at, &header))
            return false;
        at += header.group_bytes;
    }
    *ret_bytes = MAX(at, (uint32_t)SPOOL_BLOCK_BYTES);
    return true;
}

/* ---- segment after segment ------------------------------------------------------------------ */

static void segment_end(struct spool *spool)
{
    struct spool_scrub *scrub = &spool->scrub;
    struct spool_segment *segment = scrub->segment;

    segment->scrubbed_ns = MAX(spool->shard->now_ns, (uint64_t)1);
    scrub->segment = NULL;
    spool_segment_unhold(segment);
}

static bool due(const struct spool_segment *segment)
{
    uint64_t now_ns = segment->spool->shard->now_ns;

    return segment->sealed && !segment->earlier && !segment->damaged && segment->live_count > 0 &&
           now_ns - segment->sealed_ns >= SETTLED_S * SECOND_NS &&
           (segment->scrubbed_ns == 0 || now_ns - segment->scrubbed_ns >= AGAIN_S * SECOND_NS);
}

/* The one that has waited longest. */
static bool segment_begin(struct spool *spool)
{
    struct spool_scrub *scrub = &spool->scrub;
    struct spool_segment *found = NULL;

    for (uint32_t i = 0; i < spool->segment_count; i++) {
        struct spool_segment *segment = spool->segments[i];

        if (due(segment) && (found == NULL || segment->scrubbed_ns < found->scrubbed_ns))
            found = segment;
    }
    if (found == NULL)
        return false;
    spool_segment_hold(found);
    scrub->segment = found;
    scrub->offset = SPOOL_BLOCK_BYTES;
    scrub->hole = scrub->last_lsn = 0;
    return true;
}

static void window_read(struct spool *spool)
{
    struct spool_scrub *scrub = &spool->scrub;

    scrub->hole_before = scrub->hole;
    scrub->last_lsn_before = scrub->last_lsn;
    ring_read(spool->shard->ring, &scrub->op, scrub->segment->fd, scrub->window,
              MIN((uint64_t)WINDOW_BYTES, scrub->segment->size_bytes - scrub->offset),
              scrub->offset);
}

static void scrub_pinned(struct spool_segment_waiter *waiter, int result)
{
    struct spool_scrub *scrub = CONTAINER_OF(waiter, struct spool_scrub, waiter);
    struct spool *spool = spool_of(scrub);

    if (result == 0) {
        window_read(spool);
        return;
    }
    scrub->busy = false;
    segment_end(spool); /* whoever reads it says why */
    scrub_pace(spool);
    spool_stop_check(spool);
}

/* The logs go first, and readers. */
static bool quiet(const struct spool *spool)
{
    return spool->d.flying == NULL && spool->reads_in_flight == 0 && spool_relocate_idle(spool);
}

static void scrub_timer(struct timer *timer)
{
    struct spool_scrub *scrub = CONTAINER_OF(timer, struct spool_scrub, timer);
    struct spool *spool = spool_of(scrub);

    if (spool->stopping)
        return;
    if (!quiet(spool)) {
        scrub_arm(spool, BUSY_MS);
        return;
    }
    if (scrub->window == NULL)
        scrub->window = aligned_alloc(SPOOL_BLOCK_BYTES, WINDOW_BYTES);
    /* One in which nothing lives any more is let go of: it waits to be used again. */
    if (scrub->segment != NULL && scrub->segment->live_count == 0)
        segment_end(spool);
    if (scrub->window == NULL || (scrub->segment == NULL && !segment_begin(spool))) {
        scrub_arm(spool, NOTHING_MS);
        return;
    }
    scrub->busy = true;
    scrub->again = false;
    if (spool_segment_pin(scrub->segment, &scrub->waiter) == 0)
        window_read(spool);
}

static void scrub_read_done(struct ring_op *op)
{
    struct spool_scrub *scrub = CONTAINER_OF(op, struct spool_scrub, op);
    struct spool *spool = spool_of(scrub);
    uint32_t bytes = WINDOW_BYTES;
    bool good = op->result > 0 ? scrub_window(spool, (uint32_t)op->result, &bytes)
                               : scrub_damage(spool, scrub->offset, 0);

    if (!good && !spool->stopping) {
        scrub->again = true;
        scrub->hole = scrub->hole_before;
        scrub->last_lsn = scrub->last_lsn_before;
        window_read(spool);
        return;
    }
    scrub->busy = false;
    spool_segment_unpin(scrub->segment);
    spool->counters.scrubbed_bytes += op->result > 0 ? (uint32_t)op->result : 0;
    scrub->offset += bytes;
    if (scrub->offset + SPOOL_BLOCK_BYTES > scrub->segment->size_bytes)
        segment_end(spool);
    scrub_pace(spool);
    spool_stop_check(spool);
}
