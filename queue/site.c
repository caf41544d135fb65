#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

/* A site as this shard sees it: the slots it has been leased, and how many it would like. What it would like follows
 * from the mail that stands ready and from a window that grows with each session greeted and is halved by each that
 * failed. All talk with the home shard is one request at a time; what changes meanwhile goes with the next one. */
#define SITES_FIRST 64
#define SITE_WINDOW_FIRST 4
#define SITE_WINDOW_MAX 65536u
#define SITE_MESSAGES_PER_SLOT 2 /* that may wait behind one session before another one is opened */
#define SITE_AGAIN_MS 1000
#define SITE_ASKS_PER_FAILURE                                                                      \
    64 /* destinations; the first answer already renews the site's hosts */

struct slice site_name(const struct site *site)
{
    return slice_of(site->name, site->name_size);
}

struct slice queue_slot_site(const struct queue_slot *slot)
{
    return site_name(slot->site);
}

void queue_slot_set_user(struct queue_slot *slot, void *user)
{
    slot->user = user;
}

void *queue_slot_user(const struct queue_slot *slot)
{
    return slot->user;
}

bool site_resting(const struct site *site)
{
    return site->queue->shard->now_ns < site->backoff_until_ns;
}

/* ---- making and forgetting --------------------------------------------------------------------- */

static bool name_equal(const struct hash_node *node, const void *wanted)
{
    const struct slice *name = wanted;

    return slice_equal(site_name(CONTAINER_OF(node, struct site, hash_node)), *name);
}

static struct site *find(const struct queue *queue, struct slice name)
{
    struct hash_node *node =
        hash_table_find(&queue->site_names, hash_bytes(&queue->key, name), name_equal, &name);

    return node == NULL ? NULL : CONTAINER_OF(node, struct site, hash_node);
}

static void site_free(struct site *site)
{
    struct queue *queue = site->queue;

    list_remove(&site->dirty);
    reason_unref(&queue->reasons, site->reason);
    reason_unref(&queue->reasons, site->fail_reason);
    hash_table_remove(&queue->site_names, &site->hash_node);
    free(site);
}

void sites_deinit(struct queue *queue)
{
    struct hash_node *node;

    shard_timer_disarm(queue->shard, &queue->again_timer);
    while ((node = hash_table_next(&queue->site_names, NULL)) != NULL) {
        struct site *site = CONTAINER_OF(node, struct site, hash_node);

        list_for_each_safe (at, &site->slots)
            free(CONTAINER_OF(at, struct queue_slot, node));
        site_free(site);
    }
    hash_table_deinit(&queue->site_names);
    homes_deinit(queue);
}

int site_get(struct queue *queue, struct slice name, struct site **ret_site)
{
    struct site *site = find(queue, name);

    if (site == NULL) {
        site = calloc(1, sizeof(*site) + name.size);
        if (site == NULL)
            return -ENOMEM;
        site->queue = queue;
        site->name_size = (uint8_t)name.size;
        if (name.size > 0)
            memcpy(site->name, name.data, name.size);
        site->window = SITE_WINDOW_FIRST;
        list_node_init(&site->dirty);
        list_init(&site->ring);
        list_init(&site->slots);
        list_init(&site->idle);
        hash_table_insert(&queue->site_names, &site->hash_node, hash_bytes(&queue->key, name));
    }
    *ret_site = site;
    return 0;
}

static void free_if_unused(struct site *site)
{
    if (site->destinations == 0 && site->slot_count == 0 && !site->lent && site->told_wanted == 0 &&
        site->released == 0 && !site->failed && !site->succeeded && !list_linked(&site->dirty))
        site_free(site);
}

void site_attach(struct site *site)
{
    site->destinations++;
}

void site_detach(struct site *site)
{
    ASSERT(site->destinations > 0);
    if (--site->destinations == 0)
        site_touch(site); /* freed in the task, when nothing is under way any more */
}

