#include "tests/unit/storage/maildir_fixture.h"

#include <signal.h>

static void expect_uid(const struct mailbox *mailbox, uint32_t index, const char *uid)
{
    struct mailbox_message message = mailbox_message(mailbox, index);

    cr_expect(slice_equal(message.uid, slice_cstr(uid)), "%u: %.*s, expected %s", index,
              SLICE_ARG(message.uid), uid);
}

/* The mailbox of "u", which must open. */
static struct mailbox *open_u(const struct fixture *fixture)
{
    struct mailbox *mailbox = NULL;

    cr_assert_eq(mailbox_open(fixture->root_fd, "u", &mailbox), 0);
    return mailbox;
}

static void expect_content(struct mailbox *mailbox, uint32_t index, const char *content)
{
    char bytes[128] = {0};
    uint64_t size;
    int fd;

    cr_assert_eq(mailbox_open_message(mailbox, index, &fd, &size), 0);
    cr_expect_eq(size, strlen(content));
    cr_expect_eq(read(fd, bytes, sizeof(bytes) - 1), (ssize_t)strlen(content));
    cr_expect_str_eq(bytes, content);
    (void)close(fd);
}

Test(mailbox, missing_one_is_made_empty)
{
    struct mailbox *mailbox = NULL;
    struct fixture f;

    fixture_open(&f);
    cr_assert_eq(mailbox_open(f.root_fd, "kawan.test/fadli", &mailbox), 0);
    cr_expect_eq(mailbox_count(mailbox), 0);
    cr_expect_eq(names_in(&f, "kawan.test/fadli/new", NULL), 0);
    mailbox_close(&mailbox);
    cr_expect_null(mailbox);
    mailbox_close(&mailbox);
    fixture_close(&f);
}

Test(mailbox, bad_directory_is_refused)
{
    struct mailbox *mailbox = NULL;
    struct fixture f;

    fixture_open(&f);
    cr_expect_eq(mailbox_open(f.root_fd, "../u", &mailbox), -EINVAL);
    cr_expect_eq(mailbox_open(f.root_fd, "", &mailbox), -EINVAL);
    cr_expect_null(mailbox);
    fixture_close(&f);
}

Test(mailbox, second_session_is_busy_until_the_first_ends)
{
    struct mailbox *first, *second = NULL;
    struct fixture f;

    fixture_open(&f);
    first = open_u(&f);
    cr_expect_eq(mailbox_open(f.root_fd, "u", &second), -EBUSY);
    cr_expect_null(second);
    mailbox_close(&first);
    second = open_u(&f);
    mailbox_close(&second);
    fixture_close(&f);
}

Test(mailbox, order_is_by_age_then_name_and_uid_has_no_flags)
{
    struct mailbox *mailbox;
    struct fixture f;

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/b", "1", 200);
    put(&f, "u/new/a", "22", 200);
    put(&f, "u/cur/z:2,RS", "333", 100);
    put(&f, "u/cur/y,S=4:2,", "4444", 300);
    mailbox = open_u(&f);
    cr_assert_eq(mailbox_count(mailbox), 4);
    expect_uid(mailbox, 0, "z");
    expect_uid(mailbox, 1, "a");
    expect_uid(mailbox, 2, "b");
    expect_uid(mailbox, 3, "y,S=4");
    cr_expect_eq(mailbox_message(mailbox, 0).size_bytes, 3);
    expect_content(mailbox, 0, "333");
    expect_content(mailbox, 2, "1");
    mailbox_close(&mailbox);
    fixture_close(&f);
}

/* RFC 1939 7 allows 1 to 70 characters of 0x21 to 0x7E; file names of other programs may be
 * anything. */
