#include "daemon/marker.h"

#include <errno.h>
#include <stdio.h>

#include "core/crc32c.h"
#include "core/file.h"

#define MARKER_BYTES_MAX 256
#define MARKER_NAME_SIZE 16

/* ---- the line ------------------------------------------------------------------------------------ */

void marker_write_text(struct buf *out, const struct marker *marker)
{
    size_t from = out->size;

    buf_append_cstr(out, "kilat-mark 1 uuid=");
    for (size_t i = 0; i < SPOOL_UUID_BYTES; i++)
        buf_printf(out, "%02x", marker->uuid[i]);
    buf_printf(out, " epoch=%llu sequence=%llu hold=%d", (unsigned long long)marker->epoch,
               (unsigned long long)marker->sequence, marker->hold);
    buf_printf(out, " crc=%08x\n", crc32c(0, slice_of(out->data + from, out->size - from)));
}

static int marker_hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool marker_parse_uuid(struct slice text, uint8_t uuid[SPOOL_UUID_BYTES])
{
    if (text.size != 2 * SPOOL_UUID_BYTES)
        return false;
    for (size_t i = 0; i < SPOOL_UUID_BYTES; i++) {
        int high = marker_hex(text.data[2 * i]), low = marker_hex(text.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        uuid[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* The value of the next word, which has to be of `name`. */
static struct slice marker_value(struct slice *rest, struct slice name)
{
    struct slice value = slice_split(rest, ' ');

    return slice_equal(slice_split(&value, '='), name) ? value : SLICE_NONE;
}

bool marker_parse(struct slice text, struct marker *ret_marker)
{
    struct slice rest = text, crc;
    uint64_t hold, wanted = 0;
    size_t end = slice_find_last(text, ' ');

    if (end == SIZE_MAX || text.data[text.size - 1] != '\n' ||
        !slice_equal(slice_split(&rest, ' '), SLICE("kilat-mark")) ||
        !slice_equal(slice_split(&rest, ' '), SLICE("1")) ||
        !marker_parse_uuid(marker_value(&rest, SLICE("uuid")), ret_marker->uuid) ||
        !slice_parse_u64(marker_value(&rest, SLICE("epoch")), UINT64_MAX, &ret_marker->epoch) ||
        !slice_parse_u64(marker_value(&rest, SLICE("sequence")), UINT64_MAX,
                         &ret_marker->sequence) ||
        !slice_parse_u64(marker_value(&rest, SLICE("hold")), 1, &hold))
        return false;
    ret_marker->hold = hold == 1;
    crc = marker_value(&rest, SLICE("crc"));
    if (crc.size != 8 + 1)
        return false;
    for (size_t i = 0; i < 8; i++) {
        int digit = marker_hex(crc.data[i]);
        if (digit < 0)
            return false;
        wanted = wanted << 4 | (uint64_t)digit;
    }
    return crc32c(0, slice_first(text, end)) == wanted;
}

/* ---- what it means --------------------------------------------------------------------------------- */

enum marker_verdict marker_judge(const struct marker *marker, const struct spool_look *look)
{
    /* A newer slot of SUPER that was lost to damage makes the spool look older by one write. */
    uint64_t sequence = look->sequence + (look->slot_damaged ? 1 : 0);

    if (!look->exists)
        return MARKER_GONE;
    if (memcmp(marker->uuid, look->uuid, SPOOL_UUID_BYTES) != 0)
        return MARKER_FOREIGN;
    if (marker->hold)
        return MARKER_HELD;
    return sequence < marker->sequence ? MARKER_OLDER : MARKER_FINE;
}

const char *marker_sentence(enum marker_verdict verdict)
{
    static const char *const sentences[] = {
        [MARKER_FINE] = "",
        [MARKER_HELD] = "it is a copy that nobody has accepted yet, and delivering it may send old "
                        "mail again: kilatctl spool accept",
        [MARKER_OLDER] = "it is older than the server last left it, a copy that was put back, and "
                         "delivering it may send old mail again: kilatctl spool accept",
        [MARKER_FOREIGN] = "it is another spool than the one that was here, and delivering it may "
                           "send old mail again: kilatctl spool accept",
        [MARKER_GONE] = "its marker is here and the spool is not: is a file system not mounted?",
    };

    return sentences[verdict];
}

/* ---- the file -------------------------------------------------------------------------------------- */

static void marker_name(uint32_t number, const char *suffix, char name[MARKER_NAME_SIZE])
{
    (void)snprintf(name, MARKER_NAME_SIZE, "%04u.mark%s", number, suffix);
}

int marker_read(int dir_fd, uint32_t number, struct marker *ret_marker)
{
    char name[MARKER_NAME_SIZE], text[MARKER_BYTES_MAX];
    ssize_t count;
    int fd, r;

    marker_name(number, "", name);
    r = file_open(dir_fd, name, FILE_READ, 0, &fd);
    if (r < 0)
        return r;
    count = file_read_some(fd, text, sizeof(text), 0);
    (void)file_close(fd); /* nothing was written */
    if (count < 0)
        return (int)count;
    return marker_parse(slice_of(text, (size_t)count), ret_marker) ? 0 : -EBADMSG;
}

int marker_write(int dir_fd, uint32_t number, const struct marker *marker)
{
    char name[MARKER_NAME_SIZE], new_name[MARKER_NAME_SIZE];
    struct buf text;
    int fd, r;

    marker_name(number, "", name);
    marker_name(number, ".new", new_name);
    buf_init(&text, MARKER_BYTES_MAX);
    marker_write_text(&text, marker);
    r = text.failed
            ? -ENOMEM
            : file_open(dir_fd, new_name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &fd);
    if (r == 0) {
        r = file_write_all(fd, buf_slice(&text), 0);
        if (r == 0)
            r = file_sync(fd);
        (void)file_close(fd); /* synced, or r says why not */
        if (r == 0)
            r = file_rename(dir_fd, new_name, dir_fd, name);
        if (r == 0)
            r = file_sync_dir(dir_fd);
    }
    buf_deinit(&text);
    return r;
}
