#include "core/ring.h"

#include "core/assert.h"
#include "core/ring_uring_private.h"

/* The kernel moves no more than this in one call (MAX_RW_COUNT); more would come back short. */
#define FILE_BYTES_MAX 0x7ffff000u

void uring_prepare_file(struct io_uring_sqe *sqe, struct ring_op *op)
{
    switch ((enum uring_kind)op->kind) {
    case URING_READ:
        io_uring_prep_read(sqe, op->fd, op->vec[0].iov_base, (unsigned int)op->vec[0].iov_len,
                           op->serial);
        break;
    case URING_WRITE:
    case URING_WRITE_DURABLE:
        io_uring_prep_write(sqe, op->fd, op->vec[0].iov_base, (unsigned int)op->vec[0].iov_len,
                            op->serial);
        if (op->kind == URING_WRITE_DURABLE)
            sqe->rw_flags = RWF_DSYNC;
        break;
    case URING_SYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    default:
        ASSERT(op->kind == URING_SYNC);
    }
}

static void start(struct ring *ring, struct ring_op *op, int fd, struct iovec range,
                  uint64_t offset, enum uring_kind kind)
{
    ASSERT(range.iov_len <= FILE_BYTES_MAX);
    op->fd = fd;
    op->vec[0] = range;
    op->serial = offset;
    op->moved_bytes = 0;
    uring_start(ring, op, kind);
}

void ring_read(struct ring *ring, struct ring_op *op, int fd, void *to, size_t size,
               uint64_t offset)
{
    start(ring, op, fd, (struct iovec){to, size}, offset, URING_READ);
}

void ring_write(struct ring *ring, struct ring_op *op, int fd, struct slice bytes, uint64_t offset,
                bool durable)
{
    start(ring, op, fd, (struct iovec){(void *)(uintptr_t)bytes.data, bytes.size}, offset,
          durable ? URING_WRITE_DURABLE : URING_WRITE);
}

void ring_sync(struct ring *ring, struct ring_op *op, int fd)
{
    start(ring, op, fd, (struct iovec){NULL, 0}, 0, URING_SYNC);
}
