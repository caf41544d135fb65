#include "queue/queue_private.h"

#include "core/assert.h"

/* The end. A queue that has nothing in hand any more must still answer the others: they give back slots, and wait for
 * what they lent it. So each sends a letter to shard 0 when it is quiet; shard 0 keeps them until it has one from each,
 * and then sends all of them back. Only who has its letter back has stopped. */

static void letter_back(struct shard *on, struct shard_message *message)
{
    struct queue *queue = CONTAINER_OF(message, struct queue_letter, message)->sender;

    (void)on;
    queue->quiet = QUIET_ALL;
    shard_defer(queue->shard, &queue->task);
}

static void send_back(struct shard *on, struct queue_letter *letter)
{
    letter->message.deliver = letter_back;
    shard_send(on, letter->shard, &letter->message);
}

/* On shard 0. Without a queue there the letter goes back at once: nobody counts. */
static void letter_arrived(struct shard *on, struct shard_message *message)
{
    struct queue_letter *letter = CONTAINER_OF(message, struct queue_letter, message);
    struct queue *queue = queue_of_message(on, message->from, letter->sender, letter->peer);
    struct list_node *node;

    if (queue == NULL) {
        send_back(on, letter);
        return;
    }
    list_push_back(&queue->letters, &letter->node);
    if (++queue->letter_count < on->count)
        return;
    while ((node = list_pop_front(&queue->letters)) != NULL)
        send_back(on, CONTAINER_OF(node, struct queue_letter, node));
}

static void become_quiet(struct queue *queue)
{
    struct shard *shard = queue->shard;

    if (queue->ops.peer == NULL || shard->count == 1) {
        queue->quiet = QUIET_ALL;
        return;
    }
    queue->quiet = QUIET_SENT;
    queue->letter = (struct queue_letter){
        .message.deliver = letter_arrived,
        .sender = queue,
        .peer = queue->ops.peer,
        .shard = shard->index,
    };
    list_node_init(&queue->letter.node);
    shard_send(shard, 0, &queue->letter.message);
}

void stop_check(struct queue *queue)
{
    void (*stopped)(void *context) = queue->stopped;

    if (!queue->stopping || stopped == NULL || queue->attempt_count > 0 ||
        queue->report_count > 0 || queue->slot_count > 0 || queue->lent_count > 0 ||
        restore_busy(queue) || !list_empty(&queue->acts))
        return;
    if (queue->quiet == QUIET_NOT)
        become_quiet(queue);
    if (queue->quiet != QUIET_ALL)
        return;
    queue->stopped = NULL;
    parts_check(queue);
    stopped(queue->stopped_context);
}

void queue_stop(struct queue *queue, void (*stopped)(void *context), void *context)
{
    ASSERT(!queue->stopping);
    queue->stopping = true;
    queue->stopped = stopped;
    queue->stopped_context = context;
    sites_recall_all(queue);
    shard_defer(queue->shard, &queue->task);
}
