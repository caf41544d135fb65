/* The queue's transport to our own mailboxes, in batches: exactly once (DESIGN 6).
 *
 *     pull messages and bring them into memory -> write the files to tmp/ and sync once (job) -> DONE durable in J
 *     -> rename into new/ (job) -> the next batch
 *
 * A message too big for memory makes a batch of its own, whose file is written piece by piece. One batch per shard is under
 * way; what arrives meanwhile makes the next.
 */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"
#include "daemon/local_late.h"
#include "daemon/node_spools.h"
#include "proto/header.h"
#include "storage/maildir.h"

#define LOCAL_BATCH_MESSAGES 64
#define LOCAL_BATCH_BYTES (4 * MIB)
#define LOCAL_DIRECTORY_SIZE 320 /* domain 255, "/", local part 64 */

enum local_step { LOCAL_REST, LOCAL_LOADING, LOCAL_WRITING, LOCAL_NOTING, LOCAL_PUBLISHING };

/* One message of a batch. */
struct local_message {
    struct local *local;
    struct queue_attempt *attempt; /* NULL: finished */
    struct buf return_path;
    struct iovec pieces[3]; /* Return-Path, head, body */
    uint32_t first_item, item_count;
    bool loaded;
};

/* One mailbox a message goes to. */
struct local_item {
    char directory[LOCAL_DIRECTORY_SIZE];
    uint32_t recipient; /* of the attempt */
    uint32_t message;
    bool invisible; /* DONE, but its rename has failed */
};

struct local {
    struct node *node;
    enum local_step step;
    bool filling; /* inside local_fill(): loads that complete at once do not go on by themselves */
    struct local_message messages[LOCAL_BATCH_MESSAGES];
    uint32_t message_count, waiting_count; /* for loads, then for notes */
    uint64_t bytes;
    struct local_item *items;
    struct maildir_item *files; /* parallel to items */
    uint32_t item_count, item_capacity;
    struct ring_op op;
    bool big; /* one message, written piece by piece */
    uint32_t big_item;
    struct maildir_file big_file;
    struct slice big_piece;
    struct shard_task again;
    struct local_late *late; /* DONE, and not visible yet */
};

static void local_fill(struct local *local);
static void local_loads_done(struct local *local);

/* ---- the end of a batch ---------------------------------------------------------------------------- */

static void local_batch_over(struct local *local)
{
    for (uint32_t i = 0; i < local->message_count; i++)
        buf_deinit(&local->messages[i].return_path);
    local->message_count = 0;
    local->item_count = 0;
    local->bytes = 0;
    local->big = false;
    local->step = LOCAL_REST;
    shard_defer(local->node->shard, &local->again);
    node_check_empty(local->node);
}

static void local_published(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    for (uint32_t i = 0; i < local->item_count; i++) {
        if (local->files[i].result == 0) {
            local->node->counters.local_delivered++;
        } else if (local->items[i].invisible) {
            char id[SPOOL_ID_TEXT_SIZE];
            spool_id_format(local->files[i].id, id);
            log_event(local->node->shard->log, LOG_ERROR, "mailbox.publish_failed",
                      log_cstr("id", id), log_cstr("mailbox", local->items[i].directory),
                      log_cstr("error", strerror(-local->files[i].result)));
            local_late_add(local->late, &local->files[i]);
        }
    }
    local_batch_over(local);
}

/* Renames what is DONE. Where DONE could not be made sure the file stays in tmp/: it may have reached
 * the disk all the same, and recovery, or the next attempt, decides what becomes of the file. */
static int local_publish_job(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    for (uint32_t i = 0; i < local->item_count; i++) {
        struct maildir_item *file = &local->files[i];
        if (file->result < 0)
            continue;
        (void)maildir_batch_publish(local->node->kilatd->mail_root_fd, file,
                                    1); /* in file->result */
        local->items[i].invisible = file->result < 0;
    }
    return 0;
}

static void local_publish(struct local *local)
{
    local->step = LOCAL_PUBLISHING;
    ring_op_init(&local->op, local_published);
    ring_job(local->node->shard->ring, &local->op, RING_JOB_FILE, local_publish_job);
}

/* ---- outcomes, and DONE -------------------------------------------------------------------------------- */

