/* kilatctl spool import: messages into a stopped spool, by the path every message takes.
 *
 * What spool export wrote goes in with its envelope, those recipients that still wait, their attempts and a hold; it gets
 * an id of its own. Other files are messages alone, one a file, in whatever directories they lie: a Maildir as well. */
#include "cli/json_in.h"
#include "cli/spool_lock.h"
#include "cli/spool_private.h"
#include "cli/spool_writer.h"
#include "core/clock.h"
#include "core/file.h"
#include "queue/envelope.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGE_BYTES_MAX (1ull << 30)
#define DEPTH_MAX 8

struct import {
    struct ctl_spool_run *run;
    struct spool_lock *lock;
    struct spool_writer *writer;
    uint64_t written, refused;
};

/* What a .json says. */
struct letter {
    struct buf sender, client, helo, reason;
    struct buf addresses; /* one behind the other */
    struct slice recipients[ENVELOPE_RECIPIENTS_MAX];
    struct spool_unit units[ENVELOPE_RECIPIENTS_MAX];
    uint32_t sizes[ENVELOPE_RECIPIENTS_MAX];
    uint32_t recipient_count;
    uint64_t report_of, arrival_s, head_bytes, flags;
    bool held;
};

/* ---- files ------------------------------------------------------------------------------------------- */

static int read_whole(const struct import *import, const char *path, struct buf *text)
{
    struct stat info;
    uint8_t *to;
    int fd = spool_lock_open_as_caller(import->lock, path, O_RDONLY);
    int r = fd < 0 || fstat(fd, &info) < 0 ? -errno : 0;

    if (r == 0 && (!S_ISREG(info.st_mode) || (uint64_t)info.st_size > MESSAGE_BYTES_MAX))
        r = S_ISREG(info.st_mode) ? -EFBIG : -EINVAL;
    if (r == 0) {
        to = buf_extend(text, (size_t)info.st_size);
        r = to == NULL ? -ENOMEM : file_read_all(fd, to, (size_t)info.st_size, 0);
    }
    if (fd >= 0)
        close(fd);
    return r;
}

static void refuse(struct import *import, const char *path, const char *why)
{
    fprintf(stderr, "kilatctl: %s: %s\n", path, why);
    import->refused++;
}

/* ---- the message ------------------------------------------------------------------------------------- */

/* The flags that say how it has to be sent; `keep` are those that its bytes do not show. */
static uint8_t flags_of(struct slice text, uint8_t keep)
{
    uint8_t flags = keep & SPOOL_REPORT;

    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] >= 0x80)
            flags |= SPOOL_EIGHT_BIT;
        if (text.data[i] == '.' && (i == 0 || text.data[i - 1] == '\n'))
            flags |= SPOOL_DOT_LINES;
    }
    if (text.size > 0 && text.data[text.size - 1] != '\n')
        flags |= SPOOL_NO_FINAL_CRLF;
    return flags;
}

/* Files end their lines with LF, mail with CRLF (RFC 5321 2.3.8). A CR alone is none of both. */
static bool to_wire(struct slice file, struct buf *text)
{
    for (size_t i = 0; i < file.size; i++) {
        if (file.data[i] == '\r' && (i + 1 == file.size || file.data[i + 1] != '\n'))
            return false;
        if (file.data[i] == '\n' && (i == 0 || file.data[i - 1] != '\r'))
            buf_append_byte(text, '\r');
        buf_append_byte(text, file.data[i]);
    }
    if (file.size > 0 && file.data[file.size - 1] != '\n')
        buf_append_cstr(text, "\r\n");
    return !text->failed;
}

static int write_letter(struct import *import, const struct letter *letter, struct slice text)
{
    struct spool_writer_message message = {
        .unit_count = letter->recipient_count,
        .flags = flags_of(text, (uint8_t)letter->flags),
        .arrival_s = (uint32_t)letter->arrival_s,
        .held = letter->held,
        .units = letter->units,
        .reason = buf_slice(&letter->reason),
    };
    struct envelope_parts parts = {
        .sender = buf_slice(&letter->sender),
        .client = buf_slice(&letter->client),
        .helo = buf_slice(&letter->helo),
        .recipients = letter->recipients,
        .recipient_count = letter->recipient_count,
        .report_of = letter->report_of,
    };
    struct buf envelope;
    int r;

    buf_init(&envelope, ENVELOPE_BYTES_MAX);
    r = envelope_write(&envelope, &parts);
    message.envelope = buf_slice(&envelope);
    if (r == 0)
        r = spool_writer_begin(import->writer, 0, (uint32_t)letter->head_bytes);
    if (r == 0)
        r = spool_writer_piece(import->writer, text);
    if (r == 0)
        r = spool_writer_end(import->writer, &message);
    buf_deinit(&envelope);
    if (r == 0)
        import->written++;
    return r;
}

/* ---- what spool export wrote --------------------------------------------------------------------------- */

static void set_text(struct buf *to, struct slice text)
{
    buf_reset(to);
    buf_append(to, text);
}

