#include "storage/spool_inspect_private.h"

#include <errno.h>
#include <stdio.h>

/* The checkpoint that recovery would begin with: what was unfinished when it was written, and where the tails of the logs
 * begin that it does not know. All its blocks are verified before one of them is believed. */

static_assert(SPOOL_IMAGE_BLOCK_BYTES <= SPOOL_SCAN_WINDOW_BYTES, "a block fits the window");

/* Block `index` into the window. 0, -EBADMSG or -errno. */
static int block_read(struct spool_inspect *inspect, int fd, uint64_t number, uint32_t index,
                      struct spool_image_header *ret_header)
{
    ssize_t got = file_read_some(fd, inspect->window, SPOOL_IMAGE_BLOCK_BYTES,
                                 (uint64_t)index * SPOOL_IMAGE_BLOCK_BYTES);

    if (got < 0)
        return (int)got;
    return spool_image_header_decode(slice_of(inspect->window, (size_t)got), inspect->super.uuid,
                                     number, index, ret_header)
               ? 0
               : -EBADMSG;
}

/* ---- what stands in it ---------------------------------------------------------------------- */

static int image_text(void *context, enum spool_image_text kind, uint32_t number,
                      const uint8_t status[3], struct slice text)
{
    struct spool_inspect *inspect = context;
    struct inspect_text *kept;

    (void)status;
    if (kind != SPOOL_TEXT_REASON)
        return 0;
    kept = inspect_array_add(&inspect->reasons);
    if (kept == NULL)
        return -ENOMEM;
    *kept = (struct inspect_text){number, (uint32_t)inspect->texts.size, (uint32_t)text.size};
    buf_append(&inspect->texts, text);
    return inspect->texts.failed ? -ENOMEM : 0;
}

/* Texts are numbered upwards as they come, and few. */
static struct inspect_text reason_find(const struct spool_inspect *inspect, uint32_t number)
{
    const struct inspect_text *reasons = inspect->reasons.items;

    for (size_t i = inspect->reasons.count; number != 0 && i-- > 0;)
        if (reasons[i].number == number)
            return reasons[i];
    return (struct inspect_text){0};
}

/* Which recipients an item stands for only the queue knows, so all that are open get what is said of the first. */
static int image_entry(void *context, const struct spool_image_entry *entry)
{
    struct spool_inspect *inspect = context;
    const struct spool_image_item *item = NULL;
    struct inspect_message *message = inspect_array_add(&inspect->messages);
    struct inspect_text reason;
    struct spool_unit *units;

    if (message == NULL)
        return -ENOMEM;
    *message = (struct inspect_message){.id = entry->id,
                                        .order = inspect->order++,
                                        .location = entry->location,
                                        .unit_count = entry->unit_count};
    for (uint32_t i = 0; i < entry->item_count && item == NULL; i++)
        if (entry->items[i].open_count > 0)
            item = &entry->items[i];
    reason = item == NULL ? (struct inspect_text){0} : reason_find(inspect, item->reason);
    units = inspect_state_add(inspect, message, (entry->flags & SPOOL_ENTRY_HELD) != 0, reason.at,
                              reason.size);
    if (units == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < entry->unit_count; i++) {
        if (entry->open_bits != NULL && (entry->open_bits[i / 8] >> i % 8 & 1) == 0)
            units[i].state = SPOOL_UNIT_DONE;
        else if (item != NULL) {
            units[i].attempts = item->attempts;
            units[i].next_s = (item->flags & SPOOL_ITEM_TRIED) != 0 ? item->next_s : 0;
        }
    }
    return 0;
}

static int block_take(struct spool_inspect *inspect, const struct spool_image_header *header)
{
    static const struct spool_image_events events = {NULL, image_text, image_entry};
    struct spool_image_events with_context = events;
    struct slice payload = slice_of(inspect->window + SPOOL_IMAGE_HEADER_BYTES,
                                    header->used_bytes - SPOOL_IMAGE_HEADER_BYTES);
    uint32_t offset = 0;
    int r = 0;

    with_context.context = inspect;
    while (r == 0 && offset < payload.size)
        r = spool_image_read(payload, &offset, UINT32_MAX, &with_context);
    return r;
}

/* Reads all blocks: first only to verify them, then to take what stands in them. */
static int image_walk(struct spool_inspect *inspect, int fd, uint64_t number, bool take)
{
    struct spool_image_header header = {0};
    int r = 0;

    for (uint32_t index = 0; r == 0 && !header.last; index++) {
        r = block_read(inspect, fd, number, index, &header);
        if (r == 0 && take)
            r = block_take(inspect, &header);
    }
    return r;
}

static int image_load(struct spool_inspect *inspect, uint64_t number, bool take)
{
    char name[SPOOL_NAME_SIZE];
    int fd;
    int r;

    snprintf(name, sizeof(name), "C-%08x", (uint32_t)number);
    r = file_open(inspect->dir_fd, name, FILE_READ, 0, &fd);
    if (r < 0)
        return r;
    r = image_walk(inspect, fd, number, false);
    if (r == 0 && take)
        r = image_walk(inspect, fd, number, true);
    (void)file_close(fd); /* only read */
    return r;
}

int inspect_image(struct spool_inspect *inspect)
{
    const struct spool_super_checkpoint *checkpoints[] = {&inspect->super.newest,
                                                          &inspect->super.older};

    for (size_t i = 0; i < ARRAY_SIZE(checkpoints); i++) {
        bool take = inspect->from.number == 0;
        int r;

        if (checkpoints[i]->number == 0)
            continue;
        r = image_load(inspect, checkpoints[i]->number, take);
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            inspect_damage(inspect, 'C', (uint32_t)checkpoints[i]->number, 0, false,
                           "a checkpoint that does not verify");
        else if (take)
            inspect->from = *checkpoints[i];
    }
    return 0;
}
