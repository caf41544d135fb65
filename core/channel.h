/* core/channel.h - messages from one shard to another: a bounded ring of pointers per pair.
 *
 * One producer, one consumer, no lock; the consumer is woken (ring_wake) only when it sleeps.
 * Messages are embedded in what they are about, so sending allocates nothing. Used through
 * shard_send().
 */
#ifndef KILAT_CORE_CHANNEL_H
#define KILAT_CORE_CHANNEL_H

#include "core/list.h"

struct shard;
struct shard_message;
/* Runs on the receiving shard. */
typedef void shard_deliver_fn(struct shard *on, struct shard_message *message);

struct shard_message {
    shard_deliver_fn *deliver;
    uint32_t from;         /* filled in by shard_send() */
    struct list_node node; /* private: waits here while the channel is full */
};

struct channel;
/* `capacity` is a power of two. 0 or -ENOMEM. Shard: boot. */
int channel_create(uint32_t capacity, struct channel **ret_channel);
void channel_destroy(struct channel **channel);
bool channel_push(struct channel *channel,
                  struct shard_message *message);           /* producer; false: full */
struct shard_message *channel_pop(struct channel *channel); /* consumer; NULL: empty */

#endif
