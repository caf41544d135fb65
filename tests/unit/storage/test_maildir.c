#include "tests/unit/storage/maildir_fixture.h"

#include <signal.h>
#include <sys/resource.h>

static const uint8_t uuid[16] = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe,
                                 1,    2,    3,    4,    5,    6,    7,    8};
static const uint8_t other_uuid[16] = {9};

#define UUID_TEXT "1032547698badcfe0102030405060708"

static struct iovec pieces[] = {{(void *)(uintptr_t) "Subject: a\r\n\r\n", 14},
                                {(void *)(uintptr_t) "body\r\n", 6}};

static struct maildir_item item_of(const char *directory, uint64_t id, uint32_t unit)
{
    struct maildir_item item = {.directory = directory,
                                .id = id,
                                .unit = unit,
                                .pieces = pieces,
                                .piece_count = ARRAY_SIZE(pieces),
                                .result = 1};

    memcpy(item.spool_uuid, uuid, sizeof(uuid));
    return item;
}

static enum maildir_fate all_wait(void *context, uint64_t id, uint32_t unit)
{
    (void)context;
    (void)id;
    (void)unit;
    return MAILDIR_REMOVE;
}

static enum maildir_fate none_waits(void *context, uint64_t id, uint32_t unit)
{
    (void)context;
    (void)id;
    (void)unit;
    return MAILDIR_PUBLISH;
}

/* `context` is the id that waits. */
static enum maildir_fate one_waits(void *context, uint64_t id, uint32_t unit)
{
    (void)unit;
    return id == *(const uint64_t *)context ? MAILDIR_REMOVE : MAILDIR_PUBLISH;
}

Test(maildir, write_shows_nothing_and_publish_shows_all)
{
    struct maildir_item items[] = {item_of("kawan.test/fadli", 7, 0), item_of("solo", 7, 1)};
    struct fixture f;
    char name[256], path[600], content[64] = {0};
    FILE *file;

    fixture_open(&f);
    cr_expect_eq(maildir_batch_write(f.root_fd, items, 2), 0);
    cr_expect_eq(items[0].result, 0);
    cr_expect_eq(items[1].result, 0);
    cr_expect_eq(names_in(&f, "kawan.test/fadli/tmp", NULL), 1);
    cr_expect_eq(names_in(&f, "kawan.test/fadli/new", NULL), 0);
    cr_expect_eq(maildir_batch_publish(f.root_fd, items, 2), 0);
    cr_expect_eq(names_in(&f, "kawan.test/fadli/tmp", NULL), 0);
    cr_expect_eq(names_in(&f, "kawan.test/fadli/new", name), 1);
    cr_expect_eq(names_in(&f, "solo/new", NULL), 1);
    cr_expect_str_eq(name, "0000000000000007.0." UUID_TEXT);
    (void)snprintf(path, sizeof(path), "%s/kawan.test/fadli/new/%s", f.path, name);
    file = fopen(path, "r");
    cr_assert_not_null(file);
    cr_expect_eq(fread(content, 1, sizeof(content), file), 20);
    cr_expect_str_eq(content, "Subject: a\r\n\r\nbody\r\n");
    (void)fclose(file);
    fixture_close(&f);
}

Test(maildir, directories_are_private)
{
    struct maildir_item item = item_of("d/u", 1, 0);
    struct fixture f;
    struct stat info;
    char path[512];

    fixture_open(&f);
    cr_expect_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    path_of(&f, "d/u/cur", path);
    cr_assert_eq(stat(path, &info), 0);
    cr_expect_eq(info.st_mode & 0777, 0700);
    fixture_close(&f);
}

