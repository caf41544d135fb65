#include "daemon/users_file.h"
#include <criterion/criterion.h>
#include <crypt.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int parse(struct slice text, struct users_table **table, struct buf *error)
{
    int r;

    *table = NULL;
    buf_init(error, 4 * KIB);
    r = users_file_parse(text, "users", table, error);
    buf_append_byte(error, 0);
    return r;
}

static const struct {
    const char *name;
    struct slice text;
    const char *wanted; /* what the sentence holds */
} refusals[] = {
#define ROW(name, text, wanted)                                                                    \
    {                                                                                              \
        name, {(const uint8_t *)text, sizeof(text) - 1}, wanted                                    \
    }
    ROW("a last line without its end", "a@b.test:{CRYPT}$y$x:\nb@b.test:{CRYPT}$y$",
        "users: the last line has no end: the file is only half written"),
    ROW("one octet", "a", "only half written"),
    ROW("no domain", "penulis:{CRYPT}$y$x\n", "users:1: expected name@domain"),
    ROW("no name", "# names\n\n@b.test:{CRYPT}$y$x\n", "users:3: expected name@domain"),
    ROW("no domain behind the sign", "a@:{CRYPT}$y$x\n", "users:1: expected name@domain"),
    ROW("two signs", "a@b@c.test:x\n", "users:1: expected name@domain"),
    ROW("an empty name", ":{CRYPT}$y$x\n", "users:1: expected name@domain"),
    ROW("a slash in the name", "../../etc/passwd@b.test:x\n", "users:1: expected name@domain"),
    ROW("a slash in the domain", "a@../../etc:x\n", "users:1: expected name@domain"),
    ROW("the directory above as a name", "..@b.test:x\n", "users:1: expected name@domain"),
    ROW("the directory above as a domain", "a@..:x\n", "users:1: expected name@domain"),
    ROW("the directory itself", ".@b.test:x\n", "users:1: expected name@domain"),
    ROW("a hidden name", ".ssh@b.test:x\n", "users:1: expected name@domain"),
    ROW("a name like an option", "-rf@b.test:x\n", "users:1: expected name@domain"),
    ROW("a blank in the name", "a b@c.test:x\n", "users:1: expected name@domain"),
    ROW("a NUL in the name", "a\0b@c.test:x\n", "users:1: expected name@domain"),
    ROW("an octet above 127", "p\xc3\xa9nulis@b.test:x\n", "users:1: expected name@domain"),
    ROW("a quoted name", "\"a\"@b.test:x\n", "users:1: expected name@domain"),
    ROW("no password field", "a@b.test\n", "users:1: expected a \":\" and a password hash"),
    ROW("nothing behind the colon", "a@b.test:\n", "users:1: expected a \":\" and a password hash"),
    ROW("an empty hash", "a@b.test::1000:1000\n", "users:1: expected a password hash"),
    ROW("a scheme without a hash", "a@b.test:{CRYPT}:\n", "users:1: expected a password hash"),
    ROW("a scheme that does not end", "a@b.test:{CRYPT$y$x\n", "users:1: expected a crypt(3) hash"),
    ROW("a plain password", "a@b.test:{PLAIN}secret\n", "users:1: expected a crypt(3) hash"),
    ROW("a scheme of Dovecot's own", "a@b.test:{SSHA256}abc\n",
        "users:1: expected a crypt(3) hash"),
    ROW("no scheme in its brackets", "a@b.test:{}abc\n", "users:1: expected a crypt(3) hash"),
    ROW("a control character in the hash", "a@b.test:$y$\x01\n",
        "users:1: expected a password hash"),
    ROW("a line end of another system", "a@b.test:$y$x\r\n", "users:1: expected a password hash"),
    ROW("an account twice", "a@b.test:$y$x\nb@b.test:$y$x\na@b.test:$y$y\n",
        "users:3: expected each account once"),
    ROW("an account twice in another case", "a@b.test:$y$x\nA@B.Test:$y$x\n",
        "users:2: expected each account once"),
};

