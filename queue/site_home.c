#include "queue/queue_private.h"

#include "core/assert.h"
#include "core/crc32c.h"
#include <errno.h>
#include <stdlib.h>

/* A site at its home shard: who holds how many of its sessions, and whether it is left in peace for a while. Shards ask
 * by requests (site.c) and are told by shares, one letter under way to each; what changes meanwhile goes with the next.
 *
 * Who gets a slot: the shard that holds the fewest of those that want one; of equals the one that got its last one
 * longest ago, and of those the one whose mail is oldest. When all slots are out and a shard has none, one is called
 * back from the shard that holds most; where nobody holds more than one, from the one that got it longest ago, after a
 * turn for a shard whose mail is older, after a slice for any other. So slots go round and nobody starves. A site that
 * failed gets no session until its back-off ends, and then one, until that one is greeted. */
#define HOME_TURN_NS SECOND_NS        /* a shard that got a slot comes to use it */
#define HOME_SLICE_NS (5 * SECOND_NS) /* some thousand messages, yet nobody waits long */

struct queue *queue_of_message(struct shard *on, uint32_t from, struct queue *sender,
                               struct queue *(*peer)(struct shard *shard))
{
    if (from == on->index)
        return sender;
    return peer == NULL ? NULL : peer(on);
}

uint32_t text_copy(char *to, struct slice text)
{
    size_t size = MIN(text.size, (size_t)QUEUE_SITE_TEXT_MAX);

    if (size > 0)
        memcpy(to, text.data, size);
    return (uint32_t)size;
}

/* All shards must agree on it, so it has no key: whoever chooses names to burden one shard gains little. */
uint32_t home_shard(const struct queue *queue, struct slice name)
{
    if (queue->ops.peer == NULL)
        return queue->shard->index;
    return crc32c(0, name) % queue->shard->count;
}

/* ---- making and forgetting --------------------------------------------------------------------- */

static bool name_equal(const struct hash_node *node, const void *wanted)
{
    const struct site_home *home = CONTAINER_OF(node, struct site_home, hash_node);
    const struct slice *name = wanted;

    return slice_equal(slice_of(home->name, home->name_size), *name);
}

static void home_run(struct site_home *home);

static void home_fired(struct timer *timer)
{
    home_run(CONTAINER_OF(timer, struct site_home, timer));
}

static struct site_home *home_create(struct queue *queue, struct slice name)
{
    uint32_t count = queue->ops.peer == NULL ? queue->shard->index + 1 : queue->shard->count;
    struct site_home *home = calloc(1, sizeof(*home) + count * sizeof(struct site_share));

    if (home == NULL)
        return NULL;
    home->queue = queue;
    home->share_count = count;
    home->name_size = (uint8_t)name.size;
    if (name.size > 0)
        memcpy(home->name, name.data, name.size);
    timer_init(&home->timer, home_fired);
    for (uint32_t i = 0; i < count; i++) {
        home->shares[i].home = home;
        home->shares[i].shard = i;
    }
    hash_table_insert(&queue->home_names, &home->hash_node, hash_bytes(&queue->key, name));
    return home;
}

static void home_free(struct site_home *home)
{
    shard_timer_disarm(home->queue->shard, &home->timer);
    hash_table_remove(&home->queue->home_names, &home->hash_node);
    free(home);
}

void homes_deinit(struct queue *queue)
{
    struct hash_node *node;

    while ((node = hash_table_next(&queue->home_names, NULL)) != NULL)
        home_free(CONTAINER_OF(node, struct site_home, hash_node));
    hash_table_deinit(&queue->home_names);
}

static bool share_at_rest(const struct site_share *share)
{
    return !share->lent && share->held == 0 && share->wanted == 0 && share->recalling == 0 &&
           !share->tell;
}

/* Nobody has anything to do with it. A failure is remembered for a while, so that the next one counts on. */
static bool home_unused(const struct site_home *home, uint64_t *ret_until_ns)
{
    const struct queue *queue = home->queue;

    for (uint32_t i = 0; i < home->share_count; i++) {
        if (!share_at_rest(&home->shares[i]))
            return false;
    }
    if (home->failures == 0)
        return true;
    *ret_until_ns = home->backoff_until_ns + queue->config.site_backoff_max_ms * MS_NS;
    return queue->shard->now_ns >= *ret_until_ns;
}

