#include "daemon/users_file.h"

#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/file.h"

#define USERS_FILE_BYTES_MAX (256 * MIB)
#define USERS_NAME_MAX 254 /* RFC 5321 4.5.3.1: a path without its brackets */
#define USERS_HASH_PREFIX "$y$"

/* Compared against when an account does not exist, so that unknown names cost what known ones do:
 * yescrypt at the default cost of a random password nobody has. */
static const char users_dummy_hash[] = "$y$j9T$Gb7o3xI1hD6i4MpJUmuRlSCMILeI7vuqHF9JNQRBkK3$"
                                       "Yb5H4N2YFODo7udDEPUP7sLF3WF4IVIOab22KRudXK3";

/* ---- parsing --------------------------------------------------------------------------------- */

static bool users_label_is_safe(struct slice label)
{
    if (label.size == 0 || label.data[0] == '.' || label.data[0] == '-')
        return false;
    for (size_t i = 0; i < label.size; i++) {
        uint8_t c = byte_lower(label.data[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '.' || c == '+'))
            return false;
    }
    return true;
}

/* "name@domain" whose two halves can be a directory each: what an account may be called. */
static bool users_name_is_valid(struct slice name, struct slice *ret_local,
                                struct slice *ret_domain)
{
    size_t at = slice_find_last(name, '@');

    if (at == SIZE_MAX || name.size > USERS_NAME_MAX)
        return false;
    *ret_local = slice_first(name, at);
    *ret_domain = slice_skip(name, at + 1);
    return users_label_is_safe(*ret_local) && users_label_is_safe(*ret_domain);
}

static char *users_text(struct slice a, struct slice separator, struct slice b)
{
    size_t size = a.size + separator.size + b.size;
    char *text = malloc(size + 1);

    if (text == NULL)
        return NULL;
    memcpy(text, a.data, a.size);
    if (separator.size > 0)
        memcpy(text + a.size, separator.data, separator.size);
    if (b.size > 0)
        memcpy(text + a.size + separator.size, b.data, b.size);
    text[size] = 0;
    for (size_t i = 0; i < size; i++)
        text[i] = (char)byte_lower((uint8_t)text[i]);
    return text;
}

static void users_account_free(struct users_account *account)
{
    free(account->name);
    free(account->hash);
    free(account->directory);
    free(account);
}

static struct slice users_hash_of(struct slice field)
{
    struct slice close;

    if (field.size == 0 || field.data[0] != '{')
        return field;
    close = field;
    (void)slice_split(&close, '}');
    return close;
}

/* NULL when fine, otherwise what was expected. */
static const char *users_add_line(struct users_table *table, struct slice line)
{
    struct slice rest = line, local, domain, name, field, hash;
    struct users_account *account;

    name = slice_split(&rest, ':');
    if (!users_name_is_valid(name, &local, &domain))
        return "name@domain of letters, digits, \"-\", \"_\", \"+\" and \".\"";
    if (rest.size == 0)
        return "a \":\" and a password hash behind the name";
    field = slice_split(&rest, ':');
    if (field.size > 0 && field.data[0] == '{' && !slice_starts_nocase(field, SLICE("{CRYPT}")))
        return "a crypt(3) hash, {CRYPT}$y$...; other schemes are not supported";
    hash = users_hash_of(field);
    if (hash.size == 0 || !slice_is_printable(hash))
        return "a password hash; an account without one cannot log in and is written as \"*\"";
    if (users_table_find(table, name) != NULL)
        return "each account once";
    account = calloc(1, sizeof(*account));
    if (account == NULL)
        return "more memory";
    account->name = users_text(name, SLICE_NONE, SLICE_NONE);
    account->directory = users_text(domain, SLICE("/"), local);
    account->hash = strndup((const char *)hash.data, hash.size);
    if (account->name == NULL || account->directory == NULL || account->hash == NULL) {
        users_account_free(account);
        return "more memory";
    }
    hash_table_insert(&table->accounts, &account->node, hash_bytes_nocase(&table->key, name));
    table->count++;
    return NULL;
}

int users_file_parse(struct slice text, const char *name, struct users_table **ret_table,
                     struct buf *error)
{
    struct users_table *table = calloc(1, sizeof(*table));
    struct slice rest = text;
    int r;

    if (table == NULL)
        return -ENOMEM;
    random_bytes(&table->key, sizeof(table->key));
    r = hash_table_init(&table->accounts, 64);
    if (r == 0 && text.size > 0 && text.data[text.size - 1] != '\n') {
        buf_printf(error, "%s: the last line has no end: the file is only half written", name);
        r = -EINVAL;
    }
    for (unsigned number = 1; r == 0 && rest.size > 0; number++) {
        struct slice line = slice_split(&rest, '\n');
        const char *expected;
        if (line.size == 0 || line.data[0] == '#')
            continue;
        expected = users_add_line(table, line);
        if (expected != NULL) {
            buf_printf(error, "%s:%u: expected %s", name, number, expected);
            r = -EINVAL;
        }
    }
    if (r < 0) {
        users_table_destroy(&table);
        return r;
    }
    *ret_table = table;
    return 0;
}

