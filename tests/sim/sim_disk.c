/* tests/sim/sim_disk.c - pages, names, and what a power cut leaves of them. */
#include "tests/sim/sim_disk.h"

#include "tests/sim/sim_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DISK_USER 65534 /* whom the settings of all servers tell them to become */
#define SECTORS_PER_PAGE (SIM_PAGE_BYTES / SIM_SECTOR_BYTES)
static_assert(SECTORS_PER_PAGE == 8, "one byte of dirty bits per page");

/* ---- content ---------------------------------------------------------------------------------- */

struct sim_inode *sim_inode_create(struct sim_disk *disk, bool is_dir, uint32_t mode)
{
    struct sim_inode *inode = calloc(1, sizeof(*inode));

    ASSERT(inode != NULL);
    inode->number = disk->next_number++;
    inode->is_dir = is_dir;
    inode->mode = mode;
    inode->uid = geteuid() == 0 ? DISK_USER : geteuid(); /* whoever the servers become */
    inode->disk = disk;
    inode->modified_ns = SIM_WALL_START_S * SECOND_NS + sim.now_ns;
    list_push_back(&disk->inodes, &inode->node);
    return inode; /* what an inode itself takes is nobody's business here */
}

static struct sim_page *page_of(struct sim_inode *inode, uint64_t offset)
{
    size_t index = (size_t)(offset / SIM_PAGE_BYTES);