static bool take_recipient(struct letter *letter, const struct json_in_value *value)
{
    uint32_t i = letter->recipient_count;

    if (slice_equal(value->name, SLICE("address"))) {
        if (i == ENVELOPE_RECIPIENTS_MAX || value->text.size > 1000)
            return false;
        buf_append(&letter->addresses, value->text);
        letter->sizes[i] = (uint32_t)value->text.size;
        letter->units[i] = (struct spool_unit){0};
        letter->recipient_count++;
        return !letter->addresses.failed;
    }
    if (i == 0)
        return false;
    if (slice_equal(value->name, SLICE("done")))
        letter->units[i - 1].state = value->truth ? SPOOL_UNIT_DONE : SPOOL_UNIT_WAITING;
    else if (slice_equal(value->name, SLICE("attempts")))
        letter->units[i - 1].attempts = (uint8_t)MIN(value->number, (uint64_t)UINT8_MAX);
    else if (slice_equal(value->name, SLICE("next")))
        letter->units[i - 1].next_s = (uint32_t)MIN(value->number, (uint64_t)UINT32_MAX);
    return true;
}

static bool take_value(void *context, const struct json_in_value *value)
{
    struct letter *letter = context;
    const struct {
        const char *name;
        struct buf *text;
        uint64_t *number;
    } fields[] = {
        {"sender", &letter->sender, NULL},     {"client", &letter->client, NULL},
        {"helo", &letter->helo, NULL},         {"reason", &letter->reason, NULL},
        {"arrival", NULL, &letter->arrival_s}, {"head_bytes", NULL, &letter->head_bytes},
        {"flags", NULL, &letter->flags},
    };

    if (value->list[0] == 0 && value->index > 0)
        return false; /* one message a file */
    if (strcmp(value->list, "recipients") == 0)
        return take_recipient(letter, value);
    if (slice_equal(value->name, SLICE("held")))
        letter->held = value->truth;
    if (slice_equal(value->name, SLICE("report_of")))
        return spool_id_parse(value->text, &letter->report_of);
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (!slice_equal(value->name, slice_cstr(fields[i].name)))
            continue;
        if (fields[i].text != NULL)
            set_text(fields[i].text, value->text);
        else
            *fields[i].number = value->number;
    }
    return true;
}

/* Only who still waits: the others have it. */
static void keep_waiting(struct letter *letter)
{
    uint32_t kept = 0;
    size_t at = 0;

    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        struct slice address =
            slice_first(slice_skip(buf_slice(&letter->addresses), at), letter->sizes[i]);

        at += letter->sizes[i];
        if (letter->units[i].state == SPOOL_UNIT_DONE)
            continue;
        letter->units[kept] = letter->units[i];
        letter->recipients[kept++] = address;
    }
    letter->recipient_count = kept;
}

static int import_exported(struct import *import, const char *path, struct letter *letter)
{
    struct buf json, text;
    char *eml = strdup(path);
    int r = eml == NULL ? -ENOMEM : 0;

    buf_init(&json, 16 * MIB);
    buf_init(&text, MESSAGE_BYTES_MAX);
    if (r == 0) {
        strcpy(eml + strlen(eml) - strlen(".json"), ".eml");
        r = read_whole(import, path, &json);
    }
    if (r == 0)
        r = read_whole(import, eml, &text);
    if (r < 0) {
        refuse(import, path, strerror(-r));
        r = r == -ENOMEM ? r : 0;
    } else if (!json_in_read(buf_slice(&json), take_value, letter) ||
               letter->head_bytes > text.size) {
        refuse(import, path, "is no envelope as spool export writes it");
    } else {
        keep_waiting(letter);
        if (letter->recipient_count > 0)
            r = write_letter(import, letter, buf_slice(&text));
    }
    buf_deinit(&json);
    buf_deinit(&text);
    free(eml);
    return r;
}

/* ---- messages alone ------------------------------------------------------------------------------------ */

static int import_alone(struct import *import, const char *path, struct letter *letter)
{
    struct slice rest;
    struct buf file, text;
    int r;

    if (import->run->recipients == NULL) {
        refuse(import, path, "comes without an envelope: name who gets it (--to ADDRESS,...)");
        return 0;
    }
    rest = slice_cstr(import->run->recipients);
    while (rest.size > 0 && letter->recipient_count < ENVELOPE_RECIPIENTS_MAX)
        letter->recipients[letter->recipient_count++] = slice_split(&rest, ',');
    set_text(&letter->sender, slice_cstr(import->run->sender != NULL ? import->run->sender : ""));
    letter->arrival_s = clock_wall_ns() / SECOND_NS;
    buf_init(&file, MESSAGE_BYTES_MAX);
    buf_init(&text, MESSAGE_BYTES_MAX);
    r = read_whole(import, path, &file);
    if (r < 0) {
        refuse(import, path, strerror(-r));
        r = 0;
    } else if (!to_wire(buf_slice(&file), &text)) {
        refuse(import, path, "has a CR that ends no line");
    } else {
        r = write_letter(import, letter, buf_slice(&text));
    }
    buf_deinit(&file);
    buf_deinit(&text);
    return r;
}

