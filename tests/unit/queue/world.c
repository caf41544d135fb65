#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- core/shard.c's part ------------------------------------------------------------------------- */

void shard_task_init(struct shard_task *task, shard_task_fn *run)
{
    task->run = run;
    list_node_init(&task->node);
}

void shard_defer(struct shard *shard, struct shard_task *task)
{
    if (!list_linked(&task->node))
        list_push_back(&shard->tasks, &task->node);
}

void shard_undefer(struct shard_task *task)
{
    list_remove(&task->node);
}

struct letter {
    struct list_node node;
    uint32_t to;
    struct shard_message *message;
};

void shard_send(struct shard *from, uint32_t to, struct shard_message *message)
{
    struct world *world = from->user;
    struct letter *letter = calloc(1, sizeof(*letter));

    cr_assert_lt(to, world->shard_count);
    message->from = from->index;
    letter->to = to;
    letter->message = message;
    list_push_back(&world->letters, &letter->node);
}

static bool deliver_letters(struct world *world)
{
    struct list_node now, *node;
    bool any = false;

    list_init(&now);
    list_splice_back(&now, &world->letters);
    while ((node = list_pop_front(&now)) != NULL) {
        struct letter *letter = CONTAINER_OF(node, struct letter, node);

        letter->message->deliver(&world->shards[letter->to], letter->message);
        free(letter);
        any = true;
    }
    return any;
}

/* ---- the owner's side ------------------------------------------------------------------------------ */

static struct world *world_of(void *context)
{
    return ((struct shard *)context)->user;
}

static bool is_local(void *context, struct slice domain)
{
    (void)context;
    return domain.size == 0 || slice_equal(domain, SLICE("home"));
}

static void answer(struct world *world, struct queue *queue, uint32_t destination,
                   struct slice name)
{
    struct slice site = slice_skip(name, slice_find(name, '.') + 1);

    if (slice_ends_nocase(name, SLICE(".never")))
        queue_unresolved(queue, destination, QUEUE_NEVER, (const uint8_t[]){5, 1, 2},
                         SLICE("no such domain"));
    else if (slice_ends_nocase(name, SLICE(".later")))
        queue_unresolved(queue, destination, QUEUE_LATER, (const uint8_t[]){4, 4, 3},
                         SLICE("no name server answers"));
    else
        queue_resolved(queue, destination, site, world->ttl_ms);
}

static void resolve(void *context, uint32_t destination, struct slice name)
{
    struct world *world = world_of(context);

    world->resolves++;
    if (!world->no_answers)
        answer(world, world->queues[((struct shard *)context)->index], destination, name);
}

static struct world *attempt_world(const struct queue_attempt *attempt)
{
    return attempt->queue->shard->user;
}

static void judge(struct queue_attempt *attempt)
{
    for (uint32_t i = 0; i < queue_attempt_count(attempt); i++) {
        struct slice address = queue_attempt_recipients(attempt)[i];

        if (slice_starts_nocase(address, SLICE("never")))
            queue_attempt_outcome(attempt, i, QUEUE_NEVER, (const uint8_t[]){5, 1, 1},
                                  SLICE("no such user"));
        else if (slice_starts_nocase(address, SLICE("later")))
            queue_attempt_outcome(attempt, i, QUEUE_LATER, (const uint8_t[]){4, 2, 0},
                                  SLICE("mailbox busy"));
        else if (attempt_world(attempt)->in_doubt && slice_starts_nocase(address, SLICE("doubt")))
            queue_attempt_outcome(attempt, i, QUEUE_IN_DOUBT, (const uint8_t[]){4, 4, 2},
                                  SLICE("connection lost behind the final dot"));
        else
            queue_attempt_outcome(attempt, i, QUEUE_DELIVERED, (const uint8_t[]){2, 0, 0},
                                  SLICE_NONE);
    }
}

