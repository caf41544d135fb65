#include "core/channel.h"

#include "core/assert.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CACHE_LINE_BYTES 64

/* Each side writes one counter and keeps a copy of the other's, which it reads anew only when the
 * copy says full (or empty): so in a stream of messages the two cache lines rarely travel. */
struct channel {
    uint32_t mask;
    struct shard_message **slots;
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t pushed; /* producer's */
    uint32_t popped_seen;
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t popped; /* consumer's */
    uint32_t pushed_seen;
};

int channel_create(uint32_t capacity, struct channel **ret_channel)
{
    struct channel *channel;

    ASSERT(capacity > 0 && (capacity & (capacity - 1)) == 0);
    channel = aligned_alloc(CACHE_LINE_BYTES, sizeof(*channel));
    if (channel == NULL)
        return -ENOMEM;
    *channel = (struct channel){.mask = capacity - 1};
    channel->slots = calloc(capacity, sizeof(struct shard_message *));
    if (channel->slots == NULL) {
        free(channel);
        return -ENOMEM;
    }
    *ret_channel = channel;
    return 0;
}

void channel_destroy(struct channel **channel)
{
    if (*channel == NULL)
        return;
    free((*channel)->slots);
    free(*channel);
    *channel = NULL;
}

bool channel_push(struct channel *channel, struct shard_message *message)
{
    uint32_t at = atomic_load_explicit(&channel->pushed, memory_order_relaxed);

    if (at - channel->popped_seen > channel->mask) {
        channel->popped_seen = atomic_load_explicit(&channel->popped, memory_order_acquire);
        if (at - channel->popped_seen > channel->mask)
            return false;
    }
    channel->slots[at & channel->mask] = message;
    atomic_store_explicit(&channel->pushed, at + 1, memory_order_release);
    return true;
}

struct shard_message *channel_pop(struct channel *channel)
{
    uint32_t at = atomic_load_explicit(&channel->popped, memory_order_relaxed);
    struct shard_message *message;

    if (at == channel->pushed_seen) {
        channel->pushed_seen = atomic_load_explicit(&channel->pushed, memory_order_acquire);
        if (at == channel->pushed_seen)
            return NULL;
    }
    message = channel->slots[at & channel->mask];
    atomic_store_explicit(&channel->popped, at + 1, memory_order_release);
    return message;
}
