#include "storage/spool_private.h"

#include "core/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILL_WRITE_BYTES (1 * MIB)
#define IDLE_SEGMENTS_MAX                                                                          \
    64 /* open for reading and not in use: descriptors are dearer than opening again */
#define NEW_SUFFIX ".new"

/* ---- names ---------------------------------------------------------------------------------- */

static char letter_lower(char stream)
{
    return (char)byte_lower((uint8_t)stream);
}

void spool_segment_name(char stream, uint32_t number, char name[SPOOL_NAME_SIZE])
{
    (void)snprintf(name, SPOOL_NAME_SIZE, "%c-%08x", stream, number);
}

bool spool_segment_name_parse(const char *name, char stream, uint32_t *ret_number)
{
    uint32_t number = 0;

    if (name[0] != stream || name[1] != '-' || strlen(name) != 10)
        return false;
    for (int i = 2; i < 10; i++) {
        uint32_t digit;

        if (name[i] >= '0' && name[i] <= '9')
            digit = (uint32_t)(name[i] - '0');
        else if (name[i] >= 'a' && name[i] <= 'f')
            digit = (uint32_t)(name[i] - 'a') + 10;
        else
            return false;
        number = number << 4 | digit;
    }
    *ret_number = number;
    return true;
}

/* ---- what jobs do --------------------------------------------------------------------------- */

int spool_segment_open(int dir_fd, const char *name, bool direct, int *ret_fd)
{
    return file_open(dir_fd, name, FILE_READ | FILE_WRITE | (direct ? FILE_DIRECT : 0u), 0, ret_fd);
}

int spool_spare_fill(int fd, uint64_t offset, uint64_t step_bytes, uint64_t size_bytes)
{
    uint64_t end = MIN(offset + step_bytes, size_bytes);
    uint8_t *zeros = aligned_alloc(SPOOL_BLOCK_BYTES, FILL_WRITE_BYTES);
    int r = 0;

    if (zeros == NULL)
        return -ENOMEM;
    memset(zeros, 0, FILL_WRITE_BYTES);
    while (offset < end && r == 0) {
        uint64_t bytes = MIN(FILL_WRITE_BYTES, end - offset);

        r = file_write_all(fd, slice_of(zeros, bytes), offset);
        offset += bytes;
    }
    free(zeros);
    return r;
}

int spool_spare_create(int spare_fd, bool direct, const char *name, int *ret_fd)
{
    char new_name[SPOOL_NAME_SIZE + sizeof(NEW_SUFFIX)];

    (void)snprintf(new_name, sizeof(new_name), "%s" NEW_SUFFIX, name);
    return file_open(spare_fd, new_name,
                     FILE_READ | FILE_WRITE | FILE_CREATE | FILE_TRUNCATE |
                         (direct ? FILE_DIRECT : 0u),
                     0600, ret_fd);
}

void spool_spare_abandon(int spare_fd, int fd, const char *name)
{
    char new_name[SPOOL_NAME_SIZE + sizeof(NEW_SUFFIX)];

    (void)snprintf(new_name, sizeof(new_name), "%s" NEW_SUFFIX, name);
    (void)file_close(fd);
    (void)file_unlink(spare_fd, new_name); /* recovery removes it as well */
}

int spool_spare_finish(int spare_fd, int fd, const char *name)
{
    char new_name[SPOOL_NAME_SIZE + sizeof(NEW_SUFFIX)];
    int r = file_sync(fd);

    if (r < 0) {
        spool_spare_abandon(spare_fd, fd, name);
        return r;
    }
    (void)file_close(fd); /* synced */
    (void)snprintf(new_name, sizeof(new_name), "%s" NEW_SUFFIX, name);
    r = file_rename(spare_fd, new_name, spare_fd, name);
    return r == 0 ? file_sync_dir(spare_fd) : r;
}

int spool_spare_make(int spare_fd, bool direct, char stream, uint32_t number, uint64_t size_bytes)
{
    char name[SPOOL_NAME_SIZE];
    int fd, r;

    spool_segment_name(letter_lower(stream), number, name);
    r = spool_spare_create(spare_fd, direct, name, &fd);
    if (r < 0)
        return r;
    r = spool_spare_fill(fd, 0, size_bytes, size_bytes);
    if (r < 0) {
        spool_spare_abandon(spare_fd, fd, name);
        return r;
    }
    return spool_spare_finish(spare_fd, fd, name);
}

