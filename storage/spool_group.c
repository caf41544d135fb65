#include "storage/spool_private.h"

#include <stdlib.h>

static_assert(SPOOL_SLAB_BYTES % SPOOL_GROUP_BYTES_MAX == 0, "a slab holds whole groups");
#define HOT_SLOTS_FIRST 64

/* ---- slabs ---------------------------------------------------------------------------------- */

static struct spool_slab *slab_create(void)
{
    struct spool_slab *slab = malloc(sizeof(*slab));

    if (slab == NULL)
        return NULL;
    *slab = (struct spool_slab){.data = aligned_alloc(SPOOL_BLOCK_BYTES, SPOOL_SLAB_BYTES)};
    if (slab->data == NULL) {
        free(slab);
        return NULL;
    }
    return slab;
}

static void slab_free_unused(struct spool_slab *slab)
{
    if (slab->groups != 0)
        return;
    free(slab->data);
    free(slab);
}

void spool_group_drop_slab(struct spool_log *log)
{
    if (log->slab == NULL)
        return;
    log->slab->groups--;
    slab_free_unused(log->slab);
    log->slab = NULL;
}

/* ---- groups --------------------------------------------------------------------------------- */

struct spool_group *spool_group_create(struct spool_log *log)
{
    struct spool_group *group = calloc(1, sizeof(*group));

    if (group == NULL)
        return NULL;
    /* A slab's last megabyte is left rather than cut into ever smaller groups. */
    if (log->slab != NULL && SPOOL_SLAB_BYTES - log->slab->used_bytes < SPOOL_GROUP_BYTES_MAX)
        spool_group_drop_slab(log);
    if (log->slab == NULL) {
        log->slab = slab_create();
        if (log->slab == NULL) {
            free(group);
            return NULL;
        }
        log->slab->groups = 1; /* the log's own hold */
    }
    group->slab = log->slab;
    group->slab->groups++;
    log->groups_begun++;
    group->data = log->slab->data + log->slab->used_bytes;
    group->room_bytes = SPOOL_GROUP_BYTES_MAX;
    group->used_bytes = SPOOL_GROUP_HEADER_BYTES;
    list_node_init(&group->node);
    list_init(&group->appends);
    list_init(&group->chunks);
    list_init(&group->notes);
    list_init(&group->copies);
    return group;
}

void spool_group_close(struct spool_log *log, struct spool_group *group)
{
    ASSERT(group->slab == log->slab && group->group_bytes == 0);
    group->group_bytes = ROUND_UP(group->used_bytes, SPOOL_BLOCK_BYTES);
    /* The memory was something else before: nothing of it may reach the disk. */
    memset(group->data + group->used_bytes, 0, group->group_bytes - group->used_bytes);
    log->slab->used_bytes += group->group_bytes;
}

void spool_group_free(struct spool_group *group)
{
    struct spool_slab *slab = group->slab;

    ASSERT(group->references == 0 && list_empty(&group->appends) && list_empty(&group->chunks) &&
           list_empty(&group->notes) && list_empty(&group->copies));
    list_remove(&group->node);
    free(group);
    slab->groups--;
    slab_free_unused(slab);
}

/* ---- finding what is hot -------------------------------------------------------------------- */

/* Index of the last slot at or before `block`, or the count when there is none. */
static uint32_t hot_slot(const struct spool_segment *segment, uint32_t block)
{
    uint32_t low = 0, high = segment->hot_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (segment->hot[middle].offset_block <= block)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? segment->hot_count : low - 1;
}

static void hot_forget(struct spool_group *group)
{
    struct spool_segment *segment = group->segment;
    uint32_t slot = hot_slot(segment, (uint32_t)(group->offset / SPOOL_BLOCK_BYTES));

    ASSERT(slot < segment->hot_count && segment->hot[slot].group == group);
    segment->hot[slot].group = NULL;
    if (--segment->hot_live == 0) {
        free(segment->hot);
        segment->hot = NULL;
        segment->hot_count = segment->hot_capacity = 0;
    }
}

static bool hot_remember(struct spool_group *group)
{
    struct spool_segment *segment = group->segment;

    if (segment->hot_count == segment->hot_capacity) {
        uint32_t capacity = MAX(segment->hot_capacity * 2, (uint32_t)HOT_SLOTS_FIRST);
        struct spool_hot_slot *grown = realloc(segment->hot, capacity * sizeof(*grown));

        if (grown == NULL)
            return false;
        segment->hot = grown;
        segment->hot_capacity = capacity;
    }
    segment->hot[segment->hot_count++] = (struct spool_hot_slot){
        .offset_block = (uint32_t)(group->offset / SPOOL_BLOCK_BYTES),
        .group = group,
    };
    segment->hot_live++;
    return true;
}

/* Oldest first; what a reader holds is not in the list. */
static void hot_shrink(struct spool *spool, uint64_t bytes_max)
{
    while (spool->hot_bytes > bytes_max) {
        struct list_node *node = list_pop_front(&spool->hot_groups);
        struct spool_group *group;

        if (node == NULL)
            return;
        group = CONTAINER_OF(node, struct spool_group, node);
        spool->hot_bytes -= group->group_bytes;
        hot_forget(group);
        spool_group_free(group);
    }
}

void spool_group_cool_segment(struct spool *spool, struct spool_segment *segment)
{
    for (uint32_t i = 0; i < segment->hot_count; i++) {
        struct spool_group *group = segment->hot[i].group;

        if (group == NULL)
            continue;
        spool->hot_bytes -= group->group_bytes;
        spool_group_free(group);
    }
    free(segment->hot);
    segment->hot = NULL;
    segment->hot_count = segment->hot_capacity = segment->hot_live = 0;
}

void spool_group_heat(struct spool *spool, struct spool_group *group)
{
    ASSERT(!list_linked(&group->node) && group->references == 0);
    group->references = 1;
    group->hot = hot_remember(group); /* no memory for the slot: it is read from disk */
    if (group->hot)
        spool->hot_bytes += group->group_bytes;
}

struct spool_group *spool_group_find(struct spool *spool, uint32_t number, uint64_t offset)
{
    struct spool_segment *segment = spool_segment_find(spool, number);
    struct spool_group *group;
    uint32_t slot;

    if (segment == NULL || segment->hot_count == 0)
        return NULL;
    slot = hot_slot(segment, (uint32_t)(offset / SPOOL_BLOCK_BYTES));
    group = slot < segment->hot_count ? segment->hot[slot].group : NULL;
    if (group == NULL || offset >= group->offset + group->used_bytes)
        return NULL;
    list_remove(&group->node);
    group->references++;
    return group;
}

void spool_group_unref(struct spool *spool, struct spool_group *group)
{
    ASSERT(group->references > 0);
    if (--group->references > 0)
        return;
    if (!group->hot) {
        spool_group_free(group);
        return;
    }
    list_push_back(&spool->hot_groups, &group->node);
    hot_shrink(spool, spool->config.hot_bytes_max);
}

void spool_group_cool_all(struct spool *spool)
{
    hot_shrink(spool, 0);
    ASSERT(spool->hot_bytes == 0); /* a reader is still open otherwise */
}