Test(users_file, each_refusal_names_its_line)
{
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct users_table *table;
        struct buf error;

        cr_expect_eq(parse(refusals[i].text, &table, &error), -EINVAL, "%s", refusals[i].name);
        cr_expect_not_null(strstr((char *)error.data, refusals[i].wanted), "%s: %s",
                           refusals[i].name, (char *)error.data);
        cr_expect_null(table, "%s", refusals[i].name);
        users_table_destroy(&table);
        buf_deinit(&error);
    }
}

Test(users_file, a_name_longer_than_a_path_is_refused)
{
    char text[400];
    struct users_table *table;
    struct buf error;

    memset(text, 'a', sizeof(text));
    memcpy(text + 246, "@b.test:x\n", 10); /* 253 octets: fits */
    cr_expect_eq(parse(slice_of(text, 256), &table, &error), 0, "%s", (char *)error.data);
    users_table_destroy(&table);
    buf_deinit(&error);
    memset(text, 'a', sizeof(text));
    memcpy(text + 248, "@b.test:x\n", 10);
    cr_expect_eq(parse(slice_of(text, 258), &table, &error), -EINVAL);
    buf_deinit(&error);
}

Test(users_file, lines_of_dovecot_are_read)
{
    static const char text[] =
        "# accounts\n"
        "\n"
        "Penulis@DebianIndonesia.test:{CRYPT}$y$j9T$a$b:1000:1000::/var/p::\n"
        "fadli+x@kawan.test:$6$salt$hash\n"
        "gone_a.b-c@kawan.test:*\n"
        "lower@kawan.test:{crypt}$2b$05$x\n";
    const struct users_account *account;
    struct users_table *table;
    struct buf error;

    cr_assert_eq(parse(slice_of(text, sizeof(text) - 1), &table, &error), 0, "%s",
                 (char *)error.data);
    cr_expect_eq(table->count, 4);
    account = users_table_find(table, SLICE("PENULIS@debianindonesia.TEST"));
    cr_assert_not_null(account);
    cr_expect_str_eq(account->name, "penulis@debianindonesia.test");
    cr_expect_str_eq(account->directory, "debianindonesia.test/penulis");
    cr_expect_str_eq(account->hash, "$y$j9T$a$b");
    account = users_table_find(table, SLICE("fadli+x@kawan.test"));
    cr_assert_not_null(account);
    cr_expect_str_eq(account->hash, "$6$salt$hash");
    account = users_table_find(table, SLICE("lower@kawan.test"));
    cr_assert_not_null(account);
    cr_expect_str_eq(account->hash, "$2b$05$x");
    cr_expect_not_null(users_table_find(table, SLICE("gone_a.b-c@kawan.test")));
    cr_expect_null(users_table_find(table, SLICE("fadli@kawan.test")));
    cr_expect_null(users_table_find(table, SLICE("")));
    cr_expect_null(users_table_find(table, SLICE("fadli+x@kawan.test\0")));
    users_table_destroy(&table);
    cr_expect_null(table);
    users_table_destroy(&table);
    buf_deinit(&error);
}

/* Nobody has an account yet: not the same as a file that cannot be read. */
Test(users_file, an_empty_file_is_a_table_of_none)
{
    struct users_table *table;
    struct buf error;

    cr_expect_eq(parse(SLICE(""), &table, &error), 0);
    cr_assert_not_null(table);
    cr_expect_eq(table->count, 0);
    users_table_destroy(&table);
    buf_deinit(&error);
}

/* ---- on disk ---------------------------------------------------------------------------------------- */

struct folder {
    char path[64], users[96];
};

static void folder_open(struct folder *folder)
{
    strcpy(folder->path, "/tmp/kilat-users-XXXXXX");
    cr_assert_not_null(mkdtemp(folder->path));
    (void)snprintf(folder->users, sizeof(folder->users), "%s/users", folder->path);
}

