/* One shard's part of a server: how it comes up, and its orderly end. */
#include "daemon/node_spools.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/crash.h"

#define NODE_AGAIN_MS 50

/* ---- what the queue asks ------------------------------------------------------------------------ */

static bool node_is_local(void *context, struct slice domain)
{
    return generation_is_local(((struct node *)context)->generation, domain);
}

static void node_resolve(void *context, uint32_t destination, struct slice name)
{
    outbound_resolve(((struct node *)context)->outbound, destination, name);
}

static void node_connect(void *context, struct queue_slot *slot)
{
    outbound_connect(((struct node *)context)->outbound, slot);
}

static void node_more(void *context, struct queue_slot *slot)
{
    outbound_more(((struct node *)context)->outbound, slot);
}

static void node_recall(void *context, struct queue_slot *slot)
{
    outbound_recall(((struct node *)context)->outbound, slot);
}

static void node_local(void *context)
{
    local_ready(((struct node *)context)->local);
}

static void node_report(void *context, struct queue_report *report)
{
    bounce_report(context, report);
}

static struct queue *node_peer(struct shard *shard)
{
    return ((struct node *)shard->user)->queue;
}

static const struct queue_ops node_queue_ops = {
    .is_local = node_is_local,
    .resolve = node_resolve,
    .connect = node_connect,
    .more = node_more,
    .recall = node_recall,
    .local = node_local,
    .report = node_report,
    .restored = node_spools_restored,
    .peer = node_peer,
};

/* ---- start ---------------------------------------------------------------------------------------- */

static int node_make_parts(struct node *node)
{
    struct queue_config config;
    int r;

    generation_queue_config(node->generation, &config);
    r = queue_create(node->shard, NULL, &config, &node_queue_ops, node, &node->queue);
    if (r == 0)
        r = dns_create(node->shard, &node->kilatd->dns_config, &node->dns);
    if (r == 0)
        r = outbound_create(node, &node->outbound);
    if (r == 0)
        r = local_create(node, &node->local);
    if (r == 0)
        r = hash_table_init(&node->peers, 256);
    return r;
}

static void node_open_listeners(struct node *node)
{
    struct kilatd *kilatd = node->kilatd;

    for (uint32_t i = 0; i < kilatd->listen_count; i++) {
        int fd = kilatd->listen_fds[node->shard->index][i];
        kilatd->listen_fds[node->shard->index][i] = -1;
        listener_open(&node->listeners[node->listener_count++], node, kilatd->listen_kinds[i], fd);
    }
}

static void node_ready(struct shard_task *task)
{
    kilatd_log_ready(CONTAINER_OF(task, struct node, ready));
}

static void node_again(struct timer *timer);
static void node_check(struct shard_task *task);

static void node_init(struct node *node, struct kilatd *kilatd, struct shard *shard)
{
    *node = (struct node){.kilatd = kilatd, .shard = shard};
    node->generation = generation_ref(kilatd->generation);
    node->accounts = accounts_ref(kilatd->accounts);
    random_bytes(&node->peers_key, sizeof(node->peers_key));
    list_init(&node->sessions);
    list_init(&node->holding);
    list_init(&node->starving);
    timer_init(&node->relief, inbound_relief);
    timer_init(&node->again, node_again);
    shard_task_init(&node->check, node_check);
    shard_task_init(&node->ready, node_ready);
    node_spools_init(node);
    buf_init(&node->start_error, 4 * KIB);
    shard->user = node;
}

int node_start(struct shard *shard, void *context)
{
    struct kilatd *kilatd = context;
    struct node *node = &kilatd->nodes[shard->index];
    int r;

    node_init(node, kilatd, shard);
    r = crash_watch(shard->index, &shard->in_hand);
    if (r == 0)
        r = node_make_parts(node);
    if (r == 0 && shard->index == 0)
        r = control_create(node, &node->control);
    if (r == 0)
        r = node_spools_open(node);
    if (r == 0 && shard->index == 0)
        r = users_watch_start(node);
    if (r < 0) {
        if (node->start_error.size == 0)
            buf_printf(&node->start_error, "shard %u cannot start: %s", shard->index, strerror(-r));
        node_stop(shard, context);
        return r;
    }
    queue_start(node->queue);
    node_open_listeners(node);
    node_spools_restore(node);
    if (shard->index == 0)
        shard_defer(shard, &node->ready);
    return 0;
}

static bool node_listening(const struct node *node)
{
    for (uint32_t i = 0; i < node->listener_count; i++)
        if (node->listeners[i].fd >= 0)
            return true;
    return false;
}

static void node_unwound(struct node *node)
{
    node->unwound = true;
}

/* A start that failed, here or on another shard: nothing was accepted and nobody ticks yet, but the spool makes segments
 * and the listeners wait already. What could begin something new goes first, then the rest is awaited. */
static void node_unwind(struct node *node)
{
    node->draining = true;
    node->phase = NODE_OVER;
    shard_undefer(&node->ready);
    for (uint32_t i = 0; i < node->listener_count; i++)
        listener_close(&node->listeners[i]);
    if (node->control != NULL)
        control_end(node->control, true);
    users_watch_stop(node);
    local_destroy(&node->local);
    outbound_destroy(&node->outbound);
    if (node->queue != NULL)
        queue_abandon(node->queue);
    node_spools_stop(node, node_unwound);
    while (!node->unwound || node_spools_busy(node) || node_listening(node) ||
           users_watch_busy(node) || (node->control != NULL && control_busy(node->control)))
        shard_tick(node->shard, true);
}