static int users_file_load(const char *path, struct buf *text, struct buf *error)
{
    struct file_info info = {0};
    uint8_t *room = NULL;
    int fd, r;

    r = file_open_path(path, FILE_READ, 0, &fd);
    if (r == 0) {
        r = file_info(fd, &info);
        if (r == 0 && info.size_bytes > USERS_FILE_BYTES_MAX)
            r = -EFBIG;
        if (r == 0 && info.size_bytes > 0) {
            room = buf_extend(text, info.size_bytes);
            r = room == NULL ? -ENOMEM : file_read_all(fd, room, info.size_bytes, 0);
        }
        (void)file_close(fd); /* it was only read */
    }
    if (r < 0)
        buf_printf(error, "%s: cannot be read: %s", path, strerror(-r));
    return r;
}

int users_file_read(const char *path, struct users_table **ret_table, struct buf *error)
{
    struct buf text;
    int r;

    buf_init(&text, USERS_FILE_BYTES_MAX);
    r = users_file_load(path, &text, error);
    if (r == 0)
        r = users_file_parse(buf_slice(&text), path, ret_table, error);
    buf_deinit(&text);
    return r;
}

void users_table_destroy(struct users_table **table)
{
    struct users_table *t = *table;
    struct hash_node *node, *next;

    if (t == NULL)
        return;
    for (node = hash_table_next(&t->accounts, NULL); node != NULL; node = next) {
        next = hash_table_next(&t->accounts, node);
        users_account_free(CONTAINER_OF(node, struct users_account, node));
    }
    hash_table_deinit(&t->accounts);
    free(t);
    *table = NULL;
}

static bool users_account_is(const struct hash_node *node, const void *wanted)
{
    return slice_equal_nocase(slice_cstr(CONTAINER_OF(node, struct users_account, node)->name),
                              *(const struct slice *)wanted);
}

const struct users_account *users_table_find(const struct users_table *table, struct slice name)
{
    struct hash_node *node = hash_table_find(&table->accounts, hash_bytes_nocase(&table->key, name),
                                             users_account_is, &name);

    return node == NULL ? NULL : CONTAINER_OF(node, struct users_account, node);
}

/* ---- passwords ------------------------------------------------------------------------------- */

/* The lengths are no secret: both are of one scheme. */
static bool users_same_text(const char *a, const char *b)
{
    size_t size = strlen(b);
    unsigned difference = 0;

    if (strlen(a) != size)
        return false;
    for (size_t i = 0; i < size; i++) /* every byte, wherever the first difference is */
        difference |= (unsigned char)a[i] ^ (unsigned char)b[i];
    return difference == 0;
}

bool users_password_matches(const char *hash_or_null, struct slice password)
{
    struct crypt_data *data = calloc(1, sizeof(*data));
    const char *wanted = hash_or_null == NULL ? users_dummy_hash : hash_or_null;
    char text[512];
    char *made;
    bool matches = false;

    if (data == NULL)
        return false;
    if (slice_to_cstr(password, text, sizeof(text))) {
        made = crypt_r(text, wanted, data);
        if (made == NULL || made[0] == '*') /* no usable hash: that costs as much as one */
            made = crypt_r(text, users_dummy_hash, data);
        matches = made != NULL && made[0] != '*' && users_same_text(made, wanted);
    }
    explicit_bzero(text, sizeof(text));
    explicit_bzero(data, sizeof(*data));
    free(data);
    return matches && hash_or_null != NULL;
}

/* ---- changing -------------------------------------------------------------------------------- */

static int users_make_hash(struct slice password, struct buf *out, struct buf *error)
{
    struct crypt_data *data = calloc(1, sizeof(*data));
    char setting[CRYPT_GENSALT_OUTPUT_SIZE], salt[32], text[512];
    char *made = NULL;

    if (data == NULL)
        return -ENOMEM;
    random_bytes(salt, sizeof(salt));
    if (password.size > 0 && slice_to_cstr(password, text, sizeof(text)) &&
        crypt_gensalt_rn(USERS_HASH_PREFIX, 0, salt, sizeof(salt), setting, sizeof(setting)) !=
            NULL)
        made = crypt_r(text, setting, data);
    if (made != NULL && made[0] != '*')
        buf_append_cstr(out, made);
    else
        buf_append_cstr(error, "a password has 1 to 511 octets and no NUL");
    explicit_bzero(text, sizeof(text));
    explicit_bzero(data, sizeof(*data));
    free(data);
    return out->size > 0 ? 0 : -EINVAL;
}

