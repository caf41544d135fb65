#include "storage/spool_export.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"
#include "storage/spool_private.h"

#define COPY_STEP_BYTES (4 * MIB) /* of one job: the others of the worker wait some milliseconds */
#define COPY_PIECE_BYTES (64 * KIB)
#define COPY_SUPER_BYTES (2 * SPOOL_BLOCK_BYTES)

/* What is listed and copied in one go. */
static const char *const copy_rounds[] = {"DR", "JC"};

struct copy_name {
    char name[SPOOL_NAME_SIZE];
};

struct spool_export {
    struct spool *spool;
    struct ring_op op;
    char *path;
    spool_export_fn *done;
    void *context;
    bool cancelled;
    int to_dir_fd;
    uint8_t super[COPY_SUPER_BYTES];
    size_t round, index;
    struct copy_name *names;
    size_t name_count, name_capacity;
    int from_fd, to_fd; /* of the file in hand; -1: none */
    uint64_t offset, size_bytes, bytes;
    int result;
    uint8_t *piece;
};

/* ---- jobs ----------------------------------------------------------------------------------------- */

static int copy_read_super(struct spool_export *copy)
{
    int fd, r = file_open(copy->spool->directory.dir_fd, "SUPER", FILE_READ, 0, &fd);

    if (r < 0)
        return r;
    r = file_read_all(fd, copy->super, sizeof(copy->super), 0);
    (void)file_close(fd); /* nothing was written */
    return r;
}

static int copy_see_name(void *context, const char *name)
{
    (void)context;
    (void)name;
    return 1;
}

static int copy_begin_job(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);
    int r = copy_read_super(copy);

    if (r == 0)
        r = file_make_dir_path(copy->path, 0700);
    if (r == 0)
        r = file_open_dir_path(copy->path, &copy->to_dir_fd);
    if (r == 0)
        r = file_list(copy->to_dir_fd, copy_see_name, NULL);
    return r == 1 ? -EEXIST : r;
}

static int copy_note_name(void *context, const char *name)
{
    struct spool_export *copy = context;
    uint32_t number;
    bool wanted = false;

    for (const char *stream = copy_rounds[copy->round]; *stream != 0; stream++)
        wanted |= spool_segment_name_parse(name, *stream, &number);
    if (!wanted)
        return 0;
    if (copy->name_count == copy->name_capacity) {
        size_t capacity = MAX(copy->name_capacity * 2, 64u);
        struct copy_name *grown = realloc(copy->names, capacity * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        copy->names = grown;
        copy->name_capacity = capacity;
    }
    memcpy(copy->names[copy->name_count++].name, name, strlen(name) + 1);
    return 0;
}

static int copy_list_job(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);

    copy->name_count = copy->index = 0;
    return file_list(copy->spool->directory.dir_fd, copy_note_name, copy);
}

static int copy_open_file(struct spool_export *copy)
{
    const char *name = copy->names[copy->index].name;
    struct file_info info;
    int r = file_open(copy->spool->directory.dir_fd, name, FILE_READ, 0, &copy->from_fd);

    if (r == -ENOENT) {
        copy->index++; /* used again when the copy began: it was not needed then either */
        return 0;
    }
    if (r < 0)
        return r;
    r = file_info(copy->from_fd, &info);
    copy->offset = 0;
    copy->size_bytes = info.size_bytes;
    return r == 0 ? file_open(copy->to_dir_fd, name, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE,
                              0600, &copy->to_fd)
                  : r;
}

static int copy_close_file(struct spool_export *copy)
{
    int r = file_truncate(copy->to_fd, copy->size_bytes);

    if (r == 0)
        r = file_sync(copy->to_fd);
    (void)file_close(copy->from_fd); /* nothing was written through it */
    (void)file_close(copy->to_fd);   /* synced, or r says why not */
    copy->from_fd = copy->to_fd = -1;
    copy->index++;
    return r;
}

static bool copy_is_zero(struct slice piece)
{
    return piece.size == 0 ||
           (piece.data[0] == 0 && memcmp(piece.data, piece.data + 1, piece.size - 1) == 0);
}

static int copy_piece(struct spool_export *copy)
{
    size_t size = (size_t)MIN(copy->size_bytes - copy->offset, COPY_PIECE_BYTES);
    int r = file_read_all(copy->from_fd, copy->piece, size, copy->offset);

    if (r == 0 && !copy_is_zero(slice_of(copy->piece, size))) {
        r = file_write_all(copy->to_fd, slice_of(copy->piece, size), copy->offset);
        copy->bytes += size;
    }
    copy->offset += size;
    return r;
}