    if (index >= inode->page_count) {
        size_t count = MAX(index + 1, inode->page_count * 2);

        inode->pages = realloc(inode->pages, count * sizeof(*inode->pages));
        ASSERT(inode->pages != NULL);
        memset(inode->pages + inode->page_count, 0,
               (count - inode->page_count) * sizeof(*inode->pages));
        inode->page_count = count;
    }
    return &inode->pages[index];
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

static uint8_t *page_memory(void)
{
    uint8_t *memory = calloc(1, SIM_PAGE_BYTES);

    ASSERT(memory != NULL);
    return memory;
}

static bool page_is_hole(const struct sim_inode *inode, uint64_t offset)
{
    size_t index = (size_t)(offset / SIM_PAGE_BYTES);

    return index >= inode->page_count || inode->pages[index].now == NULL;
}

/* Most of a segment is zeros, and recovery reads all of it: a run of holes is one memset(). */
void sim_inode_read(const struct sim_inode *inode, void *to, size_t size, uint64_t offset)
{
    uint8_t *bytes = to;

    while (size > 0) {
        size_t within = (size_t)(offset % SIM_PAGE_BYTES);
        size_t count = MIN(size, SIM_PAGE_BYTES - within);

        if (page_is_hole(inode, offset)) {
            while (count < size && page_is_hole(inode, offset + count))
                count += MIN(SIM_PAGE_BYTES, size - count);
            memset(bytes, 0, count);
        } else {
            memcpy(bytes, inode->pages[offset / SIM_PAGE_BYTES].now + within, count);
        }
        bytes += count;
        offset += count;
        size -= count;
    }
}

static void page_write(struct sim_page *page, const uint8_t *data, size_t within, size_t size)
{
    /* Prewritten segments are mostly zeros: those cost nothing here. */
    if (page->now == NULL && is_zero(data, size)) {
        if (page->safe == NULL) {
            page->lost = 0;
            return;
        }
    } else {
        if (page->now == NULL)
            page->now = page_memory();
        memcpy(page->now + within, data, size);
    }
    for (size_t s = within / SIM_SECTOR_BYTES; s <= (within + size - 1) / SIM_SECTOR_BYTES; s++) {
        page->dirty |= (uint8_t)(1u << s);
        page->lost &= (uint8_t) ~(1u << s);
    }
}

void sim_inode_write(struct sim_inode *inode, const void *data, size_t size, uint64_t offset)
{
    const uint8_t *bytes = data;

    inode->modified_ns = SIM_WALL_START_S * SECOND_NS + sim.now_ns;
    inode->size = MAX(inode->size, offset + size);
    while (size > 0) {
        size_t within = (size_t)(offset % SIM_PAGE_BYTES);
        size_t count = MIN(size, SIM_PAGE_BYTES - within);

        page_write(page_of(inode, offset), bytes, within, count);
        bytes += count;
        offset += count;
        size -= count;
    }
}

bool sim_inode_allocate(struct sim_inode *inode, uint64_t offset, size_t size)
{
    struct sim_disk *disk = inode->disk;
    uint64_t capacity = disk->faults.capacity_bytes == 0 ? UINT64_MAX : disk->faults.capacity_bytes;

    for (uint64_t at = offset / SIM_PAGE_BYTES * SIM_PAGE_BYTES; at < offset + size;
         at += SIM_PAGE_BYTES) {
        struct sim_page *page = page_of(inode, at);

        if (page->allocated)
            continue;
        if (disk->used_bytes + SIM_PAGE_BYTES > capacity) {
            disk->refused_full++;
            return false;
        }
        page->allocated = true;
        disk->used_bytes += SIM_PAGE_BYTES;
    }
    return true;
}

static void pages_release(struct sim_inode *inode, size_t first)
{
    for (size_t i = first; i < inode->page_count; i++) {
        inode->disk->used_bytes -= inode->pages[i].allocated ? SIM_PAGE_BYTES : 0;
        inode->pages[i].allocated = false;
    }
}

void sim_inode_release(struct sim_inode *inode)
{
    if (inode->links == 0 && inode->opens == 0)
        pages_release(inode, 0);
}

void sim_inode_truncate(struct sim_inode *inode, uint64_t size)
{
    static const uint8_t zeros[SIM_PAGE_BYTES];

    for (uint64_t offset = size; offset < inode->size;) {
        size_t count = (size_t)MIN(inode->size - offset, SIM_PAGE_BYTES - offset % SIM_PAGE_BYTES);

        page_write(page_of(inode, offset), zeros, (size_t)(offset % SIM_PAGE_BYTES), count);
        offset += count;
    }
    inode->size = size;
    pages_release(inode, (size_t)((size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES));
}

static void sector_save(struct sim_page *page, size_t sector)
{
    size_t at = sector * SIM_SECTOR_BYTES;

    page->dirty &= (uint8_t) ~(1u << sector);
    if (page->now == NULL && page->safe == NULL)
        return;
    if (page->safe == NULL)
        page->safe = page_memory();
    if (page->now == NULL)
        memset(page->safe + at, 0, SIM_SECTOR_BYTES);
    else
        memcpy(page->safe + at, page->now + at, SIM_SECTOR_BYTES);
}

/* `tear_bytes`: what is written as a whole or not at all. */
static void page_save(struct sim_page *page, uint32_t per_mille, uint32_t tear_bytes)
{
    bool whole = per_mille == 1000;

    if (page->dirty == 0 ||
        (tear_bytes == SIM_PAGE_BYTES && !whole && !(whole = sim_chance(per_mille))))
        return;
    for (size_t s = 0; s < SECTORS_PER_PAGE && page->dirty != 0; s++)
        if ((page->dirty & (1u << s)) != 0 && (whole || sim_chance(per_mille)))
            sector_save(page, s);
}

void sim_inode_sync(struct sim_inode *inode)
{
    for (size_t i = 0; i < inode->page_count; i++)
        page_save(&inode->pages[i], 1000, SIM_PAGE_BYTES);
    inode->safe_size = inode->size;
}

/* The second face becomes the first: nothing differs any more. */
static void page_revert(struct sim_page *page)
{
    page->dirty = page->lost = 0;
    if (page->safe == NULL) {
        free(page->now);
        page->now = NULL;
        return;
    }
    if (page->now == NULL)
        page->now = page_memory();
    memcpy(page->now, page->safe, SIM_PAGE_BYTES);
}

/* Linux calls the pages clean and keeps them until it needs the memory: a reader may see either content from now on. */
void sim_inode_sync_fails(struct sim_inode *inode)
{
    bool evicted = sim_chance(500);

    for (size_t i = 0; i < inode->page_count; i++) {
        struct sim_page *page = &inode->pages[i];

        if (page->dirty == 0)
            continue;
        page_save(page, 300, inode->disk->tear_bytes);
        page->lost |= page->dirty;
        page->dirty = 0;
        if (evicted)
            page_revert(page);
    }
    inode->errors++;
    inode->disk->errors++;
}

void sim_inode_sync_range(struct sim_inode *inode, uint64_t offset, size_t size, uint32_t per_mille)
{
    for (uint64_t at = offset; at < offset + size; at += SIM_PAGE_BYTES)
        page_save(page_of(inode, at), per_mille, inode->disk->tear_bytes);
    if (per_mille == 1000 || sim_chance(per_mille))
        inode->safe_size = MAX(inode->safe_size, offset + size);
}

static bool inode_differs(const struct sim_inode *inode)
{
    bool differs = inode->size != inode->safe_size;

    for (size_t i = 0; i < inode->page_count && !differs; i++)
        differs = inode->pages[i].dirty != 0;
    return differs;
}

/* All of it, the first half of its pages, or a size without content. */
static void inode_choose(struct sim_inode *inode, uint32_t chosen, uint64_t *size)
{
    size_t saved = chosen == SIM_WHOLE    ? inode->page_count
                   : chosen == SIM_PARTLY ? inode->page_count / 2
                                          : 0;

    for (size_t i = 0; i < saved; i++)
        page_save(&inode->pages[i], 1000, SIM_PAGE_BYTES);
    if (chosen != SIM_GONE)
        *size = inode->size;
}

/* What the disk has of it is what there is. */
static void inode_forget(struct sim_inode *inode, uint32_t kept_per_mille)
{
    uint64_t size = inode->safe_size;

    if (sim_choice != NULL && inode_differs(inode))
        inode_choose(inode, sim_choice_take(), &size);
    else if (sim_choice == NULL && inode->size != size && sim_chance(kept_per_mille)) {
        size = inode->size;
        if (sim_chance(300) && size > inode->safe_size)
            size = inode->safe_size +
                   (size - inode->safe_size) / SIM_SECTOR_BYTES * SIM_SECTOR_BYTES / 2;
    }
    for (size_t i = 0; i < inode->page_count; i++) {
        struct sim_page *page = &inode->pages[i];

        if (sim_choice == NULL)
            page_save(page, kept_per_mille, inode->disk->tear_bytes);
        if ((page->dirty | page->lost) != 0)
            page_revert(page);
    }
    if (size < inode->size) { /* what stood behind the end must not come back when the file grows */
        sim_inode_truncate(inode, size);
        for (size_t i = 0; i < inode->page_count; i++)
            page_save(&inode->pages[i], 1000, SIM_PAGE_BYTES);
    }
    inode->size = inode->safe_size = size;
}

/* ---- names ------------------------------------------------------------------------------------ */

struct sim_inode *sim_names_find(const struct sim_names *names, const char *text)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i].text, text) == 0)
            return names->items[i].inode;
    return NULL;
}