/* Through a descriptor of its own, because a header block is written from ordinary memory. */
static int segment_header_write(int spare_fd, const char *spare_name,
                                const struct spool_segment_header *header)
{
    uint8_t block[SPOOL_BLOCK_BYTES];
    int fd;
    int r = file_open(spare_fd, spare_name, FILE_WRITE, 0, &fd);

    if (r < 0)
        return r;
    spool_segment_header_encode(header, block);
    r = file_write_all(fd, slice_of(block, sizeof(block)), 0);
    if (r == 0)
        r = file_sync(fd);
    (void)file_close(fd); /* synced, or r says why not */
    return r;
}

int spool_segment_activate(int dir_fd, int spare_fd, const char *spare_name, bool direct,
                           struct spool_segment_header *header, int *ret_fd)
{
    char name[SPOOL_NAME_SIZE];
    int r;

    bool renamed = false;

    header->incarnation = random_u64();
    header->created_s = clock_wall_ns() / SECOND_NS;
    spool_segment_name(header->stream, header->number, name);
    r = segment_header_write(spare_fd, spare_name, header);
    if (r == 0)
        r = file_rename_new(spare_fd, spare_name, dir_fd, name);
    renamed = r == 0;
    if (r == 0)
        r = file_sync_dir(dir_fd);
    if (r == 0)
        r = file_sync_dir(spare_fd);
    if (r == 0)
        r = spool_segment_open(dir_fd, name, direct, ret_fd);
    if (r < 0)
        (void)file_unlink(renamed ? dir_fd : spare_fd,
                          renamed ? name : spare_name); /* nothing was ever in it */
    return r;
}

/* ---- the table ------------------------------------------------------------------------------ */

static void segment_opened(struct ring_op *op);

static struct spool_segment *segment_create(struct spool *spool, char stream, uint32_t number,
                                            uint64_t size_bytes, int fd)
{
    struct spool_segment *segment = calloc(1, sizeof(*segment));

    if (segment == NULL)
        return NULL;
    segment->spool = spool;
    segment->number = number;
    segment->stream = stream;
    segment->size_bytes = size_bytes;
    segment->used_bytes = SPOOL_BLOCK_BYTES;
    segment->fd = fd;
    list_node_init(&segment->idle_node);
    ring_op_init(&segment->open_op, segment_opened);
    list_init(&segment->waiters);
    list_node_init(&segment->dead_node);
    return segment;
}

/* Mostly at the end; one of D stands before all of the cold lane. */
static void table_insert(struct spool *spool, struct spool_segment *segment)
{
    uint32_t at = spool->segment_count;

    while (at > 0 && spool->segments[at - 1]->number > segment->number)
        at--;
    ASSERT(at == 0 || spool->segments[at - 1]->number != segment->number);
    memmove(spool->segments + at + 1, spool->segments + at,
            (spool->segment_count - at) * sizeof(struct spool_segment *));
    spool->segments[at] = segment;
    spool->segment_count++;
}

int spool_segment_add(struct spool *spool, char stream, uint32_t number, uint64_t size_bytes,
                      int fd, struct spool_segment **ret_segment)
{
    struct spool_segment *segment;

    if (stream != 'J' && spool->segment_count == spool->segment_capacity) {
        uint32_t capacity = MAX(spool->segment_capacity * 2, 16u);
        struct spool_segment **grown =
            realloc(spool->segments, capacity * sizeof(struct spool_segment *));

        if (grown == NULL)
            return -ENOMEM;
        spool->segments = grown;
        spool->segment_capacity = capacity;
    }
    segment = segment_create(spool, stream, number, size_bytes, fd);
    if (segment == NULL)
        return -ENOMEM;
    if (stream != 'J')
        table_insert(spool, segment);
    *ret_segment = segment;
    return 0;
}

