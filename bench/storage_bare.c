#include "bench/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/clock.h"

#define FILL_BYTES MIB

static void bare_written(struct ring_op *op);

static int fill(const struct storage_bare *bare)
{
    for (uint64_t at = 0; at < STORAGE_BARE_BYTES; at += FILL_BYTES) {
        ssize_t written = pwrite(bare->fd, bare->memory, FILL_BYTES, (off_t)at);

        if (written != (ssize_t)FILL_BYTES)
            return written < 0 ? -errno : -EIO;
    }
    return fsync(bare->fd) < 0 ? -errno : 0;
}

int storage_bare_init(struct storage_bare *bare, struct shard *shard, const char *directory)
{
    char path[4096];
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;

    *bare = (struct storage_bare){.shard = shard, .direct = true};
    ring_op_init(&bare->op, bare_written);
    bare->memory = aligned_alloc(4096, FILL_BYTES);
    if (bare->memory == NULL)
        return -ENOMEM;
    memset(bare->memory, 0x5a, FILL_BYTES);
    (void)snprintf(path, sizeof(path), "%s/bare", directory);
    bare->fd = open(path, flags | O_DIRECT, 0600);
    if (bare->fd < 0 && errno == EINVAL) {
        bare->direct = false;
        bare->fd = open(path, flags, 0600);
    }
    if (bare->fd < 0)
        return -errno;
    (void)unlink(path); /* goes with us */
    return fill(bare);
}

void storage_bare_deinit(struct storage_bare *bare)
{
    if (bare->fd > 0)
        (void)close(bare->fd); /* nothing in it is needed */
    free(bare->memory);
}

static void write_next(struct storage_bare *bare)
{
    if (bare->at + bare->write_bytes > STORAGE_BARE_BYTES)
        bare->at = 0;
    bare->began_ns = clock_monotonic_ns();
    ring_write(bare->shard->ring, &bare->op, bare->fd,
               slice_of(bare->memory, (size_t)bare->write_bytes), bare->at,
               bare->durable && bare->direct);
}

static void bare_written(struct ring_op *op)
{
    struct storage_bare *bare = CONTAINER_OF(op, struct storage_bare, op);

    if (op->result < 0 || (!bare->syncing && (uint64_t)op->result != bare->write_bytes)) {
        fprintf(stderr, "kilat-bench storage: a write failed: %s\n",
                op->result < 0 ? strerror(-op->result) : "it was short");
        exit(1); /* there is nothing to measure */
    }
    if (bare->durable && !bare->direct && !bare->syncing) {
        bare->syncing = true;
        ring_sync(bare->shard->ring, &bare->op, bare->fd);
        return;
    }
    bare->syncing = false;
    bare->at += bare->write_bytes;
    histogram_record(&bare->measured->latency, clock_monotonic_ns() - bare->began_ns);
    bare->measured->writes++;
    bare->measured->bytes += bare->write_bytes;
    if (clock_monotonic_ns() < bare->until_ns) {
        write_next(bare);
        return;
    }
    storage_measured_end(bare->measured);
    bare->done(bare->context);
}

void storage_bare_run(struct storage_bare *bare, uint64_t write_bytes, bool durable, double seconds,
                      struct storage_measured *measured, void (*done)(void *context), void *context)
{
    ASSERT(write_bytes % 4096 == 0 && write_bytes <= FILL_BYTES);
    bare->write_bytes = write_bytes;
    bare->durable = durable;
    bare->measured = measured;
    bare->done = done;
    bare->context = context;
    bare->until_ns = clock_monotonic_ns() + (uint64_t)(seconds * (double)SECOND_NS);
    storage_measured_begin(measured);
    write_next(bare);
}
