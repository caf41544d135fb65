#include "daemon/node_spools.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/file.h"
#include "storage/maildir.h"

#define SPOOLS_HOT_SHARE 4 /* of the memory budget: group memory kept for sending */
#define SPOOLS_GATHER_BYTES_MAX (8 * MIB)
#define SPOOLS_JOURNAL_FLUSH_MS 20
#define SPOOLS_ADOPTED_SEGMENT_BYTES (4 * MIB) /* reports and relocations only */
#define SPOOLS_POISON "the server ended twice by a crash over this message (see CRASHES)"
#define SPOOLS_MARK_MS (30 * SECOND_MS)

/* A file in tmp/ of a mailbox, from an earlier life. */
struct node_leftover {
    uint64_t id;
    uint32_t unit;
    bool waits; /* in the queue: it is delivered again, and this file goes */
};

const char *node_spool_state_name(enum node_spool_state state)
{
    static const char *const names[] = {"on hold", "recovering", "mailboxes", "ready", "failed"};

    return names[state];
}

struct node_spool *node_spools_find(struct node *node, uint32_t number)
{
    for (uint32_t i = 0; i < node->spool_count; i++)
        if (node->spools[i].found->number == number)
            return &node->spools[i];
    return NULL;
}

static struct log *node_spool_log(const struct node_spool *spool)
{
    return spool->node->shard->log;
}

/* ---- markers --------------------------------------------------------------------------------------- */

/* What the marker should say now; false: it says so already. */
static bool node_spool_marker_next(struct node_spool *spool, bool hold)
{
    struct marker next = {.hold = hold};

    memcpy(next.uuid, spool_uuid(spool->spool), sizeof(next.uuid));
    spool_progress(spool->spool, &next.epoch, &next.sequence);
    if (next.sequence == spool->marker.sequence && next.hold == spool->marker.hold)
        return false;
    spool->marker = next;
    return true;
}

static void node_spool_marker_told(struct node_spool *spool, int result)
{
    if (result == 0)
        return;
    log_event(node_spool_log(spool), LOG_WARNING, "spool.marker_not_written",
              log_u64("spool", spool->found->number), log_cstr("error", strerror(-result)));
    spool->marker.sequence = 0; /* so the next round tries again */
}

static int node_spool_mark_job(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, mark);

    return marker_write(spool->node->kilatd->spool_root_fd, spool->found->number, &spool->marker);
}

static void node_spool_mark_done(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, mark);
    void (*marked)(struct node_spool * spool, int result) = spool->marked;

    spool->marking = false;
    spool->marked = NULL;
    node_spool_marker_told(spool, op->result);
    if (marked != NULL)
        marked(spool, op->result);
    node_check_empty(spool->node);
}

static void node_spool_mark(struct node_spool *spool, bool hold)
{
    if (spool->marking || !node_spool_marker_next(spool, hold))
        return;
    spool->marking = true;
    ring_op_init(&spool->mark, node_spool_mark_done);
    ring_job(spool->node->shard->ring, &spool->mark, RING_JOB_FILE, node_spool_mark_job);
}

/* SUPER goes on while the server runs, and a copy from before is to be known as one. */
static void node_spools_mark(struct timer *timer)
{
    struct node *node = CONTAINER_OF(timer, struct node, marking);

    for (uint32_t i = 0; i < node->spool_count; i++)
        if (node->spools[i].state != NODE_SPOOL_ON_HOLD)
            node_spool_mark(&node->spools[i], false);
    shard_timer_arm(node->shard, timer, SPOOLS_MARK_MS);
}

static void node_spool_configure(const struct node_spool *spool, const char *path,
                                 struct spool_config *config)
{
    const struct node *node = spool->node;
    const struct settings *settings = &node->generation->settings;
    uint64_t hot = settings->memory_max / SPOOLS_HOT_SHARE / node->kilatd->shard_count;

