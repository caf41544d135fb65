/* Which letters still wait in the spools of a server that was killed: what the server itself would find at its next start.
 * Nothing is changed on disk. */
#include "tests/crash/ledger.h"

#include "storage/spool_inspect.h"

#include <dirent.h>
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_MAX 8192 /* what a server puts in front, and the first field of a letter */

struct start {
    struct spool_inspect *inspect;
    char text[START_MAX];
    size_t size;
    bool whole; /* reads on, so that all of the letter is verified */
};

static int take_start(void *context, struct slice piece)
{
    struct start *start = context;
    size_t taken = piece.size < START_MAX - start->size ? piece.size : START_MAX - start->size;

    memcpy(start->text + start->size, piece.data, taken);
    start->size += taken;
    return start->size == START_MAX && !start->whole;
}

static int print_message(void *context, const struct spool_recovered_message *message)
{
    struct start *start = context;
    uint64_t number;
    bool unaltered;

    start->size = 0;
    if (spool_inspect_read(start->inspect, &message->location, take_start, start) < 0)
        printf("0 unreadable\n");
    else if (ledger_check(start->text, start->size, false, &number, &unaltered))
        printf("%" PRIu64 " waiting\n", number);
    return 0;
}

static void look_into(const char *path, bool damaged)
{
    static const struct spool_inspect_events none;
    struct start *start = malloc(sizeof(*start));
    struct buf error;

    buf_init(&error, 4096);
    if (start == NULL)
        errx(2, "out of memory");
    start->whole = damaged;
    if (spool_inspect_open(path, &start->inspect, &error) < 0 ||
        spool_inspect_scan(start->inspect, &none, &error) < 0 ||
        spool_inspect_messages(start->inspect, print_message, start) < 0)
        errx(2, "%.*s", SLICE_ARG(buf_slice(&error)));
    if (!damaged && spool_inspect_totals(start->inspect)->damaged > 0)
        errx(2, "%s: is damaged", path);
    spool_inspect_close(&start->inspect);
    buf_deinit(&error);
    free(start);
}

int ledger_spool(int argc, char **argv)
{
    bool damaged = argc == 3 && strcmp(argv[1], "--damaged") == 0;
    const char *below = argv[damaged ? 2 : 1];
    struct dirent *entry;
    DIR *dir = argc == (damaged ? 3 : 2) ? opendir(below) : NULL;

    if (dir == NULL)
        err(2, "spool: expected the directory of the spools");
    while ((entry = readdir(dir)) != NULL) {
        char *path;

        if (strlen(entry->d_name) != 4 || strspn(entry->d_name, "0123456789") != 4)
            continue;
        if (asprintf(&path, "%s/%s", below, entry->d_name) < 0)
            errx(2, "out of memory");
        look_into(path, damaged);
        free(path);
    }
    closedir(dir);
    return 0;
}
