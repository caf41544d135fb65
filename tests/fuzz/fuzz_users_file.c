/* Any octets as the file of accounts.
 *
 * Goal: refused with one line, or a table in which every name leads below the mail root and is found
 * again in any case. Method: a reference counts the lines that are accounts.
 */
#include "core/assert.h"
#include "daemon/users_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_accounts(struct slice text)
{
    size_t count = 0;
    bool begins = true;

    for (size_t i = 0; i < text.size; i++) {
        count += begins && text.data[i] != '#' && text.data[i] != '\n';
        begins = text.data[i] == '\n';
    }
    return count;
}

static bool is_in_alphabet(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-_.+", c) != NULL;
}

/* "domain/name": one slash, neither half hidden, empty or leading up. */
static void check_directory(const char *directory)
{
    const char *slash = strchr(directory, '/');

    ASSERT(slash != NULL && strchr(slash + 1, '/') == NULL);
    ASSERT(is_in_alphabet(directory[0]) && directory[0] != '.');
    ASSERT(slash > directory && slash[1] != 0 && slash[1] != '.' && is_in_alphabet(slash[1]));
    for (const char *c = directory; *c != 0; c++)
        ASSERT(c == slash || is_in_alphabet(*c));
}

static void check_account(const struct users_table *table, const struct users_account *account)
{
    char upper[300];
    size_t size = strlen(account->name);

    ASSERT(size < sizeof(upper));
    for (size_t i = 0; i <= size; i++)
        upper[i] = account->name[i] >= 'a' && account->name[i] <= 'z' ? account->name[i] - 32
                                                                      : account->name[i];
    ASSERT(users_table_find(table, slice_of(upper, size)) == account);
    ASSERT(account->hash[0] != 0);
    ASSERT(slice_is_printable(slice_cstr(account->hash)));
    check_directory(account->directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct users_table *table = NULL;
    const struct hash_node *node = NULL;
    struct buf error;
    size_t count = 0;

    buf_init(&error, 4 * KIB);
    if (users_file_parse(slice_of(data, size), "fuzzed", &table, &error) < 0) {
        ASSERT(table == NULL && !error.failed);
        ASSERT(slice_starts_nocase(buf_slice(&error), SLICE("fuzzed:")));
        ASSERT(slice_find(buf_slice(&error), '\n') == SIZE_MAX);
    } else {
        ASSERT(error.size == 0 && table->count == count_accounts(slice_of(data, size)));
        while ((node = hash_table_next(&table->accounts, node)) != NULL) {
            check_account(table, CONTAINER_OF(node, struct users_account, node));
            count++;
        }
        ASSERT(count == table->count);
        users_table_destroy(&table);
    }
    buf_deinit(&error);
    return 0;
}
