/* kilatctl spool export: every unfinished message as a file, with its envelope beside it. Read-only for the spool. */
#include "cli/spool_private.h"
#include "core/file.h"
#include "queue/envelope.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define PASSES_MAX 4

struct export
{
    struct ctl_spool_run *run;
    struct spool_inspect *inspect;
    int dir_fd;
    uint64_t written, damaged;
    /* What could not be read: of this pass, and of the one before, which is all that this one looks for. */
    uint64_t *failed, *again;
    size_t failed_count, again_count, failed_room;
    /* of the message in hand */
    int fd;
    uint64_t offset;
};

static int write_piece(void *context, struct slice piece)
{
    struct export *export = context;
    int r = file_write_all(export->fd, piece, export->offset);

    export->offset += piece.size;
    return r;
}

static void write_recipients(struct json_out *out, const struct envelope *envelope,
                             const struct spool_recovered_message *message)
{
    struct slice rest = envelope->recipients, recipient;

    json_out_list(out, "recipients");
    for (uint32_t i = 0; envelope_next(&rest, &recipient) && i < message->unit_count; i++) {
        json_out_object(out);
        json_out_text(out, "address", recipient);
        json_out_bool(out, "done", message->units[i].state == SPOOL_UNIT_DONE);
        json_out_u64(out, "attempts", message->units[i].attempts);
        json_out_u64(out, "next", message->units[i].next_s);
        json_out_object_end(out);
    }
    json_out_list_end(out);
}

static void write_envelope(FILE *file, const struct spool_recovered_message *message,
                           const struct envelope *envelope)
{
    struct json_out out;
    char id[SPOOL_ID_TEXT_SIZE], report_of[SPOOL_ID_TEXT_SIZE];

    spool_id_format(message->id, id);
    json_out_array(&out, file);
    json_out_object(&out);
    json_out_cstr(&out, "id", id);
    json_out_u64(&out, "arrival", message->arrival_s);
    json_out_u64(&out, "head_bytes", message->head_bytes);
    json_out_u64(&out, "flags", message->flags);
    json_out_bool(&out, "held", message->held);
    json_out_text(&out, "reason", message->reason);
    json_out_text(&out, "sender", envelope->sender);
    json_out_text(&out, "client", envelope->client);
    json_out_text(&out, "helo", envelope->helo);
    if (envelope->report_of != 0) {
        spool_id_format(envelope->report_of, report_of);
        json_out_cstr(&out, "report_of", report_of);
    }
    write_recipients(&out, envelope, message);
    json_out_object_end(&out);
    json_out_array_end(&out);
}

/* The envelope is the last to get its name: a message with one is there whole. */
static int export_envelope(struct export *export, const char *id,
                           const struct spool_recovered_message *message)
{
    struct envelope envelope;
    char name[64];
    FILE *file;
    int fd;
    int r = envelope_parse(message->envelope, &envelope);

    if (r < 0)
        return r;
    snprintf(name, sizeof(name), "%s.json", id);
    r = file_open(export->dir_fd, name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &fd);
    if (r < 0)
        return r;
    file = fdopen(fd, "w");
    if (file == NULL) {
        (void)file_close(fd);
        return -ENOMEM;
    }
    write_envelope(file, message, &envelope);
    r = fflush(file) != 0 || ferror(file) ? -EIO : file_sync(fd);
    fclose(file);
    return r;
}

static int export_body(struct export *export, const char *id,
                       const struct spool_recovered_message *message)
{
    char name[64];
    int r;

    snprintf(name, sizeof(name), "%s.eml", id);
    export->offset = 0;
    r = file_open(export->dir_fd, name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600,
                  &export->fd);
    if (r < 0)
        return r;
    r = spool_inspect_read(export->inspect, &message->location, write_piece, export);
    if (r == 0)
        r = file_sync(export->fd);
    (void)file_close(export->fd); /* synced, or of no use */
    if (r < 0)
        (void)file_unlink(export->dir_fd, name);
    return r;
}

