/* The file .crash: commands, and the state in words. */
#include "tests/crash/crashfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[CRASHFS_KINDS] = {"open",    "read",   "write", "sync",
                                                      "syncdir", "rename", "other"};

static size_t held_count(const struct crashfs *fs)
{
    size_t count = 0;

    for (const struct crashfs_held *held = fs->held; held != NULL; held = held->next)
        count++;
    return count;
}

size_t crashfs_control_read(const struct crashfs *fs, char *text, size_t size)
{
    uint64_t dirty = 0;

    for (const struct crashfs_node *node = fs->nodes; node != NULL; node = node->next)
        for (size_t i = 0; i < node->capacity / CRASHFS_SECTOR; i++)
            dirty += node->dirty[i];
    return (size_t)snprintf(text, size,
                            "frozen %d\nheld %zu\noperations %" PRIu64 "\nfailed %" PRIu64
                            "\ncuts %" PRIu64 "\nused %" PRIu64 "\ndirty_sectors %" PRIu64 "\n",
                            fs->until_frozen == 0, held_count(fs), fs->operations, fs->failed,
                            fs->cuts, fs->used_blocks * CRASHFS_BLOCK, dirty);
}

static void release_held(struct crashfs *fs)
{
    while (fs->held != NULL) {
        struct crashfs_held *held = fs->held;

        fs->held = held->next;
        fuse_reply_err(held->request, EIO);
        free(held);
    }
}

static int cut(struct crashfs *fs, const char *fate, uint64_t seed)
{
    static const char *const fates[] = {
        [CRASHFS_NONE] = "none", [CRASHFS_SOME] = "some", [CRASHFS_ALL] = "all"};

    for (unsigned int i = 0; i < sizeof(fates) / sizeof(fates[0]); i++) {
        if (strcmp(fate, fates[i]) != 0)
            continue;
        release_held(fs);
        crashfs_cut(fs, (enum crashfs_fate)i, seed);
        fs->until_frozen = UINT64_MAX;
        fs->dead = true;
        return 0;
    }
    return -EINVAL;
}

static int fail(struct crashfs *fs, const char *kind, uint64_t in)
{
    for (unsigned int i = 0; i < CRASHFS_KINDS; i++) {
        if (strcmp(kind, kind_names[i]) == 0) {
            fs->fail_in[i] = in;
            return 0;
        }
    }
    return -EINVAL;
}

int crashfs_control_write(struct crashfs *fs, const char *text, size_t size)
{
    char line[128] = "", word[32] = "";
    uint64_t number = 0;

    if (size >= sizeof(line))
        return -EINVAL;
    memcpy(line, text, size);
    if (sscanf(line, "freeze %" SCNu64, &number) == 1)
        fs->until_frozen = number;
    else if (sscanf(line, "cut %31s %" SCNu64, word, &number) == 2)
        return cut(fs, word, number);
    else if (sscanf(line, "fail %31s %" SCNu64, word, &number) == 2)
        return fail(fs, word, number);
    else if (sscanf(line, "space %" SCNu64, &number) == 1)
        fs->space_blocks = fs->used_blocks + number / CRASHFS_BLOCK;
    else if (strncmp(line, "go", 2) == 0)
        fs->dead = false;
    else if (strncmp(line, "space max", 9) == 0)
        fs->space_blocks = UINT32_MAX;
    else if (sscanf(line, "delay %" SCNu64, &number) == 1)
        fs->delay_us = (uint32_t)number;
    else
        return -EINVAL;
    return 0;
}
