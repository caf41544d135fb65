#include "queue/queue_private.h"

#include "core/assert.h"
#include "core/clock.h"
#include <errno.h>
#include <stdlib.h>

/* A destination knows where its mail goes for as long as the owner said, and is asked about again only when there is
 * mail for it: what nobody writes to costs nothing. Its node is in one list at a time, and destination_refresh() is
 * the one place that decides in which. */
#define DESTINATIONS_FIRST 64
#define DESTINATION_NO_ITEM_NS                                                                     \
    (SECOND_NS) /* what could not be kept for want of memory is tried again after this */

struct slice destination_name(const struct destination *destination)
{
    return slice_of(destination->name, destination->name_size);
}

static bool name_equal(const struct hash_node *node, const void *wanted)
{
    const struct slice *name = wanted;

    return slice_equal(destination_name(CONTAINER_OF(node, struct destination, hash_node)), *name);
}

static struct destination *find(const struct queue *queue, struct slice name)
{
    struct hash_node *node = hash_table_find(&queue->destination_names,
                                             hash_bytes(&queue->key, name), name_equal, &name);

    return node == NULL ? NULL : CONTAINER_OF(node, struct destination, hash_node);
}

/* ---- making and forgetting --------------------------------------------------------------------- */

static int numbers_grow(struct queue *queue)
{
    uint32_t capacity =
        queue->destination_capacity == 0 ? DESTINATIONS_FIRST : queue->destination_capacity * 2;
    struct destination **grown;

    if (queue->destination_capacity >= INDEX_UNIT / 2)
        return -ENOMEM;
    grown = realloc(queue->destinations, capacity * sizeof(struct destination *));
    if (grown == NULL)
        return -ENOMEM;
    memset(grown + queue->destination_capacity, 0,
           (capacity - queue->destination_capacity) * sizeof(struct destination *));
    queue->destinations = grown;
    queue->destination_capacity = capacity;
    return 0;
}

/* At least one in four is free, so the walk is short. */
static uint32_t free_number(const struct queue *queue)
{
    uint32_t number = queue->destination_free_hint;

    while (queue->destinations[number % queue->destination_capacity] != NULL)
        number++;
    return number % queue->destination_capacity;
}

static void rested(struct timer *timer)
{
    struct destination *destination = CONTAINER_OF(timer, struct destination, timer);

    if (destination->route == ROUTE_RESTING)
        destination->route = ROUTE_UNKNOWN;
    destination_refresh(destination);
}

static void forget(struct destination *destination)
{
    struct queue *queue = destination->queue;

    ASSERT(destination->items == 0 && destination->ready.count == 0);
    list_remove(&destination->node);
    shard_timer_disarm(queue->shard, &destination->timer);
    reason_unref(&queue->reasons, destination->reason);
    hash_table_remove(&queue->destination_names, &destination->hash_node);
    queue->destinations[destination->number] = NULL;
    queue->destination_count--;
    if (destination->site != NULL)
        site_detach(destination->site);
    free(destination);
}

/* The longest idle first, so never the one that has just become so. One that was asked about is not idle until the
 * answer has come: its number stands in the question. */
static void forget_some(struct queue *queue)
{
    while (queue->idle_destination_count > QUEUE_IDLE_DESTINATIONS) {
        struct list_node *node = list_pop_front(&queue->idle_destinations);

        queue->idle_destination_count--;
        forget(CONTAINER_OF(node, struct destination, node));
    }
}

static void become_idle(struct destination *destination)
{
    struct queue *queue = destination->queue;

    if (destination->idle)
        return;
    destination->idle = true;
    list_remove(&destination->node);
    list_push_back(&queue->idle_destinations, &destination->node);
    queue->idle_destination_count++;
    forget_some(queue);
}

static int make(struct queue *queue, struct slice name, struct destination **ret_destination)
{
    struct destination *destination;
    int r = 0;

    if (queue->destination_count >= queue->destination_capacity / 4 * 3)
        r = numbers_grow(queue);
    if (r < 0)
        return r;
    destination = calloc(1, sizeof(*destination) + name.size);
    if (destination == NULL)
        return -ENOMEM;
    destination->queue = queue;
    destination->number = free_number(queue);
    destination->name_size = (uint8_t)name.size;
    memcpy(destination->name, name.data, name.size);
    timer_init(&destination->timer, rested);
    queue->destinations[destination->number] = destination;
    queue->destination_free_hint = destination->number + 1;
    queue->destination_count++;
    hash_table_insert(&queue->destination_names, &destination->hash_node,
                      hash_bytes(&queue->key, name));
    list_node_init(&destination->node);
    become_idle(destination);
    *ret_destination = destination;
    return 0;
}

int destinations_init(struct queue *queue)
{
    struct destination *local;
    int r;

    list_init(&queue->idle_destinations);
    list_init(&queue->asks);
    list_init(&queue->refused);
    random_bytes(&queue->key, sizeof(queue->key));
    r = hash_table_init(&queue->destination_names, DESTINATIONS_FIRST);
    if (r < 0)
        return r;
    r = numbers_grow(queue);
    if (r < 0)
        return r;
    r = make(queue, SLICE("local"), &local);
    if (r < 0)
        return r;
    ASSERT(local->number == QUEUE_LOCAL);
    /* Never idle, and under no name that a domain could have. */
    local->idle = false;
    list_remove(&local->node);
    queue->idle_destination_count--;
    hash_table_remove(&queue->destination_names, &local->hash_node);
    return 0;
}