    *config = (struct spool_config){
        .path = path,
        .number = spool->found->number,
        .segment_bytes = spool->own ? settings->segment_bytes : SPOOLS_ADOPTED_SEGMENT_BYTES,
        .spare_segments = spool->own ? (uint32_t)settings->spare_segments : 1,
        .hot_bytes_max = spool->own ? hot : MIN(hot, SPOOLS_GATHER_BYTES_MAX),
        .gather_bytes_max = SPOOLS_GATHER_BYTES_MAX,
        .journal_flush_ms = SPOOLS_JOURNAL_FLUSH_MS,
        .checkpoint_bytes = settings->checkpoint_bytes,
        .checkpoint_ms = (uint32_t)settings->checkpoint_interval_ms,
        .reclaim_after_s = (uint32_t)(settings->reclaim_after_ms / SECOND_MS),
        .reclaim_live_percent = (uint32_t)settings->reclaim_live_percent,
        .keep_free_bytes = settings->keep_free_bytes,
        .scrub_kib_per_s = settings->scrub_rate == 0
                               ? SPOOL_SCRUB_NEVER
                               : (uint32_t)MAX(settings->scrub_rate / KIB, 1u),
        .force_file_system = settings->force_file_system,
        .owner_pid = (int32_t)getpid(), /* for whoever starts a second server on it */
    };
}

/* ---- messages that end the server ------------------------------------------------------------------- */

/* They are held as soon as they are known. */
static int node_spool_set_poison_aside(struct node_spool *spool)
{
    const struct crashes *crashes = &spool->node->kilatd->crashes;
    uint32_t at = 0;
    uint64_t id;
    int r = 0;

    while (r == 0 && crashes_next(crashes, &at, &id))
        if (id >> 54 == spool->found->number)
            r = queue_set_aside(spool->node->queue, id, SLICE(SPOOLS_POISON));
    return r;
}

static int node_spool_aside_job(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, aside);
    int fd = spool->node->kilatd->crashes_fd;
    int r = file_write_all(fd, buf_slice(&spool->aside_lines), 0); /* appended, wherever it says */

    return r == 0 ? file_sync_data(fd) : r;
}

static void node_spool_aside_done(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, aside);

    spool->setting_aside = false;
    buf_deinit(&spool->aside_lines);
    if (op->result < 0) /* at worst it is put on hold once more after it was released */
        log_event(node_spool_log(spool), LOG_WARNING, "crashes.not_written",
                  log_cstr("error", strerror(-op->result)));
    node_check_empty(spool->node);
}

/* The queue knows all messages now, holds these and has named them: their crashes count no more. */
static void node_spool_forget_crashes(struct node_spool *spool)
{
    struct node *node = spool->node;
    uint32_t at = 0;
    uint64_t id;

    buf_init(&spool->aside_lines, 64 * KIB);
    while (crashes_next(&node->kilatd->crashes, &at, &id))
        if (id >> 54 == spool->found->number)
            crashes_write_set_aside(&spool->aside_lines, id);
    if (spool->aside_lines.size == 0 || node->kilatd->crashes_fd < 0) {
        buf_deinit(&spool->aside_lines);
        return;
    }
    spool->setting_aside = true;
    ring_op_init(&spool->aside, node_spool_aside_done);
    ring_job(node->shard->ring, &spool->aside, RING_JOB_FILE, node_spool_aside_job);
}

/* ---- opening ---------------------------------------------------------------------------------------- */