static void names_set(struct sim_names *names, const char *text, struct sim_inode *inode)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].text, text) != 0)
            continue;
        if (inode != NULL)
            names->items[i].inode = inode;
        else
            names->items[i] = names->items[--names->count];
        return;
    }
    if (inode == NULL)
        return;
    if (names->count == names->capacity) {
        names->capacity = names->capacity == 0 ? 8 : names->capacity * 2;
        names->items = realloc(names->items, names->capacity * sizeof(*names->items));
        ASSERT(names->items != NULL);
    }
    snprintf(names->items[names->count].text, SIM_NAME_SIZE, "%s", text);
    names->items[names->count++].inode = inode;
}

static void name_now(struct sim_inode *dir, const char *name, struct sim_inode *inode)
{
    struct sim_inode *before = sim_names_find(&dir->names, name);

    if (inode != NULL)
        inode->links++;
    names_set(&dir->names, name, inode);
    if (before != NULL) {
        before->links--;
        sim_inode_release(before);
    }
}

void sim_disk_change(struct sim_disk *disk, struct sim_inode *dir, const char *name,
                     struct sim_inode *inode, struct sim_inode *second_dir, const char *second_name,
                     struct sim_inode *second_inode)
{
    struct sim_change *change = calloc(1, sizeof(*change));

    ASSERT(change != NULL);
    change->count = second_dir == NULL ? 1 : 2;
    change->dirs[0] = dir;
    change->inodes[0] = inode;
    snprintf(change->names[0], SIM_NAME_SIZE, "%s", name);
    if (second_dir != NULL) {
        change->dirs[1] = second_dir;
        change->inodes[1] = second_inode;
        snprintf(change->names[1], SIM_NAME_SIZE, "%s", second_name);
    }
    list_push_back(&disk->changes, &change->node);
    for (uint32_t i = 0; i < change->count; i++) {
        name_now(change->dirs[i], change->names[i], change->inodes[i]);
        change->dirs[i]->modified_ns = SIM_WALL_START_S * SECOND_NS + sim.now_ns;
    }
}

/* Adds every earlier change that touches a directory of a chosen one. */
static void changes_close(struct sim_disk *disk)
{
    for (struct list_node *n = disk->changes.prev; n != &disk->changes; n = n->prev) {
        struct sim_change *later = CONTAINER_OF(n, struct sim_change, node);

        for (struct list_node *m = n->prev; later->chosen && m != &disk->changes; m = m->prev) {
            struct sim_change *earlier = CONTAINER_OF(m, struct sim_change, node);

            for (uint32_t i = 0; i < later->count; i++)
                for (uint32_t j = 0; j < earlier->count; j++)
                    earlier->chosen |= later->dirs[i] == earlier->dirs[j];
        }
    }
}