Test(maildir, bad_directories_fail_alone)
{
    static const char *const bad[] = {"",      "/",  "/etc", "..",   "../x", "a/..",
                                      "a/b/c", "a/", ".a",   "a/.b", ".",    "a//b"};
    struct maildir_item items[ARRAY_SIZE(bad) + 1];
    struct fixture f;

    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        items[i] = item_of(bad[i], 1, (uint32_t)i);
    items[ARRAY_SIZE(bad)] = item_of("good", 1, 99);
    cr_expect_eq(maildir_batch_write(f.root_fd, items, ARRAY_SIZE(items)), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        cr_expect_eq(items[i].result, -EINVAL, "%s", bad[i]);
    cr_expect_eq(items[ARRAY_SIZE(bad)].result, 0);
    cr_expect_eq(names_in(&f, "good/tmp", NULL), 1);
    cr_expect_eq(maildir_batch_write(f.root_fd, items, ARRAY_SIZE(bad)), -EINVAL);
    fixture_close(&f);
}

Test(maildir, links_are_not_followed)
{
    struct maildir_item item = item_of("linked", 1, 0), planted = item_of("u", 2, 0);
    struct fixture f;
    struct stat info;
    char path[512], outside[512];

    fixture_open(&f);
    make_maildir(&f, "elsewhere");
    path_of(&f, "linked", path);
    cr_assert_eq(symlink("elsewhere", path), 0);
    cr_expect_lt(maildir_batch_write(f.root_fd, &item, 1), 0);
    cr_expect_eq(names_in(&f, "elsewhere/tmp", NULL), 0);

    /* A link planted under the very name is replaced, not written through. */
    make_maildir(&f, "u");
    path_of(&f, "outside", outside);
    put(&f, "outside", "", 1);
    path_of(&f, "u/tmp/0000000000000002.0." UUID_TEXT, path);
    cr_assert_eq(symlink(outside, path), 0);
    cr_expect_eq(maildir_batch_write(f.root_fd, &planted, 1), 0);
    cr_assert_eq(stat(outside, &info), 0);
    cr_expect_eq(info.st_size, 0);
    fixture_close(&f);
}

Test(maildir, fifo_under_the_name_does_not_block)
{
    struct maildir_item item = item_of("u", 2, 0);
    struct fixture f;
    char path[512];

    fixture_open(&f);
    make_maildir(&f, "u");
    path_of(&f, "u/tmp/0000000000000002.0." UUID_TEXT, path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_expect_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    fixture_close(&f);
}

/* Goal: a full disk fails the message that did not fit, leaves nothing of it, and harms no other.
 */
Test(maildir, write_error_leaves_no_file)
{
    static char big[8192];
    struct iovec big_piece = {big, sizeof(big)};
    struct maildir_item items[] = {item_of("a", 1, 0), item_of("b", 1, 1)};
    struct rlimit limit = {4096, 4096};
    struct fixture f;

    fixture_open(&f);
    items[0].pieces = &big_piece;
    items[0].piece_count = 1;
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_expect_eq(maildir_batch_write(f.root_fd, items, 2), 0);
    cr_expect_eq(items[0].result, -EFBIG);
    cr_expect_eq(items[1].result, 0);
    cr_expect_eq(names_in(&f, "a/tmp", NULL), 0);
    cr_expect_eq(names_in(&f, "b/tmp", NULL), 1);
    fixture_close(&f);
}

/* Goal: nobody's mail is called durable after a failed sync, and none of it is left for recovery to
 * find. */
Test(maildir, failed_sync_fails_the_whole_batch)
{
    struct maildir_item items[] = {item_of("a", 1, 0), item_of("..", 1, 1), item_of("b", 1, 2)};
    struct fixture f;

    fixture_open(&f);
    fail_call(SYS_syncfs);
    fail_call(SYS_fsync); /* what stands in for it on other file systems */
    cr_expect_eq(maildir_batch_write(f.root_fd, items, 3), -EIO);
    cr_expect_eq(items[0].result, -EIO);
    cr_expect_eq(items[1].result, -EINVAL);
    cr_expect_eq(items[2].result, -EIO);
    cr_expect_eq(names_in(&f, "a/tmp", NULL), 0);
    cr_expect_eq(names_in(&f, "b/tmp", NULL), 0);
    fixture_close(&f);
}

Test(maildir, publish_repeats_without_harm)
{
    struct maildir_item item = item_of("u", 3, 0);
    struct fixture f;
    char from[512], to[512];

    fixture_open(&f);
    cr_assert_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    cr_expect_eq(maildir_batch_publish(f.root_fd, &item, 1), 0);
    cr_expect_eq(maildir_batch_publish(f.root_fd, &item, 1), 0, "stands in new/");
    path_of(&f, "u/new/0000000000000003.0." UUID_TEXT, from);
    path_of(&f, "u/cur/0000000000000003.0." UUID_TEXT ":2,RS", to);
    cr_assert_eq(rename(from, to), 0);
    cr_expect_eq(maildir_batch_publish(f.root_fd, &item, 1), 0, "stands in cur/, read");
    cr_assert_eq(unlink(to), 0);
    cr_expect_eq(maildir_batch_publish(f.root_fd, &item, 1), -ENOENT, "nowhere");
    cr_expect_eq(item.result, -ENOENT);
    fixture_close(&f);
}

Test(maildir, publish_leaves_failed_items_alone)
{
    struct maildir_item items[] = {item_of("u", 3, 0), item_of("u", 4, 0)};
    struct fixture f;

    fixture_open(&f);
    cr_assert_eq(maildir_batch_write(f.root_fd, items, 2), 0);
    items[0].result = -ENOSPC;
    cr_expect_eq(maildir_batch_publish(f.root_fd, items, 2), 0);
    cr_expect_eq(items[0].result, -ENOSPC);
    cr_expect_eq(names_in(&f, "u/new", NULL), 1);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), 1);
    fixture_close(&f);
}