static void remember(struct world *world, struct queue_attempt *attempt)
{
    struct slice sender = queue_attempt_sender(attempt);

    world->order[world->taken++ % (sizeof(world->order) - 1)] =
        sender.size > 0 ? (char)sender.data[0] : '-';
    world->attempt_units = queue_attempt_count(attempt);
    world->attempt_number = queue_attempt_number(attempt);
}

static void session_pull(struct world_session *session);

static void session_loaded(struct queue_attempt *attempt, void *context, int result)
{
    struct world_session *session = context;

    cr_assert_eq(session->attempt, attempt);
    if (result < 0) {
        session->attempt = NULL;
        queue_attempt_finish(attempt, NULL, NULL);
        session_pull(session);
        return;
    }
    remember(session->world, attempt);
    if (!session->world->keep)
        world_session_finish(session);
}

static void session_free(struct world_session *session)
{
    list_remove(&session->node);
    session->world->session_count--;
    free(session);
}

void world_session_close(struct world_session *session)
{
    queue_slot_return(session->slot);
    session_free(session);
}

static void session_pull(struct world_session *session)
{
    bool retire;

    session->attempt = queue_slot_take(session->slot, &retire);
    session->idle = session->attempt == NULL;
    if (session->attempt != NULL && session->world->unload) {
        queue_attempt_finish(session->attempt, NULL, NULL);
        session->attempt = NULL;
        session_pull(session);
    } else if (session->attempt != NULL) {
        queue_attempt_load(session->attempt, session_loaded, session);
    } else if (retire) {
        session->world->retired++;
        world_session_close(session);
    }
}

void world_session_finish(struct world_session *session)
{
    struct queue_attempt *attempt = session->attempt;

    session->attempt = NULL;
    judge(attempt);
    queue_attempt_finish(attempt, NULL, NULL);
    session_pull(session);
}

static void do_connect(void *context, struct queue_slot *slot)
{
    struct world *world = world_of(context);
    struct world_session *session;

    world->connects++;
    if (world->down != NULL && slice_equal(queue_slot_site(slot), slice_cstr(world->down))) {
        world->failures++;
        queue_slot_failed(slot, (const uint8_t[]){4, 4, 1}, SLICE("connection refused"));
        return;
    }
    session = calloc(1, sizeof(*session));
    session->world = world;
    session->shard = ((struct shard *)context)->index;
    session->slot = slot;
    list_push_back(&world->sessions, &session->node);
    world->session_count++;
    world->session_peak = MAX(world->session_peak, world->session_count);
    queue_slot_set_user(slot, session);
    queue_slot_succeeded(slot);
    session_pull(session);
}

static void more(void *context, struct queue_slot *slot)
{
    struct world_session *session = queue_slot_user(slot);

    world_of(context)->mores++;
    cr_assert(session->idle);
    session_pull(session);
}

static void recall(void *context, struct queue_slot *slot)
{
    struct world_session *session = queue_slot_user(slot);

    world_of(context)->recalls++;
    if (session->idle)
        world_session_close(session);
}

static void local_finished(void *context, int result)
{
    (void)result;
    world_of(context)->local_calls++;
}

static void local_loaded(struct queue_attempt *attempt, void *context, int result)
{
    if (result == 0) {
        remember(world_of(context), attempt);
        judge(attempt);
        queue_attempt_finish(attempt, local_finished, context);
    } else {
        queue_attempt_finish(attempt, NULL, NULL);
    }
}

static void local(void *context)
{
    struct world *world = world_of(context);
    struct queue *queue = world->queues[((struct shard *)context)->index];
    struct queue_attempt *attempt;

    while (!world->no_local && (attempt = queue_take_local(queue, UINT64_MAX)) != NULL)
        queue_attempt_load(attempt, local_loaded, context);
}

struct made_report {
    struct queue_submission submission;
    struct queue_report *report;
    struct world *world;
    struct slice recipient;
    uint32_t units[WORLD_UNITS_MAX];
};