static bool ends_with(const char *path, const char *end)
{
    return slice_ends_nocase(slice_cstr(path), slice_cstr(end));
}

static int import_file(struct import *import, const char *path)
{
    struct letter *letter = calloc(1, sizeof(*letter));
    struct buf *texts[] = {&letter->sender, &letter->client, &letter->helo, &letter->reason};
    int r;

    if (letter == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        buf_init(texts[i], 64 * KIB);
    buf_init(&letter->addresses, 16 * MIB);
    r = ends_with(path, ".json") ? import_exported(import, path, letter)
                                 : import_alone(import, path, letter);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        buf_deinit(texts[i]);
    buf_deinit(&letter->addresses);
    free(letter);
    if (r < 0)
        fprintf(stderr, "kilatctl: %s: could not be written to the spool: %s\n", path,
                strerror(-r));
    return r;
}

/* ---- which files ------------------------------------------------------------------------------------------ */

static int import_path(struct import *import, const char *path, int depth);

/* An .eml beside its .json came with that one. */
static bool has_envelope(const struct import *import, const char *path)
{
    char *json;
    int fd = -1;

    if (!ends_with(path, ".eml") ||
        asprintf(&json, "%.*s.json", (int)(strlen(path) - strlen(".eml")), path) < 0)
        return false;
    fd = spool_lock_open_as_caller(import->lock, json, O_RDONLY | O_NOFOLLOW);
    free(json);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* tmp/ of a Maildir holds what was never delivered, and hidden names are its readers' own. */
static int import_directory(struct import *import, DIR *dir, const char *path, int depth)
{
    struct dirent *entry;
    int r = 0;

    while (r == 0 && (entry = readdir(dir)) != NULL) {
        char *below;

        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "tmp") == 0)
            continue;
        if (asprintf(&below, "%s/%s", path, entry->d_name) < 0)
            return -ENOMEM;
        if (!has_envelope(import, below))
            r = import_path(import, below, depth + 1);
        free(below);
    }
    return r;
}

static int import_path(struct import *import, const char *path, int depth)
{
    int fd = spool_lock_open_as_caller(import->lock, path, O_RDONLY | O_DIRECTORY);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int r;

    if (dir == NULL)
        return import_file(import, path);
    if (depth < DEPTH_MAX) {
        r = import_directory(import, dir, path, depth);
    } else {
        refuse(import, path, "lies too deep");
        r = 0;
    }
    closedir(dir);
    return r;
}

/* ---- the command ------------------------------------------------------------------------------------------ */

static void see_segment(void *context, const struct spool_inspect_segment *segment)
{
    uint64_t *bytes = context;

    if (segment->stream == 'D')
        *bytes = MAX(*bytes, segment->size_bytes);
}

/* What a spool is, before anything of it is touched. */
static bool look(struct ctl_spool_run *run, uint32_t *ret_number, uint64_t *ret_segment_bytes)
{
    struct spool_inspect_events events = {.context = ret_segment_bytes, .segment = see_segment};
    struct spool_inspect *inspect = ctl_spool_open(run);
    bool fine = inspect != NULL && ctl_spool_scan(run, inspect, &events);

    if (fine)
        *ret_number = spool_inspect_super(inspect)->number;
    spool_inspect_close(&inspect);
    return fine;
}

static int import_locked(struct import *import, uint32_t number, uint64_t segment_bytes)
{
    struct buf error;
    int r, closed;

    buf_init(&error, 4 * KIB);
    r = spool_writer_open(import->run->path, number, MAX(ROUND_UP(segment_bytes, MIB), 2 * MIB),
                          &import->writer, &error);
    if (r < 0)
        fprintf(stderr, "kilatctl: %.*s: nothing was changed\n", SLICE_ARG(buf_slice(&error)));
    buf_deinit(&error);
    if (r < 0)
        return r;
    for (int i = 0; i < import->run->file_count && r == 0; i++)
        r = import_path(import, import->run->files[i], 0);
    closed = spool_writer_close(&import->writer);
    if (closed < 0)
        fprintf(stderr, "kilatctl: %s: not all of it is on the disk: %s\n", import->run->path,
                strerror(-closed));
    return r == 0 ? closed : r;
}

int ctl_spool_import(struct ctl_spool_run *run)
{
    struct spool_lock lock;
    struct import import = {.run = run, .lock = &lock};
    uint64_t segment_bytes = 0;
    uint32_t number = 0;
    int r;

    if (!look(run, &number, &segment_bytes) || !spool_lock_take(run->path, false, &lock))
        return 1;
    r = import_locked(&import, number, segment_bytes);
    spool_lock_release(&lock);
    if (run->wants_json) {
        json_out_object(&run->json);
        json_out_cstr(&run->json, "spool", run->path);
        json_out_u64(&run->json, "imported", import.written);
        json_out_u64(&run->json, "refused", import.refused);
        json_out_object_end(&run->json);
    } else {
        printf("%s: %" PRIu64 " messages imported, %" PRIu64 " files refused\n", run->path,
               import.written, import.refused);
    }
    return r < 0 || import.refused > 0 ? 1 : 0;
}