/* Index of the first that is not below `number`. */
static uint32_t table_find(const struct spool *spool, uint32_t number)
{
    uint32_t low = 0, high = spool->segment_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (spool->segments[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct spool_segment *spool_segment_find(struct spool *spool, uint32_t number)
{
    uint32_t at = table_find(spool, number);

    return at < spool->segment_count && spool->segments[at]->number == number ? spool->segments[at]
                                                                              : NULL;
}

void spool_segment_remove(struct spool_segment *segment)
{
    struct spool *spool = segment->spool;
    uint32_t at = table_find(spool, segment->number);

    ASSERT(at < spool->segment_count && spool->segments[at] == segment);
    spool->segment_count--;
    memmove(spool->segments + at, spool->segments + at + 1,
            (spool->segment_count - at) * sizeof(struct spool_segment *));
}

void spool_segment_free(struct spool_segment *segment)
{
    ASSERT(segment->pins == 0 && !segment->open_op.in_flight && segment->hot_live == 0);
    if (segment->fd >= 0)
        ring_close(segment->fd);
    list_remove(&segment->idle_node);
    list_remove(&segment->dead_node);
    free(segment->hot);
    free(segment);
}

/* ---- open while it is read ------------------------------------------------------------------ */

/* Nothing in a segment can be verified without the seed in its header. */
static int segment_read_seed(struct spool_segment *segment, int fd)
{
    const struct spool *spool = segment->spool;
    uint8_t *block = aligned_alloc(SPOOL_BLOCK_BYTES, SPOOL_BLOCK_BYTES);
    struct spool_segment_header header;
    int r;

    if (block == NULL)
        return -ENOMEM;
    r = file_read_all(fd, block, SPOOL_BLOCK_BYTES, 0);
    if (r == 0 &&
        (!spool_segment_header_decode(block, &header) ||
         memcmp(header.uuid, spool->uuid, SPOOL_UUID_BYTES) != 0 ||
         header.stream != segment->stream || header.number != (segment->number & ~SPOOL_COLD)))
        r = -EBADMSG;
    if (r == 0)
        segment->seed_job = spool_seed(header.uuid, header.incarnation);
    free(block);
    return r;
}

static int segment_open_once(struct spool_segment *segment, const char *name, int *ret_fd)
{
    int r =
        spool_segment_open(segment->spool->directory.dir_fd, name, segment->spool->direct, ret_fd);

    if (r == 0 && segment->seedless) {
        r = segment_read_seed(segment, *ret_fd);
        if (r < 0)
            (void)file_close(*ret_fd); /* only read */
    }
    return r;
}

/* What is refused twice sets a message aside; once may be chance, as with any read. */
static int segment_open_job(struct ring_op *op)
{
    struct spool_segment *segment = CONTAINER_OF(op, struct spool_segment, open_op);
    char name[SPOOL_NAME_SIZE];
    int fd;
    int r;

    spool_segment_name(segment->stream, segment->number & ~SPOOL_COLD, name);
    r = segment_open_once(segment, name, &fd);
    if (r == -EIO || r == -EBADMSG)
        r = segment_open_once(segment, name, &fd);
    return r < 0 ? r : fd;
}

static void segment_opened(struct ring_op *op)
{
    struct spool_segment *segment = CONTAINER_OF(op, struct spool_segment, open_op);
    struct spool *spool = segment->spool;
    int result = op->result < 0 ? op->result : 0;
    struct list_node waiters;
    struct list_node *node;

    if (op->result >= 0) {
        segment->fd = op->result;
        if (segment->seedless)
            segment->seed = segment->seed_job;
        segment->seedless = false;
    }
    list_init(&waiters);
    list_splice_back(&waiters, &segment->waiters);
    segment->pins++; /* of this loop: a waiter may unpin at once */
    while ((node = list_pop_front(&waiters)) != NULL) {
        struct spool_segment_waiter *waiter = CONTAINER_OF(node, struct spool_segment_waiter, node);

        if (result == 0)
            segment->pins++;
        waiter->ready(waiter, result);
    }
    spool_segment_unpin(segment);
    spool_stop_check(spool);
}

int spool_segment_pin(struct spool_segment *segment, struct spool_segment_waiter *waiter)
{
    if (segment->fd >= 0) {
        if (list_linked(&segment->idle_node)) {
            list_remove(&segment->idle_node);
            segment->spool->idle_segment_count--;
        }
        segment->pins++;
        return 0;
    }
    list_push_back(&segment->waiters, &waiter->node);
    if (!segment->open_op.in_flight)
        ring_job(segment->spool->shard->ring, &segment->open_op, RING_JOB_FILE, segment_open_job);
    return -EINPROGRESS;
}

void spool_segment_close(struct spool_segment *segment)
{
    if (segment->fd < 0)
        return;
    ASSERT(segment->pins == 0 && list_linked(&segment->idle_node));
    list_remove(&segment->idle_node);
    segment->spool->idle_segment_count--;
    ring_close(segment->fd);
    segment->fd = -1;
}

void spool_segment_unpin(struct spool_segment *segment)
{
    struct spool *spool = segment->spool;

    ASSERT(segment->pins > 0);
    if (--segment->pins != 0 || segment->fd < 0)
        return;
    list_push_back(&spool->idle_segments, &segment->idle_node);
    spool->idle_segment_count++;
    if (spool->idle_segment_count > IDLE_SEGMENTS_MAX)
        spool_segment_close(
            CONTAINER_OF(spool->idle_segments.next, struct spool_segment, idle_node));
    spool_live_check(segment);
}

void spool_segment_hold(struct spool_segment *segment)
{
    segment->holds++;
}

void spool_segment_unhold(struct spool_segment *segment)
{
    ASSERT(segment->holds > 0);
    segment->holds--;
    spool_live_check(segment);
}