static void local_noted(void *context, int result)
{
    struct local_message *message = context;
    struct local *local = message->local;

    if (result < 0) /* the units are tried again */
        for (uint32_t i = 0; i < message->item_count; i++)
            if (local->files[message->first_item + i].result == 0)
                local->files[message->first_item + i].result = -ECANCELED;
    ASSERT(local->waiting_count > 0);
    if (--local->waiting_count == 0 && local->step == LOCAL_NOTING)
        local_publish(local);
}

static void local_outcome(struct local *local, struct local_message *message, uint32_t index)
{
    const struct maildir_item *file = &local->files[message->first_item + index];
    const struct local_item *item = &local->items[message->first_item + index];
    struct shard *shard = local->node->shard;
    char id[SPOOL_ID_TEXT_SIZE];

    spool_id_format(file->id, id);
    log_event(
        shard->log, file->result == 0 ? LOG_INFO : LOG_WARNING, "delivery", log_cstr("id", id),
        log_text("to", queue_attempt_recipients(message->attempt)[item->recipient]),
        log_cstr("outcome", file->result == 0 ? "delivered" : "later"), log_cstr("host", "local"),
        log_cstr("mailbox", item->directory), log_i64("error", file->result));
    if (file->result == 0)
        queue_attempt_outcome(message->attempt, item->recipient, QUEUE_DELIVERED,
                              (const uint8_t[3]){2, 0, 0}, SLICE("in the mailbox"));
    else if (file->result == -ENOSPC || file->result == -EDQUOT)
        queue_attempt_outcome(message->attempt, item->recipient, QUEUE_LATER,
                              (const uint8_t[3]){4, 2, 2}, SLICE("no room for the mailbox"));
    else
        queue_attempt_outcome(message->attempt, item->recipient, QUEUE_LATER,
                              (const uint8_t[3]){4, 2, 0}, slice_cstr(strerror(-file->result)));
}

static void local_note(struct local *local)
{
    local->step = LOCAL_NOTING;
    local->waiting_count = local->message_count + 1; /* one for this loop */
    for (uint32_t i = 0; i < local->message_count; i++) {
        struct local_message *message = &local->messages[i];
        struct queue_attempt *attempt = message->attempt;
        local->node->shard->in_hand = queue_attempt_id(attempt);
        for (uint32_t j = 0; j < message->item_count; j++)
            local_outcome(local, message, j);
        message->attempt = NULL;
        queue_attempt_finish(attempt, local_noted, message);
    }
    local->node->shard->in_hand = 0;
    if (--local->waiting_count == 0)
        local_publish(local);
}

static void local_written(struct ring_op *op)
{
    local_note(CONTAINER_OF(op, struct local, op));
}

static int local_write_job(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    return maildir_batch_write(local->node->kilatd->mail_root_fd, local->files, local->item_count);
}

/* ---- a message too big for memory ------------------------------------------------------------------------ */

static void local_big_next(struct local *local);

static struct spool_reader *local_big_reader(struct local *local)
{
    return queue_attempt_reader(local->messages[0].attempt);
}

static int local_big_begin_job(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);
    struct maildir_item *file = &local->files[local->big_item];
    const struct local_message *message = &local->messages[0];
    int root = local->node->kilatd->mail_root_fd;
    int r = maildir_file_begin(root, file, &local->big_file);

    for (int i = 0; i < 2 && r == 0; i++)
        r = maildir_file_append(root, file, &local->big_file,
                                slice_of(message->pieces[i].iov_base, message->pieces[i].iov_len));
    return r;
}

static int local_big_append_job(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    return maildir_file_append(local->node->kilatd->mail_root_fd, &local->files[local->big_item],
                               &local->big_file, local->big_piece);
}

static int local_big_end_job(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    return maildir_file_end(local->node->kilatd->mail_root_fd, &local->files[local->big_item],
                            &local->big_file);
}

static int local_big_abort_job(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    maildir_file_abort(local->node->kilatd->mail_root_fd, &local->files[local->big_item],
                       &local->big_file);
    return local->files[local->big_item].result;
}

static void local_big_job(struct local *local, ring_done_fn *done, ring_job_fn *job)
{
    ring_op_init(&local->op, done);
    ring_job(local->node->shard->ring, &local->op, RING_JOB_FILE, job);
}

static void local_big_begun(struct ring_op *op);

