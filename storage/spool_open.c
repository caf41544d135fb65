#include "storage/spool_private.h"

#include "core/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* What a spool needs before its first append: the lock, an epoch and ids that nobody had before, numbers
 * that no segment has or had, a first spare of each kind. None of it depends on what the logs hold, so it
 * takes milliseconds however much that is; reading them comes afterwards (spool_restore.c). */

/* ---- which files there are ------------------------------------------------------------------ */

static int stream_add_segment(struct spool_recovery_stream *stream, uint32_t number)
{
    if (stream->count == stream->capacity) {
        uint32_t capacity = MAX(stream->capacity * 2, 64u);
        struct spool_recovered_segment *grown =
            realloc(stream->segments, capacity * sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        stream->segments = grown;
        stream->capacity = capacity;
    }
    stream->segments[stream->count++] = (struct spool_recovered_segment){.number = number};
    return 0;
}

int spool_recovery_add_spare(struct spool_recovery_stream *stream, uint32_t number)
{
    if (stream->spare_count == stream->spare_capacity) {
        uint32_t capacity = MAX(stream->spare_capacity * 2, 16u);
        uint32_t *grown = realloc(stream->spares, capacity * sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        stream->spares = grown;
        stream->spare_capacity = capacity;
    }
    stream->spares[stream->spare_count++] = number;
    return 0;
}

static int name_each(void *context, const char *name)
{
    struct spool_recovery *recovery = context;
    const struct spool_super *super = &recovery->directory.super;
    uint32_t number;

    if (spool_segment_name_parse(name, 'D', &number))
        return stream_add_segment(&recovery->d, number);
    if (spool_segment_name_parse(name, 'R', &number))
        return stream_add_segment(&recovery->r, number);
    if (spool_segment_name_parse(name, 'J', &number))
        return stream_add_segment(&recovery->j, number);
    if (spool_segment_name_parse(name, 'C', &number)) {
        recovery->next_checkpoint = MAX(recovery->next_checkpoint, (uint64_t)number + 1);
        if (number != super->newest.number && number != super->older.number)
            (void)file_unlink(recovery->directory.dir_fd, name); /* or at the next opening */
    }
    return 0;
}

/* qsort() must not be given the NULL of an empty array. */
void spool_items_sort(void *items, size_t count, size_t item_bytes, spool_compare_fn *compare)
{
    if (count > 1)
        qsort(items, count, item_bytes, compare);
}

static int segment_compare(const void *a, const void *b)
{
    const struct spool_recovered_segment *left = a, *right = b;

    return left->number < right->number ? -1 : left->number > right->number;
}

/* Sorts, and finds the last number that was ever used as far as anybody can know: a checkpoint's place may lie
 * in a segment that is gone, and a new one below it would not be read by the next recovery. */
static int stream_settle(struct spool_recovery *recovery, struct spool_recovery_stream *stream,
                         char letter, uint32_t newest, uint32_t older)
{
    struct file_info info;
    char name[SPOOL_NAME_SIZE];

    spool_items_sort(stream->segments, stream->count, sizeof(*stream->segments), segment_compare);
    stream->last_number = MAX(newest, older);
    for (uint32_t i = 0; i < stream->count; i++) {
        struct spool_recovered_segment *segment = &stream->segments[i];
        int r;

        spool_segment_name(letter, segment->number, name);
        r = file_info_at(recovery->directory.dir_fd, name, &info);
        if (r < 0)
            return r;
        segment->size_bytes = info.size_bytes;
        stream->last_number = MAX(stream->last_number, segment->number);
    }
    return 0;
}

static int segments_list(struct spool_recovery *recovery)
{
    const struct spool_super_checkpoint *newest = &recovery->directory.super.newest;
    const struct spool_super_checkpoint *older = &recovery->directory.super.older;
    int r;

    recovery->next_checkpoint = MAX(newest->number, older->number) + 1;
    r = file_list(recovery->directory.dir_fd, name_each, recovery);
    if (r == 0)
        r = stream_settle(recovery, &recovery->d, 'D', newest->d.segment, older->d.segment);
    if (r == 0)
        r = stream_settle(recovery, &recovery->r, 'R', newest->r.segment, older->r.segment);
    if (r == 0)
        r = stream_settle(recovery, &recovery->j, 'J', newest->j.segment, older->j.segment);
    return r;
}

/* ---- spares --------------------------------------------------------------------------------- */

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

static bool direct_works(const struct spool_recovery *recovery)
{
    int fd;

    if (recovery->config.buffered ||
        file_open(recovery->directory.dir_fd, "SUPER", FILE_READ | FILE_DIRECT, 0, &fd) < 0)
        return false;
    (void)file_close(fd);
    return true;
}

int spool_recovery_list_spares(struct spool_recovery *recovery)
{
    recovery->direct = direct_works(recovery);
    recovery->d.next_spare = recovery->j.next_spare = 1;
    return file_list(recovery->directory.spare_fd, spare_each, recovery);
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

int spool_recovery_reserve(struct spool_recovery *recovery)
{
    struct spool_super *super = &recovery->directory.super;
    int r;

    super->id_limit = recovery->next_counter + SPOOL_ID_GAP;
    super->epoch++;
    r = spool_super_write(recovery->directory.dir_fd, super);
    if (r == 0)
        r = spare_ensure(recovery, &recovery->d, 'D', recovery->config.segment_bytes);
    if (r == 0)
        r = spare_ensure(recovery, &recovery->j, 'J',
                         spool_journal_segment_bytes(&recovery->config));
    return r;
}

/* ---- opening -------------------------------------------------------------------------------- */

int spool_recovery_create(const struct spool_config *config, struct buf *error,
                          struct spool_recovery **ret_recovery)
{
    struct spool_recovery *recovery = calloc(1, sizeof(*recovery));
    int r;

    ASSERT(config->number < 1024 && config->segment_bytes % MIB == 0 &&
           config->segment_bytes >= MIB);
    if (recovery == NULL)
        return -ENOMEM;
    recovery->config = *config;
    /* The least that holds the header block and a group of the largest size. */
    recovery->config.segment_bytes = MAX(config->segment_bytes, 2 * MIB);
    recovery->config.path = recovery->path = strdup(config->path);
    r = recovery->path == NULL
            ? -ENOMEM
            : spool_directory_open(&recovery->config, &recovery->directory, error);
    if (r < 0) {
        free(recovery->path);
        free(recovery);
        return r;
    }
    r = segments_list(recovery);
    if (r < 0) {
        buf_printf(error, "%s: its segments cannot be listed: %s", config->path, strerror(-r));
        spool_recovery_destroy(&recovery);
        return r;
    }
    *ret_recovery = recovery;
    return 0;
}

void spool_recovery_destroy(struct spool_recovery **recovery)
{
    struct spool_recovery *r = *recovery;

    if (r == NULL)
        return;
    spool_directory_close(&r->directory);
    free(r->d.segments);
    free(r->d.spares);
    free(r->r.segments);
    free(r->j.segments);
    free(r->j.spares);
    free(r->path);
    free(r);
    *recovery = NULL;
}

uint64_t spool_recovery_counter(const struct spool_recovery *recovery)
{
    return (uint64_t)recovery->config.number << SPOOL_ID_COUNTER_BITS | recovery->next_counter;
}

int spool_open(const struct spool_config *config, struct spool_recovery **ret_recovery,
               struct buf *error)
{
    struct spool_recovery *recovery = NULL;
    struct spool_super *super;
    int r = spool_recovery_create(config, error, &recovery);

    if (r < 0)
        return r;
    super = &recovery->directory.super;
    super->features.major = SPOOL_MAJOR;
    super->features.minor = MAX(super->features.minor, (uint16_t)SPOOL_MINOR);
    super->features.incompat |= SPOOL_INCOMPAT_KNOWN;
    /* No id at or above the limit was given out, so nothing needs to be scanned to know a fresh one. */
    recovery->next_counter = MAX(super->id_limit, 1u);
    r = spool_recovery_list_spares(recovery);
    if (r == 0)
        r = spool_recovery_reserve(recovery);
    if (r < 0) {
        buf_printf(error, "%s: cannot be made ready: %s", config->path, strerror(-r));
        spool_recovery_destroy(&recovery);
        return r;
    }
    *ret_recovery = recovery;
    return 0;
}
