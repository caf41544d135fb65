/* Any octets as kilat.conf.
 *
 * Goal: a file is refused with one line that begins with its name, or read; what was read can be printed
 * and read again, and means the same.
 */
#include "core/assert.h"
#include "daemon/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(const struct settings *settings, struct buf *out)
{
    buf_init(out, 4 * MIB);
    settings_print_values(settings_table(), settings, false, out);
    ASSERT(!out->failed);
}

static void check_refusal(const struct buf *error)
{
    ASSERT(!error->failed && error->size > 0);
    ASSERT(slice_find(buf_slice(error), '\n') == SIZE_MAX);
    ASSERT(slice_starts_nocase(buf_slice(error), SLICE("fuzzed:")));
}

static void check_again(const struct settings *settings)
{
    struct settings again = {0};
    struct buf first, second, error;

    buf_init(&error, 16 * KIB);
    print(settings, &first);
    ASSERT(settings_parse(settings_table(), buf_slice(&first), "printed", &again, &error) == 0);
    print(&again, &second);
    ASSERT(slice_equal(buf_slice(&first), buf_slice(&second)));
    ASSERT(settings_reload_conflict(settings_table(), settings, &again) == NULL);
    settings_free(settings_table(), &again);
    buf_deinit(&first);
    buf_deinit(&second);
    buf_deinit(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct settings settings = {0};
    struct buf error;

    buf_init(&error, 16 * KIB);
    if (settings_parse(settings_table(), slice_of(data, size), "fuzzed", &settings, &error) < 0) {
        check_refusal(&error);
        ASSERT(settings.hostname == NULL && settings.routes.items == NULL);
    } else {
        ASSERT(error.size == 0 && settings.hostname[0] != 0);
        check_again(&settings);
        if (settings_check(&settings, &error) < 0)
            ASSERT(!error.failed && error.size > 0);
        settings_free(settings_table(), &settings);
    }
    buf_deinit(&error);
    return 0;
}
