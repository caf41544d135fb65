#include "storage/spool_recover_private.h"

#include <errno.h>

/* ---- the end: what is dead, what is needed -------------------------------------------------- */

/* Nothing on it is needed any more: one more spare, or its space back. Best effort: it is dead in
 * the next start too. */
static int segment_recycle(struct spool_recovery *recovery, struct spool_recovery_stream *stream,
                           char letter, const struct spool_recovered_segment *segment,
                           uint64_t size_bytes, uint32_t spare_target)
{
    char name[SPOOL_NAME_SIZE], spare[SPOOL_NAME_SIZE];

    spool_segment_name(letter, segment->number, name);
    if (segment->size_bytes != size_bytes || stream->spare_count >= spare_target)
        return file_unlink(recovery->directory.dir_fd, name);
    spool_segment_name((char)byte_lower((uint8_t)letter), stream->next_spare, spare);
    if (file_rename_new(recovery->directory.dir_fd, name, recovery->directory.spare_fd, spare) < 0)
        return file_unlink(recovery->directory.dir_fd, name);
    return spool_recovery_add_spare(stream, stream->next_spare++);
}

/* `all`: also those in which something was written. */
static void stream_recycle(struct spool_recovery *recovery, struct spool_recovery_stream *stream,
                           char letter, bool all, uint64_t size_bytes, uint32_t spare_target)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < stream->count; i++) {
        struct spool_recovered_segment *segment = &stream->segments[i];

        if (segment->live || segment->damaged || !(all || segment->empty) ||
            segment_recycle(recovery, stream, letter, segment, size_bytes, spare_target) < 0)
            stream->segments[kept++] = *segment;
    }
    stream->count = kept;
}

int spool_recover_finish(struct spool_recover_run *recover)
{
    struct spool_recovery *recovery = recover->recovery;
    bool all;
    int r = spool_recovery_list_spares(recovery);

    if (r < 0)
        return r;
    stream_recycle(recovery, &recovery->d, 'D', true, recovery->config.segment_bytes,
                   MAX(recovery->config.spare_segments, 1u));
    /* A note is needed as long as its message is on disk. */
    all = recovery->d.count == 0 && file_sync_dir(recovery->directory.dir_fd) == 0;
    stream_recycle(recovery, &recovery->j, 'J', all, spool_journal_segment_bytes(&recovery->config),
                   1);
    recovery->next_counter =
        MAX(recovery->directory.super.id_limit, recover->any_id ? recover->highest_counter + 1 : 1);
    return spool_recovery_reserve(recovery);
}