void site_touch(struct site *site)
{
    if (!list_linked(&site->dirty))
        list_push_back(&site->queue->dirty_sites, &site->dirty);
    queue_poke(site->queue);
}

void sites_touch_all(struct queue *queue)
{
    for (struct hash_node *node = hash_table_next(&queue->site_names, NULL); node != NULL;
         node = hash_table_next(&queue->site_names, node))
        site_touch(CONTAINER_OF(node, struct site, hash_node));
}

/* What could not begin because the journal was away or too much was in hand is looked at again. */
static void take_again(struct timer *timer)
{
    struct queue *queue = CONTAINER_OF(timer, struct queue, again_timer);

    sites_touch_all(queue);
    queue->local_ready = true;
    queue_poke(queue);
}

void queue_again(struct queue *queue)
{
    if (!timer_armed(&queue->again_timer))
        shard_timer_arm(queue->shard, &queue->again_timer, SITE_AGAIN_MS);
}

int sites_init(struct queue *queue)
{
    int r = hash_table_init(&queue->site_names, SITES_FIRST);

    list_init(&queue->dirty_sites);
    list_init(&queue->connects);
    list_init(&queue->wakings);
    list_init(&queue->recalls);
    timer_init(&queue->again_timer, take_again);
    return r < 0 ? r : hash_table_init(&queue->home_names, SITES_FIRST);
}

void site_retry(struct site *site)
{
    if (!site_resting(site))
        return;
    site->backoff_until_ns = 0;
    site->urgent = true;
    site_touch(site);
}

/* ---- talking with the home shard ----------------------------------------------------------------- */

/* Items that a slot would be given now: those of a destination whose route has run out are not among them. */
static uint32_t takeable(const struct site *site)
{
    return list_empty(&site->ring) ? 0 : site->ready_count;
}

static uint32_t oldest_ready_s(const struct site *site)
{
    const struct index *index = &site->queue->index;
    uint32_t oldest_s = UINT32_MAX;

    if (!list_empty(&site->ring)) {
        struct destination *first = CONTAINER_OF(site->ring.next, struct destination, node);

        if (first->ready.first != INDEX_NONE)
            oldest_s = index_entry(index, index_entry_of(index, first->ready.first))->arrival_s;
    }
    return oldest_s;
}

static uint32_t window_of(const struct site *site)
{
    return MIN(site->window, MAX(1u, site->queue->config.site_sessions_max));
}

/* Those that are at work or about to be, and some for the mail that none of them is about to take. */
static uint32_t slots_useful(const struct site *site)
{
    uint32_t busy = site->slot_count - site->idle_count;
    uint32_t ready = takeable(site);

    if (site->queue->stopping || ready == 0)
        return 0;
    ready -= MIN(ready, site->pulling_count);
    return MIN(window_of(site),
               busy + (ready + SITE_MESSAGES_PER_SLOT - 1) / SITE_MESSAGES_PER_SLOT);
}

static uint32_t slots_wanted(const struct site *site)
{
    uint32_t useful = slots_useful(site);

    if (site->slot_count > 0 && site->queue->shard->now_ns < site->grow_after_ns)
        return 0;
    return useful > site->slot_count ? useful - site->slot_count : 0;
}

static bool worth_a_request(const struct site *site, uint32_t wanted)
{
    return site->released > 0 || site->failed || site->succeeded || site->urgent ||
           (wanted > 0) != (site->told_wanted > 0) || wanted > 2 * site->told_wanted;
}

