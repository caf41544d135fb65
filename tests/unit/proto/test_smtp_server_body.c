/* What DATA brings: ends of data, faults and limits of a message (proto/smtp_cmd_data.c). */
#include "proto/smtp_server.h"

#include "tests/unit/proto/smtp_owner.h"

#define BEFORE "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\nreal"
#define SMUGGLED "\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n"

/* The forms of SECURITY 1.1 but the true one: each is inside of one message, which is refused, or taken whole where it
 * has no bare CR or LF and no NUL; normalized or not, it is never the end. */
static const struct {
    const char *name;
    struct slice wire;
    bool clean, nul;
} forms[] = {
    {"LF.LF", {(const uint8_t *)"\n.\n", 3}},
    {"LF.CRLF", {(const uint8_t *)"\n.\r\n", 4}},
    {"CRLF.LF", {(const uint8_t *)"\r\n.\n", 4}},
    {"CRLF.CR CRLF", {(const uint8_t *)"\r\n.\r\r\n", 6}},
    {"CR CRLF.CR CRLF", {(const uint8_t *)"\r\r\n.\r\r\n", 7}},
    {"CR.CR", {(const uint8_t *)"\r.\r", 3}},
    {"CRLF.CR", {(const uint8_t *)"\r\n.\r", 4}},
    {"CR.CRLF", {(const uint8_t *)"\r.\r\n", 4}},
    {"CRLF NUL.CRLF", {(const uint8_t *)"\r\n\0.\r\n", 6}, .nul = true},
    {"CRLF.NUL CRLF", {(const uint8_t *)"\r\n.\0\r\n", 6}, .nul = true},
    {". SP CRLF", {(const uint8_t *)"\r\n. \r\n", 6}, .clean = true},
    {"VT.CRLF", {(const uint8_t *)"\r\n\v.\r\n", 6}, .clean = true},
    {"NEL.NEL", {(const uint8_t *)"\xc2\x85.\xc2\x85", 5}, .clean = true},
    {"LS.LS", {(const uint8_t *)"\xe2\x80\xa8.\xe2\x80\xa8", 7}, .clean = true},
    {"LF CR.CRLF", {(const uint8_t *)"\n\r.\r\n", 5}},
};

static void play_form(const struct smtp_server_config *config, size_t form, struct slice wire,
                      size_t cut)
{
    bool taken = forms[form].clean || (config == &normalize && !forms[form].nul);
    struct owner owner;

    start(&owner, config);
    if (cut == 0) {
        say_by(&owner, wire, 1);
    } else {
        say_by(&owner, slice_first(wire, cut), SIZE_MAX);
        say_by(&owner, slice_skip(wire, cut), SIZE_MAX);
    }
    cr_expect_str_eq(codes(&owner),
                     taken ? "250 250 250 354 250 221 " : "250 250 250 354 550/5.5.2 221 ",
                     "%s, cut at %zu", forms[form].name, cut);
    cr_expect_eq(owner.ends, taken, "%s, cut at %zu", forms[form].name, cut);
    for (size_t i = 0; taken && i < owner.last.size; i++) {
        bool lf = owner.last.data[i] == '\n', cr = owner.last.data[i] == '\r';

        cr_expect(!lf || (i > 0 && owner.last.data[i - 1] == '\r'));
        cr_expect(!cr || (i + 1 < owner.last.size && owner.last.data[i + 1] == '\n'));
    }
    stop(&owner);
}

Test(smtp_server, nothing_is_smuggled)
{
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        uint8_t wire[512];
        size_t size = strlen(BEFORE);

        memcpy(wire, BEFORE, size);
        memcpy(wire + size, forms[i].wire.data, forms[i].wire.size);
        size += forms[i].wire.size;
        memcpy(wire + size, SMUGGLED, strlen(SMUGGLED));
        size += strlen(SMUGGLED);
        for (size_t cut = 0; cut <= size; cut++) {
            play_form(&reject, i, slice_of(wire, size), cut);
            play_form(&normalize, i, slice_of(wire, size), cut);
        }
    }
}