Test(maildir, unlink_takes_back_and_repeats)
{
    struct maildir_item item = item_of("d/u", 3, 0);
    struct fixture f;

    fixture_open(&f);
    cr_expect_eq(maildir_batch_unlink(f.root_fd, &item, 1), 0, "no such account yet");
    cr_assert_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    cr_expect_eq(maildir_batch_unlink(f.root_fd, &item, 1), 0);
    cr_expect_eq(names_in(&f, "d/u/tmp", NULL), 0);
    cr_expect_eq(maildir_batch_unlink(f.root_fd, &item, 1), 0);
    fixture_close(&f);
}

Test(maildir, second_try_replaces_what_the_first_left)
{
    struct maildir_item item = item_of("u", 3, 0);
    struct fixture f;
    struct file_info info;
    char path[512];
    int new_fd;

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/tmp/0000000000000003.0." UUID_TEXT, "half of an earlier, much longer try", 1);
    cr_expect_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    cr_expect_eq(maildir_batch_publish(f.root_fd, &item, 1), 0);
    cr_expect_eq(names_in(&f, "u/new", NULL), 1);
    path_of(&f, "u/new", path);
    cr_assert_eq(file_open_dir_path(path, &new_fd), 0);
    cr_expect_eq(file_info_at(new_fd, "0000000000000003.0." UUID_TEXT, &info), 0);
    cr_expect_eq(info.size_bytes, 20);
    (void)file_close(new_fd);
    fixture_close(&f);
}

/* ---- one that is too big for memory -------------------------------------------------------- */

Test(maildir_file, pieces_in_order_make_one_message)
{
    struct maildir_item item = item_of("d/u", 9, 1);
    struct maildir_file file;
    struct fixture f;
    char path[512], content[64] = {0};
    FILE *read;

    fixture_open(&f);
    cr_assert_eq(maildir_file_begin(f.root_fd, &item, &file), 0);
    cr_expect_eq(maildir_file_append(f.root_fd, &item, &file, SLICE("one ")), 0);
    cr_expect_eq(maildir_file_append(f.root_fd, &item, &file, SLICE("")), 0);
    cr_expect_eq(maildir_file_append(f.root_fd, &item, &file, SLICE("two")), 0);
    cr_expect_eq(maildir_file_end(f.root_fd, &item, &file), 0);
    cr_expect_eq(file.fd, -1);
    cr_expect_eq(names_in(&f, "d/u/new", NULL), 0);
    item.result = 0;
    cr_expect_eq(maildir_batch_publish(f.root_fd, &item, 1), 0);
    path_of(&f, "d/u/new/0000000000000009.1." UUID_TEXT, path);
    read = fopen(path, "r");
    cr_assert_not_null(read);
    cr_expect_eq(fread(content, 1, sizeof(content), read), 7);
    cr_expect_str_eq(content, "one two");
    (void)fclose(read);
    fixture_close(&f);
}