/* Splits a path into its directory (opened) and its last component. */
static int users_file_directory(const char *path, int *ret_dir_fd, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char directory[4096];

    if (slash == NULL || slash[1] == 0)
        return -EINVAL;
    if (!slice_to_cstr(slice_of(path, (size_t)(slash - path) + 1), directory, sizeof(directory)))
        return -ENAMETOOLONG;
    *ret_name = slash + 1;
    return file_open_dir_path(directory, ret_dir_fd);
}

/* Beside it, synced, then renamed over it: whoever reads sees the old file or the new one. */
static int users_file_replace(const char *path, struct slice text, const struct file_info *old)
{
    char temporary[300];
    const char *name;
    int dir_fd, fd, r;

    r = users_file_directory(path, &dir_fd, &name);
    if (r < 0)
        return r;
    (void)snprintf(temporary, sizeof(temporary), ".%.200s.new", name);
    r = file_open(dir_fd, temporary, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE,
                  old == NULL ? 0640 : old->mode & 0777, &fd);
    if (r == 0) {
        if (old != NULL)
            (void)file_set_owner(fd, old->uid,
                                 old->gid); /* only root may, and only root needs to */
        r = file_write_all(fd, text, 0);
        if (r == 0)
            r = file_sync(fd);
        if (r == 0)
            r = file_rename(dir_fd, temporary, dir_fd, name);
        if (r == 0)
            r = file_sync_dir(dir_fd);
        else
            (void)file_unlink(dir_fd, temporary); /* the first error is the one to tell */
        (void)file_close(fd);
    }
    (void)file_close(dir_fd);
    return r;
}

/* Copies all lines but the account's own; `*ret_found` says whether there was one. */
static void users_copy_others(struct slice text, struct slice name, struct buf *out,
                              bool *ret_found)
{
    struct slice rest = text;

    *ret_found = false;
    while (rest.size > 0) {
        struct slice line = slice_split(&rest, '\n');
        struct slice fields = line;
        if (line.size > 0 && line.data[0] != '#' &&
            slice_equal_nocase(slice_split(&fields, ':'), name)) {
            *ret_found = true;
            continue;
        }
        buf_append(out, line);
        buf_append_byte(out, '\n');
    }
}

/* With `hash` empty the account is removed. */
static int users_file_change(const char *path, struct slice name, struct slice hash,
                             struct buf *error)
{
    struct file_info info = {0};
    struct users_table *table = NULL;
    struct buf text, changed;
    bool exists = true, found;
    int fd, r;

    r = file_open_path(path, FILE_READ, 0, &fd);
    if (r == 0) {
        r = file_info(fd, &info);
        (void)file_close(fd);
    } else if (r == -ENOENT) {
        exists = false;
        r = 0;
    }
    buf_init(&text, USERS_FILE_BYTES_MAX);
    buf_init(&changed, USERS_FILE_BYTES_MAX + 4 * KIB);
    if (r == 0 && exists)
        r = users_file_load(path, &text, error);
    if (r ==
        0) /* one that the server would refuse, or that somebody is just writing, is left alone */
        r = users_file_parse(buf_slice(&text), path, &table, error);
    users_table_destroy(&table);
    users_copy_others(buf_slice(&text), name, &changed, &found);
    if (hash.size > 0) {
        for (size_t i = 0; i < name.size; i++)
            buf_append_byte(&changed, byte_lower(name.data[i]));
        buf_append_cstr(&changed, ":{CRYPT}");
        buf_append(&changed, hash);
        buf_append_cstr(&changed, "::::::\n");
    } else if (!found && r == 0) {
        buf_printf(error, "%.*s: no such account in %s", SLICE_ARG(name), path);
        r = -ENOENT;
    }
    if (changed.size == 0) /* an empty file is what a server takes for one that is being written */
        buf_append_cstr(&changed, "# no accounts\n");
    if (r == 0)
        r = changed.failed ? -ENOMEM
                           : users_file_replace(path, buf_slice(&changed), exists ? &info : NULL);
    if (r < 0 && error->size == 0)
        buf_printf(error, "%s: cannot be changed: %s", path, strerror(-r));
    buf_deinit(&text);
    buf_deinit(&changed);
    return r;
}

int users_file_set(const char *path, struct slice name, struct slice password, struct buf *error)
{
    struct slice local, domain;
    struct buf hash;
    int r;

    if (!users_name_is_valid(name, &local, &domain)) {
        buf_printf(error,
                   "%.*s: expected name@domain of letters, digits, \"-\", \"_\", \"+\" and \".\"",
                   SLICE_ARG(name));
        return -EINVAL;
    }
    buf_init(&hash, CRYPT_OUTPUT_SIZE);
    r = users_make_hash(password, &hash, error);
    if (r == 0)
        r = users_file_change(path, name, buf_slice(&hash), error);
    buf_deinit(&hash);
    return r;
}

int users_file_remove(const char *path, struct slice name, struct buf *error)
{
    return users_file_change(path, name, SLICE_NONE, error);
}