static void site_request(struct site *site)
{
    struct site_request *request = &site->request;
    struct queue *queue = site->queue;
    uint32_t wanted = slots_wanted(site);

    if (site->lent || !worth_a_request(site, wanted))
        return;
    *request = (struct site_request){
        .message.deliver = site_request_arrive,
        .site = site,
        .peer = queue->ops.peer,
        .sender = queue,
        .shard = queue->shard->index,
        .name = site_name(site),
        .wanted = wanted,
        .released = site->released,
        .oldest_s = oldest_ready_s(site),
        .failed = site->failed,
        .succeeded = site->succeeded,
        .urgent = site->urgent,
    };
    if (site->failed) {
        memcpy(request->status, reason_status(&queue->reasons, site->fail_reason), 3);
        request->text_size =
            (uint8_t)text_copy(request->text, reason_text(&queue->reasons, site->fail_reason));
    }
    site->told_wanted = wanted;
    site->released = 0;
    site->failed = site->succeeded = site->urgent = false;
    site->lent = true;
    queue->lent_count++;
    shard_send(queue->shard, home_shard(queue, site_name(site)), &request->message);
}

void site_request_back(struct shard *on, struct shard_message *message)
{
    struct site *site = CONTAINER_OF(message, struct site_request, message)->site;

    (void)on;
    ASSERT(site->lent);
    site->lent = false;
    site->queue->lent_count--;
    if (site->request.refused) {
        site->told_wanted = 0;
        queue_again(site->queue);
        return;
    }
    site_touch(site);
}

/* ---- slots ------------------------------------------------------------------------------------ */

static struct queue_slot *slot_create(struct site *site)
{
    struct queue_slot *slot = calloc(1, sizeof(*slot));

    if (slot == NULL)
        return NULL;
    slot->site = site;
    slot->state = SLOT_GRANTED;
    list_node_init(&slot->turn);
    list_push_back(&site->slots, &slot->node);
    list_push_back(&site->queue->connects, &slot->turn);
    site->slot_count++;
    site->pulling_count++;
    site->queue->slot_count++;
    queue_poke(site->queue);
    return slot;
}

static bool slot_pulls(enum slot_state state)
{
    return state != SLOT_BUSY && state != SLOT_IDLE;
}

static void slot_enter(struct queue_slot *slot, enum slot_state next)
{
    struct site *site = slot->site;

    if (slot->state == next)
        return;
    if (slot->state == SLOT_IDLE)
        site->idle_count--;
    if (slot_pulls(slot->state) && !slot_pulls(next))
        site->pulling_count--;
    if (!slot_pulls(slot->state) && slot_pulls(next))
        site->pulling_count++;
    slot->state = next;
    if (!slot->recalled)
        list_remove(
            &slot->turn); /* a recalled one waits in its list to be told, whatever else it does */
    if (next == SLOT_IDLE) {
        site->idle_count++;
        if (!slot->recalled)
            list_push_front(&site->idle,
                            &slot->turn); /* the last one used is the likeliest to be alive */
    }
    if (next == SLOT_WAKING)
        list_push_back(&site->queue->wakings, &slot->turn);
}

/* Gone, for home to give to another; the caller counts it as released. */
static void slot_free(struct queue_slot *slot)
{
    struct site *site = slot->site;

    ASSERT(slot->attempts == 0);
    slot_enter(slot, SLOT_BUSY);
    list_remove(&slot->turn);
    list_remove(&slot->node);
    site->slot_count--;
    site->queue->slot_count--;
    if (slot->greeted)
        site->greeted_count--;
    free(slot);
    site_touch(site);
}

static void recall_slot(struct queue_slot *slot)
{
    struct queue *queue = slot->site->queue;

    if (slot->state == SLOT_GRANTED) {
        slot->site->released++;
        slot_free(slot);
        return;
    }
    if (slot->state == SLOT_WAKING)
        slot_enter(slot, SLOT_WOKEN); /* being recalled is all it is told */
    list_remove(&slot->turn);
    slot->recalled = true;
    list_push_back(&queue->recalls, &slot->turn);
    queue_poke(queue);
}

/* Idle ones first, then those not yet connected, then any. */
static struct queue_slot *slot_to_recall(struct site *site)
{
    struct queue_slot *any = NULL;

    list_for_each (node, &site->slots) {
        struct queue_slot *slot = CONTAINER_OF(node, struct queue_slot, node);

        if (slot->recalled)
            continue;
        if (slot->state == SLOT_IDLE || slot->state == SLOT_GRANTED)
            return slot;
        any = slot;
    }
    return any;
}