/* ---- telling shards ----------------------------------------------------------------------------- */

static void share_send(struct site_share *share)
{
    struct site_home *home = share->home;
    struct queue *queue = home->queue;

    if (share->lent || (share->granting == 0 && share->recalling == 0 && !share->tell))
        return;
    share->message.deliver = site_share_arrive;
    share->peer = queue->ops.peer;
    share->sender = queue;
    share->home_shard = queue->shard->index;
    share->name = slice_of(home->name, home->name_size);
    share->granted = share->granting;
    share->recall = share->recalling;
    share->backoff_until_ns = home->backoff_until_ns;
    share->failing = home->failures > 0;
    memcpy(share->status, home->status, sizeof(share->status));
    share->text_size = home->text_size;
    memcpy(share->text, home->text, home->text_size);
    share->granting = 0;
    share->recalling = 0;
    share->tell = false;
    share->lent = true;
    queue->lent_count++;
    shard_send(queue->shard, share->shard, &share->message);
}

void site_share_back(struct shard *on, struct shard_message *message)
{
    struct site_share *share = CONTAINER_OF(message, struct site_share, message);
    struct site_home *home = share->home;

    (void)on;
    ASSERT(share->lent && share->held >= share->refused && home->held >= share->refused);
    share->lent = false;
    home->queue->lent_count--;
    share->held -= share->refused;
    home->held -= share->refused;
    share->recalled = MIN(share->recalled, share->held);
    if (home->queue->stopping)
        queue_poke(home->queue);
    home_run(home);
}

/* ---- who gets what ------------------------------------------------------------------------------ */

static bool needs_more(const struct site_share *share, const struct site_share *than)
{
    if (share->held != than->held)
        return share->held < than->held;
    if (share->granted_ns != than->granted_ns)
        return share->granted_ns < than->granted_ns;
    return share->oldest_s < than->oldest_s;
}

static struct site_share *neediest(struct site_home *home)
{
    struct site_share *best = NULL;

    for (uint32_t i = 0; i < home->share_count; i++) {
        struct site_share *share = &home->shares[i];

        if (share->wanted > 0 && (best == NULL || needs_more(share, best)))
            best = share;
    }
    return best;
}

static void grant(struct site_home *home, uint32_t limit)
{
    while (home->held < limit) {
        struct site_share *share = neediest(home);

        if (share == NULL)
            return;
        share->wanted--;
        share->held++;
        share->granting++;
        share->granted_ns = home->queue->shard->now_ns;
        home->held++;
    }
}

static bool gives_before(const struct site_share *share, const struct site_share *than)
{
    uint32_t kept = share->held - share->recalled, other = than->held - than->recalled;

    return kept != other ? kept > other : share->granted_ns < than->granted_ns;
}

static struct site_share *giver(struct site_home *home)
{
    struct site_share *best = NULL;

    for (uint32_t i = 0; i < home->share_count; i++) {
        struct site_share *share = &home->shares[i];

        if (share->held > share->recalled && (best == NULL || gives_before(share, best)))
            best = share;
    }
    return best;
}

/* One slot is called back for each shard that has none, as long as there are givers. Returns when to look again. */
static uint64_t recall(struct site_home *home)
{
    uint64_t now_ns = home->queue->shard->now_ns;
    uint32_t starving = 0, coming = 0, oldest_s = UINT32_MAX;

    for (uint32_t i = 0; i < home->share_count; i++) {
        const struct site_share *share = &home->shares[i];

        coming += share->recalled;
        if (share->wanted > 0 && share->held == 0) {
            starving++;
            oldest_s = MIN(oldest_s, share->oldest_s);
        }
    }
    for (; coming < starving; coming++) {
        struct site_share *from = giver(home);

        uint64_t until_ns;

        if (from == NULL)
            break;
        until_ns = from->granted_ns + (from->oldest_s > oldest_s ? HOME_TURN_NS : HOME_SLICE_NS);
        if (from->held - from->recalled == 1 && now_ns < until_ns)
            return until_ns;
        from->recalled++;
        from->recalling++;
    }
    return UINT64_MAX;
}