/* One recipient's file is made, or is not: the next one's. */
static void local_big_item_done(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    local->files[local->big_item].result = op->result;
    if (++local->big_item < local->item_count) {
        spool_reader_rewind(local_big_reader(local));
        local_big_job(local, local_big_begun, local_big_begin_job);
    } else {
        local_note(local);
    }
}

static void local_big_appended(struct ring_op *op)
{
    struct local *local = CONTAINER_OF(op, struct local, op);

    if (op->result < 0)
        local_big_item_done(op);
    else
        local_big_next(local);
}

static void local_big_ready(void *context, int result)
{
    (void)result; /* the next call tells it again */
    local_big_next(context);
}

static void local_big_next(struct local *local)
{
    int r = spool_reader_next(local_big_reader(local), &local->big_piece, local_big_ready, local);

    if (r == -EINPROGRESS)
        return;
    if (r < 0) {
        queue_attempt_damaged(local->messages[0].attempt, r);
        local->files[local->big_item].result = r;
        local_big_job(local, local_big_item_done, local_big_abort_job);
    } else if (r == 0) {
        local_big_job(local, local_big_item_done, local_big_end_job);
    } else {
        local_big_job(local, local_big_appended, local_big_append_job);
    }
}

static void local_big_begun(struct ring_op *op)
{
    local_big_appended(op);
}

/* ---- a batch ------------------------------------------------------------------------------------------------ */

static bool local_add_item(struct local *local, uint32_t message, uint32_t recipient,
                           const char *directory)
{
    struct local_message *m = &local->messages[message];
    struct maildir_item *file;

    if (local->item_count == local->item_capacity) {
        uint32_t capacity = local->item_capacity == 0 ? 64 : local->item_capacity * 2;
        struct local_item *items = realloc(local->items, capacity * sizeof(*items));
        struct maildir_item *files;
        if (items == NULL)
            return false;
        local->items = items;
        files = realloc(local->files, capacity * sizeof(*files));
        if (files == NULL)
            return false;
        local->files = files;
        local->item_capacity = capacity;
    }
    local->items[local->item_count] =
        (struct local_item){.recipient = recipient, .message = message};
    memcpy(local->items[local->item_count].directory, directory, LOCAL_DIRECTORY_SIZE);
    file = &local->files[local->item_count++];
    *file = (struct maildir_item){.id = queue_attempt_id(m->attempt),
                                  .unit = queue_attempt_unit(m->attempt, recipient),
                                  .pieces = m->pieces,
                                  .piece_count = 3};
    memcpy(file->spool_uuid, spool_uuid(queue_spool(local->node->queue, file->id)),
           sizeof(file->spool_uuid));
    m->item_count++;
    return true;
}

/* Each recipient's mailbox; what has none gets its outcome at once. */
static void local_add_recipients(struct local *local, uint32_t index)
{
    struct local_message *message = &local->messages[index];
    uint32_t count = queue_attempt_count(message->attempt);
    const struct slice *recipients = queue_attempt_recipients(message->attempt);
    char directory[LOCAL_DIRECTORY_SIZE];

    message->first_item = local->item_count;
    for (uint32_t i = 0; i < count; i++) {
        enum policy_mailbox found =
            policy_mailbox(local->node, recipients[i], directory, sizeof(directory));
        if (found == POLICY_NO_MAILBOX)
            queue_attempt_outcome(message->attempt, i, QUEUE_NEVER, (const uint8_t[3]){5, 1, 1},
                                  SLICE("no such user here"));
        else if (found == POLICY_UNKNOWN || !local_add_item(local, index, i, directory))
            queue_attempt_outcome(message->attempt, i, QUEUE_LATER, (const uint8_t[3]){4, 3, 0},
                                  SLICE("the accounts cannot be read just now"));
    }
}

/* The body of a message that fits into memory comes in one piece. */
static int local_take_body(struct local_message *message)
{
    struct spool_reader *reader = queue_attempt_reader(message->attempt);
    const struct spool_reader_info *info = spool_reader_info(reader);
    struct slice piece = SLICE_NONE;
    int r = 1;

    header_write_return_path(&message->return_path, queue_attempt_sender(message->attempt));
    if (info->body_bytes > 0 && !message->local->big)
        r = spool_reader_next(reader, &piece, NULL, NULL);
    if (r < 0)
        return r;
    message->pieces[0] = (struct iovec){message->return_path.data, message->return_path.size};
    message->pieces[1] = (struct iovec){(void *)info->head.data, info->head.size};
    message->pieces[2] = (struct iovec){(void *)piece.data, piece.size};
    return message->return_path.failed ? -ENOMEM : 0;
}