static void changes_apply(struct sim_disk *disk)
{
    list_for_each_safe (node, &disk->changes) {
        struct sim_change *change = CONTAINER_OF(node, struct sim_change, node);

        if (!change->chosen)
            continue;
        for (uint32_t i = 0; i < change->count; i++)
            names_set(&change->dirs[i]->safe_names, change->names[i], change->inodes[i]);
        list_remove(node);
        free(change);
    }
}

void sim_disk_sync_dir(struct sim_inode *dir)
{
    list_for_each (node, &dir->disk->changes) {
        struct sim_change *change = CONTAINER_OF(node, struct sim_change, node);

        for (uint32_t i = 0; i < change->count; i++)
            change->chosen |= change->dirs[i] == dir;
    }
    changes_close(dir->disk);
    changes_apply(dir->disk);
}

void sim_disk_sync_all(struct sim_disk *disk)
{
    list_for_each (node, &disk->changes) {
        CONTAINER_OF(node, struct sim_change, node)->chosen = true;
    }
    changes_apply(disk);
    list_for_each (node, &disk->inodes) {
        sim_inode_sync(CONTAINER_OF(node, struct sim_inode, node));
    }
}

void sim_disk_sync_all_fails(struct sim_disk *disk)
{
    list_for_each (node, &disk->inodes) {
        struct sim_inode *inode = CONTAINER_OF(node, struct sim_inode, node);

        if (sim_chance(500))
            sim_inode_sync(inode);
        else
            sim_inode_sync_fails(inode);
    }
    disk->errors++;
}

/* ---- the power cut ---------------------------------------------------------------------------- */

static void changes_survive(struct sim_disk *disk)
{
    uint64_t way = sim_choice != NULL ? 2 : sim_between(0, 3), count = 0, kept;
    struct list_node *node;

    list_for_each (n, &disk->changes) {
        count++;
    }
    kept = sim_between(0, count);
    list_for_each (n, &disk->changes) {
        struct sim_change *change = CONTAINER_OF(n, struct sim_change, node);

        if (way == 0) /* a prefix: what a journaling file system does */
            change->chosen = kept > 0 && kept-- > 0;
        else if (way == 1) /* a part, in an order that POSIX allows */
            change->chosen = sim_chance(300);
        else if (sim_choice != NULL)
            change->chosen = sim_choice_take() != SIM_GONE;
    }
    changes_close(disk);
    changes_apply(disk);
    while ((node = list_pop_front(&disk->changes)) != NULL)
        free(CONTAINER_OF(node, struct sim_change, node));
}

static void names_copy(struct sim_names *to, const struct sim_names *from)
{
    to->count = 0;
    for (size_t i = 0; i < from->count; i++)
        names_set(to, from->items[i].text, from->items[i].inode);
}

static void tree_restore(struct sim_inode *inode)
{
    inode->links++;
    if (inode->named_after_crash)
        return;
    inode->named_after_crash = true;
    if (!inode->is_dir)
        return;
    names_copy(&inode->names, &inode->safe_names);
    for (size_t i = 0; i < inode->names.count; i++)
        tree_restore(inode->names.items[i].inode);
}

static void inode_free(struct sim_inode *inode)
{
    pages_release(inode, 0);
    list_remove(&inode->node);
    for (size_t i = 0; i < inode->page_count; i++) {
        free(inode->pages[i].now);
        free(inode->pages[i].safe);
    }
    free(inode->pages);
    free(inode->names.items);
    free(inode->safe_names.items);
    free(inode);
}

void sim_disk_crash(struct sim_disk *disk)
{
    static const uint32_t kept[] = {0, 0, 100, 500, 900, 1000};
    uint32_t kept_per_mille = kept[sim_between(0, ARRAY_SIZE(kept) - 1)];

    disk->power_cuts++;
    changes_survive(disk);
    list_for_each (node, &disk->inodes) {
        struct sim_inode *inode = CONTAINER_OF(node, struct sim_inode, node);

        inode->named_after_crash = false;
        inode->links = 0;
        inode->lock = NULL;
        inode->errors = 0;
        inode_forget(inode, kept_per_mille);
    }
    tree_restore(disk->root);
    list_for_each_safe (node, &disk->inodes) {
        struct sim_inode *inode = CONTAINER_OF(node, struct sim_inode, node);

        if (!inode->named_after_crash)
            inode_free(inode);
    }
}

/* ---- a chosen crash --------------------------------------------------------------------------- */

