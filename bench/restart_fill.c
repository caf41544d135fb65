#include "bench/restart.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/program.h"
#include "core/clock.h"
#include "core/thread.h"
#include "queue/queue.h"

#define UNDER_WAY 1024u /* submissions not yet durable */
#define SEGMENT_BYTES (64 * MIB)
#define HOT_BYTES_MAX (64 * MIB)
#define GATHER_BYTES_MAX (16 * MIB)
#define WAITING_MAX                                                                                \
    65536u /* not tried yet: what was accepted is still in memory when its turn comes */
#define DAY_OF_MS (24 * 3600 * 1000u)

struct filling;
struct filling_letter {
    struct filling *filling;
    struct queue_submission submission;
    struct slice recipient;
    struct iovec body;
    char text[64];
};

struct filling {
    const struct restart_fill *fill;
    struct shard *shard;
    struct spool *spool;
    struct queue *queue;
    uint8_t *body;
    struct filling_letter *letters;
    uint64_t submitted, durable, deferred;
    uint64_t said_s;
    bool stopping;
};

static const uint8_t status_later[3] = {4, 3, 2};

static void complain(const char *what, int error)
{
    fprintf(stderr, "kilat-bench restart: %s: %s\n", what, strerror(-error));
    exit(1); /* half a spool measures nothing */
}

/* ---- accepting ------------------------------------------------------------------------------------ */

static void submit_more(struct filling *filling);

static uint64_t wanted(const struct filling *filling)
{
    return filling->fill->messages + filling->fill->due;
}

static void stopped(void *context)
{
    struct filling *filling = context;

    shard_stop(filling->shard);
}

static void queue_stopped(void *context)
{
    struct filling *filling = context;

    spool_stop(filling->spool, stopped, filling);
}

static void look(struct filling *filling)
{
    uint64_t now_s = clock_monotonic_ns() / SECOND_NS;

    if (now_s != filling->said_s)
        fprintf(stderr, "\rspool %04u: %llu of %llu messages", filling->fill->number,
                (unsigned long long)filling->deferred, (unsigned long long)wanted(filling));
    filling->said_s = now_s;
    if (filling->durable == wanted(filling) && filling->deferred == filling->fill->messages &&
        !filling->stopping) {
        filling->stopping = true;
        queue_stop(filling->queue, queue_stopped, filling);
    }
}

static void accepted(struct queue_submission *submission)
{
    struct filling_letter *letter = CONTAINER_OF(submission, struct filling_letter, submission);

    if (submission->result < 0)
        complain("a message was not made durable", submission->result);
    letter->filling->durable++;
    submit_more(letter->filling);
    look(letter->filling);
}

static void submit(struct filling *filling, uint64_t number)
{
    struct filling_letter *letter = &filling->letters[number % UNDER_WAY];
    uint64_t messages = filling->fill->messages;
    int r;

    letter->filling = filling;
    letter->body = (struct iovec){filling->body, (size_t)filling->fill->body_bytes};
    if (number < messages)
        (void)snprintf(letter->text, sizeof(letter->text), "orang%llu@d%llu.later.test",
                       (unsigned long long)number,
                       (unsigned long long)(number % filling->fill->destinations));
    else
        (void)snprintf(letter->text, sizeof(letter->text), "orang%llu@%s.due.test",
                       (unsigned long long)number, number % 2 == 0 ? "first" : "second");
    letter->recipient = slice_cstr(letter->text);
    letter->submission = (struct queue_submission){
        .sender = SLICE("pengirim@restart.bench.test"),
        .recipients = &letter->recipient,
        .recipient_count = 1,
        .client = SLICE("192.0.2.1"),
        .helo = SLICE("load.bench.test"),
        .head = SLICE("Received: from load.bench.test ([192.0.2.1])\r\n\tby restart.bench.test "
                      "with ESMTP; Thu, 01 Jan 2026 00:00:00 +0000\r\n"),
        .body = &letter->body,
        .body_pieces = 1,
        .id = queue_next_id(filling->queue),
        .done = accepted,
    };
    r = queue_submit(filling->queue, &letter->submission);
    if (r < 0)
        complain("a message was not taken", r);
}

static void submit_more(struct filling *filling)
{
    while (filling->submitted < wanted(filling) &&
           filling->submitted - filling->durable < UNDER_WAY &&
           filling->submitted < filling->deferred + WAITING_MAX)
        submit(filling, filling->submitted++);
}

/* ---- the next host that is not well ----------------------------------------------------------------- */

static bool is_local(void *context, struct slice domain)
{
    (void)context;
    (void)domain;
    return false;
}

static void resolve(void *context, uint32_t destination, struct slice name)
{
    struct filling *filling = context;

    if (slice_equal(name, SLICE("first.due.test")) || slice_equal(name, SLICE("second.due.test")))
        return; /* never answered here: it stays ready */
    queue_resolved(filling->queue, destination, SLICE("later.test"), DAY_OF_MS);
}