static int node_spool_open_one(struct node_spool *spool)
{
    struct node *node = spool->node;
    struct spool_recovery *recovery = NULL;
    struct spool_config config;
    uint64_t began_ns = clock_monotonic_ns();
    char path[4096];
    int r;

    (void)snprintf(path, sizeof(path), "%s/%04u", node->generation->settings.spool_directory,
                   spool->found->number);
    node_spool_configure(spool, path, &config);
    r = spool_open(&config, &recovery, &node->start_error);
    if (r < 0)
        return r;
    spool->first_id = spool_recovery_counter(recovery);
    r = spool_start(node->shard, &recovery, &spool->spool);
    if (r < 0) {
        spool_recovery_destroy(&recovery);
        buf_printf(&node->start_error, "%s: cannot be started: %s", path, strerror(-r));
        return r;
    }
    if (spool->own)
        node->spool = spool->spool;
    log_event(node->shard->log, LOG_NOTICE, "spool.opened", log_cstr("path", path),
              log_bool("adopted", !spool->own),
              log_u64("took_us", (clock_monotonic_ns() - began_ns) / US_NS));
    r = queue_add_spool(node->queue, spool->spool, spool->own);
    return r == 0 ? node_spool_set_poison_aside(spool) : r;
}

/* What is held is noted in the marker before anything else, or the second start would forget it. */
static void node_spool_judge(struct node_spool *spool)
{
    bool hold = spool->found->verdict != MARKER_FINE;
    int r;

    if (spool->found->marker_damaged)
        log_event(node_spool_log(spool), LOG_WARNING, "spool.marker_unreadable",
                  log_u64("spool", spool->found->number));
    spool->state = hold ? NODE_SPOOL_ON_HOLD : NODE_SPOOL_RECOVERING;
    if (hold) {
        (void)snprintf(spool->sentence, sizeof(spool->sentence), "%s %04u",
                       marker_sentence(spool->found->verdict), spool->found->number);
        log_event(node_spool_log(spool), LOG_ERROR, "spool.on_hold",
                  log_u64("spool", spool->found->number), log_cstr("reason", spool->sentence));
    }
    (void)node_spool_marker_next(spool, hold);
    r = marker_write(spool->node->kilatd->spool_root_fd, spool->found->number, &spool->marker);
    node_spool_marker_told(spool, r);
}

void node_spools_init(struct node *node)
{
    timer_init(&node->marking, node_spools_mark);
}

int node_spools_open(struct node *node)
{
    const struct kilatd *kilatd = node->kilatd;
    int r = 0;

    node->spools = calloc(kilatd->spool_count, sizeof(*node->spools));
    if (node->spools == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < kilatd->spool_count && r == 0; i++) {
        struct node_spool *spool = &node->spools[node->spool_count];
        if (kilatd->spools[i].shard != node->shard->index)
            continue;
        spool->node = node;
        spool->found = &kilatd->spools[i];
        spool->own = spool->found->number == node->shard->index;
        node->spool_count++;
        r = node_spool_open_one(spool);
        if (r == 0)
            node_spool_judge(spool);
    }
    return r;
}

/* ---- mailboxes ------------------------------------------------------------------------------------- */

static void node_spool_settle(struct node_spool *spool);

static enum maildir_fate node_spool_note_leftover(void *context, uint64_t id, uint32_t unit)
{
    struct node_spool *spool = context;

    if (id >= spool->first_id)
        return MAILDIR_LEAVE; /* of this life: being delivered just now */
    if (spool->leftover_count == spool->leftover_capacity) {
        size_t capacity = MAX(spool->leftover_capacity * 2, 64u);
        struct node_leftover *grown = realloc(spool->leftovers, capacity * sizeof(*grown));
        if (grown == NULL)
            return MAILDIR_LEAVE; /* it stays for the next start; its message is delivered in its place */
        spool->leftovers = grown;
        spool->leftover_capacity = capacity;
    }
    spool->leftovers[spool->leftover_count++] = (struct node_leftover){id, unit, false};
    return MAILDIR_LEAVE;
}

static int leftover_compare(const void *a, const void *b)
{
    const struct node_leftover *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return left->unit < right->unit ? -1 : left->unit > right->unit;
}

