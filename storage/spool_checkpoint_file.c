#include "storage/spool_checkpoint_private.h"

#include <errno.h>

#define VERIFY_BLOCKS 4u

static struct spool_checkpoint *checkpoint_of(struct ring_op *op)
{
    return CONTAINER_OF(op, struct spool_checkpoint, op);
}

static void checkpoint_name(uint64_t number, char name[SPOOL_NAME_SIZE])
{
    spool_segment_name('C', (uint32_t)number, name);
}

int spool_checkpoint_write_job(struct ring_op *op)
{
    struct spool_checkpoint *checkpoint = checkpoint_of(op);
    char name[SPOOL_NAME_SIZE];
    int r = 0;

    checkpoint_name(checkpoint->places.number, name);
    if (checkpoint->fd < 0)
        r = file_open(checkpoint->dir_fd, name,
                      FILE_READ | FILE_WRITE | FILE_CREATE | FILE_TRUNCATE |
                          (checkpoint->direct ? FILE_DIRECT : 0u),
                      0600, &checkpoint->fd);
    if (r == 0)
        r = file_write_all(checkpoint->fd, slice_of(checkpoint->block, checkpoint->block_bytes),
                           (uint64_t)checkpoint->block_index * SPOOL_IMAGE_BLOCK_BYTES);
    /* Piece by piece, so that the flushes of the logs do not wait behind all of it. */
    if (r == 0 && checkpoint->sync_now)
        r = file_sync_data(checkpoint->fd);
    return r;
}

int spool_checkpoint_sync_job(struct ring_op *op)
{
    struct spool_checkpoint *checkpoint = checkpoint_of(op);
    int r = file_sync(checkpoint->fd);

    return r == 0 ? file_sync_dir(checkpoint->dir_fd) : r;
}

/* checkpoint->block_index counts again from 0, and the entries with it. */
int spool_checkpoint_verify_job(struct ring_op *op)
{
    struct spool_checkpoint *checkpoint = checkpoint_of(op);

    for (uint32_t i = 0; i < VERIFY_BLOCKS; i++) {
        struct spool_image_header header;
        ssize_t got = file_read_some(checkpoint->fd, checkpoint->block, SPOOL_IMAGE_BLOCK_BYTES,
                                     (uint64_t)checkpoint->block_index * SPOOL_IMAGE_BLOCK_BYTES);

        if (got < 0)
            return (int)got;
        if (!spool_image_header_decode(slice_of(checkpoint->block, (size_t)got), checkpoint->uuid,
                                       checkpoint->places.number, checkpoint->block_index, &header))
            return -EBADMSG;
        checkpoint->block_index++;
        if (header.last)
            return header.entries_so_far == checkpoint->entries ? 1 : -EBADMSG;
    }
    return 0;
}

int spool_checkpoint_abandon_job(struct ring_op *op)
{
    struct spool_checkpoint *checkpoint = checkpoint_of(op);
    char name[SPOOL_NAME_SIZE];

    if (checkpoint->fd >= 0)
        (void)file_close(checkpoint->fd); /* never synced again as a remedy */
    checkpoint->fd = -1;
    checkpoint_name(checkpoint->places.number, name);
    (void)file_unlink(checkpoint->dir_fd, name); /* the next opening does it as well */
    return 0;
}

/* One that can be prewritten content again, or not. 0 when it became spare number `spare`. */
static int journal_drop(const struct spool_checkpoint *checkpoint, uint32_t number, uint32_t spare)
{
    char name[SPOOL_NAME_SIZE], to[SPOOL_NAME_SIZE];
    struct file_info info;
    int r;

    spool_segment_name('J', number, name);
    if (spare != 0) {
        spool_segment_name('j', spare, to);
        r = file_info_at(checkpoint->dir_fd, name, &info);
        if (r == 0 && info.size_bytes == checkpoint->journal_bytes)
            r = file_rename_new(checkpoint->dir_fd, name, checkpoint->spare_fd, to);
        else if (r == 0)
            r = -EINVAL;
        if (r == 0)
            return 0;
    }
    (void)file_unlink(checkpoint->dir_fd, name); /* or at the next checkpoint of the next life */
    return -ENOENT;
}

int spool_checkpoint_clean_job(struct ring_op *op)
{
    struct spool_checkpoint *checkpoint = checkpoint_of(op);
    char name[SPOOL_NAME_SIZE];
    int r;

    if (checkpoint->fd >= 0)
        (void)file_close(checkpoint->fd); /* synced and verified */
    checkpoint->fd = -1;
    if (checkpoint->drop_number != 0) {
        checkpoint_name(checkpoint->drop_number, name);
        (void)file_unlink(checkpoint->dir_fd, name); /* the next opening does it as well */
    }
    for (uint32_t i = 0; i < checkpoint->journal_count; i++) {
        if (journal_drop(checkpoint, checkpoint->journals[i], checkpoint->journal_spares[i]) < 0)
            checkpoint->journal_spares[i] = 0;
    }
    if (checkpoint->journal_count == 0)
        return 0;
    /* A spare's name must not come back as a segment's. */
    r = file_sync_dir(checkpoint->spare_fd);
    return r == 0 ? file_sync_dir(checkpoint->dir_fd) : r;
}
