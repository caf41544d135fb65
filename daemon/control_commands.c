/* What kilatctl can ask and order: a table, and a function or two a row. */
#include "daemon/control.h"
#include "daemon/node_spools.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "queue/envelope.h"

#define EXIT_NOT_FOUND 1
#define EXIT_BAD_USAGE 64
#define LIST_COUNT_DEFAULT 100
#define LIST_COUNT_MAX 1000000

/* ---- info, settings ------------------------------------------------------------------------------------- */

static void finish_info(struct node *node, struct control_call *call)
{
    const struct settings *settings = &node->generation->settings;
    struct control_out *out = &call->out;
    struct spool_counters spool;

    spool_counters(node->spool, &spool);
    control_out_begin(out);
    control_out_cstr(out, "version", KILAT_VERSION);
    control_out_cstr(out, "build", kilatd_build());
    control_out_cstr(out, "hostname", settings->hostname);
    control_out_time(out, "started", node->kilatd->started_wall_ns / SECOND_NS, call->now_s);
    control_out_u64(out, "shards", node->kilatd->shard_count);
    control_out_cstr(out, "ring", ring_features(node->shard->ring)->text);
    control_out_cstr(out, "durability",
                     spool.direct ? "synced: O_DIRECT writes with RWF_DSYNC"
                                  : "synced: write and fdatasync");
    control_out_cstr(out, "spool_directory", settings->spool_directory);
    control_out_cstr(out, "mail_directory", settings->mail_directory);
    control_out_cstr(out, "users_file", settings->users_file);
    control_out_bool(out, "accounts_readable", node->accounts->table != NULL);
    control_out_u64(out, "accounts",
                    node->accounts->table == NULL ? 0 : node->accounts->table->count);
    control_out_cstr(out, "state",
                     node->draining   ? "stopping"
                     : node->refusing ? "draining"
                                      : "running");
    control_out_end(out);
    control_answer(call);
}

static void finish_settings(struct node *node, struct control_call *call)
{
    bool changed = call->argument_count == 1 && slice_equal(call->arguments[0], SLICE("--changed"));
    struct buf values;

    if (call->argument_count == 1 && !changed) {
        control_fail(call, EXIT_BAD_USAGE, "usage: kilatctl settings [--changed | --defaults]");
        control_answer(call);
        return;
    }
    buf_init(&values, MIB);
    settings_print_values(settings_table(), &node->generation->settings, changed, &values);
    if (call->out.json) {
        control_out_begin(&call->out);
        control_out_text(&call->out, "settings", buf_slice(&values));
        control_out_end(&call->out);
    } else {
        buf_append(&call->text, buf_slice(&values));
    }
    buf_deinit(&values);
    control_answer(call);
}

/* ---- status ------------------------------------------------------------------------------------------------- */

