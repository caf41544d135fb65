#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"

static void generation_smtp(struct generation *g)
{
    const struct settings *s = &g->settings;

    g->smtp_server = (struct smtp_server_config){
        .hostname = slice_cstr(s->hostname),
        .limits = {.message_bytes_max = s->message_bytes_max,
                   .recipients_max = (uint32_t)s->recipients_max,
                   .errors_max = (uint32_t)s->errors_max,
                   .command_line_max = (uint32_t)s->command_line_bytes_max,
                   .received_max = (uint32_t)s->received_max,
                   .greeting_ms = (uint32_t)s->smtp_greeting_timeout_ms,
                   .command_ms = (uint32_t)s->smtp_command_timeout_ms,
                   .data_block_ms = (uint32_t)s->smtp_data_timeout_ms,
                   .data_end_ms = (uint32_t)s->smtp_data_timeout_ms},
        .bare_newline =
            s->bare_newline == 0 ? SMTP_BARE_NEWLINE_REJECT : SMTP_BARE_NEWLINE_NORMALIZE,
    };
    g->smtp_client = (struct smtp_client_config){
        .hostname = slice_cstr(s->hostname),
        .greeting_ms = (uint32_t)s->client_greeting_timeout_ms,
        .mail_ms = (uint32_t)s->client_mail_timeout_ms,
        .rcpt_ms = (uint32_t)s->client_rcpt_timeout_ms,
        .data_ms = (uint32_t)s->client_data_timeout_ms,
        .block_ms = (uint32_t)s->client_block_timeout_ms,
        .dot_ms = (uint32_t)s->client_dot_timeout_ms,
        .reply_line_max = 2048,
    };
}

int generation_create(struct settings *settings, struct generation **ret_generation)
{
    struct generation *g = calloc(1, sizeof(*g));
    bool fine = true;

    if (g == NULL)
        return -ENOMEM;
    g->relay_networks = calloc(settings->relay_networks.count + 1, sizeof(*g->relay_networks));
    if (g->relay_networks == NULL) {
        free(g);
        return -ENOMEM;
    }
    atomic_init(&g->references, 1);
    g->settings = *settings;
    *settings = (struct settings){0};
    generation_smtp(g);
    for (size_t i = 0; i < g->settings.relay_networks.count; i++)
        fine &= netaddr_network_parse(slice_cstr(g->settings.relay_networks.items[i]),
                                      &g->relay_networks[g->relay_network_count++]);
    if (g->settings.outgoing_source[0] != 0)
        fine &= netaddr_parse(slice_cstr(g->settings.outgoing_source), 0, &g->outgoing_source);
    ASSERT(fine); /* the table's checks have seen each of them */
    *ret_generation = g;
    return 0;
}

struct generation *generation_ref(struct generation *generation)
{
    atomic_fetch_add_explicit(&generation->references, 1, memory_order_relaxed);
    return generation;
}

void generation_unref(struct generation **generation)
{
    struct generation *g = *generation;

    *generation = NULL;
    if (g == NULL || atomic_fetch_sub_explicit(&g->references, 1, memory_order_acq_rel) != 1)
        return;
    settings_free(settings_table(), &g->settings);
    free(g->relay_networks);
    free(g);
}

void generation_queue_config(const struct generation *generation, struct queue_config *config)
{
    const struct settings *s = &generation->settings;

    *config = (struct queue_config){
        .retry_first_ms = (uint32_t)s->retry_first_ms,
        .retry_max_ms = (uint32_t)s->retry_max_ms,
        .expire_ms = s->expire_ms,
        .site_sessions_max = (uint32_t)s->site_sessions_max,
        .site_messages_max = (uint32_t)s->site_messages_max,
        .site_recipients_max = (uint32_t)s->site_recipients_max,
        .site_backoff_first_ms = (uint32_t)s->site_backoff_first_ms,
        .site_backoff_max_ms = (uint32_t)s->site_backoff_max_ms,
        .messages_max = (uint32_t)s->queue_messages_max,
        .in_doubt_hold = s->in_doubt == 1,
    };
}

static bool generation_lists(const struct setting_list *domains, struct slice domain)
{
    for (size_t i = 0; i < domains->count; i++)
        if (slice_equal_nocase(slice_cstr(domains->items[i]), domain))
            return true;
    return false;
}

/* <postmaster> without a domain is ours (RFC 5321 4.5.1). */
bool generation_is_local(const struct generation *generation, struct slice domain)
{
    return domain.size == 0 || generation_lists(&generation->settings.local_domains, domain);
}

bool generation_relays(const struct generation *generation, const struct netaddr *client,
                       struct slice domain)
{
    if (generation_lists(&generation->settings.relay_domains, domain))
        return true;
    for (size_t i = 0; i < generation->relay_network_count; i++)
        if (netaddr_network_contains(&generation->relay_networks[i], client))
            return true;
    return false;
}

const struct settings_route *generation_route(const struct generation *generation,
                                              struct slice domain)
{
    const struct settings_routes *routes = &generation->settings.routes;
    const struct settings_route *any = NULL;

    for (size_t i = 0; i < routes->count; i++) {
        if (slice_equal_nocase(slice_cstr(routes->items[i].title), domain))
            return &routes->items[i];
        if (strcmp(routes->items[i].title, "*") == 0)
            any = &routes->items[i];
    }
    return any;
}

/* ---- accounts -------------------------------------------------------------------------------- */

int accounts_create(struct users_table *table_or_null, struct accounts **ret_accounts)
{
    struct accounts *accounts = calloc(1, sizeof(*accounts));

    if (accounts == NULL)
        return -ENOMEM;
    atomic_init(&accounts->references, 1);
    accounts->table = table_or_null;
    *ret_accounts = accounts;
    return 0;
}

struct accounts *accounts_ref(struct accounts *accounts)
{
    atomic_fetch_add_explicit(&accounts->references, 1, memory_order_relaxed);
    return accounts;
}

void accounts_unref(struct accounts **accounts)
{
    struct accounts *a = *accounts;

    *accounts = NULL;
    if (a == NULL || atomic_fetch_sub_explicit(&a->references, 1, memory_order_acq_rel) != 1)
        return;
    users_table_destroy(&a->table);
    free(a);
}