void node_stop(struct shard *shard, void *context)
{
    struct kilatd *kilatd = context;
    struct node *node = shard->user;

    if (node->phase != NODE_OVER)
        node_unwind(node);
    shard_undefer(&node->check);
    users_watch_destroy(node);
    control_destroy(&node->control);
    local_destroy(&node->local);
    outbound_destroy(&node->outbound);
    queue_destroy(&node->queue);
    dns_destroy(&node->dns);
    node_spools_destroy(node);
    hash_table_deinit(&node->peers);
    generation_unref(&node->generation);
    accounts_unref(&node->accounts);
    crash_unwatch();
    if (atomic_fetch_add(&kilatd->ended_nodes, 1) + 1 == kilatd->shard_count &&
        kilatd->ended != NULL)
        kilatd->ended(kilatd->ended_context);
}

/* ---- the orderly end --------------------------------------------------------------------------------- */

static void node_queue_stopped(void *context)
{
    struct node *node = context;

    atomic_fetch_add(&node->kilatd->stopped_queues, 1);
    node_check_empty(node);
}

static void node_dns_stopped(void *context)
{
    struct node *node = context;

    node->phase = NODE_OVER;
    shard_timer_disarm(node->shard, &node->again);
    shard_timer_disarm(node->shard, &node->relief);
    log_event(node->shard->log, LOG_NOTICE, "shard.stopped");
    shard_stop(node->shard);
}

static void node_spools_over(struct node *node)
{
    node->phase = NODE_DNS_STOPPING;
    dns_stop(node->dns, node_dns_stopped, node);
}

/* The queues give each other back what they were lent, so none goes before all have stopped; and rounds are sent by
 * shard 0, so none goes before that one. */
static bool node_is_empty(const struct node *node)
{
    return atomic_load(&node->kilatd->stopped_queues) == node->kilatd->shard_count &&
           list_empty(&node->sessions) && outbound_sessions(node->outbound) == 0 &&
           !local_busy(node->local) && !node_listening(node) && node->password_checks == 0 &&
           !users_watch_busy(node) && !node_spools_busy(node) && !node->reloading &&
           node->rounds == 0 && (node->control == NULL || !control_busy(node->control)) &&
           (node->shard->index == 0 || atomic_load(&node->kilatd->rounds_over));
}

static void node_check(struct shard_task *task)
{
    struct node *node = CONTAINER_OF(task, struct node, check);

    if (node->phase != NODE_DRAINING || !node_is_empty(node))
        return;
    if (node->shard->index == 0)
        atomic_store(&node->kilatd->rounds_over, true);
    node->phase = NODE_SPOOL_STOPPING;
    node_spools_stop(node, node_spools_over);
}

void node_check_empty(struct node *node)
{
    if (node->phase == NODE_DRAINING)
        shard_defer(node->shard, &node->check);
}

/* Ends what can be ended in order, and, when the patience is over, the rest. */
static void node_end_all(struct node *node)
{
    bool cut = node->shard->now_ns >= node->patience_until_ns;

    list_for_each_safe (at, &node->sessions) {
        struct session *session = CONTAINER_OF(at, struct session, node);
        if (cut)
            session->cut(session);
        else
            session->end(session);
    }
    outbound_end(node->outbound, cut);
    node_spools_end(node);
    if (node->control != NULL)
        control_end(node->control, cut);
}

static void node_again(struct timer *timer)
{
    struct node *node = CONTAINER_OF(timer, struct node, again);

    if (node->phase != NODE_DRAINING)
        return;
    node_end_all(node);
    node_check_empty(node);
    shard_timer_arm(node->shard, timer, NODE_AGAIN_MS);
}

static void node_begin_stop(struct node *node)
{
    uint64_t until_ns = node->shard->now_ns + atomic_load(&node->kilatd->patience_ms) * MS_NS;

    if (node->phase == NODE_DRAINING) /* told again: less patience, never more */
        node->patience_until_ns = MIN(node->patience_until_ns, until_ns);
    if (node->phase != NODE_RUNNING)
        return;
    node->phase = NODE_DRAINING;
    node->draining = true;
    node->patience_until_ns = until_ns;
    log_event(node->shard->log, LOG_NOTICE, "shard.stopping",
              log_u64("sessions", node->session_count),
              log_u64("outgoing", outbound_sessions(node->outbound)));
    for (uint32_t i = 0; i < node->listener_count; i++)
        listener_close(&node->listeners[i]);
    users_watch_stop(node);
    queue_stop(node->queue, node_queue_stopped, node);
    shard_timer_arm(node->shard, &node->again, 0);
}

static void node_reloaded(void *context, int result, struct slice text)
{
    (void)context;
    (void)result;
    (void)text; /* reload.c has logged it */
}

void node_signalled(struct shard *shard, uint32_t signals)
{
    struct node *node = shard->user;

    if ((signals & NODE_SIGNAL_RELOAD) != 0 && shard->index == 0 && node->phase == NODE_RUNNING)
        reload_begin(node, node_reloaded, NULL);
    if ((signals & NODE_SIGNAL_STOP) != 0)
        node_begin_stop(node);
}
