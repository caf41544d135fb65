/* queue/restore_private.h - what is kept while a spool brings back its messages: for restore.c, which applies what comes,
 * and restored.c, which does what follows. */
#ifndef KILAT_QUEUE_RESTORE_PRIVATE_H
#define KILAT_QUEUE_RESTORE_PRIVATE_H

#include "queue/queue_private.h"

/* The destination of local mail in an image: no domain has this name. */
#define RESTORE_LOCAL_NAME SLICE("@local")

struct restore_destination {
    struct destination *destination; /* one item is counted there, so that it is not forgotten */
    bool local;                      /* delivered to our own mailboxes now */
};
struct restore_defer { /* of a message whose items are to be sorted out */
    uint64_t id;
    uint32_t order, first, end; /* units */
    uint32_t next_s, reason;    /* one reference */
    uint8_t attempts;
    bool in_doubt, fails;
};
struct restore_reported {
    uint64_t id;
    uint32_t unit;
};

struct restore {
    struct restore_destination *destinations; /* by their number in the image */
    size_t destination_capacity;
    uint32_t *reasons; /* likewise; one reference each */
    size_t reason_capacity;
    struct restore_defer *defers;
    size_t defer_count, defer_capacity;
    struct restore_reported *reported;
    size_t reported_count, reported_capacity, reported_next;
    uint64_t *sorts; /* messages whose envelope is to be read */
    size_t sort_count, sort_capacity, sort_next;
    uint64_t *strays; /* messages without a place in the order */
    size_t stray_count, stray_capacity;
    uint64_t highest_id;      /* of those that came back */
    uint32_t near;            /* where the last one was put */
    uint32_t next;            /* to be scheduled */
    struct list_node readers; /* of envelopes */
    uint32_t reader_count;
    int result; /* for ops->restored */
    bool told;
    struct spool_report report;
    char error[256];
};

/* Makes room for `wanted` elements; new ones are zero. 0 or -ENOMEM. */
int restore_room(void **array, size_t *capacity, size_t wanted, size_t size);
int restore_get(struct queue_part *part); /* part->restore is there; 0 or -ENOMEM */
int restore_wants_sort(struct queue_part *part, uint32_t number);
/* True: it was open. A message with several items is to be sorted afterwards. */
bool restore_close(struct queue_part *part, uint32_t number, uint32_t unit);
bool restore_free_if_over(struct queue_part *part, uint32_t number);
void restore_put_off(struct queue *queue, uint32_t item, const struct restore_defer *defer);

/* restored.c */
void restore_over(void *context, int result, const struct spool_report *report, struct slice error);

#endif