void destinations_deinit(struct queue *queue)
{
    for (uint32_t i = 0; i < queue->destination_capacity; i++) {
        struct destination *destination = queue->destinations[i];

        if (destination == NULL)
            continue;
        list_remove(&destination->node);
        shard_timer_disarm(queue->shard, &destination->timer);
        free(destination);
    }
    free(queue->destinations);
    queue->destinations = NULL;
    queue->destination_capacity = 0;
    hash_table_deinit(&queue->destination_names);
}

int destination_get(struct queue *queue, struct slice name, struct destination **ret_destination)
{
    struct destination *destination = find(queue, name);
    int r;

    if (destination == NULL) {
        r = make(queue, name, &destination);
        if (r < 0)
            return r;
    }
    *ret_destination = destination;
    return 0;
}

static struct slice lower_case(struct slice name, uint8_t lower[QUEUE_NAME_MAX])
{
    for (size_t i = 0; i < name.size; i++)
        lower[i] = byte_lower(name.data[i]);
    return slice_of(lower, name.size);
}

/* The domain in lower case, cut at what a name may have: a longer one passed no check of ours and will fail. */
static struct slice domain_of(struct slice address, uint8_t lower[QUEUE_NAME_MAX])
{
    return lower_case(slice_first(envelope_domain(address), QUEUE_NAME_MAX), lower);
}

int destination_of_address(struct queue *queue, struct slice address,
                           struct destination **ret_destination)
{
    uint8_t lower[QUEUE_NAME_MAX];
    struct slice domain = domain_of(address, lower);

    if (queue->ops.is_local(queue->context, domain)) {
        *ret_destination = queue->destinations[QUEUE_LOCAL];
        return 0;
    }
    return destination_get(queue, domain, ret_destination);
}

struct destination *destination_find_address(struct queue *queue, struct slice address)
{
    uint8_t lower[QUEUE_NAME_MAX];

    return find(queue, domain_of(address, lower));
}

/* As people write it: in any case, and "local" for the one that has no domain. */
struct destination *destination_find(struct queue *queue, struct slice name)
{
    uint8_t lower[QUEUE_NAME_MAX];

    if (slice_equal_nocase(name, SLICE("local")))
        return queue->destinations[QUEUE_LOCAL];
    return name.size > QUEUE_NAME_MAX ? NULL : find(queue, lower_case(name, lower));
}

/* ---- items ------------------------------------------------------------------------------------ */

static bool is_local(const struct destination *destination)
{
    return destination->number == QUEUE_LOCAL;
}

void destination_item_added(struct destination *destination)
{
    destination->items++;
    if (destination->idle) {
        destination->idle = false;
        list_remove(&destination->node);
        destination->queue->idle_destination_count--;
    }
}

void destination_item_done(struct destination *destination)
{
    ASSERT(destination->items > 0);
    if (--destination->items == 0)
        destination_refresh(destination);
}

void destination_ready_push(struct destination *destination, uint32_t item, bool front)
{
    if (front)
        item_list_push_front(&destination->queue->index, &destination->ready, item);
    else
        item_list_push(&destination->queue->index, &destination->ready, item);
    if (destination->site != NULL)
        destination->site->ready_count++;
    destination_refresh(destination);
}

void destination_ready_remove(struct destination *destination, uint32_t item)
{
    item_list_remove(&destination->queue->index, &destination->ready, item);
    if (destination->site != NULL)
        destination->site->ready_count--;
    if (destination->ready.count == 0)
        destination_refresh(destination);
}

/* ---- where it stands ---------------------------------------------------------------------------- */

static void want_route(struct destination *destination)
{
    list_remove(&destination->node);
    destination->route = ROUTE_WANTED;
    list_push_back(&destination->queue->asks, &destination->node);
    queue_poke(destination->queue);
}

static void refresh_ready(struct destination *destination)
{
    struct queue *queue = destination->queue;

    if (destination->route == ROUTE_KNOWN && queue->shard->now_ns >= destination->route_until_ns)
        destination->route = ROUTE_UNKNOWN;
    switch (destination->route) {
    case ROUTE_UNKNOWN:
        want_route(destination);
        break;
    case ROUTE_KNOWN:
        if (!list_linked(&destination->node))
            list_push_back(&destination->site->ring, &destination->node);
        site_touch(destination->site);
        break;
    case ROUTE_REFUSED:
        if (!list_linked(&destination->node))
            list_push_back(&queue->refused, &destination->node);
        queue_poke(queue);
        break;
    case ROUTE_WANTED:
    case ROUTE_ASKED:
    case ROUTE_RESTING:
        break;
    }
}