static void loaded(struct queue_attempt *attempt, void *context, int result)
{
    struct filling *filling = context;

    if (result < 0)
        complain("a message cannot be read back", result);
    for (uint32_t i = 0; i < queue_attempt_count(attempt); i++)
        queue_attempt_outcome(attempt, i, QUEUE_LATER, status_later,
                              SLICE("mx.later.test[192.0.2.2] said: 432 4.3.2 not now"));
    queue_attempt_finish(attempt, NULL, NULL);
    filling->deferred++;
    submit_more(filling);
    look(filling);
}

static void refuse(void *context, struct queue_slot *slot)
{
    struct queue_attempt *attempt;
    bool retire = false;

    queue_slot_succeeded(slot);
    while ((attempt = queue_slot_take(slot, &retire)) != NULL)
        queue_attempt_load(attempt, loaded, context);
    if (retire)
        queue_slot_return(slot);
}

static void recall(void *context, struct queue_slot *slot)
{
    (void)context;
    queue_slot_return(slot);
}

static void local(void *context)
{
    (void)context;
}

static void report(void *context, struct queue_report *failed)
{
    (void)context;
    queue_report_done(failed, 0); /* nothing fails for good here */
}

static const struct queue_ops ops = {
    .is_local = is_local,
    .resolve = resolve,
    .connect = refuse,
    .more = refuse,
    .recall = recall,
    .local = local,
    .report = report,
};

/* ---- the whole ------------------------------------------------------------------------------------- */

static int open_spool(struct filling *filling)
{
    struct spool_config config = {
        .path = filling->fill->path,
        .number = filling->fill->number,
        .segment_bytes = SEGMENT_BYTES,
        .spare_segments = 2,
        .hot_bytes_max = HOT_BYTES_MAX,
        .gather_bytes_max = GATHER_BYTES_MAX,
        .journal_flush_ms = 20,
        .force_file_system = true,
    };
    struct spool_recovery *recovery = NULL;
    struct buf error;
    int r;

    buf_init(&error, 4 * KIB);
    r = spool_open(&config, &recovery, &error);
    if (r < 0)
        fprintf(stderr, "kilat-bench restart: %.*s\n", (int)error.size, (const char *)error.data);
    buf_deinit(&error);
    return r < 0 ? r : spool_start(filling->shard, &recovery, &filling->spool);
}

static int start(struct shard *shard, void *context)
{
    struct filling *filling = context;
    struct queue_config config = {
        .retry_first_ms = DAY_OF_MS,
        .retry_max_ms = DAY_OF_MS,
        .expire_ms = 5ull * DAY_OF_MS,
        .site_sessions_max = 1,
        .site_messages_max = UINT32_MAX,
        .site_recipients_max = 100,
        .site_backoff_first_ms = 1000,
        .site_backoff_max_ms = 1000,
        .messages_max = UINT32_MAX / 2,
    };
    int r;

    filling->shard = shard;
    r = open_spool(filling);
    if (r == 0)
        r = queue_create(shard, NULL, &config, &ops, filling, &filling->queue);
    if (r == 0)
        r = queue_add_spool(filling->queue, filling->spool, true);
    if (r < 0)
        return r;
    spool_restore(filling->spool);
    queue_start(filling->queue);
    submit_more(filling);
    return 0;
}

static void stop(struct shard *shard, void *context)
{
    struct filling *filling = context;

    (void)shard;
    queue_destroy(&filling->queue);
    spool_destroy(&filling->spool);
}

static void interrupted(struct shard *shard)
{
    (void)shard;
    fprintf(stderr, "\n");
    _Exit(1); /* half a spool measures nothing */
}

int restart_fill_run(const struct restart_fill *fill)
{
    struct filling filling = {.fill = fill};
    struct program program = {
        .start = start, .stop = stop, .interrupted = interrupted, .context = &filling};
    int r;

    filling.body = malloc((size_t)fill->body_bytes);
    filling.letters = calloc(UNDER_WAY, sizeof(*filling.letters));
    r = filling.body == NULL || filling.letters == NULL
            ? -ENOMEM
            : worker_pool_create(1, 1, &program.workers);
    if (r == 0) {
        for (uint64_t i = 0; i < fill->body_bytes; i++) /* lines, the last one ended as well */
            filling.body[i] = (fill->body_bytes - i) % 72 == 2   ? '\r'
                              : (fill->body_bytes - i) % 72 == 1 ? '\n'
                                                                 : (uint8_t)('a' + i % 26);
        r = program_run(&program);
        worker_pool_destroy(&program.workers);
    }
    fprintf(stderr, "\n");
    free(filling.letters);
    free(filling.body);
    if (r < 0)
        fprintf(stderr, "kilat-bench restart: %s: %s\n", fill->path, strerror(-r));
    return r;
}
