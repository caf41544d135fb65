#include "storage/spool.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint64_t ids[] = {
    0, 1, 31, 32, 1023ull << 54 | 12345, UINT64_MAX, 0x0123456789abcdefull};

Test(spool_id, what_is_written_can_be_read)
{
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        char text[SPOOL_ID_TEXT_SIZE];
        uint64_t id = ~ids[i];

        spool_id_format(ids[i], text);
        cr_assert_eq(strlen(text), 14);
        cr_assert(spool_id_parse(slice_cstr(text), &id), "%s", text);
        cr_assert_eq(id, ids[i]);
    }
}

/* Goal: any one wrong digit and any swap of neighbours is noticed. */
Test(spool_id, typing_errors_are_noticed)
{
    static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        char text[SPOOL_ID_TEXT_SIZE];
        uint64_t id;

        spool_id_format(ids[i], text);
        for (int at = 0; at < 14; at++) {
            char right = text[at];

            for (const char *wrong = alphabet; *wrong != '\0'; wrong++) {
                text[at] = *wrong;
                cr_assert_eq(spool_id_parse(slice_cstr(text), &id), *wrong == right, "%s", text);
            }
            text[at] = right;
            if (at == 13 || text[at] == text[at + 1])
                continue;
            text[at] = text[at + 1];
            text[at + 1] = right;
            cr_assert(!spool_id_parse(slice_cstr(text), &id), "%s", text);
            text[at + 1] = text[at];
            text[at] = right;
        }
    }
}

Test(spool_id, people_misread_some_letters)
{
    char text[SPOOL_ID_TEXT_SIZE];
    uint64_t id;

    spool_id_format(0x0421084210842108ull, text);
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '1' ? 'l' : (*c == '0' ? 'o' : (char)(*c >= 'A' ? *c + 32 : *c));
    cr_assert(spool_id_parse(slice_cstr(text), &id), "%s", text);
    cr_assert_eq(id, 0x0421084210842108ull);
}

Test(spool_id, refusals)
{
    static const char *const rows[] = {"",
                                       "0",
                                       "0000000000000",
                                       "000000000000000",
                                       "G0000000000000",
                                       "0000000000000-",
                                       "U0000000000000",
                                       "0000000 000000",
                                       "ZZZZZZZZZZZZZZ"};
    uint64_t id = 7;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        cr_assert(!spool_id_parse(slice_cstr(rows[i]), &id), "%s", rows[i]);
    cr_assert(!spool_id_parse(slice_of("0000000000000\0", 14), &id));
    cr_assert_eq(id, 7, "left alone");
}