static void report_submitted(struct queue_submission *submission)
{
    struct made_report *made = CONTAINER_OF(submission, struct made_report, submission);

    queue_report_done(made->report, submission->result);
    free(made);
}

static void make_report(struct world *world, struct queue *queue, struct queue_report *report)
{
    const struct queue_report_info *info = queue_report_info(report);
    struct made_report *made = calloc(1, sizeof(*made));
    int r;

    made->report = report;
    made->world = world;
    made->recipient = info->sender;
    for (uint32_t i = 0; i < info->unit_count; i++)
        made->units[i] = info->units[i].unit;
    made->submission = (struct queue_submission){
        .recipients = &made->recipient,
        .recipient_count = 1,
        .flags = SPOOL_REPORT,
        .id = queue_next_report_id(queue, info->id),
        .report_of = info->id,
        .report_units = made->units,
        .report_unit_count = info->unit_count,
        .done = report_submitted,
    };
    r = queue_submit(queue, &made->submission);
    if (r < 0) {
        queue_report_done(report, r);
        free(made);
    }
}

static void do_report(void *context, struct queue_report *report)
{
    struct world *world = world_of(context);
    const struct queue_report_info *info = queue_report_info(report);

    world->reports++;
    world->report_expired = info->expired;
    world->report_units = info->unit_count;
    world->report_of = info->id;
    (void)slice_to_cstr(info->units[0].text, world->report_text, sizeof(world->report_text));
    memcpy(world->report_status, info->units[0].status, 3);
    cr_assert_gt(info->sender.size, 0);
    for (uint32_t i = 0; i < info->unit_count; i++)
        cr_assert_gt(info->units[i].address.size, 0);
    if (world->report_error < 0)
        queue_report_done(report, world->report_error);
    else if (world->keep_reports)
        world->report = report;
    else
        make_report(world, world->queues[((struct shard *)context)->index], report);
}

static struct queue *peer(struct shard *shard)
{
    struct world *world = shard->user;

    return world->queues[shard->index];
}

static void restored(void *context, struct spool *spool, int result,
                     const struct spool_report *report, struct slice error)
{
    struct world *world = world_of(context);

    (void)spool;
    (void)report;
    cr_assert_eq(error.size > 0, result < 0);
    world->restored++;
    world->restored_result = result;
}

static const struct queue_ops world_ops = {
    .is_local = is_local,
    .resolve = resolve,
    .connect = do_connect,
    .more = more,
    .recall = recall,
    .local = local,
    .report = do_report,
    .restored = restored,
    .peer = peer,
};

/* ---- life ------------------------------------------------------------------------------------- */

static void make_queue(struct world *world, uint32_t i)
{
    int r = queue_create(&world->shards[i], NULL, &world->config, &world_ops, &world->shards[i],
                         &world->queues[i]);

    cr_assert_eq(r, 0);
}

struct world *world_create(uint32_t shard_count)
{
    struct world *world = calloc(1, sizeof(*world));

    world->shard_count = shard_count;
    world->ttl_ms = HOUR_MS;
    world->config = (struct queue_config){
        .retry_first_ms = 5 * MINUTE_MS,
        .retry_max_ms = 4 * HOUR_MS,
        .expire_ms = 5 * DAY_MS,
        .site_sessions_max = 8,
        .site_messages_max = 100,
        .site_recipients_max = 100,
        .site_backoff_first_ms = MINUTE_MS,
        .site_backoff_max_ms = HOUR_MS,
        .messages_max = 1000,
    };
    list_init(&world->letters);
    list_init(&world->sessions);
    for (uint32_t i = 0; i < WORLD_SHARDS_MAX; i++) {
        world->spools[i].world = world;
        world->spools[i].next_id = ((uint64_t)i << 54) + 1;
        list_init(&world->spools[i].appends);
        list_init(&world->spools[i].notes);
        list_init(&world->spools[i].openings);
    }
    for (uint32_t i = 0; i < shard_count; i++) {
        struct shard *shard = &world->shards[i];

        shard->index = i;
        shard->count = shard_count;
        shard->user = world;
        shard->now_ns = 1000 * SECOND_NS;
        shard->wall_ns = 1700000000 * SECOND_NS;
        timer_wheel_init(&shard->timers, shard->now_ns);
        list_init(&shard->tasks);
        make_queue(world, i);
    }
    return world;
}