static int node_spool_list_job(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, walk);
    int r = maildir_recover(spool->node->kilatd->mail_root_fd, spool_uuid(spool->spool),
                            node_spool_note_leftover, spool);

    if (spool->leftover_count > 0)
        qsort(spool->leftovers, spool->leftover_count, sizeof(*spool->leftovers), leftover_compare);
    return r;
}

static enum maildir_fate node_spool_fate(void *context, uint64_t id, uint32_t unit)
{
    const struct node_spool *spool = context;
    const struct node_leftover wanted = {.id = id, .unit = unit};
    const struct node_leftover *found =
        bsearch(&wanted, spool->leftovers, spool->leftover_count, sizeof(wanted), leftover_compare);

    if (found == NULL)
        return MAILDIR_LEAVE;
    return found->waits ? MAILDIR_REMOVE : MAILDIR_PUBLISH;
}

static int node_spool_settle_job(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, walk);

    return maildir_recover(spool->node->kilatd->mail_root_fd, spool_uuid(spool->spool),
                           node_spool_fate, spool);
}

static void node_spool_ready(struct node_spool *spool)
{
    free(spool->leftovers);
    spool->leftovers = NULL;
    spool->leftover_count = spool->leftover_capacity = 0;
    spool->state = NODE_SPOOL_READY;
    local_ready(spool->node->local);
}

static void node_spool_walk_failed(const struct node_spool *spool, int result)
{
    if (result < 0)
        log_event(node_spool_log(spool), LOG_ERROR, "mailboxes.not_all_recovered",
                  log_u64("spool", spool->found->number), log_cstr("error", strerror(-result)));
}

static void node_spool_settled(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, walk);

    spool->walking = false;
    node_spool_walk_failed(spool, op->result);
    log_event(node_spool_log(spool), LOG_NOTICE, "mailboxes.recovered",
              log_u64("spool", spool->found->number), log_u64("found", spool->leftover_count),
              log_i64("published", MAX(op->result, 0)));
    node_spool_ready(spool);
    node_check_empty(spool->node);
}

static void node_spool_listed(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, walk);

    spool->walking = false;
    spool->listed = true;
    node_spool_walk_failed(spool, op->result);
    node_spool_settle(spool);
    node_check_empty(spool->node);
}

/* Once the queue knows all that waits, and the names are known. */
static void node_spool_settle(struct node_spool *spool)
{
    if (!spool->restored || !spool->listed)
        return;
    if (spool->leftover_count == 0) {
        node_spool_ready(spool);
        return;
    }
    if (spool->node->draining)
        return; /* the next start does it */
    for (size_t i = 0; i < spool->leftover_count; i++)
        spool->leftovers[i].waits =
            queue_unit_open(spool->node->queue, spool->leftovers[i].id, spool->leftovers[i].unit);
    spool->walking = true;
    ring_op_init(&spool->walk, node_spool_settled);
    ring_job(spool->node->shard->ring, &spool->walk, RING_JOB_FILE, node_spool_settle_job);
}

bool node_spools_settling(const struct node *node)
{
    for (uint32_t i = 0; i < node->spool_count; i++)
        if (node->spools[i].state == NODE_SPOOL_MAILBOXES)
            return true;
    return false;
}

/* ---- bringing back ---------------------------------------------------------------------------------- */

static void node_spool_restore_begin(struct node_spool *spool)
{
    struct node *node = spool->node;

    spool->state = NODE_SPOOL_RECOVERING;
    spool->began_ns = node->shard->now_ns;
    spool->walking = true;
    ring_op_init(&spool->walk, node_spool_listed);
    ring_job(node->shard->ring, &spool->walk, RING_JOB_FILE, node_spool_list_job);
    spool_restore(spool->spool);
}

void node_spools_restore(struct node *node)
{
    for (uint32_t i = 0; i < node->spool_count; i++)
        if (node->spools[i].state == NODE_SPOOL_RECOVERING)
            node_spool_restore_begin(&node->spools[i]);
    shard_timer_arm(node->shard, &node->marking, SPOOLS_MARK_MS);
}

