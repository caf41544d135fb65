/* daemon/crashes.h - the record of crashes beside the spools, and what it says of messages.
 *
 * `CRASHES` in spool_directory has a line (core/crash.h) for each time the server ended by a fault of its own, with the
 * message that the shard had in hand. A message that is named twice is poison: it is put on hold at the next start, and
 * the server runs on. A line "event=message.set_aside message=ID" behind it says that this was done, so that somebody
 * who has looked at it and releases it starts from nothing.
 *
 * The text is ours, but a disk may have damaged it: what is no such line means nothing.
 */
#ifndef KILAT_DAEMON_CRASHES_H
#define KILAT_DAEMON_CRASHES_H

#include "core/buf.h"

#define CRASHES_NAMES_MAX 64 /* messages that are remembered; a later one replaces the oldest */
#define CRASHES_POISON 2     /* lines that make a message poison */
#define CRASHES_FILE "CRASHES"

struct crashes {
    struct {
        uint64_t id;
        uint32_t lines;
    } names[CRASHES_NAMES_MAX];
    uint32_t count;
    uint64_t crashes; /* lines in all, with and without a message */
};

/* Adds what `text` (whole lines) says. */
void crashes_read(struct crashes *crashes, struct slice text);
/* The next message that is poison, from `*at` (0 to begin) on; false: no more. */
bool crashes_next(const struct crashes *crashes, uint32_t *at, uint64_t *ret_id);
/* The line that says that `id` was set aside. */
void crashes_write_set_aside(struct buf *out, uint64_t id);

/* Opens the record in the directory `path`, made when missing, and reads its end. `*ret_fd` appends. 0 or -errno.
 * Shard: boot. */
int crashes_open(const char *path, struct crashes *crashes, int *ret_fd);

#endif