uint32_t sim_disk_choices(struct sim_host *host, bool power, uint8_t radixes[SIM_CHOICES_MAX])
{
    struct sim_disk *disk = host->disk;
    uint32_t count = 0;

    list_for_each (process_node, &host->processes) {
        struct sim_process *process = CONTAINER_OF(process_node, struct sim_process, node);

        list_for_each (ring_node, &process->rings) {
            for (uint32_t n = sim_ring_writes(sim_ring_of_node(ring_node));
                 n > 0 && count < SIM_CHOICES_MAX; n--)
                radixes[count++] = 3;
        }
    }
    if (!power)
        return count;
    list_for_each (node, &disk->changes) {
        if (count < SIM_CHOICES_MAX)
            radixes[count++] = 2;
    }
    list_for_each (node, &disk->inodes) {
        const struct sim_inode *inode = CONTAINER_OF(node, struct sim_inode, node);

        if (count < SIM_CHOICES_MAX && inode_differs(inode))
            radixes[count++] = inode->size != inode->safe_size ? 4 : 3;
    }
    return count;
}

static uint64_t hash_page(uint64_t hash, size_t index, const uint8_t *data)
{
    return data == NULL || is_zero(data, SIM_PAGE_BYTES)
               ? hash
               : sim_hash_bytes(hash ^ index, data, SIM_PAGE_BYTES);
}

/* In no order, since names have none. */
static uint64_t hash_tree(const struct sim_inode *inode, bool safe)
{
    const struct sim_names *names = safe ? &inode->safe_names : &inode->names;
    uint64_t hash = inode->is_dir ? 1 : 2 + (safe ? inode->safe_size : inode->size), sum = 0;

    for (size_t i = 0; i < inode->page_count; i++)
        hash = hash_page(hash, i, safe ? inode->pages[i].safe : inode->pages[i].now);
    for (size_t i = 0; i < names->count; i++) {
        uint64_t below = hash_tree(names->items[i].inode, safe);

        sum += sim_hash_bytes(below, names->items[i].text, strlen(names->items[i].text));
    }
    return hash + sum * 31;
}

uint64_t sim_disk_hash(const struct sim_disk *disk)
{
    return hash_tree(disk->root, false) * 31 + hash_tree(disk->root, true);
}

/* ---- the administrator's hand ------------------------------------------------------------------ */

struct sim_disk *sim_disk_create(struct sim_host *host)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));

    ASSERT(disk != NULL);
    disk->host = host;
    disk->next_number = 2;
    disk->tear_bytes = sim_chance(700) ? SIM_SECTOR_BYTES : SIM_PAGE_BYTES;
    list_init(&disk->inodes);
    list_init(&disk->changes);
    disk->root = sim_inode_create(disk, true, 0755);
    return disk;
}

static bool next_component(const char **path, char name[SIM_NAME_SIZE])
{
    size_t size;

    while (**path == '/')
        (*path)++;
    size = strcspn(*path, "/");
    if (size == 0 || size >= SIM_NAME_SIZE)
        return false;
    memcpy(name, *path, size);
    name[size] = '\0';
    *path += size;
    return true;
}

struct sim_inode *sim_disk_make_dirs(struct sim_host *host, const char *path)
{
    struct sim_inode *dir = host->disk->root;
    char name[SIM_NAME_SIZE];

    while (next_component(&path, name)) {
        struct sim_inode *next = sim_names_find(&dir->names, name);

        if (next == NULL) {
            next = sim_inode_create(host->disk, true, 0755);
            sim_disk_change(host->disk, dir, name, next, NULL, NULL, NULL);
            sim_disk_sync_dir(dir);
        }
        dir = next;
    }
    return dir;
}

struct sim_inode *sim_disk_find(struct sim_host *host, const char *path)
{
    struct sim_inode *inode = host->disk->root;
    char name[SIM_NAME_SIZE];

    while (inode != NULL && next_component(&path, name))
        inode = inode->is_dir ? sim_names_find(&inode->names, name) : NULL;
    return inode;
}

void sim_disk_write_file(struct sim_host *host, const char *path, struct slice content)
{
    const char *slash = strrchr(path, '/');
    char dir_path[1024];
    struct sim_inode *dir, *inode;

    ASSERT(slash != NULL);
    snprintf(dir_path, sizeof(dir_path), "%.*s", (int)(slash - path), path);
    dir = sim_disk_make_dirs(host, dir_path);
    inode = sim_inode_create(host->disk, false, 0644);
    (void)sim_inode_allocate(inode, 0, content.size); /* whoever fills the disk leaves that much */
    sim_inode_write(inode, content.data, content.size, 0);
    sim_inode_sync(inode);
    sim_disk_change(host->disk, dir, slash + 1, inode, NULL, NULL, NULL);
    sim_disk_sync_dir(dir);
}
