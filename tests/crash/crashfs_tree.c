/* Names and nodes: what each name leads to now and after a cut, and the cut itself. */
#include "tests/crash/crashfs.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

uint64_t crashfs_random(struct crashfs *fs)
{
    uint64_t z = fs->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct crashfs_node *crashfs_node_of(struct crashfs *fs, fuse_ino_t number)
{
    return number == FUSE_ROOT_ID ? fs->root : (struct crashfs_node *)number;
}

struct crashfs_node *crashfs_node_create(struct crashfs *fs, mode_t mode, uid_t uid, gid_t gid)
{
    struct crashfs_node *node = calloc(1, sizeof(*node));

    if (node == NULL)
        errx(2, "out of memory");
    node->inode = fs->next_inode++;
    node->about = (struct stat){.st_mode = mode, .st_uid = uid, .st_gid = gid};
    clock_gettime(CLOCK_REALTIME, &node->about.st_mtim);
    node->next = fs->nodes;
    if (fs->nodes != NULL)
        fs->nodes->previous = node;
    fs->nodes = node;
    return node;
}

void crashfs_node_settle(struct crashfs *fs, struct crashfs_node *node)
{
    crashfs_charge(fs, node);
    if (fs->cutting || node == fs->root || node->names > 0 || node->lookups > 0 ||
        node->opens > 0 || node->first != NULL)
        return;
    if (node->previous != NULL)
        node->previous->next = node->next;
    else
        fs->nodes = node->next;
    if (node->next != NULL)
        node->next->previous = node->previous;
    free(node->now);
    free(node->durable);
    free(node->dirty);
    free(node);
}

/* --- names ------------------------------------------------------------------------------------ */

static struct crashfs_name **bucket(struct crashfs *fs, const struct crashfs_node *dir,
                                    const char *name)
{
    uint64_t hash = dir->inode * 0x9e3779b97f4a7c15u;

    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    return &fs->hash[(hash >> 20) % (sizeof(fs->hash) / sizeof(fs->hash[0]))];
}

struct crashfs_name *crashfs_find(struct crashfs *fs, const struct crashfs_node *dir,
                                  const char *name)
{
    struct crashfs_name *found = *bucket(fs, dir, name);

    while (found != NULL && (found->dir != dir || strcmp(found->name, name) != 0))
        found = found->next_in_hash;
    return found;
}

static struct crashfs_name *name_create(struct crashfs *fs, struct crashfs_node *dir,
                                        const char *text)
{
    struct crashfs_name *name = calloc(1, sizeof(*name)), **head = bucket(fs, dir, text);

    if (name == NULL)
        errx(2, "out of memory");
    memcpy(name->name, text, strlen(text) + 1);
    name->dir = dir;
    name->serial = ++fs->next_serial;
    name->next_in_hash = *head;
    *head = name;
    name->previous_in_dir = dir->last;
    if (dir->last != NULL)
        dir->last->next_in_dir = name;
    else
        dir->first = name;
    dir->last = name;
    return name;
}

static void name_destroy(struct crashfs *fs, struct crashfs_name *name)
{
    struct crashfs_node *dir = name->dir;
    struct crashfs_name **at = bucket(fs, dir, name->name);

    while (*at != name)
        at = &(*at)->next_in_hash;
    *at = name->next_in_hash;
    if (name->previous_in_dir != NULL)
        name->previous_in_dir->next_in_dir = name->next_in_dir;
    else
        dir->first = name->next_in_dir;
    if (name->next_in_dir != NULL)
        name->next_in_dir->previous_in_dir = name->previous_in_dir;
    else
        dir->last = name->previous_in_dir;
    free(name);
    crashfs_node_settle(fs, dir);
}

static void lead(struct crashfs *fs, struct crashfs_node **from, struct crashfs_node *to)
{
    struct crashfs_node *old = *from;

    if (to != NULL)
        to->names++;
    *from = to;
    if (old != NULL) {
        old->names--;
        crashfs_node_settle(fs, old);
    }
}

void crashfs_point(struct crashfs *fs, struct crashfs_node *dir, const char *text,
                   struct crashfs_node *node)
{
    struct crashfs_name *name = crashfs_find(fs, dir, text);

    if (name == NULL)
        name = name_create(fs, dir, text);
    if (name->now != NULL && name->now->name == name)
        name->now->name = NULL;
    if (node != NULL)
        node->name = name;
    lead(fs, &name->now, node);
    if (!name->pending) {
        name->pending = true;
        name->next_pending = dir->pending;
        dir->pending = name;
    }
}

bool crashfs_is_empty(const struct crashfs_node *dir)
{
    for (const struct crashfs_name *name = dir->first; name != NULL; name = name->next_in_dir)
        if (name->now != NULL)
            return false;
    return true;
}

/* The node that would be lost if `name` became durable as it is: it was renamed, and its new name is not durable. */
static struct crashfs_node *renamed_from(const struct crashfs_name *name)
{
    struct crashfs_node *old = name->durable;

    return old != NULL && old != name->now && old->name != NULL && old->name->durable != old ? old
                                                                                             : NULL;
}

static void make_durable(struct crashfs *fs, struct crashfs_name *name)
{
    struct crashfs_node *renamed = renamed_from(name);

    /* A rename is one step: who has lost the old name has the new one, in whatever directory. */
    if (renamed != NULL)
        lead(fs, &renamed->name->durable, renamed);
    lead(fs, &name->durable, name->now);
}

void crashfs_sync_names(struct crashfs *fs, struct crashfs_node *dir)
{
    struct crashfs_name *name = dir->pending, *next;

    dir->pending = NULL;
    for (; name != NULL; name = next) {
        next = name->next_pending;
        name->pending = false;
        make_durable(fs, name);
        if (name->now == NULL && name->durable == NULL)
            name_destroy(fs, name);
    }
}

/* --- the cut ---------------------------------------------------------------------------------- */

static bool survives(struct crashfs *fs, enum crashfs_fate fate)
{
    return fate == CRASHFS_ALL || (fate == CRASHFS_SOME && crashfs_random(fs) % 2 == 0);
}

/* First the names that were made, then those that were taken away: a renamed file keeps one of the two, or both. */
static void cut_names(struct crashfs *fs, enum crashfs_fate fate, bool taken_away)
{
    for (struct crashfs_node *node = fs->nodes; node != NULL; node = node->next) {
        for (struct crashfs_name *name = node->pending; name != NULL; name = name->next_pending) {
            if ((name->now == NULL) != taken_away || name->now == name->durable)
                continue;
            if (renamed_from(name) != NULL)
                continue; /* the new name is lost, so the old one is there */
            if (survives(fs, fate))
                lead(fs, &name->durable, name->now);
        }
    }
}

/* What is durable is what there is. */
static void restore_names(struct crashfs *fs)
{
    for (struct crashfs_node *node = fs->nodes; node != NULL; node = node->next)
        node->name = NULL;
    for (struct crashfs_node *node = fs->nodes; node != NULL; node = node->next) {
        for (struct crashfs_name *name = node->first; name != NULL; name = name->next_in_dir) {
            lead(fs, &name->now, name->durable);
            name->pending = false;
            if (name->durable == NULL)
                continue;
            /* A rename that came apart leaves the file under both names; they are two files from now on. */
            if (name->durable->name != NULL) {
                struct crashfs_node *old = name->durable;
                struct crashfs_node *copy = crashfs_node_create(
                    fs, old->about.st_mode, old->about.st_uid, old->about.st_gid);

                copy->about.st_mtim = old->about.st_mtim;
                (void)crashfs_write(fs, copy, old->now, old->size, 0);
                crashfs_sync_data(copy, 0, copy->size);
                lead(fs, &name->now, copy);
                lead(fs, &name->durable, copy);
            }
            name->durable->name = name;
        }
        node->pending = NULL;
    }
}

static void drop_empty_names(struct crashfs *fs)
{
    for (struct crashfs_node *node = fs->nodes; node != NULL; node = node->next) {
        struct crashfs_name *next;

        for (struct crashfs_name *name = node->first; name != NULL; name = next) {
            next = name->next_in_dir;
            if (name->now == NULL && name->durable == NULL)
                name_destroy(fs, name);
        }
    }
}

void crashfs_cut(struct crashfs *fs, enum crashfs_fate fate, uint64_t seed)
{
    fs->random = seed;
    fs->cutting = true;
    cut_names(fs, fate, false);
    cut_names(fs, fate, true);
    for (struct crashfs_node *node = fs->nodes; node != NULL; node = node->next)
        if (S_ISREG(node->about.st_mode))
            crashfs_cut_data(fs, node, fate);
    restore_names(fs);
    drop_empty_names(fs);
    fs->cutting = false;
    for (struct crashfs_node *node = fs->nodes, *next; node != NULL; node = next) {
        next = node->next;
        crashfs_node_settle(fs, node);
    }
    fs->cuts++;
}
