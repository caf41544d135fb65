/* What the record of crashes says of messages, and what it does not. */
#include "daemon/crashes.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "storage/spool.h"

#define FIRST 0x0123456789abcdull
#define OTHER 77ull

static void crash_line(struct buf *text, uint64_t id)
{
    char name[SPOOL_ID_TEXT_SIZE];

    spool_id_format(id, name);
    buf_printf(
        text,
        "time=2026-11-25T01:00:00.000000Z level=error event=kilatd.crashed build=0.1.0 pid=7 "
        "signal=SIGABRT address=0 shard=0 message=%s backtrace=+12+34\n",
        name);
}

static uint32_t poison(struct slice text, uint64_t *ret_first)
{
    static struct crashes crashes;
    uint32_t at = 0, count = 0;
    uint64_t id;

    crashes = (struct crashes){0};
    crashes_read(&crashes, text);
    while (crashes_next(&crashes, &at, &id))
        if (count++ == 0)
            *ret_first = id;
    return count;
}

Test(crashes, two_lines_make_a_message_poison_and_one_does_not)
{
    uint64_t id = 0;
    struct buf text;

    buf_init(&text, MIB);
    crash_line(&text, FIRST);
    crash_line(&text, OTHER);
    cr_expect_eq(poison(buf_slice(&text), &id), 0);
    crash_line(&text, FIRST);
    cr_expect_eq(poison(buf_slice(&text), &id), 1);
    cr_expect_eq(id, FIRST);
    buf_deinit(&text);
}

/* Somebody looked at it and released it: what was said before counts no more, what comes then does. */
Test(crashes, set_aside_begins_anew)
{
    uint64_t id = 0;
    struct buf text;

    buf_init(&text, MIB);
    crash_line(&text, FIRST);
    crash_line(&text, FIRST);
    crashes_write_set_aside(&text, FIRST);
    cr_expect_eq(poison(buf_slice(&text), &id), 0);
    crash_line(&text, FIRST);
    cr_expect_eq(poison(buf_slice(&text), &id), 0);
    crash_line(&text, FIRST);
    cr_expect_eq(poison(buf_slice(&text), &id), 1);
    buf_deinit(&text);
}

Test(crashes, what_is_no_line_of_ours_names_nothing)
{
    static const char *const rows[] = {
        "",
        "\n\n\n",
        "event=kilatd.crashed message=\n",
        "event=kilatd.crashed message=\"\"\n",
        "event=kilatd.crashed message=0000000000000X\n", /* the check digit is wrong */
        "event=kilatd.crashed message\n",
        "event message=00000000002D0B\n",
        "event=kilatd.crashedx message=00000000002D0B\n",
        "message message message\n",
        "\xff\xfe\x00 event=kilatd.crashed\n",
    };
    uint64_t id;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct buf text;
        buf_init(&text, MIB);
        buf_append_cstr(&text, rows[i]);
        buf_append_cstr(&text, rows[i]);
        cr_expect_eq(poison(buf_slice(&text), &id), 0, "row %zu", i);
        buf_deinit(&text);
    }
}

Test(crashes, more_messages_than_are_remembered_push_out_the_oldest)
{
    uint64_t id = 0;
    struct buf text;

    buf_init(&text, MIB);
    crash_line(&text, 1);
    for (uint64_t i = 2; i < 2 + CRASHES_NAMES_MAX; i++)
        crash_line(&text, i);
    crash_line(&text, 1);
    cr_expect_eq(poison(buf_slice(&text), &id), 0);
    crash_line(&text, 1);
    cr_expect_eq(poison(buf_slice(&text), &id), 1);
    cr_expect_eq(id, 1);
    buf_deinit(&text);
}

/* The end is what counts; the half line it begins with is none; and the file does not grow for ever. */
Test(crashes, a_long_record_is_read_from_its_end_and_put_by)
{
    char path[] = "/tmp/kilat-crashes-XXXXXX";
    struct crashes crashes;
    struct file_info info;
    struct buf text;
    uint64_t id = 0;
    uint32_t at = 0;
    int dir_fd, fd;

    cr_assert_not_null(mkdtemp(path));
    buf_init(&text, 4 * MIB);
    while (text.size < MIB + 1000)
        crash_line(&text, 5);
    crashes_write_set_aside(&text, 5);
    crash_line(&text, FIRST);
    crash_line(&text, FIRST);
    cr_assert_eq(file_open_dir_path(path, &dir_fd), 0);
    cr_assert_eq(file_open(dir_fd, CRASHES_FILE, FILE_WRITE | FILE_CREATE, 0600, &fd), 0);
    cr_assert_eq(file_write_all(fd, buf_slice(&text), 0), 0);
    (void)file_close(fd);
    cr_assert_eq(crashes_open(path, &crashes, &fd), 0);
    cr_expect(crashes_next(&crashes, &at, &id));
    cr_expect_eq(id, FIRST);
    cr_expect_not(crashes_next(&crashes, &at, &id));
    cr_assert_eq(file_info(fd, &info), 0);
    cr_expect_eq(info.size_bytes, 0);
    cr_expect_eq(file_info_at(dir_fd, CRASHES_FILE ".old", &info), 0);
    cr_expect_eq(info.size_bytes, text.size);
    (void)file_close(fd);
    cr_expect_eq(file_unlink(dir_fd, CRASHES_FILE), 0);
    cr_expect_eq(file_unlink(dir_fd, CRASHES_FILE ".old"), 0);
    (void)file_close(dir_fd);
    cr_expect_eq(rmdir(path), 0);
    buf_deinit(&text);
}