static void start(struct world *world, uint32_t i)
{
    cr_assert_eq(queue_add_spool(world->queues[i], &world->spools[i], true), 0);
    queue_start(world->queues[i]);
}

void world_start(struct world *world)
{
    for (uint32_t i = 0; i < world->shard_count; i++)
        start(world, i);
    for (uint32_t i = 0; i < world->shard_count; i++)
        world_bring_end(world, i, 0);
    world_run(world);
    world->restored = 0;
}

struct world *world_started(void)
{
    struct world *world = world_create(1);

    world_start(world);
    return world;
}

static bool run_shard(struct shard *shard)
{
    struct list_node now, *node;
    bool any = timer_wheel_advance(&shard->timers, shard->now_ns) > 0;

    list_init(&now);
    list_splice_back(&now, &shard->tasks);
    while ((node = list_pop_front(&now)) != NULL) {
        struct shard_task *task = CONTAINER_OF(node, struct shard_task, node);

        task->run(task);
        ((struct world *)shard->user)->task_runs++;
        any = true;
    }
    return any;
}

static bool step(struct world *world)
{
    bool any = deliver_letters(world);

    for (uint32_t i = 0; i < world->shard_count; i++) {
        any = run_shard(&world->shards[i]) || any;
    }
    for (uint32_t i = 0; i < WORLD_SHARDS_MAX; i++)
        any = world_spool_step(&world->spools[i]) || any;
    return any;
}

void world_run(struct world *world)
{
    uint32_t steps = 0;

    while (step(world))
        cr_assert_lt(++steps, 100000, "something never comes to rest: that is polling");
    world_check(world);
}

void world_advance(struct world *world, uint64_t ms)
{
    uint64_t end_ns = world->shards[0].now_ns + ms * MS_NS;

    /* From event to event, as a shard would wake. */
    for (;;) {
        uint64_t next_ns = end_ns;

        for (uint32_t i = 0; i < world->shard_count; i++)
            next_ns = MIN(next_ns, timer_wheel_next_ns(&world->shards[i].timers));
        for (uint32_t i = 0; i < world->shard_count; i++) {
            struct shard *shard = &world->shards[i];
            uint64_t step_ns = next_ns > shard->now_ns ? next_ns - shard->now_ns : 0;

            shard->now_ns += step_ns;
            shard->wall_ns += step_ns;
        }
        world_run(world);
        if (next_ns >= end_ns)
            return;
    }
}

uint32_t world_now_s(const struct world *world)
{
    return (uint32_t)(world->shards[0].wall_ns / SECOND_NS);
}

/* The books of each spool, counted once more from the index itself. */
static void check_part(struct queue *queue, struct queue_part *part)
{
    struct queue_conservation c;
    uint64_t units = 0, damaged = 0;

    for (uint32_t number = index_older_first(&queue->index, INDEX_NONE); number != INDEX_NONE;
         number = index_older_first(&queue->index, number)) {
        if (part_of(queue, index_entry(&queue->index, number)->id) != part)
            continue;
        units += index_open_bits(&queue->index, number);
        for (uint32_t item = index_next_item(&queue->index, number, INDEX_NONE); item != INDEX_NONE;
             item = index_next_item(&queue->index, number, item)) {
            const struct index_item *it = index_item(&queue->index, item);

            damaged += it->state == ITEM_DAMAGED ? it->open_count : 0;
        }
    }
    cr_assert_eq(queue_conservation(queue, part->number, &c), 0);
    cr_assert_eq(c.difference, 0,
                 "units in and out disagree by %ld: accepted %lu generated %lu recovered %lu "
                 "delivered %lu bounced %lu expired %lu removed %lu set aside %lu queued %lu",
                 (long)c.difference, (unsigned long)c.accepted, (unsigned long)c.generated,
                 (unsigned long)c.recovered, (unsigned long)c.delivered, (unsigned long)c.bounced,
                 (unsigned long)c.expired, (unsigned long)c.removed, (unsigned long)c.set_aside,
                 (unsigned long)c.queued);
    cr_assert_not(part->alarmed);
    cr_assert_eq(c.queued, units - damaged);
    cr_assert_eq(c.set_aside, damaged + part->unreadable_units);
}