Test(maildir_file, abort_leaves_nothing_and_repeats)
{
    struct maildir_item item = item_of("u", 9, 1);
    struct maildir_file file;
    struct fixture f;

    fixture_open(&f);
    cr_assert_eq(maildir_file_begin(f.root_fd, &item, &file), 0);
    maildir_file_abort(f.root_fd, &item, &file);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), 0);
    maildir_file_abort(f.root_fd, &item, &file);
    fixture_close(&f);
}

Test(maildir_file, failed_write_leaves_nothing)
{
    static char big[8192];
    struct maildir_item item = item_of("u", 9, 1);
    struct rlimit limit = {4096, 4096};
    struct maildir_file file;
    struct fixture f;

    fixture_open(&f);
    cr_assert_eq(maildir_file_begin(f.root_fd, &item, &file), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_expect_eq(maildir_file_append(f.root_fd, &item, &file, slice_of(big, sizeof(big))), -EFBIG);
    cr_expect_eq(file.fd, -1);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), 0);
    fixture_close(&f);
}

Test(maildir_file, failed_sync_leaves_nothing)
{
    struct maildir_item item = item_of("u", 9, 1);
    struct maildir_file file;
    struct fixture f;

    fixture_open(&f);
    cr_assert_eq(maildir_file_begin(f.root_fd, &item, &file), 0);
    cr_expect_eq(maildir_file_append(f.root_fd, &item, &file, SLICE("x")), 0);
    fail_call(SYS_fsync);
    cr_expect_eq(maildir_file_end(f.root_fd, &item, &file), -EIO);
    cr_expect_eq(file.fd, -1);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), 0);
    fixture_close(&f);
}

Test(maildir_file, bad_directory_is_refused)
{
    struct maildir_item item = item_of("../u", 9, 1);
    struct maildir_file file;
    struct fixture f;

    fixture_open(&f);
    cr_expect_eq(maildir_file_begin(f.root_fd, &item, &file), -EINVAL);
    cr_expect_eq(file.fd, -1);
    fixture_close(&f);
}

/* ---- recovery ------------------------------------------------------------------------------ */

Test(maildir_recover, done_is_published_and_waiting_is_removed)
{
    struct maildir_item items[] = {item_of("d/u", 1, 0), item_of("d/u", 2, 0),
                                   item_of("solo", 3, 5)};
    struct fixture f;
    uint64_t waits = 2;
    char name[256];

    fixture_open(&f);
    cr_assert_eq(maildir_batch_write(f.root_fd, items, 3), 0);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, one_waits, &waits), 2);
    cr_expect_eq(names_in(&f, "d/u/tmp", NULL), 0);
    cr_expect_eq(names_in(&f, "d/u/new", name), 1);
    cr_expect_str_eq(name, "0000000000000001.0." UUID_TEXT);
    cr_expect_eq(names_in(&f, "solo/new", NULL), 1);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, one_waits, &waits), 0, "and again");
    fixture_close(&f);
}

static enum maildir_fate leave_all(void *context, uint64_t id, uint32_t unit)
{
    *(uint64_t *)context += id + unit;
    return MAILDIR_LEAVE;
}

