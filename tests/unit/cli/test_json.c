#include "cli/json_in.h"
#include "cli/json_out.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seen {
    char text[2000];
    size_t size;
};

static bool see(void *context, const struct json_in_value *value)
{
    struct seen *seen = context;

    seen->size += (size_t)snprintf(seen->text + seen->size, sizeof(seen->text) - seen->size,
                                   "%s%u.%.*s=%.*s/%llu/%d;", value->list, value->index,
                                   SLICE_ARG(value->name), SLICE_ARG(value->text),
                                   (unsigned long long)value->number, value->truth);
    return true;
}

Test(json, what_is_written_is_read_again)
{
    static const char odd[] = "a\"b\\c\n\x7f\xff\xc3\xa9\xe2\x82\xac \xed\xa0\x80";
    struct seen seen = {0};
    struct json_out out;
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    json_out_array(&out, file);
    json_out_object(&out);
    json_out_cstr(&out, "odd", odd);
    json_out_u64(&out, "most", UINT64_MAX);
    json_out_list(&out, "list");
    for (int i = 0; i < 2; i++) {
        json_out_object(&out);
        json_out_bool(&out, "yes", i == 0);
        json_out_object_end(&out);
    }
    json_out_list_end(&out);
    json_out_cstr(&out, "last", "");
    json_out_object_end(&out);
    json_out_array_end(&out);
    fclose(file);
    cr_expect(strstr(text, "\\u000a"));
    cr_expect(strstr(text, "\\u00ff"), "a byte that is no UTF-8");
    cr_expect(strstr(text, "\xc3\xa9\xe2\x82\xac"), "UTF-8 is passed on");
    cr_expect(strstr(text, "\\u00ed\\u00a0\\u0080"), "a surrogate is no UTF-8");
    cr_assert(json_in_read(slice_of(text, size), see, &seen), "%s", text);
    cr_expect(strstr(seen.text, odd));
    cr_expect(strstr(seen.text, "0.most=/18446744073709551615/0;"));
    cr_expect(strstr(seen.text, "list0.yes=/0/1;list1.yes=/0/0;"));
    cr_expect(strstr(seen.text, "0.last=/0/0;"));
    free(text);
}

Test(json, anything_else_is_refused)
{
    static const char *const texts[] = {
        "",
        "{}",
        "[",
        "[{]",
        "[{\"a\"}]",
        "[{\"a\": }]",
        "[{\"a\": 1,}]",
        "[{\"a\": 1}] more",
        "[{\"a\": \"b}]",
        "[{\"a\": \"\\u0100\"}]",
        "[{\"a\": \"\\x\"}]",
        "[{\"a\": \"\\u00\"}]",
        "[{\"a\": 18446744073709551616}]",
        "[{\"a\": -1}]",
        "[{\"a\": null}]",
        "[{\"a\": {\"b\": 1}}]",
        "[{\"a\": [{\"b\": [{\"c\": 1}]}]}]",
        "[{\"a\": [[[[[[[[",
        "[{\"a name that is longer than any of ours\": 1}]",
    };
    struct seen seen = {0};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        cr_expect_not(json_in_read(slice_cstr(texts[i]), see, &seen), "%s", texts[i]);
    cr_expect(json_in_read(SLICE(" [ ] "), see, &seen));
    cr_expect(json_in_read(SLICE("[{}, {\"a\": []}]"), see, &seen));
}