static void check_queue(struct queue *queue)
{
    struct queue_counters c;
    uint64_t unreadable = 0;
    uint32_t loading = 0;

    for (uint32_t i = 0; i < queue->part_count; i++) {
        if (queue->parts[i]->state != PART_LOADING)
            check_part(queue, queue->parts[i]);
        loading += queue->parts[i]->state != PART_READY || queue->parts[i]->restore != NULL;
        unreadable += queue->parts[i]->unreadable_units;
    }
    queue_counters(queue, &c);
    cr_assert_eq(c.accepted_units + c.generated_units + c.recovered_units,
                 c.delivered + c.bounced + c.expired + c.removed + c.units + unreadable,
                 "units in and out disagree");
    cr_assert_eq(queue->index.found_count, c.messages);
    if (loading == 0)
        cr_assert_eq(queue->state_counts[ITEM_DAMAGED] + c.held + c.ready + c.waiting + c.trying ==
                         0,
                     c.messages == 0);
}

void world_check(struct world *world)
{
    for (uint32_t i = 0; i < world->shard_count; i++) {
        struct queue *queue = world->queues[i];

        if (queue == NULL)
            continue;
        if (!world->spools[i].unchecked)
            check_queue(queue);
        if (queue->own != NULL && queue->own->state != PART_LOADING)
            world_spool_check(&world->spools[i], queue);
    }
}

static void stopped(void *context)
{
    world_of(context)->stopped++;
}

void world_stop(struct world *world)
{
    for (uint32_t i = 0; i < world->shard_count; i++) {
        if (world->queues[i] != NULL && world->queues[i]->started && !world->queues[i]->stopping)
            queue_stop(world->queues[i], stopped, &world->shards[i]);
    }
    world_run(world);
}

void world_destroy(struct world *world)
{
    world_stop(world);
    world_crash(world);
    for (uint32_t i = 0; i < world->shard_count; i++) {
        world_spool_free(&world->spools[i]);
    }
    free(world);
}

void world_crash(struct world *world)
{
    struct list_node *node;

    for (uint32_t i = 0; i < world->shard_count; i++) {
        queue_destroy(&world->queues[i]);
        world_spool_crash(&world->spools[i]);
    }
    while ((node = list_pop_front(&world->sessions)) != NULL)
        free(CONTAINER_OF(node, struct world_session, node));
    world->session_count = 0;
    world->restored = 0;
    while ((node = list_pop_front(&world->letters)) != NULL)
        free(CONTAINER_OF(node, struct letter, node));
}

void world_reopen(struct world *world)
{
    for (uint32_t i = 0; i < world->shard_count; i++) {
        make_queue(world, i);
        start(world, i);
    }
}

void world_recover(struct world *world)
{
    world_reopen(world);
    for (uint32_t i = 0; i < world->shard_count; i++) {
        world_bring_back(world, i);
        world_bring_end(world, i, 0);
    }
    world_run(world);
}

void world_alone(struct world *world)
{
    world->shard_count = 1;
    world->shards[0].count = 1;
}