void destination_refresh(struct destination *destination)
{
    struct queue *queue = destination->queue;

    if (is_local(destination)) {
        if (destination->ready.count > 0) {
            queue->local_ready = true;
            queue_poke(queue);
        }
        return;
    }
    if (destination->ready.count > 0) {
        refresh_ready(destination);
        return;
    }
    if (destination->route == ROUTE_REFUSED) {
        /* All that stood ready has failed; who comes later is asked for anew. */
        destination->route = ROUTE_UNKNOWN;
        reason_unref(&queue->reasons, destination->reason);
        destination->reason = REASON_NONE;
    }
    if (destination->route == ROUTE_ASKED)
        return;
    if (destination->route == ROUTE_WANTED)
        destination->route = ROUTE_UNKNOWN;
    if (destination->items == 0)
        become_idle(destination);
    else
        list_remove(&destination->node);
}

void destination_retry(struct destination *destination)
{
    if (destination->route == ROUTE_RESTING) {
        shard_timer_disarm(destination->queue->shard, &destination->timer);
        destination->route = ROUTE_UNKNOWN;
    }
    if (destination->site != NULL)
        site_retry(destination->site);
    if (destination->ready.count > 0)
        destination_refresh(destination);
}

/* ---- answers ---------------------------------------------------------------------------------- */

static void set_site(struct destination *destination, struct site *site)
{
    struct site *old = destination->site;

    if (old == site)
        return;
    list_remove(&destination->node);
    if (site != NULL) {
        site_attach(site);
        site->ready_count += destination->ready.count;
    }
    destination->site = site;
    if (old != NULL) {
        old->ready_count -= destination->ready.count;
        site_touch(old);
        site_detach(old);
    }
}

static struct destination *asked(struct queue *queue, uint32_t number)
{
    struct destination *destination;

    if (number >= queue->destination_capacity)
        return NULL;
    destination = queue->destinations[number];
    /* An answer nobody waits for is dropped: the owner may answer twice, we count once. */
    if (destination == NULL || destination->route != ROUTE_ASKED)
        return NULL;
    queue->asked_count--;
    reason_unref(&queue->reasons, destination->reason);
    destination->reason = REASON_NONE;
    if (!list_empty(&queue->asks))
        queue_poke(queue);
    return destination;
}

static void rest(struct destination *destination, uint64_t after_ms)
{
    destination->route = ROUTE_RESTING;
    destination->route_until_ns = destination->queue->shard->now_ns + after_ms * MS_NS;
    timer_arm(&destination->queue->shard->timers, &destination->timer, destination->route_until_ns);
    destination_refresh(destination);
}

void queue_resolved(struct queue *queue, uint32_t number, struct slice name, uint64_t ttl_ms)
{
    struct destination *destination = asked(queue, number);
    struct site *site;

    if (destination == NULL)
        return;
    if (site_get(queue, slice_first(name, QUEUE_NAME_MAX), &site) < 0) {
        rest(destination, DESTINATION_NO_ITEM_NS / MS_NS);
        return;
    }
    set_site(destination, site);
    destination->route = ROUTE_KNOWN;
    destination->route_until_ns = queue->shard->now_ns + MAX(ttl_ms, SECOND_MS) * MS_NS;
    destination->failures = 0;
    destination_refresh(destination);
}

void queue_unresolved(struct queue *queue, uint32_t number, enum queue_outcome outcome,
                      const uint8_t status[3], struct slice text)
{
    struct destination *destination = asked(queue, number);

    if (destination == NULL)
        return;
    ASSERT(outcome != QUEUE_DELIVERED);
    set_site(destination, NULL);
    destination->reason = reason_intern(&queue->reasons, status, text);
    if (outcome == QUEUE_NEVER) {
        destination->route = ROUTE_REFUSED;
        destination->failures = 0;
        destination_refresh(destination);
        return;
    }
    destination->failures++;
    rest(destination, retry_delay_ms(queue->config.site_backoff_first_ms,
                                     queue->config.site_backoff_max_ms, destination->failures));
}

/* ---- in the task ------------------------------------------------------------------------------- */

static void run_asks(struct queue *queue)
{
    while (queue->asked_count < QUEUE_ASKS_MAX && !queue->stopping) {
        struct list_node *node = list_pop_front(&queue->asks);
        struct destination *destination;

        if (node == NULL)
            return;
        destination = CONTAINER_OF(node, struct destination, node);
        destination->route = ROUTE_ASKED;
        queue->asked_count++;
        queue->ops.resolve(queue->context, destination->number, destination_name(destination));
    }
}

/* What is ready for a domain that takes no mail fails, some of it in each tick. */
static void run_refused(struct queue *queue)
{
    for (uint32_t i = 0; i < QUEUE_BATCH && !list_empty(&queue->refused); i++) {
        struct destination *destination =
            CONTAINER_OF(queue->refused.next, struct destination, node);
        uint32_t item = destination->ready.first;

        reason_ref(&queue->reasons, destination->reason);
        item_set_reason(queue, item, destination->reason);
        item_enter(queue, item, ITEM_FAILING);
    }
    if (!list_empty(&queue->refused))
        queue_poke(queue);
}

void destinations_run(struct queue *queue)
{
    run_refused(queue);
    run_asks(queue);
}