Test(smtp_server, the_true_end_ends)
{
    EXPECT(BEFORE "\r\n.\r\nNOOP\r\n", "220 250 250 250 354 250 250 ", 1);
    EXPECT("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nNOOP\r\n",
           "220 250 250 250 354 250 250 ", 1);
}

/* What is to be refused is read to its end, and no part of it is handed on any more. */
Test(smtp_server, a_refused_body_is_not_handed_on)
{
    struct owner owner;

    start(&owner, &reject);
    say(&owner, OPEN "DATA\r\n");
    cr_expect_eq(smtp_server_patience_ms(owner.server), 3);
    say(&owner, "good\r\n");
    say(&owner, "bad\nbad\r\n");
    say(&owner, "good\r\n");
    cr_expect_eq(owner.chunks, 1);
    cr_expect_eq(smtp_server_patience_ms(owner.server), 4);
    say(&owner, ".\r\n");
    cr_expect_eq(owner.ends, 0);
    stop(&owner);
}

static void expect_body(const char *head, const char *line, size_t times, const char *want,
                        unsigned accepted)
{
    struct buf wire;

    buf_init(&wire, 16 * MIB);
    buf_append_cstr(&wire, OPEN "DATA\r\n");
    buf_append_cstr(&wire, head);
    append_times(&wire, line, times);
    buf_append_cstr(&wire, "\r\n.\r\nNOOP\r\n");
    expect(&reject, buf_slice(&wire), want, accepted);
    buf_deinit(&wire);
}

Test(smtp_server, message_size_at_its_limit)
{
    expect_body("", "x", 1998, "220 250 250 250 354 250 250 ", 1);
    expect_body("", "x", 1999, "220 250 250 250 354 552/5.3.4 250 ", 0);
    expect_body("..", "x", 1997, "220 250 250 250 354 250 250 ", 1); /* stored octets count */
    expect_body("", "x", 3999, "220 250 250 250 354 552/5.3.4 250 ", 0);
    expect_body("", "x", 4000, "220 250 250 250 354 552/5.3.4 ",
                0); /* over twice the limit: closed */
    expect_body("", "x\n", 3000, "220 250 250 250 354 552/5.3.4 ", 0);
}

Test(smtp_server, a_loop_is_seen)
{
    expect_body("", "Received: x\r\n", 2, "220 250 250 250 354 250 250 ", 1);
    expect_body("", "Received: x\r\n", 3, "220 250 250 250 354 554/5.4.6 250 ", 0);
    expect_body("\r\n", "Received: x\r\n", 3, "220 250 250 250 354 250 250 ", 1); /* in the body */
}

Test(smtp_server, a_message_that_begins_folded_is_refused)
{
    expect_body(" x", "", 0, "220 250 250 250 354 550/5.6.0 250 ", 0);
    expect_body("\tx", "", 0, "220 250 250 250 354 550/5.6.0 250 ", 0);
}

Test(smtp_server, header_and_lines_have_limits)
{
    static const struct smtp_server_config large = {.hostname = HOST,
                                                    .limits = {.message_bytes_max = 4 * MIB,
                                                               .recipients_max = 3,
                                                               .errors_max = 8,
                                                               .command_line_max = 512,
                                                               .received_max = 2}};
    struct buf wire;

    buf_init(&wire, 16 * MIB);
    buf_append_cstr(&wire, OPEN "DATA\r\n");
    append_times(&wire, "X: 89012345678\r\n", 65537);
    buf_append_cstr(&wire, "\r\n.\r\n" OPEN "DATA\r\n\r\n");
    append_times(&wire, "x", 65534);
    buf_append_cstr(&wire, "\r\n.\r\n" OPEN "DATA\r\n\r\n");
    append_times(&wire, "x", 65535);
    buf_append_cstr(&wire, "\r\n.\r\n");
    expect(&large, buf_slice(&wire),
           "220 250 250 250 354 552/5.3.4 250 250 250 354 250 250 250 250 354 554/5.6.0 ", 1);
    buf_deinit(&wire);
}