void world_adopt(struct world *world, uint32_t shard, uint32_t spool)
{
    cr_assert_eq(queue_add_spool(world->queues[shard], &world->spools[spool], false), 0);
    world_bring_back(world, spool);
    world_bring_end(world, spool, 0);
    world_run(world);
}

/* ---- submitting --------------------------------------------------------------------------------- */

struct submitted {
    struct queue_submission submission;
    struct world *world;
    char sender[256];
    char text[16384];
    struct slice recipients[WORLD_UNITS_MAX];
    struct iovec body;
};

static void submitted(struct queue_submission *submission)
{
    struct submitted *s = CONTAINER_OF(submission, struct submitted, submission);

    s->world->submit_result = submission->result;
    free(s);
}

static uint64_t submit(struct world *world, uint32_t shard, struct submitted *s)
{
    uint64_t id = queue_next_id(world->queues[shard]);
    int r;

    s->world = world;
    s->body = (struct iovec){s->text, 6};
    s->submission.sender = slice_cstr(s->sender);
    s->submission.recipients = s->recipients;
    s->submission.body = &s->body;
    s->submission.body_pieces = 1;
    s->submission.id = id;
    s->submission.done = submitted;
    world->submit_result = 1; /* neither way yet */
    r = queue_submit(world->queues[shard], &s->submission);
    if (r < 0) {
        world->submit_result = r;
        free(s);
        id = 0;
    }
    world_run(world);
    return id;
}

static struct submitted *fill(const char *sender, const char *recipients)
{
    struct submitted *s = calloc(1, sizeof(*s));
    struct slice rest;

    (void)snprintf(s->sender, sizeof(s->sender), "%s", sender);
    (void)snprintf(s->text, sizeof(s->text), "%s", recipients);
    rest = slice_cstr(s->text);
    while (rest.size > 0)
        s->recipients[s->submission.recipient_count++] = slice_split(&rest, ' ');
    return s;
}

uint64_t world_submit(struct world *world, uint32_t shard, const char *sender,
                      const char *recipients)
{
    return submit(world, shard, fill(sender, recipients));
}

uint64_t world_submit_report(struct world *world, uint32_t shard, const char *recipients,
                             uint64_t report_of, const uint32_t *units, uint32_t unit_count)
{
    /* Ours come from <>; that such a one is never reported upon must not hang on that alone. */
    struct submitted *s = fill("r@x.net", recipients);

    s->submission.flags = SPOOL_REPORT;
    s->submission.report_of = report_of;
    s->submission.report_units = units;
    s->submission.report_unit_count = unit_count;
    return submit(world, shard, s);
}

char world_outcome(struct world *world, uint64_t id, uint32_t unit)
{
    uint8_t outcome = world_message(world, id)->outcome[unit];

    return outcome == 0 ? '\0' : "dber"[outcome - 1];
}

/* ---- sessions ----------------------------------------------------------------------------------- */

struct world_session *world_session(struct world *world, uint32_t index)
{
    list_for_each (node, &world->sessions) {
        if (index-- == 0)
            return CONTAINER_OF(node, struct world_session, node);
    }
    return NULL;
}

static struct world_session *busy_session(struct world *world)
{
    list_for_each (node, &world->sessions) {
        struct world_session *session = CONTAINER_OF(node, struct world_session, node);

        if (session->attempt != NULL)
            return session;
    }
    return NULL;
}

void world_finish_all(struct world *world)
{
    struct world_session *session;

    world->keep = false;
    while ((session = busy_session(world)) != NULL)
        world_session_finish(session);
    world_run(world);
}

struct queue_counters world_counters(struct world *world)
{
    struct queue_counters counters;

    queue_counters(world->queues[0], &counters);
    return counters;
}

struct queue_view world_view(struct world *world, uint64_t id)
{
    struct queue_view view = {.id = 0};

    cr_assert(queue_show(world->queues[id >> 54], id, &view), "no such message");
    return view;
}
