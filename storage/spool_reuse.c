#include "storage/spool_private.h"

#include <errno.h>

/* What becomes of a dead segment: a spare of its lane (its blocks were written, which is what a spare is for), or a file
 * less when there are spares enough. Its old content needs no wiping: the next activation gives it another incarnation,
 * under which nothing of it verifies (QUEUE I5). One that is damaged is kept aside for whoever wants to look at it.
 *
 * The names are synced before the spare may be used: a header written under the new name must never be found under the
 * old one. */

#define QUARANTINE_NAME "quarantine"

static void reuse_done(struct ring_op *op);

void spool_reuse_init(struct spool *spool)
{
    struct spool_reuse *reuse = &spool->reuse;

    list_init(&spool->dead_segments);
    ring_op_init(&reuse->op, reuse_done);
    reuse->dir_fd = spool->directory.dir_fd;
    reuse->spare_fd = spool->directory.spare_fd;
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static int reuse_spare_job(struct ring_op *op)
{
    struct spool_reuse *reuse = CONTAINER_OF(op, struct spool_reuse, op);
    int r = file_rename_new(reuse->dir_fd, reuse->name, reuse->spare_fd, reuse->to);

    if (r == 0)
        r = file_sync_dir(reuse->dir_fd);
    if (r == 0)
        r = file_sync_dir(reuse->spare_fd);
    return r;
}

static int reuse_remove_job(struct ring_op *op)
{
    struct spool_reuse *reuse = CONTAINER_OF(op, struct spool_reuse, op);
    int r = file_unlink(reuse->dir_fd, reuse->name);

    return r;
}

static int reuse_quarantine_job(struct ring_op *op)
{
    struct spool_reuse *reuse = CONTAINER_OF(op, struct spool_reuse, op);
    int fd;
    int r = file_make_dir(reuse->dir_fd, QUARANTINE_NAME, 0700);

    if (r < 0 && r != -EEXIST)
        return r;
    r = file_open_dir(reuse->dir_fd, QUARANTINE_NAME, &fd);
    if (r < 0)
        return r;
    r = file_rename_new(reuse->dir_fd, reuse->name, fd, reuse->name);
    if (r == 0)
        r = file_sync_dir(fd);
    if (r == 0)
        r = file_sync_dir(reuse->dir_fd);
    (void)file_close(fd);
    return r;
}

/* ---- one after the other -------------------------------------------------------------------- */

static struct spool_segment *reuse_next(struct spool *spool)
{
    list_for_each_safe (node, &spool->dead_segments) {
        struct spool_segment *segment = CONTAINER_OF(node, struct spool_segment, dead_node);

        if (spool_live_needed(segment)) {
            list_remove(node); /* it was read meanwhile; whoever ends that asks again */
            continue;
        }
        if (spool->j.groups_durable >= segment->journal_needed)
            return segment;
    }
    return NULL;
}

static void reuse_begin(struct spool *spool, struct spool_segment *segment)
{
    struct spool_reuse *reuse = &spool->reuse;
    struct spool_maker *maker = &spool->d.maker; /* both lanes take theirs from there */
    ring_job_fn *job = reuse_remove_job;

    list_remove(&segment->dead_node);
    spool_group_cool_segment(spool, segment);
    spool_segment_close(segment);
    spool_segment_remove(segment);
    reuse->segment = segment;
    reuse->maker = NULL;
    spool_segment_name(segment->stream, segment->number & ~SPOOL_COLD, reuse->name);
    if (segment->damaged) {
        job = reuse_quarantine_job;
    } else if (!segment->failed && spool->j.maker.error == 0 &&
               spool_maker_wants(maker, segment->size_bytes)) {
        reuse->maker = maker;
        reuse->spare_number = maker->next_spare++;
        spool_segment_name((char)byte_lower((uint8_t)maker->log->stream), reuse->spare_number,
                           reuse->to);
        job = reuse_spare_job;
    }
    ring_job(spool->shard->ring, &reuse->op, RING_JOB_FILE, job);
}

void spool_reuse_run(struct spool *spool)
{
    struct spool_segment *segment;

    if (spool->reuse.segment != NULL || spool->stopping || spool->exports > 0)
        return;
    segment = reuse_next(spool);
    if (segment != NULL)
        reuse_begin(spool, segment);
}

static void reuse_done(struct ring_op *op)
{
    struct spool_reuse *reuse = CONTAINER_OF(op, struct spool_reuse, op);
    struct spool *spool = CONTAINER_OF(reuse, struct spool, reuse);
    struct spool_segment *segment = reuse->segment;
    int r = op->result;

    if (r < 0) {
        /* Whatever its name is now: the next start knows that nothing in it is needed. */
        log_event(spool->shard->log, LOG_ERROR, "spool.reuse.failed",
                  log_cstr("spool", spool->config.path), log_cstr("segment", reuse->name),
                  log_cstr("error", strerror(-r)));
    } else if (segment->damaged) {
        spool->counters.segments_set_aside++;
        log_event(spool->shard->log, LOG_WARNING, "spool.segment.set_aside",
                  log_cstr("spool", spool->config.path), log_cstr("segment", reuse->name));
    } else if (reuse->maker == NULL) {
        spool->counters.segments_removed++;
    } else {
        spool->counters.segments_reused++;
        r = spool_maker_add_spare(reuse->maker, reuse->spare_number);
    }
    reuse->segment = NULL;
    spool_segment_free(segment);
    if (r == 0 && reuse->maker != NULL) {
        reuse->maker->error = 0; /* a full disk has room for one more segment now */
        spool_log_segment_ready(reuse->maker->log);
        spool_maker_run(reuse->maker);
    } else if (spool->j.maker.error != 0) {
        spool_maker_hurry(&spool->j.maker); /* J first: without it nothing is delivered */
    } else if (spool->d.maker.error != 0) {
        spool_maker_hurry(&spool->d.maker);
    }
    spool_reuse_run(spool);
    spool_stop_check(spool);
}
