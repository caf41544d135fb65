#include "daemon/crashes.h"

#include <errno.h>
#include <stdlib.h>

#include "core/file.h"
#include "storage/spool.h"

#define CRASHES_READ_BYTES (256 * KIB) /* of its end: some thousand lines */
#define CRASHES_BYTES_MAX MIB          /* a longer one is put by as CRASHES.old */

static uint32_t *crashes_lines(struct crashes *crashes, uint64_t id)
{
    for (uint32_t i = 0; i < crashes->count; i++)
        if (crashes->names[i].id == id)
            return &crashes->names[i].lines;
    if (crashes->count == CRASHES_NAMES_MAX)
        memmove(crashes->names, crashes->names + 1, --crashes->count * sizeof(crashes->names[0]));
    crashes->names[crashes->count].id = id;
    crashes->names[crashes->count].lines = 0;
    return &crashes->names[crashes->count++].lines;
}

/* The value of the first field `name`; empty when there is none. */
static struct slice crashes_field(struct slice line, struct slice name)
{
    while (line.size > 0) {
        struct slice word = slice_split(&line, ' ');
        struct slice value = word;
        if (slice_equal(slice_split(&value, '='), name) && word.size > name.size)
            return value;
    }
    return SLICE_NONE;
}

void crashes_read(struct crashes *crashes, struct slice text)
{
    while (text.size > 0) {
        struct slice line = slice_split(&text, '\n');
        struct slice event = crashes_field(line, SLICE("event"));
        bool crashed = slice_equal(event, SLICE("kilatd.crashed"));
        uint64_t id;

        crashes->crashes += crashed;
        if (!spool_id_parse(crashes_field(line, SLICE("message")), &id) || id == 0)
            continue;
        if (crashed)
            *crashes_lines(crashes, id) += 1;
        else if (slice_equal(event, SLICE("message.set_aside")))
            *crashes_lines(crashes, id) = 0;
    }
}

bool crashes_next(const struct crashes *crashes, uint32_t *at, uint64_t *ret_id)
{
    while (*at < crashes->count) {
        uint32_t i = (*at)++;
        if (crashes->names[i].lines >= CRASHES_POISON) {
            *ret_id = crashes->names[i].id;
            return true;
        }
    }
    return false;
}

void crashes_write_set_aside(struct buf *out, uint64_t id)
{
    char text[SPOOL_ID_TEXT_SIZE];

    spool_id_format(id, text);
    buf_printf(out, "event=message.set_aside message=%s\n", text);
}

static int crashes_read_end(int fd, uint64_t size_bytes, struct crashes *crashes)
{
    uint64_t from = size_bytes > CRASHES_READ_BYTES ? size_bytes - CRASHES_READ_BYTES : 0;
    struct slice text;
    uint8_t *bytes = malloc(CRASHES_READ_BYTES);
    ssize_t count = bytes == NULL ? -ENOMEM : file_read_some(fd, bytes, CRASHES_READ_BYTES, from);

    if (count > 0) {
        text = slice_of(bytes, (size_t)count);
        if (from > 0)
            (void)slice_split(&text, '\n'); /* the rest of a line */
        crashes_read(crashes, text);
    }
    free(bytes);
    return count < 0 ? (int)count : 0;
}

int crashes_open(const char *path, struct crashes *crashes, int *ret_fd)
{
    struct file_info info;
    int dir_fd, fd = -1, r;

    *crashes = (struct crashes){0};
    r = file_open_dir_path(path, &dir_fd);
    if (r < 0)
        return r;
    for (int round = 0; round < 2 && r == 0; round++) {
        r = file_open(dir_fd, CRASHES_FILE, FILE_READ | FILE_WRITE | FILE_CREATE | FILE_APPEND,
                      0600, &fd);
        if (r == 0)
            r = file_info(fd, &info);
        if (r == 0 && round == 0)
            r = crashes_read_end(fd, info.size_bytes, crashes);
        if (r < 0 || info.size_bytes <= CRASHES_BYTES_MAX)
            break;
        /* What it says is known for this start; who was set aside is on hold in the queue by now. */
        r = file_rename(dir_fd, CRASHES_FILE, dir_fd, CRASHES_FILE ".old");
        (void)file_close(fd); /* nothing was written */
        fd = -1;
    }
    (void)file_close(dir_fd); /* nothing was written through it */
    if (r == 0)
        *ret_fd = fd;
    else if (fd >= 0)
        (void)file_close(fd);
    return r;
}
