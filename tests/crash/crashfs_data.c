/* The content of files: what is read, what a cut leaves, and the sectors between the two. */
#include "tests/crash/crashfs.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t blocks_of(size_t size)
{
    return (size + CRASHFS_BLOCK - 1) / CRASHFS_BLOCK;
}

size_t crashfs_free_blocks(const struct crashfs *fs)
{
    return fs->space_blocks > fs->used_blocks ? fs->space_blocks - fs->used_blocks : 0;
}

void crashfs_charge(struct crashfs *fs, struct crashfs_node *node)
{
    size_t blocks = node->name != NULL || node->opens > 0 ? blocks_of(node->size) : 0;

    fs->used_blocks += blocks;
    fs->used_blocks -= node->charged_blocks;
    node->charged_blocks = blocks;
}

static void reserve(struct crashfs_node *file, size_t size)
{
    size_t capacity = file->capacity == 0 ? CRASHFS_BLOCK : file->capacity;

    if (size <= file->capacity)
        return;
    while (capacity < size)
        capacity *= 2;
    file->now = realloc(file->now, capacity);
    file->durable = realloc(file->durable, capacity);
    file->dirty = realloc(file->dirty, capacity / CRASHFS_SECTOR);
    if (file->now == NULL || file->durable == NULL || file->dirty == NULL)
        errx(2, "out of memory");
    memset(file->now + file->capacity, 0, capacity - file->capacity);
    memset(file->durable + file->capacity, 0, capacity - file->capacity);
    memset(file->dirty + file->capacity / CRASHFS_SECTOR, 0,
           (capacity - file->capacity) / CRASHFS_SECTOR);
    file->capacity = capacity;
}

int crashfs_resize(struct crashfs *fs, struct crashfs_node *file, size_t size)
{
    if (blocks_of(size) > file->charged_blocks &&
        blocks_of(size) - file->charged_blocks > crashfs_free_blocks(fs))
        return -ENOSPC;
    reserve(file, size);
    if (size < file->size)
        memset(file->now + size, 0, file->size - size);
    file->size = size;
    crashfs_charge(fs, file);
    return 0;
}

ssize_t crashfs_write(struct crashfs *fs, struct crashfs_node *file, const char *bytes, size_t size,
                      size_t offset)
{
    size_t end = offset + size;

    if (size == 0)
        return 0;
    if (end > file->size) {
        size_t room = (file->charged_blocks + crashfs_free_blocks(fs)) * CRASHFS_BLOCK;

        if (room <= offset)
            return -ENOSPC;
        if (end > room) /* as much as there is room for, as the kernel does it */
            end = room;
        if (crashfs_resize(fs, file, end > file->size ? end : file->size) < 0)
            return -ENOSPC;
    }
    memcpy(file->now + offset, bytes, end - offset);
    for (size_t i = offset / CRASHFS_SECTOR; i <= (end - 1) / CRASHFS_SECTOR; i++)
        file->dirty[i] = 1;
    return (ssize_t)(end - offset);
}

void crashfs_sync_data(struct crashfs_node *file, size_t from, size_t to)
{
    if (to > file->capacity)
        to = file->capacity;
    for (size_t i = from / CRASHFS_SECTOR; i * CRASHFS_SECTOR < to; i++) {
        if (!file->dirty[i])
            continue;
        memcpy(file->durable + i * CRASHFS_SECTOR, file->now + i * CRASHFS_SECTOR, CRASHFS_SECTOR);
        file->dirty[i] = 0;
    }
    if (file->size < file->durable_size)
        memset(file->durable + file->size, 0, file->durable_size - file->size);
    file->durable_size = file->size;
}

void crashfs_forget_dirty(struct crashfs_node *file)
{
    if (file->capacity > 0)
        memset(file->dirty, 0, file->capacity / CRASHFS_SECTOR);
}

void crashfs_cut_data(struct crashfs *fs, struct crashfs_node *file, enum crashfs_fate fate)
{
    /* Some survive of many, or many of some: both happen. */
    uint64_t of_eight = 1 + crashfs_random(fs) % 7;

    if (file->size != file->durable_size &&
        (fate == CRASHFS_NONE || (fate == CRASHFS_SOME && crashfs_random(fs) % 2 == 0)))
        file->size = file->durable_size;
    for (size_t i = 0; i < file->capacity / CRASHFS_SECTOR; i++) {
        char *now = file->now + i * CRASHFS_SECTOR, *durable = file->durable + i * CRASHFS_SECTOR;

        if (file->dirty[i] &&
            (fate == CRASHFS_ALL || (fate == CRASHFS_SOME && crashfs_random(fs) % 8 < of_eight)))
            memcpy(durable, now, CRASHFS_SECTOR);
        else
            memcpy(now, durable, CRASHFS_SECTOR);
        file->dirty[i] = 0;
    }
    if (file->size < file->capacity) {
        memset(file->now + file->size, 0, file->capacity - file->size);
        memset(file->durable + file->size, 0, file->capacity - file->size);
    }
    file->durable_size = file->size;
    crashfs_charge(fs, file);
}
