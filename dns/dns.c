#include "dns/dns.h"

#include "core/assert.h"
#include "core/clock.h"
#include "dns/dns_private.h"

#include <errno.h>
#include <stdlib.h>

#define STALE_TTL_S 30u /* RFC 8767 5: then the resolvers are asked again */

/* ---- waiters ------------------------------------------------------------------------------- */

static void give(struct dns_query *query, const struct dns_answer *answer)
{
    query->lookup = NULL;
    query->done(query, answer);
}

/* Callbacks may ask, cancel and stop; nothing here is touched after the last of them. */
static void give_all(struct dns_question *question, const struct dns_answer *answer)
{
    struct dns *dns = question->dns;
    struct list_node waiters, *node;

    ASSERT(question->published);
    hash_table_remove(&dns->questions, &question->node);
    question->published = false;
    list_init(&waiters);
    list_splice_back(&waiters, &question->waiters);
    while ((node = list_pop_front(&waiters)) != NULL)
        give(CONTAINER_OF(node, struct dns_query, node), answer);
}

/* ---- questions under way ------------------------------------------------------------------- */

struct wanted {
    enum dns_type type;
    struct slice name;
};

static bool is_wanted(const struct hash_node *node, const void *context)
{
    const struct dns_question *question = CONTAINER_OF(node, const struct dns_question, node);
    const struct wanted *wanted = context;

    return question->type == wanted->type && slice_equal(slice_cstr(question->name), wanted->name);
}

static uint64_t hash_of(const struct dns *dns, const struct wanted *wanted)
{
    return hash_bytes(&dns->key, wanted->name) + (uint64_t)wanted->type * 0x9e3779b97f4a7c15u;
}

static struct dns_question *find(const struct dns *dns, enum dns_type type, const char *name)
{
    struct wanted wanted = {type, slice_cstr(name)};
    struct hash_node *node =
        hash_table_find(&dns->questions, hash_of(dns, &wanted), is_wanted, &wanted);

    return node == NULL ? NULL : CONTAINER_OF(node, struct dns_question, node);
}

static void begin(struct dns_question *question)
{
    question->begun = true;
    question->dns->asking++;
    dns_question_ask(question);
}

/* NULL when there is no memory. */
static struct dns_question *create(struct dns *dns, enum dns_type type, const char *name)
{
    struct wanted wanted = {type, slice_cstr(name)};
    struct dns_question *question = calloc(1, sizeof(*question));

    if (question == NULL)
        return NULL;
    question->dns = dns;
    question->type = type;
    question->ttl_s = UINT32_MAX;
    memcpy(question->name, name, wanted.name.size + 1);
    memcpy(question->asked, name, wanted.name.size + 1);
    list_init(&question->waiters);
    list_node_init(&question->in_line);
    dns_question_init_ask(question);
    hash_table_insert(&dns->questions, &question->node, hash_of(dns, &wanted));
    question->published = true;
    dns->alive++;
    if (dns->asking < DNS_ASKING_MAX)
        begin(question);
    else
        list_push_back(&dns->in_line, &question->in_line);
    return question;
}

void dns_question_ended(struct dns_question *question)
{
    struct dns *dns = question->dns;
    struct list_node *next = NULL;

    ASSERT(!question->published && question->fd < 0);
    ASSERT(!timer_armed(&question->timer) && !timer_armed(&question->hungry));
    list_remove(&question->in_line);
    if (question->begun) {
        dns->asking--;
        next = list_pop_front(&dns->in_line);
    }
    buf_deinit(&question->stream);
    free(question);
    dns->alive--;
    if (next != NULL)
        begin(CONTAINER_OF(next, struct dns_question, in_line));
    if (dns->stopping && dns->alive == 0)
        shard_defer(dns->shard, &dns->stop_task);
}

/* ---- answers ------------------------------------------------------------------------------- */

static uint32_t ttl_within(const struct dns_config *config, enum dns_status status, uint32_t ttl_s)
{
    if (status != DNS_OK)
        return MIN(ttl_s, config->negative_ttl_max_s); /* 0, without an SOA, stays 0 (RFC 2308 5) */
    return MIN(MAX(ttl_s, config->ttl_min_s), config->ttl_max_s);
}

static enum dns_status status_of(enum dns_verdict verdict)
{
    switch (verdict) {
    case DNS_VERDICT_OK:
        return DNS_OK;
    case DNS_VERDICT_NODATA:
        return DNS_NODATA;
    case DNS_VERDICT_NXDOMAIN:
        return DNS_NXDOMAIN;
    default:
        return DNS_FAILED;
    }
}

bool dns_question_answered(struct dns_question *question)
{
    struct dns *dns = question->dns;
    const struct dns_packet_answer *read = &dns->answer;
    struct dns_answer answer = {.status = status_of(read->verdict)};

    if (!question->published)
        return true; /* stopped meanwhile */
    question->aliases += read->aliases;
    question->ttl_s = MIN(question->ttl_s, read->ttl_s);
    if (read->verdict == DNS_VERDICT_ALIAS && question->aliases <= DNS_ALIASES_MAX) {
        memcpy(question->asked, read->alias, sizeof(question->asked));
        return false;
    }
    if (answer.status != DNS_FAILED) {
        answer.ttl_s = ttl_within(&dns->config, answer.status, question->ttl_s);
        answer.records = read->records;
        answer.record_count = read->record_count;
        dns_cache_put(dns->cache, dns->shard->now_ns, question->type, question->name, &answer);
    }
    give_all(question, &answer);
    return true;
}

/* When every resolver is down an old answer is better than none (RFC 8767): with it mail goes on.
 */
