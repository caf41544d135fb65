/* Damages a copied spool: flipped bits, overwritten sectors, cut files, drawn from a seed. One line says what was done. */
#include "tests/crash/ledger.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096
#define SECTOR_BYTES 512
#define SUPER_SLOT_BYTES 4096
#define TRIES 1000 /* to hit what was written, not the zeros of a segment's rest */

struct victims {
    char *names[FILES_MAX];
    size_t count;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Segments, checkpoints and SUPER; in order of name, so that a seed means the same again. */
static void list_victims(const char *path, struct victims *victims)
{
    struct dirent *entry;
    DIR *dir = opendir(path);

    if (dir == NULL)
        err(2, "%s", path);
    while ((entry = readdir(dir)) != NULL && victims->count < FILES_MAX)
        if (strcmp(entry->d_name, "SUPER") == 0 ||
            (strlen(entry->d_name) > 2 && entry->d_name[1] == '-'))
            victims->names[victims->count++] = strdup(entry->d_name);
    closedir(dir);
    if (victims->count == 0)
        errx(2, "%s: is no spool", path);
    qsort(victims->names, victims->count, sizeof(char *), compare_names);
}

/* An offset at which something was written. */
static uint64_t draw_offset(int fd, uint64_t size, uint64_t *random)
{
    uint64_t offset = 0;
    uint8_t byte = 0;

    for (int i = 0; i < TRIES && byte == 0; i++) {
        offset = ledger_random(random) % size;
        if (pread(fd, &byte, 1, (off_t)offset) != 1)
            err(2, "reading a victim");
    }
    return offset;
}

static void flip_bit(int fd, uint64_t offset, uint64_t *random)
{
    uint8_t byte;

    if (pread(fd, &byte, 1, (off_t)offset) != 1)
        err(2, "reading a victim");
    byte ^= (uint8_t)(1u << ledger_random(random) % 8);
    if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
        err(2, "writing a victim");
}

static void overwrite_sector(int fd, uint64_t offset, uint64_t *random)
{
    uint8_t sector[SECTOR_BYTES];

    for (size_t i = 0; i < sizeof(sector); i++)
        sector[i] = (uint8_t)ledger_random(random);
    if (pwrite(fd, sector, sizeof(sector), (off_t)(offset / SECTOR_BYTES * SECTOR_BYTES)) !=
        SECTOR_BYTES)
        err(2, "writing a victim");
}

/* SUPER keeps one of its slots: without any the spool cannot be told from another one, and is refused. */
static void damage(const char *path, const char *name, uint64_t *random)
{
    bool is_super = strcmp(name, "SUPER") == 0;
    struct stat info;
    uint64_t offset;
    char *file;
    int fd;

    if (asprintf(&file, "%s/%s", path, name) < 0)
        errx(2, "out of memory");
    fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0)
        err(2, "%s", file);
    if (info.st_size == 0) /* cut before */
        return;
    offset = draw_offset(fd, (uint64_t)info.st_size, random);
    switch (ledger_random(random) % 5) {
    case 0:
        if (is_super && offset < SUPER_SLOT_BYTES)
            offset += SUPER_SLOT_BYTES;
        if (ftruncate(fd, (off_t)offset) < 0)
            err(2, "%s", file);
        printf("%s cut at %" PRIu64 "; ", name, offset);
        break;
    case 1:
        overwrite_sector(fd, offset, random);
        printf("%s sector at %" PRIu64 "; ", name, offset);
        break;
    default:
        flip_bit(fd, offset, random);
        printf("%s bit at %" PRIu64 "; ", name, offset);
        break;
    }
    close(fd);
    free(file);
}

int ledger_flip(int argc, char **argv)
{
    struct victims *victims = calloc(1, sizeof(*victims));
    uint64_t random, count;
    bool super_hit = false;

    if (argc != 3 || victims == NULL)
        errx(2, "flip: expected DIRECTORY SEED");
    random = strtoull(argv[2], NULL, 10);
    list_victims(argv[1], victims);
    count = 1 + ledger_random(&random) % 4;
    for (uint64_t i = 0; i < count; i++) {
        const char *name = victims->names[ledger_random(&random) % victims->count];

        if (strcmp(name, "SUPER") == 0) {
            if (super_hit)
                continue;
            super_hit = true;
        }
        damage(argv[1], name, &random);
    }
    printf("\n");
    for (size_t i = 0; i < victims->count; i++)
        free(victims->names[i]);
    free(victims);
    return 0;
}
