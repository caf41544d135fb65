#include "proto/smtp_parse.h"

#include "proto/smtp_param.h"
#include <criterion/criterion.h>
#include <stdlib.h>

#define LINE_MAX_HERE 32
#define RESULTS_MAX 16

struct results {
    enum smtp_line result[RESULTS_MAX];
    char line[RESULTS_MAX][LINE_MAX_HERE + 1];
    size_t count;
};

/* Reads all of `wire`, given in pieces of `step`; each in memory of its own size. */
static void read_all(struct slice wire, size_t step, struct results *ret)
{
    struct smtp_line_reader reader;

    memset(ret, 0, sizeof(*ret));
    smtp_line_reader_init(&reader, LINE_MAX_HERE);
    for (; wire.size > 0; wire = slice_skip(wire, step)) {
        size_t size = MIN(step, wire.size);
        uint8_t *copy = malloc(size);
        struct slice input = {copy, size}, line;

        memcpy(copy, wire.data, size);
        while (input.size > 0) {
            enum smtp_line result = smtp_line_next(&reader, &input, &line);
            if (result == SMTP_LINE_PARTIAL)
                continue;
            cr_assert(ret->count < RESULTS_MAX);
            if (result == SMTP_LINE_OK)
                cr_assert(slice_to_cstr(line, ret->line[ret->count], LINE_MAX_HERE + 1));
            ret->result[ret->count++] = result;
            if (result == SMTP_LINE_ENDLESS)
                input.size = 0, wire.size = step;
        }
        free(copy);
        smtp_line_rest(&reader);
    }
    smtp_line_reader_deinit(&reader);
}

#define L31 "NOOP 78901234567890123456789012"
static const struct {
    const char *name;
    const char *wire;
    enum smtp_line want[4];
    size_t count;
} rows[] = {
    {"a line", "NOOP\r\n", {SMTP_LINE_OK}, 1},
    {"two lines", "NOOP\r\nQUIT\r\n", {SMTP_LINE_OK, SMTP_LINE_OK}, 2},
    {"an empty line", "\r\n", {SMTP_LINE_OK}, 1},
    {"no end yet", "NOOP\r", {0}, 0},
    {"bare LF ends nothing", "NOOP\n", {SMTP_LINE_BARE_LF}, 1},
    {"what follows a bare LF is not a command", "NOOP\nRSET\r\n", {SMTP_LINE_BARE_LF}, 1},
    {"the next true line is one", "NOOP\nRSET\r\nQUIT\r\n", {SMTP_LINE_BARE_LF, SMTP_LINE_OK}, 2},
    {"LF for line ends", "A\nB\nC\n", {SMTP_LINE_BARE_LF, SMTP_LINE_ENDLESS}, 2},
    {"LF CRLF", "NOOP\n\r\nQUIT\r\n", {SMTP_LINE_BARE_LF, SMTP_LINE_OK}, 2},
    {"bare CR", "NO\rOP\r\n", {SMTP_LINE_BAD_OCTET}, 1},
    {"CR CR LF", "NOOP\r\r\n", {SMTP_LINE_BAD_OCTET}, 1},
    {"an escape", "NOOP \x1b[2J\r\n", {SMTP_LINE_BAD_OCTET}, 1},
    {"a tab is a blank", "NOOP\tx\r\n", {SMTP_LINE_OK}, 1},
    {"DEL", "NOOP \x7f\r\n", {SMTP_LINE_BAD_OCTET}, 1},
    {"at the limit", "NOOP 6789012345678901234567890\r\n", {SMTP_LINE_OK}, 1},
    {"one over",
     "NOOP 67890123456789012345678901\r\nQUIT\r\n",
     {SMTP_LINE_TOO_LONG, SMTP_LINE_OK},
     2},
    {"far over", L31 L31 L31 "\r\nQUIT\r\n", {SMTP_LINE_TOO_LONG, SMTP_LINE_OK}, 2},
    {"far over and bare LF", L31 L31 L31 "\nX\r\nQUIT\r\n", {SMTP_LINE_BARE_LF, SMTP_LINE_OK}, 2},
};