static void recall_slots(struct site *site, uint32_t count)
{
    for (; count > 0; count--) {
        struct queue_slot *slot = slot_to_recall(site);

        if (slot == NULL)
            return; /* all are on their way already */
        recall_slot(slot);
    }
}

void sites_recall_all(struct queue *queue)
{
    for (struct hash_node *node = hash_table_next(&queue->site_names, NULL); node != NULL;
         node = hash_table_next(&queue->site_names, node)) {
        struct site *site = CONTAINER_OF(node, struct site, hash_node);

        recall_slots(site, site->slot_count);
        site_touch(site);
    }
}

/* What home has to say: slots granted, slots asked back, how the site fares. Runs on the shard that is told. */
static void share_read(struct queue *queue, struct site_share *share)
{
    struct site *site = find(queue, share->name);

    share->refused = share->granted;
    if (site == NULL)
        return;
    site->backoff_until_ns = share->backoff_until_ns;
    reason_unref(&queue->reasons, site->reason);
    site->reason = share->failing ? reason_intern(&queue->reasons, share->status,
                                                  slice_of(share->text, share->text_size))
                                  : REASON_NONE;
    site->told_wanted -= MIN(site->told_wanted, share->granted);
    while (share->refused > 0 && site->slot_count < slots_useful(site)) {
        if (slot_create(site) == NULL)
            break;
        share->refused--;
    }
    recall_slots(site, share->recall);
    site_touch(site);
}

void queue_slot_return(struct queue_slot *slot)
{
    struct site *site = slot->site;
    bool recalled = slot->recalled;

    slot_free(slot);
    /* A session that has carried its share is followed by a new one, without a word to home. */
    if (recalled || site->slot_count >= slots_useful(site) || slot_create(site) == NULL)
        site->released++;
}

/* What is known of its hosts may be why a site fails, so answers that have run out are asked for again. Otherwise that
 * happens when a session takes mail, and to a site that fails there is none. */
static void ask_again(struct site *site)
{
    uint32_t left = SITE_ASKS_PER_FAILURE;

    list_for_each_safe (node, &site->ring) {
        if (left-- == 0)
            return;
        destination_refresh(CONTAINER_OF(node, struct destination, node));
    }
}

void queue_slot_failed(struct queue_slot *slot, const uint8_t status[3], struct slice text)
{
    struct site *site = slot->site;
    struct queue *queue = site->queue;
    bool others = site->greeted_count > (slot->greeted ? 1u : 0u);

    slot_free(slot);
    site->released++;
    site->window = MAX(1u, window_of(site) / 2);
    if (others) {
        /* The site is well, it only has enough of us: no more sessions for a while. */
        site->window = MIN(site->window, site->greeted_count);
        site->grow_after_ns = queue->shard->now_ns + queue->config.site_backoff_first_ms * MS_NS;
        return;
    }
    site->failed = true;
    site->succeeded = false;
    ask_again(site);
    reason_unref(&queue->reasons, site->fail_reason);
    site->fail_reason = reason_intern(&queue->reasons, status, text);
}

void queue_slot_succeeded(struct queue_slot *slot)
{
    struct site *site = slot->site;
    struct queue *queue = site->queue;

    if (!slot->greeted) {
        slot->greeted = true;
        site->greeted_count++;
    }
    site->window = MIN(site->window + 1, SITE_WINDOW_MAX);
    if (site->reason != REASON_NONE || site->failed) {
        reason_unref(&queue->reasons, site->reason);
        site->reason = REASON_NONE;
        site->backoff_until_ns = 0;
        site->failed = false;
        site->succeeded = true;
    }
    site_touch(site);
}

struct queue_attempt *queue_slot_take(struct queue_slot *slot, bool *ret_retire)
{
    struct site *site = slot->site;
    struct queue *queue = site->queue;
    uint32_t messages_max = MAX(1u, queue->config.site_messages_max);
    struct queue_attempt *attempt = NULL;