/* Counters are structs of numbers, added up field by field. */
static void add_u64s(uint64_t *to, const uint64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

static void add_queue(struct queue_counters *to, const struct queue_counters *from)
{
    add_u64s(&to->accepted, &from->accepted,
             offsetof(struct queue_counters, messages) / sizeof(uint64_t));
    to->restoring += from->restoring;
    to->clock_doubted |= from->clock_doubted;
    to->clock_doubted_s = MAX(to->clock_doubted_s, from->clock_doubted_s);
    to->clock_jumps += from->clock_jumps;
    to->messages += from->messages;
    to->units += from->units;
    to->held += from->held;
    to->ready += from->ready;
    to->waiting += from->waiting;
    to->trying += from->trying;
    to->destinations += from->destinations;
    to->sites += from->sites;
    to->sessions += from->sessions;
    to->index_bytes += from->index_bytes;
}

static void visit_status(struct node *node, struct control_call *call)
{
    struct control_totals *t = &call->totals;
    struct queue_counters queue;
    struct spool_counters spool;
    struct dns_counters dns;

    queue_counters(node->queue, &queue);
    dns_counters(node->dns, &dns);
    add_queue(&t->queue, &queue);
    for (uint32_t i = 0; i < node->spool_count; i++) {
        spool_counters(node->spools[i].spool, &spool);
        add_u64s((uint64_t *)&t->spool, (const uint64_t *)&spool,
                 offsetof(struct spool_counters, direct) / sizeof(uint64_t));
        if (node->spools[i].own)
            t->spool.direct = spool.direct;
        t->spools++;
        t->spools_not_ready += node->spools[i].state != NODE_SPOOL_READY;
        control_out_spool(&call->second_out, &node->spools[i]);
    }
    add_u64s((uint64_t *)&t->dns, (const uint64_t *)&dns, sizeof(dns) / sizeof(uint64_t));
    t->sessions += node->session_count;
    t->smtp_sessions += node->counters.smtp_sessions;
    t->pop3_sessions += node->counters.pop3_sessions;
    t->refused_sessions += node->counters.refused_sessions;
    t->outgoing += outbound_sessions(node->outbound);
    t->accepted_synced += node->counters.accepted_synced;
    t->accepted_cached += node->counters.accepted_cached;
    t->messages_refused += node->counters.messages_refused;
    t->recipients_refused += node->counters.recipients_refused;
    t->bodies_compacted += node->counters.bodies_compacted;
    t->bodies_logged_early += node->counters.bodies_logged_early;
    t->sessions_not_read += node->counters.sessions_not_read;
    t->compacted_bytes += node->counters.compacted_bytes + node->shard->copied_bytes;
    t->held_bytes += node->held_bytes + node->shard->kept_bytes;
    t->reports += node->counters.reports;
    t->local_delivered += node->counters.local_delivered;
    t->pop3_logins += node->counters.pop3_logins;
    t->pop3_login_failures += node->counters.pop3_login_failures;
    t->syscalls += ring_syscalls(node->shard->ring);
    t->ticks += node->shard->ticks;
    t->log_dropped += log_dropped(node->shard->log);
    t->receive_buffers += ring_buffers_total(node->shard->ring);
    t->receive_buffers_free += ring_buffers_free(node->shard->ring);
    control_go_on(node, call);
}

static void status_queue(struct control_out *out, const struct control_totals *t)
{
    control_out_u64(out, "queued_messages", t->queue.messages);
    control_out_u64(out, "queued_recipients", t->queue.units);
    control_out_u64(out, "ready", t->queue.ready);
    control_out_u64(out, "waiting", t->queue.waiting);
    control_out_u64(out, "trying", t->queue.trying);
    control_out_u64(out, "held", t->queue.held);
    control_out_u64(out, "accepted", t->queue.accepted);
    control_out_u64(out, "generated", t->queue.generated);
    control_out_u64(out, "accepted_recipients", t->queue.accepted_units);
    control_out_u64(out, "generated_recipients", t->queue.generated_units);
    control_out_u64(out, "delivered", t->queue.delivered);
    control_out_u64(out, "deferred", t->queue.deferred);
    control_out_u64(out, "bounced", t->queue.bounced);
    control_out_u64(out, "expired", t->queue.expired);
    control_out_u64(out, "removed", t->queue.removed);
    control_out_u64(out, "in_doubt", t->queue.in_doubt);
    control_out_u64(out, "damaged", t->queue.damaged);
    control_out_u64(out, "restoring", t->queue.restoring);
    control_out_u64(out, "destinations", t->queue.destinations);
    control_out_u64(out, "sites", t->queue.sites);
    control_out_bytes(out, "index_bytes", t->queue.index_bytes);
    control_out_u64(out, "index_bytes_per_message",
                    t->queue.index_bytes / MAX(t->queue.messages, 1u));
    control_out_bool(out, "clock_doubted", t->queue.clock_doubted);
    control_out_u64(out, "clock_doubted_s", t->queue.clock_doubted_s);
    control_out_u64(out, "clock_jumps", t->queue.clock_jumps);
}

static void status_spool(struct control_out *out, const struct control_totals *t)
{
    control_out_u64(out, "spools", t->spools);
    control_out_u64(out, "spools_not_ready", t->spools_not_ready);
    control_out_u64(out, "groups", t->spool.groups);
    control_out_u64(out, "groups_cached", t->spool.groups_cached);
    control_out_u64(out, "flushes", t->spool.flushes);
    control_out_bytes(out, "group_bytes", t->spool.group_bytes);
    control_out_u64(out, "journal_flushes", t->spool.journal_flushes);
    control_out_bytes(out, "journal_bytes", t->spool.journal_bytes);
    control_out_bytes(out, "body_bytes", t->spool.body_bytes);
    control_out_bytes(out, "body_copied_bytes", t->spool.body_copied_bytes);
    control_out_bytes(out, "body_compacted_bytes", t->compacted_bytes);
    control_out_u64(out, "reads_hot", t->spool.reads_hot);
    control_out_u64(out, "reads_cold", t->spool.reads_cold);
    control_out_bytes(out, "hot_bytes", t->spool.hot_bytes);
    control_out_u64(out, "segments", t->spool.segments);
    control_out_bytes(out, "disk_bytes", t->spool.disk_bytes);
    control_out_bytes(out, "live_bytes", t->spool.live_bytes);
    control_out_bytes(out, "relocated_bytes", t->spool.relocated_bytes);
    control_out_u64(out, "segments_reused", t->spool.segments_reused);
    control_out_u64(out, "segments_removed", t->spool.segments_removed);
    control_out_u64(out, "segments_set_aside", t->spool.segments_set_aside);
    control_out_u64(out, "checkpoints", t->spool.checkpoints);
    control_out_u64(out, "checkpoint_failures", t->spool.checkpoint_failures);
    control_out_bytes(out, "checkpoint_bytes", t->spool.checkpoint_bytes);
    control_out_bytes(out, "scrubbed_bytes", t->spool.scrubbed_bytes);
    control_out_u64(out, "scrub_damaged", t->spool.scrub_damaged);
}

static void finish_status(struct node *node, struct control_call *call)
{
    struct control_out *out = &call->out;
    const struct control_totals *t = &call->totals;

    (void)node;
    control_out_begin(out);
    control_out_u64(out, "sessions", t->sessions);
    control_out_u64(out, "smtp_sessions", t->smtp_sessions);
    control_out_u64(out, "pop3_sessions", t->pop3_sessions);
    control_out_u64(out, "refused_sessions", t->refused_sessions);
    control_out_u64(out, "outgoing_sessions", t->outgoing);
    control_out_u64(out, "messages_accepted", t->accepted_synced + t->accepted_cached);
    control_out_u64(out, "accepted_synced", t->accepted_synced);
    control_out_u64(out, "accepted_cached", t->accepted_cached);
    control_out_u64(out, "messages_refused", t->messages_refused);
    control_out_u64(out, "recipients_refused", t->recipients_refused);
    control_out_u64(out, "local_delivered", t->local_delivered);
    control_out_u64(out, "reports", t->reports);
    control_out_u64(out, "pop3_logins", t->pop3_logins);
    control_out_u64(out, "pop3_login_failures", t->pop3_login_failures);
    status_queue(out, t);
    status_spool(out, t);
    control_out_u64(out, "dns_questions", t->dns.questions);
    control_out_u64(out, "dns_cache_hits", t->dns.cache_hits);
    control_out_u64(out, "dns_timeouts", t->dns.timeouts);
    control_out_u64(out, "bodies_compacted", t->bodies_compacted);
    control_out_u64(out, "bodies_logged_early", t->bodies_logged_early);
    control_out_u64(out, "sessions_not_read", t->sessions_not_read);
    control_out_bytes(out, "held_bytes", t->held_bytes);
    control_out_u64(out, "receive_buffers_free", t->receive_buffers_free);
    control_out_u64(out, "receive_buffers", t->receive_buffers);
    control_out_u64(out, "syscalls", t->syscalls);
    control_out_u64(out, "ticks", t->ticks);
    control_out_u64(out, "log_dropped", t->log_dropped);
    control_out_end(out);
    buf_append(&call->text, buf_slice(&call->second));
    control_answer(call);
}

/* ---- the queue ------------------------------------------------------------------------------------------------ */

static const char *const state_names[] = {"ready", "waiting", "trying", "held", "damaged"};

static void out_view(struct control_call *call, const struct queue_view *view)
{
    struct control_out *out = &call->out;
    char id[SPOOL_ID_TEXT_SIZE];

    spool_id_format(view->id, id);
    control_out_cstr(out, "id", id);
    control_out_cstr(out, "state", state_names[view->state]);
    control_out_time(out, "arrived", view->arrival_s, call->now_s);
    control_out_bytes(out, "size", view->size_bytes);
    control_out_u64(out, "recipients_open", view->units_open);
    control_out_text(out, "destination", view->destination);
    control_out_text(out, "site", view->site);
    control_out_u64(out, "attempts", view->attempts);
    control_out_time(out, "next_try", view->next_wall_s, call->now_s);
    control_out_time(out, "expires", view->expires_wall_s, call->now_s);
    control_out_text(out, "reason", view->reason);
}

static void list_row(void *context, const struct queue_view *view)
{
    struct control_call *call = context;
    char id[SPOOL_ID_TEXT_SIZE], age[64], next[64];
    uint64_t now_s = call->now_s;

    call->count++;
    if (call->out.json) {
        control_out_begin(&call->out);
        out_view(call, view);
        control_out_end(&call->out);
        return;
    }
    spool_id_format(view->id, id);
    control_out_span(age, sizeof(age), now_s > view->arrival_s ? now_s - view->arrival_s : 0);
    control_out_span(next, sizeof(next), view->next_wall_s > now_s ? view->next_wall_s - now_s : 0);
    if (call->count == 1)
        buf_printf(&call->text, "%-14s %-8s %8s %9s %-9s %-28s %s\n", "ID", "STATE", "AGE", "BYTES",
                   "NEXT TRY", "DESTINATION", "REASON");
    buf_printf(&call->text, "%-14s %-8s %8s %9llu %-9s %-28.*s %.*s\n", id,
               state_names[view->state], age, (unsigned long long)view->size_bytes,
               view->next_wall_s > now_s ? next : "now", SLICE_ARG(view->destination),
               SLICE_ARG(view->reason));
}

static bool list_options(struct control_call *call)
{
    uint64_t count = LIST_COUNT_DEFAULT;

    for (size_t i = 0; i < call->argument_count; i += 2) {
        struct slice name = call->arguments[i];
        struct slice value = i + 1 < call->argument_count ? call->arguments[i + 1] : SLICE_NONE;
        if (slice_equal(name, SLICE("--destination")) && value.size > 0)
            call->destination = value;
        else if (slice_equal(name, SLICE("--after")) && spool_id_parse(value, &call->after_id))
            continue;
        else if (!slice_equal(name, SLICE("--count")) ||
                 !slice_parse_u64(value, LIST_COUNT_MAX, &count))
            return false;
    }
    call->count_max = (uint32_t)count;
    return true;
}

static void visit_queue_list(struct node *node, struct control_call *call)
{
    if (node->shard->index == 0 && !list_options(call))
        control_fail(call, EXIT_BAD_USAGE,
                     "usage: kilatctl queue list [--destination DOMAIN] [--after ID] [--count N]");
    if (call->status == 0 && call->count < call->count_max)
        (void)queue_list(node->queue, call->after_id, call->destination,
                         call->count_max - call->count, list_row, call);
    control_go_on(node, call);
}

static void finish_queue_list(struct node *node, struct control_call *call)
{
    (void)node;
    if (call->status == 0 && call->count == 0 && !call->out.json)
        buf_append_cstr(&call->text, "No messages.\n");
    else if (call->status == 0 && call->count == call->count_max && !call->out.json)
        buf_append_cstr(&call->text, "... and perhaps more: --after ID, --count N\n");
    control_answer(call);
}

/* ---- one message ------------------------------------------------------------------------------------------------ */

/* The shard that has it: its number is in the id. */
static bool is_message_here(struct node *node, struct control_call *call)
{
    if (node->shard->index == 0 && !spool_id_parse(call->arguments[0], &call->id))
        control_fail(call, EXIT_BAD_USAGE,
                     "%.*s is no message id: 14 characters, as `queue list` shows them",
                     SLICE_ARG(call->arguments[0]));
    return call->status == 0 && queue_show(node->queue, call->id, &call->view);
}

static void finish_message(struct node *node, struct control_call *call)
{
    (void)node;
    if (call->status == 0 && !call->found)
        control_fail(call, EXIT_NOT_FOUND,
                     "%.*s: no such message in the queue (it may have been delivered)",
                     SLICE_ARG(call->arguments[0]));
    control_answer(call);
}

static void show_envelope(struct node *node, struct control_call *call)
{
    const struct spool_reader_info *info = spool_reader_info(call->reader);
    struct envelope envelope;
    struct slice rest, recipient;
    struct buf line;

    if (envelope_parse(info->envelope, &envelope) < 0)
        return;
    control_out_text(&call->out, "sender", envelope.sender);
    buf_init(&line, MIB);
    rest = envelope.recipients;
    for (uint32_t unit = 0; envelope_next(&rest, &recipient); unit++)
        if (queue_unit_open(node->queue, call->id, unit))
            buf_printf(&line, "%s%.*s", line.size == 0 ? "" : " ", SLICE_ARG(recipient));
    control_out_text(&call->out, "recipients", buf_slice(&line));
    buf_deinit(&line);
}

static void show_opened(void *context, int result)
{
    struct control_call *call = context;
    struct node *node = call->at;

    /* The message may have gone while it was read. */
    if (queue_show(node->queue, call->id, &call->view)) {
        control_out_begin(&call->out);
        out_view(call, &call->view);
        if (result == 0)
            show_envelope(node, call);
        control_out_end(&call->out);
    } else {
        call->found = false;
    }
    spool_reader_close(&call->reader);
    control_go_on(node, call);
}

static void visit_message_show(struct node *node, struct control_call *call)
{
    struct spool_location location;
    int r;

    if (!is_message_here(node, call)) {
        control_go_on(node, call);
        return;
    }
    call->found = true;
    call->at = node;
    if (!queue_locate(node->queue, call->id, &location))
        r = -ENOENT;
    else
        r = spool_reader_open(queue_spool(node->queue, call->id), &location, show_opened, call,
                              &call->reader);
    if (r < 0)
        show_opened(call, r);
}

static void act_answer(struct control_call *call, bool later)
{
    if (call->out.json) {
        control_out_begin(&call->out);
        control_out_text(&call->out, "id", call->arguments[0]);
        control_out_bool(&call->out, "when_attempt_ends", later);
        control_out_end(&call->out);
    } else {
        buf_append_cstr(&call->text, later ? "An attempt is under way; it happens when that ends.\n"
                                           : "Done.\n");
    }
}

/* "Done" is said when it would survive a crash, no sooner. */
static void acted(void *context, int result)
{
    struct control_call *call = context;

    if (result == 0)
        act_answer(call, false);
    else
        control_fail(call, EXIT_NOT_FOUND,
                     "%.*s: it is so now, but could not be written to the disk (%s): a crash would "
                     "undo it",
                     SLICE_ARG(call->arguments[0]), strerror(-result));
    control_go_on(call->at, call);
}

static void act(struct node *node, struct control_call *call, enum queue_action action)
{
    int r;

    if (!is_message_here(node, call)) {
        control_go_on(node, call);
        return;
    }
    call->found = true;
    call->at = node;
    r = queue_act(node->queue, call->id, action, acted, call);
    if (r == 0)
        return;
    if (r == -EBUSY)
        act_answer(call, true);
    else if (r == -EALREADY)
        control_fail(call, EXIT_NOT_FOUND, "%.*s: nothing to do, it is so already",
                     SLICE_ARG(call->arguments[0]));
    else if (r == -EAGAIN)
        control_fail(call, EXIT_NOT_FOUND, "%.*s: its spool is being read, try again in a moment",
                     SLICE_ARG(call->arguments[0]));
    else
        control_fail(call, EXIT_NOT_FOUND, "%.*s: %s", SLICE_ARG(call->arguments[0]), strerror(-r));
    control_go_on(node, call);
}

static void visit_hold(struct node *node, struct control_call *call)
{
    act(node, call, QUEUE_HOLD);
}

static void visit_release(struct node *node, struct control_call *call)
{
    act(node, call, QUEUE_RELEASE);
}

static void visit_retry(struct node *node, struct control_call *call)
{
    act(node, call, QUEUE_RETRY);
}

static void visit_remove(struct node *node, struct control_call *call)
{
    act(node, call, QUEUE_REMOVE);
}

static void visit_bounce(struct node *node, struct control_call *call)
{
    act(node, call, QUEUE_BOUNCE);
}

/* ---- sites ---------------------------------------------------------------------------------------------------------- */

static void site_row(void *context, const struct queue_site_view *view)
{
    struct control_call *call = context;
    struct control_out *out = &call->out;

    call->count++;
    control_out_begin(out);
    control_out_text(out, "site", view->name);
    control_out_u64(out, "shard", call->at->shard->index);
    control_out_u64(out, "sessions", view->sessions);
    control_out_u64(out, "sessions_max", view->sessions_max);
    control_out_u64(out, "ready", view->ready);
    control_out_time(out, "backoff_until", view->backoff_until_wall_s, call->now_s);
    control_out_text(out, "reason", view->reason);
    control_out_end(out);
}

static void visit_site_list(struct node *node, struct control_call *call)
{
    call->at = node;
    queue_sites(node->queue, site_row, call);
    control_go_on(node, call);
}

static void finish_site_list(struct node *node, struct control_call *call)
{
    (void)node;
    if (call->count == 0 && !call->out.json)
        buf_append_cstr(&call->text, "No sites.\n");
    control_answer(call);
}

/* ---- dns -------------------------------------------------------------------------------------------------------------- */

static void mx_done(struct dns_mx_query *query, const struct dns_mx_answer *answer)
{
    static const char *const names[] = {
        "ok",      "null MX: accepts no mail", "no such domain", "no host",
        "ourself", "temporary failure"};
    struct control_call *call = CONTAINER_OF(query, struct control_call, mx);
    struct control_out *out = &call->out;
    char text[NETADDR_TEXT_SIZE];

    control_out_begin(out);
    control_out_text(out, "domain", call->arguments[1]);
    control_out_cstr(out, "status", names[answer->status]);
    control_out_bool(out, "implicit", answer->implicit);
    control_out_u64(out, "ttl_s", answer->ttl_s);
    control_out_cstr(out, "answer", answer->text);
    control_out_end(out);
    for (uint32_t i = 0; i < answer->host_count; i++) {
        const struct dns_mx_host *host = &answer->hosts[i];
        struct buf addresses;
        buf_init(&addresses, 4 * KIB);
        for (uint32_t j = 0; j < host->address_count; j++) {
            netaddr_format_literal(&answer->addresses[host->first_address + j], text);
            buf_printf(&addresses, "%s%s", j == 0 ? "" : " ", text);
        }
        control_out_begin(out);
        control_out_u64(out, "preference", host->preference);
        control_out_cstr(out, "host", host->name);
        control_out_text(out, "addresses", buf_slice(&addresses));
        control_out_end(out);
        buf_deinit(&addresses);
    }
    if (answer->status != DNS_MX_OK)
        call->status = EXIT_NOT_FOUND;
    if (call->status != 0)
        buf_append_cstr(&call->error, answer->text);
    control_answer(call);
}

static void finish_dns_mx(struct node *node, struct control_call *call)
{
    if (!slice_equal_nocase(call->arguments[0], SLICE("MX"))) {
        control_fail(call, EXIT_BAD_USAGE, "usage: kilatctl dns MX DOMAIN | dns flush");
        control_answer(call);
        return;
    }
    call->mx.done = mx_done;
    call->mx.is_self = outbound_is_self;
    call->mx.is_self_context = node;
    dns_mx_lookup(node->dns, call->arguments[1], &call->mx);
}

static void visit_dns_flush(struct node *node, struct control_call *call)
{
    dns_cache_flush(node->dns);
    control_go_on(node, call);
}

/* ---- the server as a whole ---------------------------------------------------------------------------------------------- */

static void finish_done(struct node *node, struct control_call *call)
{
    (void)node;
    if (!call->out.json)
        buf_append_cstr(&call->text, "Done.\n");
    control_answer(call);
}

static void reload_answered(void *context, int result, struct slice text)
{
    struct control_call *call = context;

    if (result < 0)
        control_fail(call, EXIT_NOT_FOUND, "%.*s", SLICE_ARG(text));
    else if (!call->out.json)
        buf_printf(&call->text, "%.*s\n", SLICE_ARG(text));
    control_answer(call);
}

static void finish_reload(struct node *node, struct control_call *call)
{
    reload_begin(node, reload_answered, call);
}

static void visit_drain(struct node *node, struct control_call *call)
{
    bool off = call->argument_count == 1 && slice_equal(call->arguments[0], SLICE("off"));

    if (call->argument_count == 1 && !off) {
        if (call->status == 0)
            control_fail(call, EXIT_BAD_USAGE, "usage: kilatctl drain [off]");
    } else {
        node->refusing = !off;
    }
    control_go_on(node, call);
}

static void finish_drain(struct node *node, struct control_call *call)
{
    if (call->status == 0 && !call->out.json)
        buf_append_cstr(&call->text,
                        node->refusing ? "No new mail is taken; what is queued goes out. `kilatctl "
                                         "drain off` takes mail again.\n"
                                       : "New mail is taken again.\n");
    control_answer(call);
}

static void finish_stop(struct node *node, struct control_call *call)
{
    if (!call->out.json)
        buf_append_cstr(&call->text, "Stopping.\n");
    kilatd_stop(node->kilatd, 20 * SECOND_MS);
    control_answer(call);
}

/* ---- the table ------------------------------------------------------------------------------------------------------------ */

static const struct control_command commands[] = {
    {"info", "", 0, 0, false, NULL, finish_info},
    {"status", "", 0, 0, false, visit_status, finish_status},
    {"settings", "[--changed]", 0, 1, false, NULL, finish_settings},
    {"queue list", "[--destination DOMAIN] [--after ID] [--count N]", 0, 6, false, visit_queue_list,
     finish_queue_list},
    {"message show", "ID", 1, 1, false, visit_message_show, finish_message},
    {"message hold", "ID", 1, 1, true, visit_hold, finish_message},
    {"message release", "ID", 1, 1, true, visit_release, finish_message},
    {"message retry", "ID", 1, 1, true, visit_retry, finish_message},
    {"message remove", "ID", 1, 1, true, visit_remove, finish_message},
    {"message bounce", "ID", 1, 1, true, visit_bounce, finish_message},
    {"site list", "", 0, 0, false, visit_site_list, finish_site_list},
    {"dns flush", "", 0, 0, true, visit_dns_flush, finish_done},
    {"dns", "MX DOMAIN", 2, 2, false, NULL, finish_dns_mx},
    {"spool accept", "NUMBER", 1, 1, true, control_visit_spool_accept, control_finish_spool},
    {"spool copy", "NUMBER DIR", 2, 2, true, control_visit_spool_copy, control_finish_spool},
    {"clock accept", "", 0, 0, true, control_visit_clock_accept, finish_done},
    {"reload", "", 0, 0, true, NULL, finish_reload},
    {"drain", "[off]", 0, 1, true, visit_drain, finish_drain},
    {"stop", "", 0, 0, true, NULL, finish_stop},
};

const struct control_command *control_command_find(const struct slice *words, size_t count,
                                                   size_t *ret_words, struct buf *error)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        struct slice rest = slice_cstr(commands[i].words);
        size_t used = 0;
        bool same = true;
        while (rest.size > 0 && same) {
            struct slice word = slice_split(&rest, ' ');
            same = used < count && slice_equal(words[used], word);
            used++;
        }
        if (same) {
            *ret_words = used;
            return &commands[i];
        }
    }
    buf_append_cstr(error, "no such command; there are:");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        buf_printf(error, "\n  %s %s", commands[i].words, commands[i].arguments);
    return NULL;
}
