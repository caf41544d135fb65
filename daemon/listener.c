/* Accepting, and how many sessions there may be. */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"

#define LISTENER_PAUSE_MS                                                                          \
    100 /* out of descriptors or memory: long enough not to spin, short for a client */

/* ---- sessions per address ---------------------------------------------------------------------- */

struct peer {
    struct hash_node node;
    uint8_t bytes[16];
    uint32_t sessions;
};

/* What counts as one address: an IPv4 host, an IPv6 /64, since a customer has that many. */
static void peer_key(const struct netaddr *address, uint8_t bytes[16])
{
    memset(bytes, 0, 16);
    if (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address->in6.sin6_addr))
        memcpy(bytes + 12, address->in6.sin6_addr.s6_addr + 12, 4);
    else if (address->any.sa_family == AF_INET6)
        memcpy(bytes, &address->in6.sin6_addr, 8);
    else if (address->any.sa_family == AF_INET)
        memcpy(bytes + 12, &address->in.sin_addr, 4);
}

static bool peer_is(const struct hash_node *node, const void *wanted)
{
    return memcmp(CONTAINER_OF(node, struct peer, node)->bytes, wanted, 16) == 0;
}

static struct peer *peer_find(struct node *node, const uint8_t bytes[16], uint64_t *ret_hash)
{
    struct hash_node *found;

    *ret_hash = hash_bytes(&node->peers_key, slice_of(bytes, 16));
    found = hash_table_find(&node->peers, *ret_hash, peer_is, bytes);
    return found == NULL ? NULL : CONTAINER_OF(found, struct peer, node);
}

bool sessions_admit(struct node *node, const struct netaddr *address)
{
    const struct settings *settings = &node->generation->settings;
    uint8_t bytes[16];
    uint64_t hash;
    struct peer *peer;

    if (node->session_count >= settings->sessions_max)
        return false;
    peer_key(address, bytes);
    peer = peer_find(node, bytes, &hash);
    if (peer == NULL) {
        peer = calloc(1, sizeof(*peer));
        if (peer == NULL)
            return false;
        memcpy(peer->bytes, bytes, sizeof(bytes));
        hash_table_insert(&node->peers, &peer->node, hash);
    } else if (peer->sessions >= settings->sessions_per_address_max) {
        return false;
    }
    peer->sessions++;
    node->session_count++;
    return true;
}

void sessions_forget(struct node *node, const struct netaddr *address)
{
    uint8_t bytes[16];
    uint64_t hash;
    struct peer *peer;

    peer_key(address, bytes);
    peer = peer_find(node, bytes, &hash);
    ASSERT(peer != NULL);
    ASSERT(node->session_count > 0);
    node->session_count--;
    if (--peer->sessions > 0)
        return;
    hash_table_remove(&node->peers, &peer->node);
    free(peer);
}

/* ---- descriptors ------------------------------------------------------------------------------ */

#define DESCRIPTORS_KEPT 128 /* for kilatctl, outgoing mail, mailboxes, the log's segments */

/* The kernel gives the lowest free number, so the number of a new descriptor tells how many are in use, whoever uses
 * them. */
enum descriptors_left descriptors_left(const struct kilatd *kilatd, int fd)
{
    uint64_t kept = MIN(DESCRIPTORS_KEPT, kilatd->descriptors_max / 4);
    uint64_t used = (uint64_t)fd + 1;

    if (kilatd->descriptors_max == 0 || used + kept <= kilatd->descriptors_max)
        return DESCRIPTORS_ENOUGH;
    return used + kept / 2 <= kilatd->descriptors_max ? DESCRIPTORS_FEW : DESCRIPTORS_LAST;
}

/* ---- accepting ----------------------------------------------------------------------------------- */

static void listener_hand_over(struct listener *listener, int fd)
{
    struct netaddr peer;

    if (listener->kind == LISTENER_CONTROL) {
        control_accept(listener->node, fd);
        return;
    }
    if (descriptors_left(listener->node->kilatd, fd) == DESCRIPTORS_LAST) {
        listener->node->counters.refused_sessions++;
        ring_close(fd);
        return;
    }
    if (ring_peer_address(fd, &peer) < 0) {
        ring_close(fd); /* gone already */
        return;
    }
    if (listener->kind == LISTENER_POP3)
        pop3_accept(listener->node, fd, &peer);
    else
        inbound_accept(listener->node, fd, &peer,
                       listener->kind == LISTENER_SMTP ? SPOOL_SYNCED : SPOOL_CACHED);
}

static void listener_again(struct timer *timer)
{
    struct listener *listener = CONTAINER_OF(timer, struct listener, again);

    if (!listener->closing && !listener->accept.in_flight)
        ring_accept(listener->node->shard->ring, &listener->accept, listener->fd);
}

static void listener_finish(struct listener *listener)
{
    if (listener->fd >= 0)
        ring_close(listener->fd);
    listener->fd = -1;
    node_check_empty(listener->node);
}

static void listener_accepted(struct ring_op *op)
{
    struct listener *listener = CONTAINER_OF(op, struct listener, accept);
    struct shard *shard = listener->node->shard;

    if (op->result >= 0) {
        if (listener->closing)
            ring_close(op->result);
        else
            listener_hand_over(listener, op->result);
    } else if (!listener->closing && op->result != -ECANCELED) {
        log_event(shard->log, LOG_WARNING, "listener.paused", log_u64("for_ms", LISTENER_PAUSE_MS),
                  log_cstr("error", strerror(-op->result)));
    }
    if (op->more)
        return;
    if (listener->closing)
        listener_finish(listener);
    else if (op->result >= 0)
        ring_accept(shard->ring, op, listener->fd);
    else
        shard_timer_arm(shard, &listener->again, LISTENER_PAUSE_MS);
}

void listener_open(struct listener *listener, struct node *node, enum listener_kind kind, int fd)
{
    *listener = (struct listener){.node = node, .kind = kind, .fd = fd};
    ring_op_init(&listener->accept, listener_accepted);
    timer_init(&listener->again, listener_again);
    ring_accept(node->shard->ring, &listener->accept, fd);
}

void listener_close(struct listener *listener)
{
    if (listener->closing)
        return;
    listener->closing = true;
    shard_timer_disarm(listener->node->shard, &listener->again);
    if (listener->accept.in_flight)
        ring_cancel(listener->node->shard->ring, &listener->accept);
    else
        listener_finish(listener);
}