/* Goal: the answer never depends on where the network cut the bytes. */
Test(smtp_parse, whole_and_cut_agree)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (size_t step = 1; step <= strlen(rows[i].wire); step++) {
            struct results results;

            read_all(slice_cstr(rows[i].wire), step, &results);
            cr_expect_eq(results.count, rows[i].count, "%s, by %zu", rows[i].name, step);
            for (size_t j = 0; j < MIN(results.count, rows[i].count); j++)
                cr_expect_eq(results.result[j], rows[i].want[j], "%s, by %zu", rows[i].name, step);
        }
    }
}

Test(smtp_parse, a_cut_line_is_the_same_line)
{
    for (size_t step = 1; step < 20; step++) {
        struct results results;

        read_all(SLICE("MAIL FROM:<a@b>\r\nNOOP\r\n"), step, &results);
        cr_assert_eq(results.count, 2);
        cr_expect_str_eq(results.line[0], "MAIL FROM:<a@b>");
        cr_expect_str_eq(results.line[1], "NOOP");
    }
}

Test(smtp_parse, nul_is_a_bad_octet)
{
    struct results results;

    read_all(SLICE("NOOP\0\r\n"), SIZE_MAX, &results);
    cr_assert_eq(results.count, 1);
    cr_expect_eq(results.result[0], SMTP_LINE_BAD_OCTET);
}

Test(smtp_parse, a_line_in_one_input_is_not_copied)
{
    static const uint8_t wire[] = "NOOP\r\n";
    struct slice input = {wire, 6}, line;
    struct smtp_line_reader reader;

    smtp_line_reader_init(&reader, LINE_MAX_HERE);
    cr_assert_eq(smtp_line_next(&reader, &input, &line), SMTP_LINE_OK);
    cr_expect_eq(line.data, wire);
    cr_expect_null(reader.carry.data);
    smtp_line_reader_deinit(&reader);
}

Test(smtp_parse, only_a_cut_line_holds_memory)
{
    struct slice input = SLICE("NO"), line;
    struct smtp_line_reader reader;

    smtp_line_reader_init(&reader, LINE_MAX_HERE);
    (void)smtp_line_next(&reader, &input, &line);
    smtp_line_rest(&reader);
    cr_expect_not_null(reader.carry.data);
    input = SLICE("OP\r\n");
    cr_assert_eq(smtp_line_next(&reader, &input, &line), SMTP_LINE_OK);
    smtp_line_rest(&reader);
    cr_expect_null(reader.carry.data);
    smtp_line_reader_deinit(&reader);
}

/* 16 MiB without an end are neither kept nor read to their end. */
Test(smtp_parse, an_endless_line_is_cut_off_at_64_kib)
{
    size_t steps[] = {1, 1000, 65536, 100000};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct smtp_line_reader reader;
        uint8_t *piece = malloc(steps[i]);
        enum smtp_line result = SMTP_LINE_PARTIAL;
        size_t used = 0;

        memset(piece, 'x', steps[i]);
        smtp_line_reader_init(&reader, LINE_MAX_HERE);
        while (result == SMTP_LINE_PARTIAL && used < 16 * MIB) {
            struct slice input = {piece, steps[i]}, line;
            result = smtp_line_next(&reader, &input, &line);
            used += steps[i] - input.size;
            cr_assert(reader.carry.capacity <= 256);
        }
        cr_expect_eq(result, SMTP_LINE_ENDLESS);
        cr_expect_eq(used, SMTP_LINE_ENDLESS_BYTES);
        smtp_line_reader_deinit(&reader);
        free(piece);
    }
}

