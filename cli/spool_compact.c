/* kilatctl spool compact: a new spool with what is unfinished, put in the place of the old one in one step.
 *
 * The new one is written beside the old one, verified, and then the two directories change their names: at every moment
 * there is one whole spool under the name. What a cut leaves beside it, the next compaction removes. */
#include "cli/spool_lock.h"
#include "cli/spool_private.h"
#include "cli/spool_writer.h"
#include "core/file.h"
#include "storage/spool_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH_SIZE 4096

struct compaction {
    struct ctl_spool_run *run;
    struct spool_inspect *from;
    struct spool_writer *writer;
    char beside[PATH_SIZE];
    uint64_t segment_bytes;
};

static int remove_name(void *context, const char *name)
{
    int dir_fd = *(int *)context, below_fd;
    int r = file_unlink(dir_fd, name);

    if (r != -EISDIR && r != -EPERM)
        return r;
    r = file_open_dir(dir_fd, name, &below_fd);
    if (r < 0)
        return r;
    r = file_list(below_fd, remove_name, &below_fd);
    (void)file_close(below_fd);
    return r == 0 ? file_remove_dir(dir_fd, name) : r;
}

/* A whole directory; nothing when there is none. */
static int remove_tree(const char *path)
{
    int fd;
    int r = file_open_dir_path(path, &fd);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    r = file_list(fd, remove_name, &fd);
    (void)file_close(fd);
    return r == 0 && rmdir(path) < 0 ? -errno : r;
}

/* ---- copying --------------------------------------------------------------------------------------- */

static int copy_piece(void *context, struct slice piece)
{
    return spool_writer_piece(context, piece);
}

static int copy_message(void *context, const struct spool_recovered_message *message)
{
    struct compaction *compaction = context;
    int r = spool_writer_begin(compaction->writer, message->id, message->head_bytes);

    if (r == 0)
        r = spool_inspect_read(compaction->from, &message->location, copy_piece,
                               compaction->writer);
    if (r == 0)
        r = spool_writer_end(compaction->writer,
                             &(struct spool_writer_message){.envelope = message->envelope,
                                                            .unit_count = message->unit_count,
                                                            .flags = message->flags,
                                                            .arrival_s = message->arrival_s,
                                                            .held = message->held,
                                                            .units = message->units,
                                                            .reason = message->reason});
    return r;
}

static void see_segment(void *context, const struct spool_inspect_segment *segment)
{
    struct compaction *compaction = context;

    if (segment->stream == 'D')
        compaction->segment_bytes = MAX(compaction->segment_bytes, segment->size_bytes);
}

static int copy_all(struct compaction *compaction)
{
    const struct spool_super *super = spool_inspect_super(compaction->from);
    struct buf error;
    int r, closed;

    buf_init(&error, 4 * KIB);
    r = spool_copy_make(compaction->beside, super);
    if (r == 0)
        r = spool_writer_open(compaction->beside, super->number,
                              MAX(ROUND_UP(compaction->segment_bytes, MIB), 2 * MIB),
                              &compaction->writer, &error);
    if (r == 0)
        r = spool_inspect_messages(compaction->from, copy_message, compaction);
    closed = spool_writer_close(&compaction->writer);
    r = r == 0 ? closed : r;
    if (r < 0)
        fprintf(stderr, "kilatctl: %s: cannot be written: %s\n", compaction->beside,
                error.size > 0 ? (const char *)error.data : strerror(-r));
    buf_deinit(&error);
    return r;
}

/* ---- is it the same? --------------------------------------------------------------------------------- */

static int count_message(void *context, const struct spool_recovered_message *message)
{
    (void)context;
    (void)message;
    return 0;
}

static bool is_same(const struct compaction *compaction)
{
    static const struct spool_inspect_events none;
    struct ctl_spool_run run = {.path = compaction->beside};
    struct spool_inspect *inspect = ctl_spool_open(&run);
    const struct spool_inspect_totals *old = spool_inspect_totals(compaction->from), *new;
    bool same = inspect != NULL && ctl_spool_scan(&run, inspect, &none) &&
                spool_inspect_messages(inspect, count_message, NULL) == 0;

    if (same) {
        new = spool_inspect_totals(inspect);
        same = new->damaged == 0 && new->unreadable == 0 &&
               new->messages == old->messages &&new->open_units == old->open_units &&new->held ==
                   old->held;
        if (!same)
            fprintf(stderr,
                    "kilatctl: %s: does not hold what was written to it; nothing was changed\n",
                    compaction->beside);
    }
    spool_inspect_close(&inspect);
    return same;
}

