#include "spool_fixture.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Goal: what an older program wrote is read by this one, byte for byte as it was.
 * Method: spools of each released format lie in golden/ as text and are never made anew; each holds the same mail. */

#define LINE_BYTES 256

static void golden_path(const char *name, char *path, size_t size)
{
    const char *slash = strrchr(__FILE__, '/');

    cr_assert_not_null(slash);
    (void)snprintf(path, size, "%.*s/golden/%s", (int)(slash - __FILE__), __FILE__, name);
}

static void row_write(int fd, const char *line)
{
    uint8_t bytes[LINE_BYTES];
    char *hex;
    off_t offset = (off_t)strtoull(line, &hex, 16);
    size_t count = 0;
    unsigned int byte;

    for (hex++; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        bytes[count++] = (uint8_t)byte;
    cr_assert_eq(pwrite(fd, bytes, count, offset), (ssize_t)count);
}

/* A world over a copy of it. */
static struct world *golden(const char *name)
{
    struct world *world = world_create();
    char path[600], line[LINE_BYTES], file_name[64];
    unsigned long size;
    FILE *text;
    int fd = -1;

    golden_path(name, path, sizeof(path));
    text = fopen(path, "r");
    cr_assert_not_null(text, "%s", path);
    while (fgets(line, sizeof(line), text) != NULL) {
        if (line[0] == '#')
            continue;
        if (sscanf(line, "file %63s %lu", file_name, &size) != 2) {
            row_write(fd, line);
            continue;
        }
        if (fd >= 0)
            (void)close(fd);
        path_of(world, file_name, path, sizeof(path));
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(ftruncate(fd, (off_t)size), 0);
    }
    (void)close(fd);
    (void)fclose(text);
    world->keeps = true;
    return world;
}

static void expect_body(struct world *world, uint32_t index, const char *wanted)
{
    uint8_t *body;
    size_t size;
    bool hot;

    cr_assert_eq(read_back(world, &world->messages[index].location, &body, &size, &hot), 0);
    cr_assert_eq(size, strlen(wanted));
    cr_assert_eq(memcmp(body, wanted, size), 0);
    free(body);
}

/* "first": two recipients, the second deferred; "third": three, held, the second done. */
static void expect_first_and_third(struct world *world)
{
    const struct world_message *first = &world->messages[0], *third = &world->messages[1];

    cr_assert_eq(world->report.damaged_records, 0);
    cr_assert_eq(world->report.torn_groups, 0);
    cr_assert_eq(first->unit_count, 2);
    cr_assert_eq(first->units[0].attempts, 0);
    cr_assert_eq(first->units[1].attempts, 3);
    cr_assert_eq(first->units[1].next_s, 4711);
    cr_assert_str_eq(first->reason, "nobody was at home");
    cr_assert_not(first->held);
    cr_assert_eq(third->unit_count, 3);
    cr_assert(third->held);
    cr_assert_eq(third->units[0].state, SPOOL_UNIT_WAITING);
    cr_assert_eq(third->units[1].state, SPOOL_UNIT_DONE);
    cr_assert_eq(third->units[2].state, SPOOL_UNIT_WAITING);
    expect_body(world, 0, "first\r\n");
    expect_body(world, 1, "third\r\n");
}

Test(spool_golden, format_1_0)
{
    struct world *world = golden("format_1_0.txt");

    world_open(world);
    cr_assert_eq(world->message_count, 3);
    cr_assert_eq(world->report.checkpoint, 0);
    cr_assert_eq(world->report.checkpoints_lost, 0);
    expect_first_and_third(world);
    expect_body(world, 2, "fourth\r\n");
    /* And from then on it is one of this format. */
    world_close(world);
    world_open(world);
    cr_assert_eq(world->report.checkpoint, 1);
    cr_assert_eq(world->spool->directory.super.features.minor, SPOOL_MINOR);
    expect_first_and_third(world);
    world_destroy(world);
}

Test(spool_golden, format_1_1)
{
    struct world *world = golden("format_1_1.txt");

    world_open(world);
    cr_assert_eq(world->message_count, 3);
    cr_assert_eq(world->report.checkpoint, 2);
    cr_assert_eq(world->report.entries, 3);
    expect_first_and_third(world);
    cr_assert(world->messages[0].units[1].in_doubt);
    expect_body(world, 2, "fifth\r\n");
    world_destroy(world);
}