void dns_question_gave_up(struct dns_question *question, enum dns_status status)
{
    struct dns *dns = question->dns;
    struct dns_answer none = {.status = status};
    struct dns_cached old;
    enum dns_cache_state state;

    if (!question->published)
        return;
    state = dns_cache_find(dns->cache, dns->shard->now_ns, question->type, question->name, &old);
    if (state == DNS_CACHE_NONE) {
        give_all(question, &none);
        return;
    }
    old.answer.ttl_s = MAX(old.answer.ttl_s, STALE_TTL_S);
    give_all(question, &old.answer);
    dns_cache_release(&old);
}

/* True when the cache had the answer, and gave it. */
static bool give_cached(struct dns *dns, enum dns_type type, const char *name,
                        struct dns_query *query)
{
    struct dns_cached cached;
    enum dns_cache_state state;

    state = dns_cache_find(dns->cache, dns->shard->now_ns, type, name, &cached);
    if (state == DNS_CACHE_NONE)
        return false;
    if (state == DNS_CACHE_STALE) {
        dns_cache_release(&cached);
        return false;
    }
    dns->counters.cache_hits++;
    /* In use, and soon over: asked anew while nobody has to wait for it. */
    if (state == DNS_CACHE_AGING && !dns->stopping && dns->asking < DNS_ASKING_MAX / 2 &&
        find(dns, type, name) == NULL)
        (void)create(dns, type, name); /* without memory the answer just ends at its time */
    give(query, &cached.answer);
    dns_cache_release(&cached);
    return true;
}

void dns_lookup(struct dns *dns, enum dns_type type, struct slice name, struct dns_query *query,
                dns_done_fn *done)
{
    struct dns_question *question;
    char wanted[DNS_NAME_MAX];

    query->done = done;
    query->lookup = NULL;
    list_node_init(&query->node);
    dns->counters.questions++;
    if (!dns_name_parse(name, wanted)) {
        give(query, &(struct dns_answer){.status = DNS_NXDOMAIN});
        return;
    }
    if (give_cached(dns, type, wanted, query))
        return;
    if (dns->stopping) {
        give(query, &(struct dns_answer){.status = DNS_TIMEOUT});
        return;
    }
    question = find(dns, type, wanted);
    if (question != NULL)
        dns->counters.joined++;
    else
        question = create(dns, type, wanted);
    if (question == NULL) {
        give(query, &(struct dns_answer){.status = DNS_FAILED});
        return;
    }
    query->lookup = question;
    list_push_back(&question->waiters, &query->node);
}

/* The question goes on, and its answer into the cache: whoever cancels tends to ask again. */
void dns_cancel(struct dns *dns, struct dns_query *query)
{
    (void)dns; /* a query knows its list */
    if (query->lookup == NULL)
        return;
    list_remove(&query->node);
    query->lookup = NULL;
}

/* ---- the resolver -------------------------------------------------------------------------- */

static void on_stopped(struct shard_task *task)
{
    struct dns *dns = CONTAINER_OF(task, struct dns, stop_task);

    dns->stopped(dns->stopped_context); /* may destroy us */
}

static void fill_defaults(struct dns_config *config)
{
    if (config->timeout_ms == 0)
        config->timeout_ms = 2000;
    if (config->tries == 0)
        config->tries = 4;
    if (config->ttl_max_s == 0)
        config->ttl_max_s = 24 * 3600;
    if (config->negative_ttl_max_s == 0)
        config->negative_ttl_max_s = 3 * 3600; /* RFC 2308 5: one to three hours */
}

int dns_create(struct shard *shard, const struct dns_config *config, struct dns **ret_dns)
{
    struct dns *dns;
    int r;

    if (config->server_count == 0 || config->server_count > DNS_SERVERS_MAX)
        return -EINVAL;
    dns = calloc(1, sizeof(*dns));
    if (dns == NULL)
        return -ENOMEM;
    dns->shard = shard;
    dns->config = *config;
    fill_defaults(&dns->config);
    random_bytes(&dns->key, sizeof(dns->key));
    list_init(&dns->in_line);
    shard_task_init(&dns->stop_task, on_stopped);
    r = hash_table_init(&dns->questions, 16);
    if (r == 0) {
        r = dns_cache_create(config->cache_records_max, &dns->cache);
        if (r < 0)
            hash_table_deinit(&dns->questions);
    }
    if (r < 0) {
        free(dns);
        return r;
    }
    *ret_dns = dns;
    return 0;
}

void dns_stop(struct dns *dns, void (*stopped)(void *context), void *context)
{
    static const struct dns_answer none = {.status = DNS_TIMEOUT};
    struct hash_node *node;

    ASSERT(!dns->stopping);
    dns->stopping = true;
    dns->stopped = stopped;
    dns->stopped_context = context;
    while ((node = hash_table_next(&dns->questions, NULL)) != NULL) {
        struct dns_question *question = CONTAINER_OF(node, struct dns_question, node);

        list_remove(&question->in_line);
        give_all(question, &none);
        dns_question_stop(question);
    }
    if (dns->alive == 0)
        shard_defer(dns->shard, &dns->stop_task);
}

void dns_destroy(struct dns **dns)
{
    struct dns *d = *dns;

    if (d == NULL)
        return;
    ASSERT(d->alive == 0); /* dns_stop() has waited for them */
    shard_undefer(&d->stop_task);
    dns_cache_destroy(&d->cache);
    hash_table_deinit(&d->questions);
    free(d);
    *dns = NULL;
}

void dns_counters(const struct dns *dns, struct dns_counters *ret_counters)
{
    *ret_counters = dns->counters;
    ret_counters->cached_records = dns_cache_records(dns->cache);
}

void dns_cache_flush(struct dns *dns)
{
    dns_cache_clear(dns->cache);
}