static int remove_each(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void folder_close(struct folder *folder)
{
    (void)nftw(folder->path, remove_each, 8, FTW_DEPTH | FTW_PHYS);
}

static void folder_write(const struct folder *folder, const char *text)
{
    FILE *file = fopen(folder->users, "w");

    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

static void folder_expect(const struct folder *folder, const char *before, const char *behind)
{
    char text[4096];
    FILE *file = fopen(folder->users, "r");
    size_t size;

    cr_assert_not_null(file);
    size = fread(text, 1, sizeof(text) - 1, file);
    text[size] = 0;
    (void)fclose(file);
    cr_expect(strncmp(text, before, strlen(before)) == 0, "%s", text);
    cr_expect(size >= strlen(behind) && strcmp(text + size - strlen(behind), behind) == 0, "%s",
              text);
}

Test(users_file, what_cannot_be_read_is_named)
{
    struct users_table *table = NULL;
    struct folder folder;
    struct buf error;

    folder_open(&folder);
    buf_init(&error, 4 * KIB);
    cr_expect_eq(users_file_read(folder.users, &table, &error), -ENOENT);
    buf_append_byte(&error, 0);
    cr_expect_not_null(strstr((char *)error.data, "users: cannot be read: No such file"));
    buf_reset(&error);
    cr_expect_lt(users_file_read(folder.path, &table, &error), 0, "a directory");
    cr_expect_gt(error.size, 0);
    cr_expect_null(table);
    buf_deinit(&error);
    folder_close(&folder);
}

Test(users_file, an_account_is_added_replaced_and_removed)
{
    struct users_table *table = NULL;
    const struct users_account *account;
    struct folder folder;
    struct buf error;
    struct stat info;

    folder_open(&folder);
    folder_write(&folder, "# ours\nold@kawan.test:{CRYPT}$y$x:::::\n\n");
    cr_assert_eq(chmod(folder.users, 0604), 0);
    buf_init(&error, 4 * KIB);
    cr_assert_eq(users_file_set(folder.users, SLICE("Fadli@Kawan.test"), SLICE("one"), &error), 0);
    folder_expect(&folder, "# ours\nold@kawan.test:{CRYPT}$y$x:::::\n\nfadli@kawan.test:{CRYPT}$y$",
                  "::::::\n");
    cr_assert_eq(users_file_set(folder.users, SLICE("fadli@kawan.test"), SLICE("two"), &error), 0);
    cr_assert_eq(users_file_read(folder.users, &table, &error), 0);
    cr_expect_eq(table->count, 2);
    account = users_table_find(table, SLICE("fadli@kawan.test"));
    cr_assert_not_null(account);
    cr_expect(users_password_matches(account->hash, SLICE("two")));
    cr_expect(!users_password_matches(account->hash, SLICE("one")));
    users_table_destroy(&table);
    cr_assert_eq(users_file_remove(folder.users, SLICE("OLD@kawan.test"), &error), 0);
    folder_expect(&folder, "# ours\n\nfadli@kawan.test:{CRYPT}$y$", "::::::\n");
    cr_assert_eq(stat(folder.users, &info), 0);
    cr_expect_eq(info.st_mode & 0777, 0604, "permissions stay");
    cr_expect_eq(error.size, 0);
    buf_deinit(&error);
    folder_close(&folder);
}

Test(users_file, a_change_that_is_refused_changes_nothing)
{
    static const char *const names[] = {"",
                                        "fadli",
                                        "@kawan.test",
                                        "a@",
                                        "../a@b",
                                        "a:b@kawan.test",
                                        "a\nb@kawan.test",
                                        "a@b/c",
                                        "..@kawan.test",
                                        "a@b@c"};
    static const char before[] = "old@kawan.test:{CRYPT}$y$x:::::\n";
    struct folder folder;
    struct buf error;
    char large[512];

    folder_open(&folder);
    folder_write(&folder, before);
    buf_init(&error, 4 * KIB);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        buf_reset(&error);
        cr_expect_eq(users_file_set(folder.users, slice_cstr(names[i]), SLICE("x"), &error),
                     -EINVAL, "%s", names[i]);
        cr_expect_gt(error.size, 0);
    }
    memset(large, 'x', sizeof(large));
    buf_reset(&error);
    cr_expect_eq(users_file_set(folder.users, SLICE("a@b.test"), SLICE_NONE, &error), -EINVAL);
    cr_expect_gt(error.size, 0);
    cr_expect_eq(users_file_set(folder.users, SLICE("a@b.test"), SLICE("a\0b"), &error), -EINVAL);
    cr_expect_eq(users_file_set(folder.users, SLICE("a@b.test"), slice_of(large, 512), &error),
                 -EINVAL);
    buf_reset(&error);
    cr_expect_eq(users_file_remove(folder.users, SLICE("nobody@kawan.test"), &error), -ENOENT);
    buf_append_byte(&error, 0);
    cr_expect_not_null(strstr((char *)error.data, "nobody@kawan.test: no such account in "));
    folder_expect(&folder, before, before);
    buf_deinit(&error);
    folder_close(&folder);
}

/* What would make a file that the server then refuses must not be written: a file that is broken
 * already (somebody is in the midst of writing it) is left alone. */
Test(users_file, a_half_written_file_is_not_changed)
{
    static const char *const files[] = {"old@kawan.test:{CRYPT}$y$", "nonsense\n"};
    struct folder folder;
    struct buf error;

    folder_open(&folder);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        folder_write(&folder, files[i]);
        buf_init(&error, 4 * KIB);
        cr_expect_eq(users_file_set(folder.users, SLICE("a@b.test"), SLICE("x"), &error), -EINVAL,
                     "%s", files[i]);
        cr_expect_gt(error.size, 0);
        folder_expect(&folder, files[i], files[i]);
        buf_deinit(&error);
    }
    folder_close(&folder);
}