/* Shards that cannot talk to each other divide the limit. */
static uint32_t home_limit(const struct queue *queue)
{
    uint32_t limit = queue->config.site_sessions_max;

    if (queue->ops.peer == NULL)
        limit /= queue->shard->count;
    return MAX(1u, limit);
}

static void home_run(struct site_home *home)
{
    struct queue *queue = home->queue;
    uint64_t now_ns = queue->shard->now_ns;
    uint64_t again_ns = UINT64_MAX;

    if (now_ns < home->backoff_until_ns) {
        again_ns = home->backoff_until_ns;
    } else if (!queue->stopping) {
        grant(home, home->failures > 0 ? 1 : home_limit(queue));
        again_ns = recall(home);
    }
    for (uint32_t i = 0; i < home->share_count; i++)
        share_send(&home->shares[i]);
    if (home_unused(home, &again_ns)) {
        home_free(home);
        return;
    }
    if (again_ns == UINT64_MAX)
        shard_timer_disarm(queue->shard, &home->timer);
    else
        timer_arm(&queue->shard->timers, &home->timer, again_ns);
}

void homes_configure(struct queue *queue)
{
    struct hash_node *node = hash_table_next(&queue->home_names, NULL);

    while (node != NULL) {
        struct hash_node *next = hash_table_next(&queue->home_names, node);

        home_run(CONTAINER_OF(node, struct site_home, hash_node));
        node = next;
    }
}

/* ---- requests ----------------------------------------------------------------------------------- */

static void tell_all(struct site_home *home)
{
    for (uint32_t i = 0; i < home->share_count; i++) {
        struct site_share *share = &home->shares[i];

        share->tell = share->tell || share->held > 0 || share->wanted > 0;
    }
}

static void note_failure(struct site_home *home, const struct site_request *request)
{
    struct queue *queue = home->queue;

    /* Sessions that were opened together fail together: that is one failure. */
    if (queue->shard->now_ns >= home->backoff_until_ns) {
        home->failures++;
        home->backoff_until_ns =
            queue->shard->now_ns + MS_NS * retry_delay_ms(queue->config.site_backoff_first_ms,
                                                          queue->config.site_backoff_max_ms,
                                                          home->failures);
    }
    memcpy(home->status, request->status, sizeof(home->status));
    home->text_size = (uint8_t)text_copy(home->text, slice_of(request->text, request->text_size));
    tell_all(home);
}

static void read_request(struct site_home *home, struct site_request *request)
{
    struct site_share *share = &home->shares[request->shard];
    uint32_t released = MIN(request->released, share->held);

    ASSERT(request->released == released);
    share->held -= released;
    home->held -= released;
    share->recalled -= MIN(share->recalled, released);
    share->wanted = request->wanted;
    share->oldest_s = request->oldest_s;
    if (request->succeeded || request->urgent)
        home->backoff_until_ns = 0;
    if (request->succeeded) {
        home->failures = 0;
        tell_all(home);
    }
    if (request->failed)
        note_failure(home, request);
    if (home->failures > 0)
        share->tell = true;
}

void site_request_arrive(struct shard *on, struct shard_message *message)
{
    struct site_request *request = CONTAINER_OF(message, struct site_request, message);
    struct queue *queue = queue_of_message(on, message->from, request->sender, request->peer);

    request->refused = true;
    if (queue != NULL) {
        struct hash_node *node = hash_table_find(
            &queue->home_names, hash_bytes(&queue->key, request->name), name_equal, &request->name);
        struct site_home *home = node != NULL ? CONTAINER_OF(node, struct site_home, hash_node)
                                              : home_create(queue, request->name);

        if (home != NULL) {
            request->refused = false;
            read_request(home, request);
            home_run(home);
        }
    }
    message->deliver = site_request_back;
    shard_send(on, request->shard, message);
}