static int copy_files_job(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);
    uint64_t end = 0;
    int r = 0;

    while (r == 0 && copy->index < copy->name_count && end < COPY_STEP_BYTES) {
        if (copy->from_fd < 0) {
            r = copy_open_file(copy);
        } else if (copy->offset < copy->size_bytes) {
            r = copy_piece(copy);
            end += COPY_PIECE_BYTES;
        } else {
            r = copy_close_file(copy);
        }
    }
    return r;
}

/* With SUPER the copy becomes one. */
static int copy_end_job(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);
    int fd, r = file_sync_dir(copy->to_dir_fd);

    if (r == 0)
        r = file_open(copy->to_dir_fd, "SUPER.new", FILE_WRITE | FILE_CREATE, 0600, &fd);
    if (r < 0)
        return r;
    r = file_write_all(fd, slice_of(copy->super, sizeof(copy->super)), 0);
    if (r == 0)
        r = file_sync(fd);
    (void)file_close(fd); /* synced, or r says why not */
    if (r == 0)
        r = file_rename(copy->to_dir_fd, "SUPER.new", copy->to_dir_fd, "SUPER");
    return r == 0 ? file_sync_dir(copy->to_dir_fd) : r;
}

static int copy_close_job(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);
    int *const fds[] = {&copy->from_fd, &copy->to_fd, &copy->to_dir_fd};

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (*fds[i] >= 0)
            (void)file_close(*fds[i]); /* of a copy that has failed, or that is synced */
        *fds[i] = -1;
    }
    return 0;
}

/* ---- one after the other ---------------------------------------------------------------------------- */

static void copy_job(struct spool_export *copy, ring_done_fn *done, ring_job_fn *job)
{
    ring_op_init(&copy->op, done);
    ring_job(copy->spool->shard->ring, &copy->op, RING_JOB_FILE, job);
}

static void copy_over(struct spool_export *copy, int result)
{
    struct spool *spool = copy->spool;

    ASSERT(spool->exports > 0);
    spool->exports--;
    spool_reuse_run(spool);
    copy->done(copy->context, result, copy->bytes);
    free(copy->names);
    free(copy->piece);
    free(copy->path);
    free(copy);
}

static void copy_closed(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);

    copy_over(copy, copy->result == 0 && copy->cancelled ? -ECANCELED : copy->result);
}

static void copy_close(struct spool_export *copy, int result)
{
    copy->result = result;
    copy_job(copy, copy_closed, copy_close_job);
}

static void copy_ended(struct ring_op *op)
{
    copy_close(CONTAINER_OF(op, struct spool_export, op), op->result);
}

static void copy_listed(struct ring_op *op);

static void copy_went_on(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);

    if (op->result < 0 || copy->cancelled)
        copy_close(copy, op->result);
    else if (copy->index < copy->name_count)
        copy_job(copy, copy_went_on, copy_files_job);
    else if (++copy->round < ARRAY_SIZE(copy_rounds))
        copy_job(copy, copy_listed, copy_list_job);
    else
        copy_job(copy, copy_ended, copy_end_job);
}

static void copy_listed(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);

    if (op->result < 0 || copy->cancelled)
        copy_close(copy, op->result);
    else
        copy_job(copy, copy_went_on, copy_files_job);
}

static void copy_begun(struct ring_op *op)
{
    struct spool_export *copy = CONTAINER_OF(op, struct spool_export, op);

    if (op->result < 0 || copy->cancelled)
        copy_close(copy, op->result);
    else
        copy_job(copy, copy_listed, copy_list_job);
}

int spool_export_begin(struct spool *spool, const char *path, spool_export_fn *done, void *context,
                       struct spool_export **ret_export)
{
    struct spool_export *copy = calloc(1, sizeof(*copy));

    if (copy == NULL)
        return -ENOMEM;
    copy->piece = malloc(COPY_PIECE_BYTES);
    copy->path = strdup(path);
    if (copy->piece == NULL || copy->path == NULL) {
        free(copy->piece);
        free(copy->path);
        free(copy);
        return -ENOMEM;
    }
    copy->spool = spool;
    copy->done = done;
    copy->context = context;
    copy->to_dir_fd = copy->from_fd = copy->to_fd = -1;
    spool->exports++;
    copy_job(copy, copy_begun, copy_begin_job);
    *ret_export = copy;
    return 0;
}

void spool_export_cancel(struct spool_export *copy)
{
    copy->cancelled = true;
}
