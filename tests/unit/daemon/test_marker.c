/* A marker says how far its spool had come, and a spool that has not come as far is not delivered from. */
#include "daemon/marker.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/file.h"

static const struct marker marker = {
    .uuid = {1, 2, 0xab, 0xff, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    .epoch = 7,
    .sequence = 40};

static struct slice text_of(const struct marker *m, struct buf *text)
{
    buf_reset(text);
    marker_write_text(text, m);
    cr_assert_not(text->failed);
    return buf_slice(text);
}

Test(marker, says_what_was_written)
{
    struct marker held = marker, read = {0};
    struct buf text;

    buf_init(&text, KIB);
    held.hold = true;
    cr_expect(marker_parse(text_of(&marker, &text), &read));
    cr_expect_arr_eq(read.uuid, marker.uuid, sizeof(read.uuid));
    cr_expect_eq(read.epoch, 7);
    cr_expect_eq(read.sequence, 40);
    cr_expect_not(read.hold);
    cr_expect(marker_parse(text_of(&held, &text), &read));
    cr_expect(read.hold);
    buf_deinit(&text);
}

/* Goal: no damage makes another marker of it. Method: cut it everywhere, change every byte. */
Test(marker, damaged_is_none)
{
    struct marker read;
    struct buf text;
    struct slice whole;

    buf_init(&text, KIB);
    whole = text_of(&marker, &text);
    for (size_t size = 0; size < whole.size; size++)
        cr_expect_not(marker_parse(slice_first(whole, size), &read), "cut at %zu", size);
    for (size_t at = 0; at < whole.size; at++)
        for (int bit = 0; bit < 8; bit++) {
            text.data[at] ^= (uint8_t)(1u << bit);
            cr_expect_not(marker_parse(whole, &read), "byte %zu, bit %d", at, bit);
            text.data[at] ^= (uint8_t)(1u << bit);
        }
    buf_deinit(&text);
}

Test(marker, is_compared_with_the_spool_beside_it)
{
    static const struct {
        const char *name;
        uint64_t sequence;
        bool exists, other, slot_damaged, hold;
        enum marker_verdict wanted;
    } rows[] = {
        {"as it was left", 40, true, false, false, false, MARKER_FINE},
        {"a crash before the marker was written", 43, true, false, false, false, MARKER_FINE},
        {"one write older", 39, true, false, false, false, MARKER_OLDER},
        {"the newer slot was lost to damage", 39, true, false, true, false, MARKER_FINE},
        {"older, whatever was lost", 38, true, false, true, false, MARKER_OLDER},
        {"another spool, however new", 99, true, true, false, false, MARKER_FOREIGN},
        {"not accepted yet, and grown meanwhile", 99, true, false, false, true, MARKER_HELD},
        {"gone", 0, false, false, false, false, MARKER_GONE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct spool_look look = {.exists = rows[i].exists,
                                  .sequence = rows[i].sequence,
                                  .slot_damaged = rows[i].slot_damaged};
        struct marker m = marker;
        m.hold = rows[i].hold;
        memcpy(look.uuid, marker.uuid, sizeof(look.uuid));
        look.uuid[3] ^= rows[i].other;
        cr_expect_eq(marker_judge(&m, &look), rows[i].wanted, "%s", rows[i].name);
        cr_expect_eq(marker_sentence(rows[i].wanted)[0] == 0, rows[i].wanted == MARKER_FINE);
    }
}

Test(marker, lives_in_a_file)
{
    char path[] = "/tmp/kilat-marker-XXXXXX";
    struct marker read;
    int dir_fd, fd;

    cr_assert_not_null(mkdtemp(path));
    cr_assert_eq(file_open_dir_path(path, &dir_fd), 0);
    cr_expect_eq(marker_read(dir_fd, 3, &read), -ENOENT);
    cr_expect_eq(marker_write(dir_fd, 3, &marker), 0);
    cr_expect_eq(marker_read(dir_fd, 3, &read), 0);
    cr_expect_eq(read.sequence, 40);
    cr_assert_eq(file_open(dir_fd, "0003.mark", FILE_WRITE | FILE_TRUNCATE, 0, &fd), 0);
    (void)file_close(fd);
    cr_expect_eq(marker_read(dir_fd, 3, &read), -EBADMSG);
    cr_expect_eq(file_unlink(dir_fd, "0003.mark"), 0);
    (void)file_close(dir_fd);
    cr_expect_eq(rmdir(path), 0);
}