/* The names change places at once, and durably. */
static int exchange(const struct compaction *compaction)
{
    char above[PATH_SIZE];
    int fd;
    int r = 0;

    if (renameat2(AT_FDCWD, compaction->beside, AT_FDCWD, compaction->run->path, RENAME_EXCHANGE) <
        0)
        r = -errno;
    (void)snprintf(above, sizeof(above), "%s/..", compaction->run->path);
    if (r == 0)
        r = file_open_dir_path(above, &fd);
    if (r == 0) {
        r = file_sync_dir(fd);
        (void)file_close(fd);
    }
    if (r < 0)
        fprintf(stderr, "kilatctl: %s and %s cannot change places: %s\n", compaction->beside,
                compaction->run->path, strerror(-r));
    return r;
}

static void tell(struct ctl_spool_run *run, uint64_t messages, uint64_t before, uint64_t after)
{
    if (run->wants_json) {
        json_out_object(&run->json);
        json_out_cstr(&run->json, "spool", run->path);
        json_out_u64(&run->json, "messages", messages);
        json_out_u64(&run->json, "bytes_before", before);
        json_out_u64(&run->json, "bytes_after", after);
        json_out_object_end(&run->json);
    } else {
        printf("%s: %" PRIu64 " unfinished messages kept; segments of %" PRIu64
               " MiB before, %" PRIu64 " MiB now\n",
               run->path, messages, before / (uint64_t)MIB, after / (uint64_t)MIB);
    }
}

static uint64_t segments_bytes(const char *path)
{
    static const struct spool_inspect_events none;
    struct ctl_spool_run run = {.path = path};
    struct spool_inspect *inspect = ctl_spool_open(&run);
    uint64_t bytes = 0;

    if (inspect != NULL && ctl_spool_scan(&run, inspect, &none))
        bytes = spool_inspect_totals(inspect)->bytes;
    spool_inspect_close(&inspect);
    return bytes;
}

/* ---- the command ------------------------------------------------------------------------------------- */

static int compact_locked(struct compaction *compaction)
{
    struct ctl_spool_run *run = compaction->run;
    struct spool_inspect_events events = {.context = compaction, .segment = see_segment};
    const struct spool_inspect_totals *totals;
    int r;

    compaction->from = ctl_spool_open(run);
    if (compaction->from == NULL || !ctl_spool_scan(run, compaction->from, &events))
        return -EIO;
    totals = spool_inspect_totals(compaction->from);
    if (totals->damaged > 0) {
        fprintf(stderr,
                "kilatctl: %s: is damaged, and compacting would drop what is; kilatctl spool check "
                "tells the places: nothing was changed\n",
                run->path);
        return -EBADMSG;
    }
    r = remove_tree(compaction->beside);
    if (r < 0)
        fprintf(stderr, "kilatctl: %s: cannot be removed: %s\n", compaction->beside, strerror(-r));
    if (r == 0)
        r = copy_all(compaction);
    if (r == 0 && (totals->unreadable > 0 || !is_same(compaction)))
        r = -EBADMSG;
    if (r == 0)
        r = exchange(compaction);
    if (r == 0)
        tell(run, totals->messages, totals->bytes, segments_bytes(run->path));
    if (remove_tree(compaction->beside) < 0)
        fprintf(stderr, "kilatctl: %s: could not be removed; it is not needed\n",
                compaction->beside);
    return r;
}

int ctl_spool_compact(struct ctl_spool_run *run)
{
    struct compaction compaction = {.run = run};
    struct spool_lock lock;
    size_t size = strlen(run->path);
    int r;

    while (size > 1 && run->path[size - 1] == '/')
        size--;
    if (size + sizeof(".compact") > PATH_SIZE) {
        fprintf(stderr, "kilatctl: %s: is too long\n", run->path);
        return 1;
    }
    (void)snprintf(compaction.beside, PATH_SIZE, "%.*s.compact", (int)size, run->path);
    /* A newer format is refused before anything is locked. */
    compaction.from = ctl_spool_open(run);
    if (compaction.from == NULL)
        return 1;
    spool_inspect_close(&compaction.from);
    if (!spool_lock_take(run->path, true, &lock))
        return 1;
    r = compact_locked(&compaction);
    spool_inspect_close(&compaction.from);
    spool_lock_release(&lock);
    return r < 0 ? 1 : 0;
}