Test(smtp_parse, verbs)
{
    static const struct {
        const char *line;
        enum smtp_verb verb;
        const char *argument;
    } verbs[] = {
        {"EHLO x.test", SMTP_VERB_EHLO, "x.test"},
        {"helo x", SMTP_VERB_HELO, "x"},
        {"MaIl FROM:<> SIZE=1", SMTP_VERB_MAIL, "FROM:<> SIZE=1"},
        {"RCPT TO:<a@b>  ", SMTP_VERB_RCPT, "TO:<a@b>"},
        {"DATA", SMTP_VERB_DATA, ""},
        {"DATA ", SMTP_VERB_DATA, ""},
        {"rset", SMTP_VERB_RSET, ""},
        {"NOOP  x", SMTP_VERB_NOOP, " x"},
        {"VRFY a", SMTP_VERB_VRFY, "a"},
        {"help", SMTP_VERB_HELP, ""},
        {"QUIT\t", SMTP_VERB_QUIT, ""},
        {"EXPN l", SMTP_VERB_EXPN, "l"},
        {"AUTH PLAIN x", SMTP_VERB_AUTH, "PLAIN x"},
        {"StartTLS", SMTP_VERB_STARTTLS, ""},
        {"BDAT 1 LAST", SMTP_VERB_BDAT, "1 LAST"},
        {"ETRN x", SMTP_VERB_ETRN, "x"},
        {"", SMTP_VERB_UNKNOWN, ""},
        {" NOOP", SMTP_VERB_UNKNOWN, "NOOP"},
        {"NOO", SMTP_VERB_UNKNOWN, ""},
        {"NOOPX", SMTP_VERB_UNKNOWN, ""},
        {"MAIL\tFROM:<>", SMTP_VERB_UNKNOWN, ""},
        {"\xcd\xef\xef\xf0", SMTP_VERB_UNKNOWN, ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        struct slice argument;

        cr_expect_eq(smtp_verb_parse(slice_cstr(verbs[i].line), &argument), verbs[i].verb, "%s",
                     verbs[i].line);
        cr_expect(slice_equal(argument, slice_cstr(verbs[i].argument)), "%s", verbs[i].line);
    }
}

Test(smtp_parse, http_is_foreign)
{
    cr_expect(smtp_line_is_foreign(SLICE("GET / HTTP/1.1")));
    cr_expect(smtp_line_is_foreign(SLICE("post /")));
    cr_expect(smtp_line_is_foreign(SLICE("FROBNICATE * HTTP/1.1")));
    cr_expect_not(smtp_line_is_foreign(SLICE("EHLO get")));
    cr_expect_not(smtp_line_is_foreign(SLICE("GETX")));
    cr_expect_not(smtp_line_is_foreign(SLICE("")));
}

Test(smtp_param, takes_one_after_another)
{
    struct slice rest = SLICE(" SIZE=100 BODY=8BITMIME FLAG ");
    struct smtp_param param;

    cr_assert_eq(smtp_param_next(&rest, &param), SMTP_PARAM_OK);
    cr_expect(slice_equal(param.keyword, SLICE("SIZE")));
    cr_expect(slice_equal(param.value, SLICE("100")));
    cr_assert_eq(smtp_param_next(&rest, &param), SMTP_PARAM_OK);
    cr_expect(slice_equal(param.value, SLICE("8BITMIME")));
    cr_assert_eq(smtp_param_next(&rest, &param), SMTP_PARAM_OK);
    cr_expect_not(param.has_value);
    cr_expect_eq(smtp_param_next(&rest, &param), SMTP_PARAM_END);
}

Test(smtp_param, refuses_what_is_none)
{
    static const char *const bad[] = {"SIZE=1",      " =1",   " SIZE=", " -A=1",
                                      " A_B",        " A==",  " A=b=c", " \xc3\xa9=1",
                                      " A=\xc3\xa9", "\tA=1", " A\tB"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct slice rest = slice_cstr(bad[i]);
        struct smtp_param param;

        cr_expect_eq(smtp_param_next(&rest, &param), SMTP_PARAM_BAD, "%s", bad[i]);
    }
}
