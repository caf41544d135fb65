#include "daemon/local_late.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"

#define LOCAL_LATE_MS (5 * SECOND_MS)
#define LOCAL_LATE_BATCH 64
#define LOCAL_LATE_MAX 4096 /* of one shard; about 2 MiB */

struct late_item {
    struct list_node node;
    struct maildir_item file;
    char directory[]; /* what file.directory points to */
};

struct local_late {
    struct node *node;
    struct timer timer;
    struct ring_op op;
    struct list_node items;
    uint32_t count;
    struct late_item *batch[LOCAL_LATE_BATCH]; /* lent to the job */
    uint32_t batch_count;
};

static int late_job(struct ring_op *op)
{
    struct local_late *late = CONTAINER_OF(op, struct local_late, op);

    for (uint32_t i = 0; i < late->batch_count; i++) {
        struct maildir_item *file = &late->batch[i]->file;

        file->result = 0;
        (void)maildir_batch_publish(late->node->kilatd->mail_root_fd, file,
                                    1); /* in file->result */
    }
    return 0;
}

static void late_item_done(struct local_late *late, struct late_item *item)
{
    char id[SPOOL_ID_TEXT_SIZE];

    if (item->file.result < 0 && item->file.result != -ENOENT) {
        list_push_back(&late->items, &item->node);
        return;
    }
    spool_id_format(item->file.id, id);
    log_event(late->node->shard->log, LOG_NOTICE, "mailbox.published_late", log_cstr("id", id),
              log_cstr("mailbox", item->directory), log_bool("found", item->file.result == 0));
    late->node->counters.local_delivered += item->file.result == 0;
    late->count--;
    free(item);
}

static void late_done(struct ring_op *op)
{
    struct local_late *late = CONTAINER_OF(op, struct local_late, op);

    for (uint32_t i = 0; i < late->batch_count; i++)
        late_item_done(late, late->batch[i]);
    late->batch_count = 0;
    if (late->node->draining)
        node_check_empty(late->node);
    else if (!list_empty(&late->items))
        shard_timer_arm(late->node->shard, &late->timer, LOCAL_LATE_MS);
}

static void late_again(struct timer *timer)
{
    struct local_late *late = CONTAINER_OF(timer, struct local_late, timer);

    if (late->node->draining)
        return; /* the next start finds them */
    while (late->batch_count < LOCAL_LATE_BATCH && !list_empty(&late->items))
        late->batch[late->batch_count++] =
            CONTAINER_OF(list_pop_front(&late->items), struct late_item, node);
    ring_op_init(&late->op, late_done);
    ring_job(late->node->shard->ring, &late->op, RING_JOB_FILE, late_job);
}

void local_late_add(struct local_late *late, const struct maildir_item *file)
{
    size_t size = strlen(file->directory) + 1;
    struct late_item *item = late->count < LOCAL_LATE_MAX ? malloc(sizeof(*item) + size) : NULL;

    if (item == NULL)
        return;
    item->file = *file;
    memcpy(item->directory, file->directory, size);
    item->file.directory = item->directory;
    item->file.pieces = NULL; /* the file is written */
    item->file.piece_count = 0;
    list_push_back(&late->items, &item->node);
    late->count++;
    if (!late->op.in_flight && !timer_armed(&late->timer))
        shard_timer_arm(late->node->shard, &late->timer, LOCAL_LATE_MS);
}

bool local_late_busy(const struct local_late *late)
{
    return late->op.in_flight;
}

int local_late_create(struct node *node, struct local_late **ret_late)
{
    struct local_late *late = calloc(1, sizeof(*late));

    if (late == NULL)
        return -ENOMEM;
    late->node = node;
    timer_init(&late->timer, late_again);
    ring_op_init(&late->op, late_done);
    list_init(&late->items);
    *ret_late = late;
    return 0;
}

void local_late_destroy(struct local_late **late)
{
    struct local_late *l = *late;
    struct list_node *node;

    if (l == NULL)
        return;
    ASSERT(!local_late_busy(l));
    shard_timer_disarm(l->node->shard, &l->timer);
    while ((node = list_pop_front(&l->items)) != NULL)
        free(CONTAINER_OF(node, struct late_item, node));
    free(l);
    *late = NULL;
}
