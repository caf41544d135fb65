/* From recipients that failed for good to a report in the queue (RFC 3464). */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "proto/dsn.h"

#define BOUNCE_HEADERS_MAX (64 * KIB)
#define BOUNCE_BYTES_MAX (4 * MIB) /* 10,000 recipients with their replies */

struct bounce {
    struct node *node;
    struct queue_report *report;
    struct queue_submission submission;
    struct buf headers, text;
    struct slice sender;
    struct iovec piece;
    uint32_t *units;
};

static void bounce_free(struct bounce *bounce, int result)
{
    struct queue_report *report = bounce->report;

    buf_deinit(&bounce->headers);
    buf_deinit(&bounce->text);
    free(bounce->units);
    free(bounce);
    queue_report_done(report, result);
}

static void bounce_submitted(struct queue_submission *submission)
{
    struct bounce *bounce = CONTAINER_OF(submission, struct bounce, submission);
    struct node *node = bounce->node;
    char id[SPOOL_ID_TEXT_SIZE], of[SPOOL_ID_TEXT_SIZE];

    spool_id_format(submission->id, id);
    spool_id_format(submission->report_of, of);
    if (submission->result == 0)
        node->counters.reports++;
    log_event(node->shard->log, submission->result == 0 ? LOG_NOTICE : LOG_ERROR, "report.made",
              log_cstr("id", id), log_cstr("of", of), log_text("to", bounce->sender),
              log_i64("error", submission->result));
    bounce_free(bounce, submission->result);
}

/* The header section as it was received, up to its blank line. */
static void bounce_take_headers(struct bounce *bounce, struct slice bytes)
{
    size_t room = BOUNCE_HEADERS_MAX - MIN(bounce->headers.size, BOUNCE_HEADERS_MAX);

    buf_append(&bounce->headers, slice_first(bytes, room));
}

static struct slice bounce_header_section(const struct bounce *bounce)
{
    struct slice all = buf_slice(&bounce->headers);
    const uint8_t *end = all.size == 0 ? NULL : memmem(all.data, all.size, "\r\n\r\n", 4);

    return end == NULL ? all : slice_first(all, (size_t)(end - all.data) + 2);
}

static void bounce_recipient(struct dsn_recipient *recipient, const struct queue_report_unit *unit)
{
    const struct slice said = SLICE(DELIVERY_SAID);
    const uint8_t *at = unit->text.size == 0
                            ? NULL
                            : memmem(unit->text.data, unit->text.size, said.data, said.size);

    *recipient = (struct dsn_recipient){.address = unit->address, .reply = unit->text};
    memcpy(recipient->status, unit->status, sizeof(recipient->status));
    if (at == NULL)
        return; /* we decided it ourselves */
    recipient->remote_host = slice_first(unit->text, (size_t)(at - unit->text.data));
    recipient->reply = slice_skip(unit->text, recipient->remote_host.size + said.size);
}

static void bounce_write(struct bounce *bounce, const struct queue_report_info *info)
{
    struct node *node = bounce->node;
    char id[SPOOL_ID_TEXT_SIZE], of[SPOOL_ID_TEXT_SIZE];
    int64_t now_s = (int64_t)(node->shard->wall_ns / SECOND_NS);
    struct dsn_recipient *recipients = calloc(info->unit_count, sizeof(*recipients));
    struct dsn dsn;

    if (recipients == NULL) {
        bounce->text.failed = true;
        return;
    }
    for (uint32_t i = 0; i < info->unit_count; i++)
        bounce_recipient(&recipients[i], &info->units[i]);
    spool_id_format(bounce->submission.id, id);
    spool_id_format(info->id, of);
    dsn = (struct dsn){
        .hostname = node->generation->smtp_server.hostname,
        .queue_id = slice_cstr(of),
        .report_id = slice_cstr(id),
        .sender = info->sender,
        .arrival_s = info->arrival_s,
        .now_s = now_s,
        .zone_offset_s = clock_zone_offset_s(now_s),
        .recipients = recipients,
        .recipient_count = info->unit_count,
        .headers = bounce_header_section(bounce),
        .expired = info->expired,
    };
    dsn_write(&bounce->text, &dsn);
    free(recipients);
}

static void bounce_submit(struct bounce *bounce)
{
    const struct queue_report_info *info = queue_report_info(bounce->report);
    struct queue_submission *s = &bounce->submission;
    int r;

    s->id = queue_next_report_id(bounce->node->queue, info->id);
    bounce->node->shard->in_hand = info->id;
    bounce_write(bounce, info);
    bounce->node->shard->in_hand = 0;
    bounce->units = calloc(info->unit_count, sizeof(*bounce->units));
    if (bounce->text.failed || bounce->units == NULL) {
        bounce_free(bounce, -ENOMEM);
        return;
    }
    for (uint32_t i = 0; i < info->unit_count; i++)
        bounce->units[i] = info->units[i].unit;
    bounce->sender = info->sender;
    bounce->piece = (struct iovec){bounce->text.data, bounce->text.size};
    s->recipients = &bounce->sender;
    s->recipient_count = 1;
    s->helo = bounce->node->generation->smtp_server.hostname;
    s->body = &bounce->piece;
    s->body_pieces = 1;
    s->flags =
        SPOOL_REPORT | SPOOL_DOT_LINES; /* headers of strangers may begin a line with a dot */
    s->report_of = info->id;
    s->report_units = bounce->units;
    s->report_unit_count = info->unit_count;
    s->done = bounce_submitted;
    r = queue_submit(bounce->node->queue, s);
    if (r < 0)
        bounce_free(bounce, r);
}

static void bounce_read(struct bounce *bounce);

static void bounce_ready(void *context, int result)
{
    (void)result; /* the next call tells it again */
    bounce_read(context);
}

static void bounce_read(struct bounce *bounce)
{
    const struct queue_report_info *info = queue_report_info(bounce->report);
    struct slice piece;
    int r = 0;

    if (info->reader != NULL) {
        r = spool_reader_next(info->reader, &piece, bounce_ready, bounce);
        if (r == -EINPROGRESS)
            return;
        if (r == 1)
            bounce_take_headers(bounce, piece);
    }
    bounce_submit(bounce); /* also without them: that a message failed is said in any case */
}

void bounce_report(struct node *node, struct queue_report *report)
{
    struct bounce *bounce = calloc(1, sizeof(*bounce));
    const struct queue_report_info *info = queue_report_info(report);

    if (bounce == NULL) {
        queue_report_done(report, -ENOMEM);
        return;
    }
    bounce->node = node;
    bounce->report = report;
    buf_init(&bounce->headers, BOUNCE_HEADERS_MAX + 4 * KIB);
    buf_init(&bounce->text, BOUNCE_BYTES_MAX);
    if (info->reader != NULL)
        bounce_take_headers(bounce, spool_reader_info(info->reader)->head);
    bounce_read(bounce);
}
