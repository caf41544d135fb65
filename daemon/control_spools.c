/* What kilatctl asks of and orders to single spools, and to the clock they live by. */
#include "daemon/control.h"
#include "daemon/node_spools.h"

#include <errno.h>
#include <stdio.h>

#define EXIT_NOT_FOUND 1
#define EXIT_BAD_USAGE 64

/* ---- status ---------------------------------------------------------------------------------------- */

/* In recipients: what came is what has gone and what is here (docs/architecture.md). */
static void out_conservation(struct control_out *out, const struct node_spool *spool)
{
    struct queue_conservation sum;

    if (queue_conservation(spool->node->queue, spool->found->number, &sum) < 0)
        return;
    control_out_u64(out, "spool_accepted", sum.accepted);
    control_out_u64(out, "spool_generated", sum.generated);
    control_out_u64(out, "spool_recovered", sum.recovered);
    control_out_u64(out, "spool_delivered", sum.delivered);
    control_out_u64(out, "spool_bounced", sum.bounced);
    control_out_u64(out, "spool_expired", sum.expired);
    control_out_u64(out, "spool_removed", sum.removed);
    control_out_u64(out, "spool_moved", sum.moved);
    control_out_u64(out, "spool_set_aside", sum.set_aside);
    control_out_u64(out, "spool_queued", sum.queued);
    control_out_i64(out, "spool_difference", sum.difference);
}

/* Disk used, spares included, by each byte that is needed. */
static void out_space(struct control_out *out, const struct node_spool *spool)
{
    struct spool_counters counters;
    char text[32] = "";

    spool_counters(spool->spool, &counters);
    control_out_u64(out, "spool_segments", counters.segments);
    control_out_u64(out, "spool_spare_segments", counters.spare_segments);
    control_out_bytes(out, "spool_disk_bytes", counters.disk_bytes);
    control_out_bytes(out, "spool_live_bytes", counters.live_bytes);
    if (counters.live_bytes > 0)
        (void)snprintf(text, sizeof(text), "%.2f",
                       (double)counters.disk_bytes / (double)counters.live_bytes);
    control_out_cstr(out, "spool_space_amplification", text);
}

void control_out_spool(struct control_out *out, struct node_spool *spool)
{
    char number[16];

    (void)snprintf(number, sizeof(number), "%04u", spool->found->number);
    control_out_begin(out);
    control_out_cstr(out, "spool", number);
    control_out_u64(out, "spool_shard", spool->node->shard->index);
    control_out_bool(out, "spool_adopted", !spool->own);
    control_out_cstr(out, "spool_state", node_spool_state_name(spool->state));
    control_out_cstr(out, "spool_reason", spool->sentence);
    control_out_u64(out, "spool_restored_entries", spool->report.entries + spool->report.messages);
    control_out_u64(out, "spool_restored_us", spool->took_us);
    control_out_u64(out, "spool_damaged_records", spool->report.damaged_records);
    out_space(out, spool);
    out_conservation(out, spool);
    control_out_end(out);
}

/* ---- a copy that was put back ------------------------------------------------------------------------ */

static bool spool_number(struct control_call *call, uint32_t *ret_number)
{
    uint64_t number;

    if (!slice_parse_u64(call->arguments[0], 1023, &number)) {
        if (call->status == 0)
            control_fail(call, EXIT_BAD_USAGE,
                         "%.*s is no number of a spool: 0 to 1023, as status shows them",
                         SLICE_ARG(call->arguments[0]));
        return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

static void spool_accepted(struct node_spool *spool, int result)
{
    struct control_call *call = spool->accepted_context;

    if (result < 0)
        control_fail(call, EXIT_NOT_FOUND, "%.*s: its marker cannot be written: %s",
                     SLICE_ARG(call->arguments[0]), strerror(-result));
    else if (!call->out.json)
        buf_append_cstr(&call->text, "Accepted; what it holds is being read.\n");
    control_go_on(spool->node, call);
}

void control_visit_spool_accept(struct node *node, struct control_call *call)
{
    struct node_spool *spool;
    uint32_t number;

    if (spool_number(call, &number) && (spool = node_spools_find(node, number)) != NULL) {
        call->found = true;
        if (node_spool_accept(spool, spool_accepted, call) == 0)
            return;
        control_fail(call, EXIT_NOT_FOUND, "%.*s: it is not on hold",
                     SLICE_ARG(call->arguments[0]));
    }
    control_go_on(node, call);
}

static void spool_copied(struct node_spool *spool, int result)
{
    struct control_call *call = spool->copied_context;

    if (result < 0) {
        control_fail(call, EXIT_NOT_FOUND, "%s/%04u: the copy was not made: %s%s", spool->copy_path,
                     spool->found->number, strerror(-result),
                     result == -EACCES   ? " (the server's user has to be able to write there)"
                     : result == -EEXIST ? " (it has to be a new one)"
                                         : "");
    } else if (call->out.json) {
        control_out_begin(&call->out);
        control_out_u64(&call->out, "spool", spool->found->number);
        control_out_bytes(&call->out, "bytes", spool->copy_bytes);
        control_out_end(&call->out);
    } else {
        buf_printf(&call->text, "%s/%04u: %llu bytes.\n", spool->copy_path, spool->found->number,
                   (unsigned long long)spool->copy_bytes);
    }
    control_go_on(spool->node, call);
}

void control_visit_spool_copy(struct node *node, struct control_call *call)
{
    struct node_spool *spool;
    uint32_t number;
    int r;

    if (call->status == 0 && spool_number(call, &number) &&
        (spool = node_spools_find(node, number)) != NULL) {
        call->found = true;
        r = node_spool_copy(spool, call->arguments[1], spool_copied, call);
        if (r == 0)
            return;
        control_fail(call, EXIT_NOT_FOUND, "%.*s: %s", SLICE_ARG(call->arguments[0]),
                     r == -EALREADY ? "a copy of it is being made already" : strerror(-r));
    }
    control_go_on(node, call);
}

void control_finish_spool(struct node *node, struct control_call *call)
{
    (void)node;
    if (call->status == 0 && !call->found)
        control_fail(call, EXIT_NOT_FOUND, "%.*s: there is no such spool",
                     SLICE_ARG(call->arguments[0]));
    control_answer(call);
}

/* ---- the clock --------------------------------------------------------------------------------------- */

void control_visit_clock_accept(struct node *node, struct control_call *call)
{
    queue_clock_accept(node->queue);
    control_go_on(node, call);
}
