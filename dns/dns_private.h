/* dns/dns_private.h - the inside of the resolver, for dns/ alone.
 *
 * A dns_question is one name and type under way, with everyone who waits for it. dns.c joins,
 * caches and answers; dns_query.c carries it over the network and knows of no waiters.
 */
#ifndef KILAT_DNS_DNS_PRIVATE_H
#define KILAT_DNS_DNS_PRIVATE_H

#include "core/buf.h"
#include "core/hash.h"
#include "dns/dns_cache.h"
#include "dns/dns_packet.h"

#define DNS_ASKING_MAX                                                                             \
    512u /* questions with a socket open, of one shard; the others wait in turn */

/* A question's socket:
 *
 *     CLOSED --try--> CONNECTING --> ASKING --> DRAINING --> CLOSED, for another try, or the end
 *       |  ^
 *       |  +--time--+
 *       +--> PAUSED-+   there was no socket to be had
 */
enum dns_question_state {
    DNS_CLOSED,
    DNS_CONNECTING,
    DNS_ASKING,  /* sent or being sent, and receiving */
    DNS_PAUSED,  /* without a socket, until the timer fires */
    DNS_DRAINING /* what was in flight is being cancelled; `next` says what follows */
};
enum dns_question_next {
    DNS_NEXT_TRY,   /* the next server, if tries are left */
    DNS_NEXT_TCP,   /* the same server, over TCP */
    DNS_NEXT_AGAIN, /* from the beginning: for another name, or without EDNS */
    DNS_NEXT_END    /* answered, or nobody's any more: free it */
};

struct dns_question {
    struct dns *dns;
    struct hash_node node;    /* in dns->questions until it is answered */
    struct list_node waiters; /* of struct dns_query */
    struct list_node in_line; /* in dns->in_line until it may begin */
    enum dns_type type;
    char name[DNS_NAME_MAX];  /* as it was asked for */
    char asked[DNS_NAME_MAX]; /* where CNAMEs have led */
    uint32_t aliases;
    uint32_t ttl_s; /* the shortest of those CNAMEs */
    bool published; /* in dns->questions */
    bool begun;     /* counts in dns->asking */

    /* ---- dns_query.c ----------------------------------------------------------------------- */
    enum dns_question_state state;
    enum dns_question_next next;
    uint32_t tries;
    uint32_t pauses;
    uint32_t server;       /* index of the one being asked */
    uint8_t asked_servers; /* one bit each; when all have been asked they are asked again */
    uint32_t wrong;        /* answers dropped in this try */
    bool tcp, no_edns;
    /* One answered, though of no use: DNS_FAILED rather than DNS_TIMEOUT. */
    bool server_failed;
    bool in_receive; /* its callback is at work: nothing may be freed under it */
    int fd;
    struct ring_op connect, send, receive;
    struct timer timer;  /* of the try, or of the pause */
    struct timer hungry; /* until receive buffers are free again */
    size_t question_bytes;
    uint8_t wire[2 + DNS_QUESTION_BYTES_MAX]; /* the length before it is for TCP */
    struct buf stream;                        /* what TCP has brought */
};

struct dns {
    struct shard *shard;
    struct dns_config config;
    struct dns_cache *cache;
    struct hash_key key;
    struct hash_table questions;
    struct list_node in_line;
    uint32_t asking;
    uint32_t alive;                           /* questions that exist, also those that only drain */
    uint64_t avoid_until_ns[DNS_SERVERS_MAX]; /* it did not answer: others are asked first */
    struct dns_counters counters;
    bool stopping;
    void (*stopped)(void *context);
    void *stopped_context;
    struct shard_task stop_task;
    struct dns_packet_answer
        answer; /* the one just read; nothing else is read while callbacks run */
};

/* ---- dns_query.c --------------------------------------------------------------------------- */

void dns_question_init_ask(struct dns_question *question);
/* Begins with the first try. Ends, in a later tick, with dns_question_answered() or
 * dns_question_gave_up(), then dns_question_ended(). */
void dns_question_ask(struct dns_question *question);
/* Ends without an answer; dns_question_ended() follows, perhaps within this call. */
void dns_question_stop(struct dns_question *question);

/* ---- dns.c --------------------------------------------------------------------------------- */

/* dns->answer holds what was read: OK, NODATA, NXDOMAIN, LOOP or ALIAS. False: `asked` has changed,
 * ask again. */
bool dns_question_answered(struct dns_question *question);
void dns_question_gave_up(struct dns_question *question, enum dns_status status);
/* Nothing is in flight any more: frees it. */
void dns_question_ended(struct dns_question *question);

#endif
