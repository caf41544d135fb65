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

    stream->last_number = stream->count == 0 ? 0 : stream->segments[stream->count - 1].number;
    for (uint32_t i = 0; i < stream->count; i++) {
        struct spool_recovered_segment *segment = &stream->segments[i];

        if (segment->live || segment->damaged || !(all || segment->empty) ||
            segment_recycle(recovery, stream, letter, segment, size_bytes, spare_target) < 0)
            stream->segments[kept++] = *segment;
    }
    stream->count = kept;
}

/* Names in spare/: half-made ones go, others of the right size are used. */
static int spare_each(void *context, const char *name)
{
    struct spool_recovery *recovery = context;
    struct file_info info;
    uint32_t number;
    bool d = spool_segment_name_parse(name, 'd', &number);
    uint64_t size =
        d ? recovery->config.segment_bytes : spool_journal_segment_bytes(&recovery->config);
    struct spool_recovery_stream *stream = d ? &recovery->d : &recovery->j;

    if (!d && !spool_segment_name_parse(name, 'j', &number)) {
        (void)file_unlink(recovery->directory.spare_fd, name); /* the next start tries again */
        return 0;
    }
    stream->next_spare = MAX(stream->next_spare, number + 1);
    if (file_info_at(recovery->directory.spare_fd, name, &info) == 0 && info.size_bytes == size)
        return spool_recovery_add_spare(stream, number);
    (void)file_unlink(recovery->directory.spare_fd, name);
    return 0;
}

static int spare_ensure(struct spool_recovery *recovery, struct spool_recovery_stream *stream,
                        char letter, uint64_t size_bytes)
{
    int r;

    if (stream->spare_count > 0)
        return 0;
    r = spool_spare_make(recovery->directory.spare_fd, recovery->direct, letter, stream->next_spare,
                         size_bytes);
    if (r == -ENOSPC || r == -EDQUOT)
        return 0; /* a full disk must still be drained: it is tried again while running */
    return r < 0 ? r : spool_recovery_add_spare(stream, stream->next_spare++);
}

static bool direct_works(const struct spool_recovery *recovery)
{
    int fd;

    if (recovery->config.buffered ||
        file_open(recovery->directory.dir_fd, "SUPER", FILE_READ | FILE_DIRECT, 0, &fd) < 0)
        return false;
    (void)file_close(fd);
    return true;
}

int spool_recover_finish(struct spool_recover_run *recover)
{
    struct spool_recovery *recovery = recover->recovery;
    struct spool_super *super = &recovery->directory.super;
    uint64_t j_bytes = spool_journal_segment_bytes(&recovery->config);
    bool all;
    int r;

    recovery->direct = direct_works(recovery);
    recovery->d.next_spare = recovery->j.next_spare = 1;
    r = file_list(recovery->directory.spare_fd, spare_each, recovery);
    if (r < 0)
        return r;
    stream_recycle(recovery, &recovery->d, 'D', true, recovery->config.segment_bytes,
                   MAX(recovery->config.spare_segments, 1u));
    /* A note is needed as long as its message is on disk. */
    all = recovery->d.count == 0 && file_sync_dir(recovery->directory.dir_fd) == 0;
    stream_recycle(recovery, &recovery->j, 'J', all, j_bytes, 1);
    recovery->next_counter =
        MAX(super->id_limit, recover->any_id ? recover->highest_counter + 1 : 1);
    super->id_limit = recovery->next_counter + SPOOL_ID_GAP;
    super->epoch++;
    r = spool_super_write(recovery->directory.dir_fd, super);
    if (r == 0)
        r = spare_ensure(recovery, &recovery->d, 'D', recovery->config.segment_bytes);
    if (r == 0)
        r = spare_ensure(recovery, &recovery->j, 'J', j_bytes);
    return r;
}