static struct node_spool *node_spool_of(struct node *node, const struct spool *wanted)
{
    for (uint32_t i = 0; i < node->spool_count; i++)
        if (node->spools[i].spool == wanted)
            return &node->spools[i];
    ASSERT(false); /* the queue knows only those it was given */
    return NULL;
}

void node_spools_restored(void *context, struct spool *which, int result,
                          const struct spool_report *report, struct slice error)
{
    struct node *node = context;
    struct node_spool *spool = node_spool_of(node, which);

    spool->report = *report;
    spool->took_us = (node->shard->now_ns - spool->began_ns) / US_NS;
    if (result < 0) {
        spool->state = NODE_SPOOL_FAILED;
        (void)snprintf(spool->sentence, sizeof(spool->sentence), "%.*s", (int)MIN(error.size, 290),
                       (const char *)error.data);
        log_event(node->shard->log, LOG_ERROR, "spool.not_restored",
                  log_u64("spool", spool->found->number), log_i64("error", result),
                  log_text("reason", error));
        return;
    }
    log_event(
        node->shard->log, report->damaged_records > 0 ? LOG_ERROR : LOG_NOTICE, "spool.restored",
        log_u64("spool", spool->found->number), log_u64("checkpoint", report->checkpoint),
        log_u64("entries", report->entries), log_u64("messages", report->messages),
        log_u64("notes", report->notes), log_u64("bytes", report->bytes_scanned),
        log_u64("groups", report->groups), log_u64("torn_groups", report->torn_groups),
        log_u64("damaged_records", report->damaged_records),
        log_u64("checkpoints_lost", report->checkpoints_lost), log_u64("took_us", spool->took_us));
    spool->restored = true;
    spool->state = NODE_SPOOL_MAILBOXES;
    node_spool_forget_crashes(spool);
    node_spool_settle(spool);
}

static void node_spool_accept_marked(struct node_spool *spool, int result)
{
    if (result == 0 && !spool->node->draining) {
        log_event(node_spool_log(spool), LOG_NOTICE, "spool.accepted",
                  log_u64("spool", spool->found->number));
        spool->sentence[0] = 0;
        node_spool_restore_begin(spool);
    }
    spool->accepted(spool, result);
}

int node_spool_accept(struct node_spool *spool,
                      void (*accepted)(struct node_spool *spool, int result), void *context)
{
    if (spool->state != NODE_SPOOL_ON_HOLD || spool->marking)
        return -EALREADY;
    spool->accepted = accepted;
    spool->marked = node_spool_accept_marked;
    spool->accepted_context = context;
    node_spool_mark(spool, false);
    return 0;
}

/* ---- a copy ------------------------------------------------------------------------------------------ */

static void node_spool_copied(struct node_spool *spool, int result)
{
    void (*copied)(struct node_spool * spool, int result) = spool->copied;

    log_event(node_spool_log(spool), result == 0 ? LOG_NOTICE : LOG_WARNING, "spool.copied",
              log_u64("spool", spool->found->number), log_cstr("directory", spool->copy_path),
              log_u64("bytes", spool->copy_bytes),
              log_cstr("error", result == 0 ? "" : strerror(-result)));
    spool->copying = false;
    copied(spool, result);
    free(spool->copy_path);
    spool->copy_path = NULL;
    node_check_empty(spool->node);
}

static int node_spool_copy_mark_job(struct ring_op *op)
{
    struct node_spool *spool = CONTAINER_OF(op, struct node_spool, copy_mark);
    int dir_fd, r = file_open_dir_path(spool->copy_path, &dir_fd);

    if (r < 0)
        return r;
    r = marker_write(dir_fd, spool->found->number, &spool->copy_marker);
    (void)file_close(dir_fd); /* synced, or r says why not */
    return r;
}

