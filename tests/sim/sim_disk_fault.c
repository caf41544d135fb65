/* tests/sim/sim_disk_fault.c - a disk that fails, fills, stalls, forgets and lies.
 *
 * What a single copy can survive, and so must lose nothing: an error that is told (EIO of any operation, a short write),
 * no space, slowness, a torn write at a crash. What it cannot survive, and so must notice: a bit that flips at rest, a
 * write that lands elsewhere or nowhere and says it has completed. Of those the worlds demand that nothing altered
 * is handed out as whole, that no more is missing than was hit, and that what is missing was told.
 */
#include "tests/sim/sim_disk.h"

#include <stdlib.h>

void (*sim_disk_lied)(const struct sim_inode *meant, uint64_t meant_offset,
                      const struct sim_inode *hit, uint64_t hit_offset, size_t size);

struct sim_choice *sim_choice;
bool (*sim_disk_point)(struct sim_host *host);

uint32_t sim_choice_take(void)
{
    return sim_choice->next < SIM_CHOICES_MAX ? sim_choice->digits[sim_choice->next++] : 0;
}

/* ---- errors ----------------------------------------------------------------------------------- */

bool sim_disk_fails(struct sim_disk *disk, enum sim_io io)
{
    if (!sim_chance(disk->faults.error[io]))
        return false;
    disk->errors_made++;
    sim_trace("disk.error", (uint64_t)io, disk->errors_made, 0);
    return true;
}

uint64_t sim_disk_flush_ns(const struct sim_disk *disk)
{
    uint64_t ns = 0;

    if (disk->faults.flush_us > 0)
        ns = sim_between(disk->faults.flush_us, disk->faults.flush_us * 2ull) * US_NS;
    if (sim_chance(disk->faults.stall))
        ns += sim_between(1, 6) * SECOND_NS;
    return ns;
}

void sim_disk_write_partly(struct sim_inode *inode, const void *data, size_t size, uint64_t offset,
                           bool durable, bool torn)
{
    uint32_t chosen = sim_choice == NULL ? SIM_WHOLE : sim_choice_take();

    if (sim_chance(300) || chosen == SIM_GONE)
        return; /* it had not begun */
    if (chosen == SIM_PARTLY)
        size = size / 2 / SIM_SECTOR_BYTES * SIM_SECTOR_BYTES;
    else if (sim_chance(300)) /* it had got so far */
        size = (size_t)sim_between(0, size / SIM_SECTOR_BYTES) * SIM_SECTOR_BYTES;
    if (size == 0 || !sim_inode_allocate(inode, offset, size))
        return;
    sim_inode_write(inode, data, size, offset);
    if (durable)
        sim_inode_sync_range(inode, offset, size,
                             torn && sim_choice == NULL ? (uint32_t)sim_between(0, 1000) : 1000);
}

/* ---- damage and lies -------------------------------------------------------------------------- */

#define FILES_MAX 256

struct files {
    struct sim_inode *items[FILES_MAX];
    size_t count;
};

static void files_below(struct sim_inode *dir, const char *spared, struct files *files)
{
    for (size_t i = 0; dir != NULL && i < dir->names.count; i++) {
        struct sim_inode *inode = dir->names.items[i].inode;

        if (inode->is_dir)
            files_below(inode, spared, files);
        else if (files->count < FILES_MAX &&
                 (spared == NULL || strcmp(dir->names.items[i].text, spared) != 0))
            files->items[files->count++] = inode;
    }
}

static void flip_bit(uint8_t *page, size_t byte, uint32_t bit)
{
    if (page != NULL)
        page[byte] ^= (uint8_t)(1u << bit);
}

bool sim_disk_flip(struct sim_host *host, const char *path, const char *spared,
                   struct sim_inode **ret_inode, uint64_t *ret_offset)
{
    struct files files = {.count = 0};

    files_below(sim_disk_find(host, path), spared, &files);
    for (int tries = 0; tries < 200 && files.count > 0; tries++) {
        struct sim_inode *inode = files.items[sim_between(0, files.count - 1)];
        size_t index = inode->page_count == 0 ? 0 : (size_t)sim_between(0, inode->page_count - 1);
        size_t byte = (size_t)sim_between(0, SIM_PAGE_BYTES - 1);
        uint32_t bit = (uint32_t)sim_between(0, 7);

        if (inode->page_count == 0 || inode->pages[index].now == NULL ||
            inode->pages[index].safe == NULL)
            continue; /* a written page that is at rest */
        flip_bit(inode->pages[index].now, byte, bit);
        flip_bit(inode->pages[index].safe, byte, bit);
        host->disk->flips++;
        *ret_inode = inode;
        *ret_offset = index * SIM_PAGE_BYTES + byte;
        sim_trace("disk.flip", inode->number, *ret_offset, bit);
        return true;
    }
    return false;
}

struct sim_inode *sim_disk_elsewhere(struct sim_inode *inode, size_t size, uint64_t *offset)
{
    uint64_t blocks = inode->size / SIM_PAGE_BYTES, count = size / SIM_PAGE_BYTES, at;

    if (blocks <= count)
        return NULL;
    at = sim_between(0, blocks - count) * SIM_PAGE_BYTES;
    if (at == *offset)
        return NULL;
    *offset = at;
    return inode;
}

/* ---- choosing --------------------------------------------------------------------------------- */

void sim_disk_faults_choose(struct sim_disk_faults *ret_faults)
{
    static const uint32_t often[] = {0, 0, 2, 10, 50};
    struct sim_disk_faults faults = {.capacity_bytes = ret_faults->capacity_bytes};

    if (sim_chance(500)) /* one kind, so that what follows from it is not hidden by the others */
        faults.error[sim_between(0, SIM_IO_KINDS - 1)] = (uint32_t)sim_between(5, 300);
    else
        for (size_t i = 0; i < SIM_IO_KINDS; i++)
            faults.error[i] = often[sim_between(0, ARRAY_SIZE(often) - 1)];
    faults.short_write = sim_chance(300) ? (uint32_t)sim_between(1, 100) : 0;
    faults.stall = sim_chance(300) ? (uint32_t)sim_between(1, 20) : 0;
    faults.flush_us = sim_chance(300) ? (uint32_t)sim_between(2000, 10000) : 0;
    *ret_faults = faults;
}