Test(mailbox, uids_that_may_not_stand_are_hashed_and_stay)
{
    static const char *const names[] = {
        "with space",
        "caf\xc3\xa9",
        ":2,S",
        "\x7f",
        "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg7", /* 71 */
    };
    struct mailbox *mailbox;
    char below[256], uids[ARRAY_SIZE(names)][33];
    struct fixture f;

    fixture_open(&f);
    make_maildir(&f, "u");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        (void)snprintf(below, sizeof(below), "u/cur/%s", names[i]);
        put(&f, below, names[i], 100 + (time_t)i);
    }
    put(&f, "u/cur/aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg:2,S",
        "70", 500);
    for (int round = 0; round < 2; round++) {
        mailbox = open_u(&f);
        cr_assert_eq(mailbox_count(mailbox), ARRAY_SIZE(names) + 1);
        for (uint32_t i = 0; i < ARRAY_SIZE(names); i++) {
            struct slice uid = mailbox_message(mailbox, i).uid;

            cr_expect_eq(uid.size, 32, "%s", names[i]);
            if (round == 0)
                (void)slice_to_cstr(uid, uids[i], sizeof(uids[i]));
            else
                expect_uid(mailbox, i, uids[i]);
            expect_content(mailbox, i, names[i]);
        }
        cr_expect_eq(mailbox_message(mailbox, ARRAY_SIZE(names)).uid.size, 70);
        mailbox_close(&mailbox);
    }
    fixture_close(&f);
}

Test(mailbox, what_is_no_file_is_counted_and_not_touched)
{
    struct mailbox *mailbox;
    struct fixture f;
    char path[512];

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "secret", "not his", 1);
    put(&f, "u/new/mail", "his", 1);
    put(&f, "u/new/.nfs123", "a reader's own", 1);
    path_of(&f, "u/new/link", path);
    cr_assert_eq(symlink("../../secret", path), 0);
    path_of(&f, "u/new/fifo", path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    path_of(&f, "u/cur/folder", path);
    cr_assert_eq(mkdir(path, 0700), 0);
    mailbox = open_u(&f);
    cr_expect_eq(mailbox_count(mailbox), 1);
    cr_expect_eq(mailbox_skipped_count(mailbox), 3);
    expect_uid(mailbox, 0, "mail");
    mailbox_close(&mailbox);
    fixture_close(&f);
}

/* Goal: Dovecot on the same Maildir renames files under an open session; that session must not
 * notice. */
Test(mailbox, a_reader_that_moves_and_flags_does_no_harm)
{
    struct mailbox *mailbox;
    uint32_t deleted_count;
    uint8_t deleted = 0x03;
    struct fixture f;
    char from[512], to[512];

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/a", "first", 1);
    put(&f, "u/cur/b:2,", "second", 2);
    mailbox = open_u(&f);
    path_of(&f, "u/new/a", from);
    path_of(&f, "u/cur/a:2,S", to);
    cr_assert_eq(rename(from, to), 0);
    path_of(&f, "u/cur/b:2,", from);
    path_of(&f, "u/cur/b:2,RS", to);
    cr_assert_eq(rename(from, to), 0);
    expect_content(mailbox, 0, "first");
    expect_content(mailbox, 1, "second");
    cr_expect_eq(mailbox_delete(mailbox, &deleted, &deleted_count), 0);
    cr_expect_eq(deleted_count, 2);
    cr_expect_eq(names_in(&f, "u/cur", NULL), 0);
    mailbox_close(&mailbox);
    fixture_close(&f);
}

Test(mailbox, a_message_seen_in_both_places_counts_once)
{
    struct mailbox *mailbox;
    struct fixture f;

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/a", "old sight", 1);
    put(&f, "u/cur/a:2,S", "new sight", 2);
    mailbox = open_u(&f);
    cr_expect_eq(mailbox_count(mailbox), 1);
    expect_content(mailbox, 0, "new sight");
    mailbox_close(&mailbox);
    fixture_close(&f);
}

Test(mailbox, a_message_replaced_by_something_else_is_not_opened)
{
    struct mailbox *mailbox;
    struct fixture f;
    uint64_t size;
    char path[512];
    int fd;

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/a", "mail", 1);
    put(&f, "u/new/b", "mail", 2);
    put(&f, "u/new/c", "mail", 3);
    mailbox = open_u(&f);
    path_of(&f, "u/new/a", path);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(symlink("b", path), 0);
    path_of(&f, "u/new/b", path);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(mkfifo(path, 0600), 0);
    path_of(&f, "u/new/c", path);
    cr_assert_eq(unlink(path), 0);
    cr_expect_eq(mailbox_open_message(mailbox, 0, &fd, &size), -EACCES);
    cr_expect_eq(mailbox_open_message(mailbox, 1, &fd, &size), -EACCES);
    cr_expect_eq(mailbox_open_message(mailbox, 2, &fd, &size), -ENOENT);
    mailbox_close(&mailbox);
    fixture_close(&f);
}