static int keep_failed(struct export *export, uint64_t id)
{
    if (export->failed_count == export->failed_room) {
        size_t room = MAX(export->failed_room * 2, (size_t)256);
        uint64_t *grown = realloc(export->failed, room * sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        export->failed = grown;
        export->failed_room = room;
    }
    export->failed[export->failed_count++] = id;
    return 0;
}

/* Both ascend, as messages come in order of id. */
static bool is_wanted(const struct export *export, uint64_t id)
{
    size_t from = 0, to = export->again_count;

    while (export->again != NULL && from < to) {
        size_t middle = from + (to - from) / 2;

        if (export->again[middle] == id)
            return true;
        if (export->again[middle] < id)
            from = middle + 1;
        else
            to = middle;
    }
    return export->again == NULL;
}

static int export_message(void *context, const struct spool_recovered_message *message)
{
    struct export *export = context;
    char id[SPOOL_ID_TEXT_SIZE];
    int r;

    if (!is_wanted(export, message->id))
        return 0;
    spool_id_format(message->id, id);
    r = export_body(export, id, message);
    if (r == 0)
        r = export_envelope(export, id, message);
    if (r == -EBADMSG || r == -EIO || r == -ENODATA || r == -ENOENT)
        return keep_failed(export, message->id);
    if (r < 0) {
        fprintf(stderr, "kilatctl: %s/%s: cannot be written: %s\n", export->run->target, id,
                strerror(-r));
        return r;
    }
    export->written++;
    if (export->run->wants_json) {
        json_out_object(&export->run->json);
        json_out_cstr(&export->run->json, "id", id);
        json_out_u64(&export->run->json, "bytes", export->offset);
        json_out_object_end(&export->run->json);
    }
    return 0;
}

static int open_target(const struct ctl_spool_run *run)
{
    int fd = -1;
    int r = file_make_dir_path(run->target, 0700);

    if (r == 0)
        r = file_open_dir_path(run->target, &fd);
    if (r < 0)
        fprintf(stderr, "kilatctl: %s: cannot be made or opened: %s\n", run->target, strerror(-r));
    return r < 0 ? -1 : fd;
}

/* One pass over the spool. 0 or -errno, told. */
static int export_pass(struct export *export)
{
    static const struct spool_inspect_events none;
    int r = -EIO;

    spool_inspect_close(&export->inspect);
    export->inspect = ctl_spool_open(export->run);
    if (export->inspect != NULL && ctl_spool_scan(export->run, export->inspect, &none))
        r = spool_inspect_messages(export->inspect, export_message, export);
    return r;
}

/* On a running server a segment may be used again between the scan and the reading: its messages were finished, or live in
 * another place now. So what could not be read is looked for once more; what is damaged is still so then. */
static int export_passes(struct export *export)
{
    int r = export_pass(export);

    for (int pass = 1; pass < PASSES_MAX && r == 0 && export->failed_count > 0; pass++) {
        free(export->again);
        export->again = export->failed;
        export->again_count = export->failed_count;
        export->failed = NULL;
        export->failed_count = export->failed_room = 0;
        r = export_pass(export);
    }
    for (size_t i = 0; i < export->failed_count; i++) {
        char id[SPOOL_ID_TEXT_SIZE];

        spool_id_format(export->failed[i], id);
        fprintf(stderr, "kilatctl: %s: message %s is damaged and was not exported\n",
                export->run->path, id);
    }
    export->damaged = export->failed_count;
    return r;
}

int ctl_spool_export(struct ctl_spool_run *run)
{
    struct export export = {.run = run, .dir_fd = open_target(run)};
    bool fine = export.dir_fd >= 0 && export_passes(&export) == 0;
    int r;

    if (fine) {
        const struct spool_inspect_totals *totals = spool_inspect_totals(export.inspect);

        export.damaged += totals->unreadable;
        if (totals->damaged > 0)
            fprintf(stderr,
                    "kilatctl: %s: has damage, and what it hit may be missing in %s; kilatctl "
                    "spool check tells the places\n",
                    run->path, run->target);
        r = file_sync_dir(export.dir_fd);
        if (r < 0)
            fprintf(stderr, "kilatctl: %s: cannot be synced: %s\n", run->target, strerror(-r));
        if (!run->wants_json)
            printf("%s: %" PRIu64 " messages in %s, %" PRIu64 " damaged and left out\n", run->path,
                   export.written, run->target, export.damaged);
        fine = r == 0 && export.damaged == 0 && totals->damaged == 0;
    }
    if (export.dir_fd >= 0)
        (void)file_close(export.dir_fd);
    spool_inspect_close(&export.inspect);
    free(export.failed);
    free(export.again);
    return fine ? 0 : 1;
}