static void node_spool_copy_marked(struct ring_op *op)
{
    node_spool_copied(CONTAINER_OF(op, struct node_spool, copy_mark), op->result);
}

static void node_spool_copy_done(void *context, int result, uint64_t bytes)
{
    struct node_spool *spool = context;

    spool->copy = NULL;
    spool->copy_bytes = bytes;
    if (result < 0) {
        node_spool_copied(spool, result);
        return;
    }
    ring_op_init(&spool->copy_mark, node_spool_copy_marked);
    ring_job(spool->node->shard->ring, &spool->copy_mark, RING_JOB_FILE, node_spool_copy_mark_job);
}

int node_spool_copy(struct node_spool *spool, struct slice directory,
                    void (*copied)(struct node_spool *spool, int result), void *context)
{
    char path[4096];
    int r;

    if (spool->copying)
        return -EALREADY;
    spool->copy_path = strndup((const char *)directory.data, directory.size);
    if (spool->copy_path == NULL)
        return -ENOMEM;
    spool->copied = copied;
    spool->copied_context = context;
    spool->copy_bytes = 0;
    spool->copy_marker = (struct marker){.hold = true};
    memcpy(spool->copy_marker.uuid, spool_uuid(spool->spool), sizeof(spool->copy_marker.uuid));
    spool_progress(spool->spool, &spool->copy_marker.epoch, &spool->copy_marker.sequence);
    (void)snprintf(path, sizeof(path), "%s/%04u", spool->copy_path, spool->found->number);
    r = spool_export_begin(spool->spool, path, node_spool_copy_done, spool, &spool->copy);
    spool->copying = r == 0;
    if (r < 0) {
        free(spool->copy_path);
        spool->copy_path = NULL;
    }
    return r;
}

/* ---- the end ---------------------------------------------------------------------------------------- */

void node_spools_end(struct node *node)
{
    for (uint32_t i = 0; i < node->spool_count; i++)
        if (node->spools[i].copy != NULL)
            spool_export_cancel(node->spools[i].copy);
}

bool node_spools_busy(const struct node *node)
{
    for (uint32_t i = 0; i < node->spool_count; i++)
        if (node->spools[i].walking || node->spools[i].marking || node->spools[i].setting_aside ||
            node->spools[i].copying)
            return true;
    return false;
}

static void node_spools_all_stopped(struct node *node)
{
    void (*stopped)(struct node * node) = node->spools_stopped;

    for (uint32_t i = 0; i < node->spool_count; i++)
        if (!node->spools[i].stopped || node->spools[i].marking)
            return;
    node->spools_stopped = NULL;
    if (stopped != NULL)
        stopped(node);
}

static void node_spool_last_mark(struct node_spool *spool, int result)
{
    (void)result; /* told already */
    node_spools_all_stopped(spool->node);
}

static void node_spool_has_stopped(void *context)
{
    struct node_spool *spool = context;

    spool->stopped = true;
    if (spool->state != NODE_SPOOL_ON_HOLD) {
        spool->marked = node_spool_last_mark;
        node_spool_mark(spool, false);
    }
    node_spools_all_stopped(spool->node);
}

void node_spools_stop(struct node *node, void (*stopped)(struct node *node))
{
    shard_timer_disarm(node->shard, &node->marking);
    node->spools_stopped = stopped;
    for (uint32_t i = 0; i < node->spool_count; i++) {
        if (node->spools[i].spool == NULL)
            node->spools[i].stopped = true;
        else
            spool_stop(node->spools[i].spool, node_spool_has_stopped, &node->spools[i]);
    }
    node_spools_all_stopped(node);
}

void node_spools_destroy(struct node *node)
{
    for (uint32_t i = 0; i < node->spool_count; i++) {
        free(node->spools[i].leftovers);
        spool_destroy(&node->spools[i].spool);
    }
    free(node->spools);
    node->spools = NULL;
    node->spool_count = 0;
    node->spool = NULL;
}