Test(mailbox, delete_takes_exactly_the_marked_ones)
{
    struct mailbox *mailbox;
    uint8_t deleted[2] = {0x81, 0x02}; /* 0, 7 and 9 */
    uint32_t deleted_count;
    struct fixture f;
    char below[256];

    fixture_open(&f);
    make_maildir(&f, "u");
    for (int i = 0; i < 10; i++) {
        (void)snprintf(below, sizeof(below), "u/new/m%d", i);
        put(&f, below, "x", 100 + i);
    }
    mailbox = open_u(&f);
    cr_expect_eq(mailbox_delete(mailbox, deleted, &deleted_count), 0);
    cr_expect_eq(deleted_count, 3);
    mailbox_close(&mailbox);
    mailbox = open_u(&f);
    cr_assert_eq(mailbox_count(mailbox), 7);
    expect_uid(mailbox, 0, "m1");
    expect_uid(mailbox, 6, "m8");
    mailbox_close(&mailbox);
    fixture_close(&f);
}

/* A power cut may leave a message in tmp/ beside its published self; recovery must not find it there after QUIT. */
Test(mailbox, delete_takes_what_is_left_in_tmp)
{
    struct mailbox *mailbox;
    uint32_t deleted_count;
    uint8_t deleted = 3;
    struct fixture f;

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/a", "x", 1);
    put(&f, "u/tmp/a", "x", 1);
    put(&f, "u/cur/b:2,S", "x", 1);
    put(&f, "u/tmp/b", "x", 1);
    put(&f, "u/tmp/c", "x", 1);
    mailbox = open_u(&f);
    cr_expect_eq(mailbox_delete(mailbox, &deleted, &deleted_count), 0);
    cr_expect_eq(deleted_count, 2);
    cr_expect_eq(names_in(&f, "u/new", NULL), 0);
    cr_expect_eq(names_in(&f, "u/cur", NULL), 0);
    cr_expect_eq(names_in(&f, "u/tmp", NULL), 1);
    mailbox_close(&mailbox);
    fixture_close(&f);
}

Test(mailbox, what_is_gone_already_counts_as_deleted)
{
    struct mailbox *mailbox;
    uint32_t deleted_count;
    uint8_t deleted = 1;
    struct fixture f;
    char path[512];

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/a", "x", 1);
    mailbox = open_u(&f);
    path_of(&f, "u/new/a", path);
    cr_assert_eq(unlink(path), 0);
    cr_expect_eq(mailbox_delete(mailbox, &deleted, &deleted_count), 0);
    cr_expect_eq(deleted_count, 1);
    mailbox_close(&mailbox);
    fixture_close(&f);
}

/* Goal: no success before the deletes are durable (POP3 answers +OK to QUIT by it). */
Test(mailbox, delete_fails_when_the_sync_fails)
{
    struct mailbox *mailbox;
    uint32_t deleted_count = 7;
    uint8_t deleted = 1;
    struct fixture f;

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/a", "x", 1);
    mailbox = open_u(&f);
    fail_call(SYS_fsync);
    cr_expect_eq(mailbox_delete(mailbox, &deleted, &deleted_count), -EIO);
    cr_expect_eq(deleted_count, 0);
    mailbox_close(&mailbox);
    fixture_close(&f);
}

Test(mailbox, delete_goes_on_behind_one_that_fails)
{
    struct mailbox *mailbox;
    uint32_t deleted_count;
    uint8_t deleted = 0x03;
    struct fixture f;
    char path[512];

    fixture_open(&f);
    make_maildir(&f, "u");
    put(&f, "u/new/a", "x", 1);
    put(&f, "u/new/b", "x", 2);
    mailbox = open_u(&f);
    path_of(&f, "u/new/a", path);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_expect_eq(mailbox_delete(mailbox, &deleted, &deleted_count), -EISDIR);
    cr_expect_eq(deleted_count, 1);
    cr_expect_eq(names_in(&f, "u/new", NULL), 1);
    mailbox_close(&mailbox);
    fixture_close(&f);
}

Test(mailbox, message_out_of_range_is_our_fault, .signal = SIGABRT)
{
    struct mailbox *mailbox;
    struct fixture f;

    fixture_open(&f);
    mailbox = open_u(&f);
    fixture_close(&f);
    (void)mailbox_message(mailbox, 0);
}