/* The first of the two walks beside a running server: it sees everything and touches nothing. */
Test(maildir_recover, what_is_to_be_left_is_only_seen)
{
    struct maildir_item items[] = {item_of("d/u", 7, 0), item_of("solo", 9, 1)};
    struct fixture f;
    uint64_t seen = 0;

    fixture_open(&f);
    cr_assert_eq(maildir_batch_write(f.root_fd, items, ARRAY_SIZE(items)), 0);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, leave_all, &seen), 0);
    cr_expect_eq(seen, 7 + 9 + 1);
    cr_expect_eq(names_in(&f, "d/u/tmp", NULL), 1);
    cr_expect_eq(names_in(&f, "solo/tmp", NULL), 1);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, none_waits, NULL), 2);
    fixture_close(&f);
}

Test(maildir_recover, other_spools_and_other_programs_are_left_alone)
{
    static const char *const names[] = {
        "1700000000.M1P2.host",
        "0000000000000001.00." UUID_TEXT,
        "0000000000000001.0." UUID_TEXT "0",
        "000000000000001.0." UUID_TEXT,
        "0000000000000001.4294967296." UUID_TEXT,
        "0000000000000001.0.1032547698BADCFE0102030405060708",
        "000000000000000g.0." UUID_TEXT,
    };
    struct maildir_item item = item_of("u", 1, 0);
    struct fixture f;
    char below[256];

    fixture_open(&f);
    cr_assert_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        (void)snprintf(below, sizeof(below), "u/tmp/%s", names[i]);
        put(&f, below, "theirs", 1);
    }
    cr_expect_eq(maildir_recover(f.root_fd, other_uuid, none_waits, NULL), 0);
    cr_expect_eq(maildir_recover(f.root_fd, other_uuid, all_wait, NULL), 0);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), (int)ARRAY_SIZE(names) + 1);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, none_waits, NULL), 1);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), (int)ARRAY_SIZE(names));
    fixture_close(&f);
}

/* Goal: a message that its user has read already is not made new again. */
Test(maildir_recover, what_stands_in_cur_wins)
{
    struct maildir_item item = item_of("u", 1, 0);
    struct fixture f;

    fixture_open(&f);
    cr_assert_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    put(&f, "u/cur/0000000000000001.0." UUID_TEXT ":2,S", "read", 1);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, none_waits, NULL), 0);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), 0);
    cr_expect_eq(names_in(&f, "u/new", NULL), 0);
    fixture_close(&f);
}

Test(maildir_recover, one_broken_account_stops_no_other)
{
    struct maildir_item item = item_of("d/z", 1, 0);
    struct fixture f;
    char path[512];

    fixture_open(&f);
    make_maildir(&f, "d");
    path_of(&f, "d/a", path);
    cr_assert_eq(mkdir(path, 0700), 0);
    path_of(&f, "d/a/tmp", path);
    cr_assert_eq(mkdir(path, 0700), 0);
    put(&f, "d/a/cur", "a file where a directory belongs", 1);
    cr_assert_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, none_waits, NULL), -ENOTDIR);
    cr_expect_eq(names_in(&f, "d/z/new", NULL), 1);
    fixture_close(&f);
}

/* The domain's directory then looks like a Maildir itself. */
Test(maildir_recover, a_user_called_tmp_is_found)
{
    struct maildir_item item = item_of("d/tmp", 1, 0);
    struct fixture f;

    fixture_open(&f);
    cr_assert_eq(maildir_batch_write(f.root_fd, &item, 1), 0);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, none_waits, NULL), 1);
    cr_expect_eq(names_in(&f, "d/tmp/new", NULL), 1);
    fixture_close(&f);
}

Test(maildir_recover, links_are_not_followed)
{
    struct maildir_item item = item_of("u", 1, 0);
    struct fixture f, elsewhere;
    char path[512];

    fixture_open(&f);
    fixture_open(&elsewhere);
    cr_assert_eq(maildir_batch_write(elsewhere.root_fd, &item, 1), 0);
    path_of(&f, "d", path);
    cr_assert_eq(symlink(elsewhere.path, path), 0);
    cr_expect_eq(maildir_recover(f.root_fd, uuid, none_waits, NULL), 0);
    cr_expect_eq(names_in(&elsewhere, "u/tmp", NULL), 1);
    fixture_close(&f);
    fixture_close(&elsewhere);
}
