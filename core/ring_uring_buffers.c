#include "core/ring.h"

#include "core/assert.h"
#include "core/ring_uring_private.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* The kernel's writes are invisible to AddressSanitizer, so the pool says itself which bytes may be
 * looked at: none of a buffer that is the kernel's, and exactly those received of one that is ours.
 */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define FORBID(data, size) ASAN_POISON_MEMORY_REGION(data, size)
#define ALLOW(data, size) ASAN_UNPOISON_MEMORY_REGION(data, size)
#else
#define FORBID(data, size) ((void)(data), (void)(size))
#define ALLOW(data, size) ((void)(data), (void)(size))
#endif

static size_t slots_bytes(const struct uring_buffers *pool)
{
    return pool->count * sizeof(struct io_uring_buf);
}

static size_t pool_bytes(const struct uring_buffers *pool)
{
    return (size_t)pool->count * pool->size_bytes;
}

/* Gives `buffer` to the kernel. The tail shares its bytes with the first slot's unused field, so
 * that field is never written. */
static void give(struct uring_buffers *pool, struct ring_buffer *buffer)
{
    struct io_uring_buf *slot = &pool->slots->bufs[pool->tail & (pool->count - 1)];

    FORBID(buffer->data, buffer->capacity);
    slot->addr = (uint64_t)(uintptr_t)buffer->data;
    slot->len = buffer->capacity;
    slot->bid = buffer->id;
    pool->tail++;
    pool->free_count++;
    io_uring_smp_store_release(&pool->slots->tail, pool->tail);
}

static void *map(size_t size_bytes)
{
    void *at = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

static void release(struct uring_buffers *pool)
{
    if (pool->bytes != NULL) {
        ALLOW(pool->bytes, pool_bytes(pool)); /* whoever is given these pages next */
        (void)munmap(pool->bytes, pool_bytes(pool));
    }
    if (pool->slots != NULL)
        (void)munmap(pool->slots, slots_bytes(pool));
    free(pool->buffers);
    *pool = (struct uring_buffers){.slots = NULL};
}

static int register_slots(struct ring *ring, const struct uring_buffers *pool)
{
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)pool->slots,
        .ring_entries = pool->count,
        .bgid = URING_BUFFER_GROUP,
    };

    return io_uring_register_buf_ring(&ring->uring, &registration, 0);
}

int uring_buffers_create(struct ring *ring, uint32_t count, uint32_t size_bytes)
{
    struct uring_buffers *pool = &ring->buffers;
    int r;

    ASSERT(count <=
           UINT16_MAX / 2 + 1); /* the kernel's limit: an id has 16 bits, the ring 2^15 slots */
    *pool = (struct uring_buffers){.count = count, .size_bytes = size_bytes};
    pool->buffers = calloc(count, sizeof(*pool->buffers));
    pool->slots = map(slots_bytes(pool));
    pool->bytes = map(pool_bytes(pool));
    if (pool->buffers == NULL || pool->slots == NULL || pool->bytes == NULL)
        r = -ENOMEM;
    else
        r = register_slots(ring, pool);
    if (r < 0) {
        release(pool);
        return r;
    }
    for (uint32_t i = 0; i < count; i++) {
        pool->buffers[i] = (struct ring_buffer){.ring = ring,
                                                .data = pool->bytes + (size_t)i * size_bytes,
                                                .capacity = size_bytes,
                                                .id = (uint16_t)i};
        give(pool, &pool->buffers[i]);
    }
    return 0;
}

void uring_buffers_destroy(struct ring *ring)
{
    /* Whoever still holds one would read what is no longer there. */
    ASSERT(ring->buffers.free_count == ring->buffers.count);
    release(&ring->buffers);
}

struct ring_buffer *uring_buffer_take(struct ring *ring, uint16_t id, size_t size)
{
    struct uring_buffers *pool = &ring->buffers;
    struct ring_buffer *buffer;

    ASSERT(id < pool->count);
    buffer = &pool->buffers[id];
    ASSERT(buffer->references == 0);
    ASSERT(size <= buffer->capacity);
    ASSERT(pool->free_count > 0);
    ALLOW(buffer->data, size);
    buffer->references = 1;
    pool->free_count--;
    return buffer;
}

struct ring_buffer *ring_buffer_ref(struct ring_buffer *buffer)
{
    ASSERT(buffer->references > 0);
    buffer->references++;
    return buffer;
}

void ring_buffer_unref(struct ring_buffer *buffer)
{
    ASSERT(buffer->references > 0);
    buffer->references--;
    if (buffer->references > 0)
        return;
    if (buffer->ring == NULL)
        free(buffer);
    else
        give(&buffer->ring->buffers, buffer);
}

uint32_t ring_buffers_free(const struct ring *ring)
{
    return ring->buffers.free_count;
}

uint32_t ring_buffers_total(const struct ring *ring)
{
    return ring->buffers.count;
}