Test(users_file, a_missing_file_is_made_and_a_missing_folder_is_not)
{
    struct folder folder;
    struct buf error;
    struct stat info;
    char path[128];

    folder_open(&folder);
    buf_init(&error, 4 * KIB);
    cr_expect_eq(users_file_set(folder.users, SLICE("a@b.test"), SLICE("x"), &error), 0);
    folder_expect(&folder, "a@b.test:{CRYPT}$y$", "::::::\n");
    cr_assert_eq(stat(folder.users, &info), 0);
    cr_expect_eq(info.st_mode & 0007, 0, "hashes are nobody else's");
    (void)snprintf(path, sizeof(path), "%s/no/users", folder.path);
    cr_expect_eq(users_file_set(path, SLICE("a@b.test"), SLICE("x"), &error), -ENOENT);
    cr_expect_gt(error.size, 0);
    buf_deinit(&error);
    folder_close(&folder);
}

/* ---- passwords ---------------------------------------------------------------------------------------- */

Test(users_file, only_the_password_matches)
{
    static const char *const prefixes[] = {"$y$", "$6$", "$2b$"};
    char large[600];

    memset(large, 'x', sizeof(large));
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        struct crypt_data data = {0};
        char setting[CRYPT_GENSALT_OUTPUT_SIZE], hash[CRYPT_OUTPUT_SIZE];
        const char *made;

        cr_assert_not_null(
            crypt_gensalt_rn(prefixes[i], 4, "0123456789abcdef", 16, setting, sizeof(setting)));
        made = crypt_r("rahasia", setting, &data);
        cr_assert(made != NULL && made[0] == '$');
        strcpy(hash, made);
        cr_expect(users_password_matches(hash, SLICE("rahasia")), "%s", prefixes[i]);
        cr_expect(!users_password_matches(hash, SLICE("Rahasia")));
        cr_expect(!users_password_matches(hash, SLICE("rahasia ")));
        cr_expect(!users_password_matches(hash, SLICE("rahasia\0x")));
        cr_expect(!users_password_matches(hash, SLICE("")));
        cr_expect(!users_password_matches(hash, slice_of(large, sizeof(large))));
    }
}

Test(users_file, no_account_and_no_usable_hash_match_nothing)
{
    static const char *const hashes[] = {NULL, "*",   "!",      "*0",     "*1",
                                         "x",  "$y$", "$z$abc", "$y$j9T$"};

    for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
        cr_expect(!users_password_matches(hashes[i], SLICE("")), "%zu", i);
        cr_expect(!users_password_matches(hashes[i], SLICE("*0")), "%zu", i);
        cr_expect(!users_password_matches(hashes[i], SLICE("x")), "%zu", i);
    }
}