static void local_loaded(struct queue_attempt *attempt, void *context, int result)
{
    struct local_message *message = context;
    struct local *local = message->local;

    ASSERT(message->attempt == attempt);
    message->loaded = result == 0;
    ASSERT(local->waiting_count > 0);
    if (--local->waiting_count == 0 && !local->filling)
        local_loads_done(local);
}

/* Messages that could not be read leave the batch. */
static void local_drop_unloaded(struct local *local)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < local->message_count; i++) {
        struct local_message *message = &local->messages[i];
        local->node->shard->in_hand = queue_attempt_id(message->attempt);
        if (message->loaded && local_take_body(message) == 0) {
            if (kept != i)
                local->messages[kept] = *message;
            kept++;
            continue;
        }
        queue_attempt_finish(message->attempt, NULL, NULL); /* the queue knows what that means */
        buf_deinit(&message->return_path);
    }
    local->message_count = kept;
    local->node->shard->in_hand = 0;
}

static void local_loads_done(struct local *local)
{
    local_drop_unloaded(local);
    for (uint32_t i = 0; i < local->message_count; i++)
        local_add_recipients(local, i);
    for (uint32_t i = 0; i < local->item_count;
         i++) /* the array may have moved, the messages have not */
        local->files[i].directory = local->items[i].directory;
    local->step = LOCAL_WRITING;
    if (local->item_count == 0) {
        local_note(local);
    } else if (local->big) {
        local->big_item = 0;
        local_big_job(local, local_big_begun, local_big_begin_job);
    } else {
        ring_op_init(&local->op, local_written);
        ring_job(local->node->shard->ring, &local->op, RING_JOB_FILE, local_write_job);
    }
}

static void local_fill(struct local *local)
{
    local->step = LOCAL_LOADING;
    local->filling = true;
    local->waiting_count = 0;
    while (local->message_count < LOCAL_BATCH_MESSAGES && local->bytes < LOCAL_BATCH_BYTES &&
           !local->big) {
        struct local_message *message = &local->messages[local->message_count];
        struct queue_attempt *attempt = queue_take_local(
            local->node->queue, local->message_count == 0 ? UINT64_MAX : SPOOL_INLINE_BODY_MAX);
        if (attempt == NULL)
            break;
        *message = (struct local_message){.local = local, .attempt = attempt};
        buf_init(&message->return_path, 4 * KIB);
        local->message_count++;
        local->bytes += queue_attempt_bytes(attempt);
        local->big = queue_attempt_bytes(attempt) > SPOOL_INLINE_BODY_MAX;
        local->waiting_count++;
        local->node->shard->in_hand = queue_attempt_id(attempt);
        queue_attempt_load(attempt, local_loaded, message);
    }
    local->filling = false;
    local->node->shard->in_hand = 0;
    if (local->message_count == 0)
        local->step = LOCAL_REST;
    else if (local->waiting_count == 0)
        local_loads_done(local);
}

static void local_again(struct shard_task *task)
{
    struct local *local = CONTAINER_OF(task, struct local, again);

    /* What an earlier life left in the mailboxes bears the names that the same messages will get again. */
    if (local->step == LOCAL_REST && !local->node->draining && !node_spools_settling(local->node))
        local_fill(local);
}

void local_ready(struct local *local)
{
    shard_defer(local->node->shard, &local->again);
}

bool local_busy(const struct local *local)
{
    return local->step != LOCAL_REST || local_late_busy(local->late);
}

int local_create(struct node *node, struct local **ret_local)
{
    struct local *local = calloc(1, sizeof(*local));

    if (local == NULL)
        return -ENOMEM;
    local->node = node;
    local->big_file.fd = -1;
    shard_task_init(&local->again, local_again);
    if (local_late_create(node, &local->late) < 0) {
        free(local);
        return -ENOMEM;
    }
    *ret_local = local;
    return 0;
}

void local_destroy(struct local **local)
{
    struct local *l = *local;

    if (l == NULL)
        return;
    ASSERT(!local_busy(l));
    shard_undefer(&l->again);
    local_late_destroy(&l->late);
    free(l->items);
    free(l->files);
    free(l);
    *local = NULL;
}