    *ret_retire = queue->stopping || slot->recalled || slot->messages >= messages_max;
    if (*ret_retire)
        return NULL;
    slot_enter(slot, SLOT_BUSY);
    if (!parts_journal_ok(queue)) {
        /* An outcome that cannot be noted would be tried again: nothing new may begin (QUEUE I21). */
        queue_again(queue);
        slot_enter(slot, SLOT_IDLE);
        return NULL;
    }
    while (attempt == NULL && !list_empty(&site->ring)) {
        struct destination *destination = CONTAINER_OF(site->ring.next, struct destination, node);

        /* To the end of the ring, or out of it when its route has run out. */
        list_remove(&destination->node);
        destination_refresh(destination);
        if (list_empty(&site->ring) || site->ring.prev != &destination->node)
            continue;
        attempt = attempt_begin(queue, slot, destination->ready.first);
        if (attempt == NULL) {
            queue_again(queue); /* too many in hand */
            break;
        }
    }
    if (attempt == NULL) {
        slot_enter(slot, SLOT_IDLE);
        return NULL;
    }
    slot->messages++;
    slot->attempts++;
    return attempt;
}

/* ---- in the task ------------------------------------------------------------------------------- */

static void site_look(struct site *site)
{
    uint32_t ready = takeable(site);

    if (!site->queue->stopping && !list_empty(&site->idle) && parts_journal_ok(site->queue)) {
        while (site->pulling_count < ready && !list_empty(&site->idle))
            slot_enter(CONTAINER_OF(site->idle.next, struct queue_slot, turn), SLOT_WAKING);
    }
    site_request(site);
    free_if_unused(site);
}

static struct queue_slot *pop_slot(struct list_node *list)
{
    struct list_node *node = list_pop_front(list);

    return node == NULL ? NULL : CONTAINER_OF(node, struct queue_slot, turn);
}

void sites_run(struct queue *queue)
{
    struct list_node *node;
    struct queue_slot *slot;

    while ((node = list_pop_front(&queue->dirty_sites)) != NULL)
        site_look(CONTAINER_OF(node, struct site, dirty));
    while ((slot = pop_slot(&queue->recalls)) != NULL)
        queue->ops.recall(queue->context, slot);
    while ((slot = pop_slot(&queue->connects)) != NULL) {
        slot_enter(slot, SLOT_CONNECTING);
        queue->ops.connect(queue->context, slot);
    }
    while ((slot = pop_slot(&queue->wakings)) != NULL) {
        slot_enter(slot, SLOT_WOKEN);
        queue->ops.more(queue->context, slot);
    }
}

void site_share_arrive(struct shard *on, struct shard_message *message)
{
    struct site_share *share = CONTAINER_OF(message, struct site_share, message);
    struct queue *queue = queue_of_message(on, message->from, share->sender, share->peer);

    if (queue == NULL)
        share->refused = share->granted;
    else
        share_read(queue, share);
    message->deliver = site_share_back;
    shard_send(on, share->home_shard, message);
}

/* ---- what people ask ---------------------------------------------------------------------------- */

void queue_sites(struct queue *queue, queue_site_fn *each, void *context)
{
    for (struct hash_node *node = hash_table_next(&queue->site_names, NULL); node != NULL;
         node = hash_table_next(&queue->site_names, node)) {
        struct site *site = CONTAINER_OF(node, struct site, hash_node);
        struct queue_site_view view = {
            .name = site_name(site),
            .sessions = site->slot_count,
            .sessions_max = window_of(site),
            .ready = site->ready_count,
            .reason = reason_text(&queue->reasons, site->reason),
        };

        if (site_resting(site))
            view.backoff_until_wall_s =
                (queue->shard->wall_ns + site->backoff_until_ns - queue->shard->now_ns) / SECOND_NS;
        each(context, &view);
    }
}
