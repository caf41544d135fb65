#include "proto/smtp_reply.h"

#include <criterion/criterion.h>
#include <signal.h>

static const char *written(const struct smtp_reply *reply, bool more)
{
    static char text[1024];
    struct buf out;

    buf_init(&out, sizeof(text));
    if (more)
        smtp_reply_write_more(&out, reply);
    else
        smtp_reply_write(&out, reply);
    cr_assert_not(out.failed);
    (void)slice_to_cstr(buf_slice(&out), text, sizeof(text));
    buf_deinit(&out);
    return text;
}

Test(smtp_reply, with_and_without_an_enhanced_code)
{
    cr_expect_str_eq(written(&SMTP_REPLY(550, 5, 1, 1, "No such user"), false),
                     "550 5.1.1 No such user\r\n");
    cr_expect_str_eq(written(&SMTP_REPLY(354, 0, 0, 0, "Go on"), false), "354 Go on\r\n");
    cr_expect_str_eq(written(&SMTP_REPLY(250, 0, 0, 0, "mx.test"), true), "250-mx.test\r\n");
    cr_expect_str_eq(written(&SMTP_REPLY(250, 2, 0, 0, ""), false), "250 2.0.0 \r\n");
    cr_expect_str_eq(written(&SMTP_REPLY(452, 4, 27, 255, "x"), false), "452 4.27.255 x\r\n");
}

Test(smtp_reply, stays_one_printable_line)
{
    cr_expect_str_eq(written(&SMTP_REPLY(550, 5, 0, 0, "a\r\n250 b\0c\x1b\x7f\xc3"), false),
                     "550 5.0.0 a??250 b?c???\r\n");
}

Test(smtp_reply, is_cut_at_512_octets)
{
    struct smtp_reply reply = {.code = 550, .status = {5, 7, 1}};
    uint8_t text[2000];

    memset(text, 'x', sizeof(text));
    for (size_t size = 495; size < 510; size++) {
        reply.text = slice_of(text, size);
        cr_expect_eq(strlen(written(&reply, false)), MIN(10 + size + 2, (size_t)512));
    }
    reply.text = slice_of(text, sizeof(text));
    cr_expect_eq(strlen(written(&reply, true)), 512);
}

Test(smtp_reply, classes_that_disagree_are_our_fault, .signal = SIGABRT)
{
    (void)written(&SMTP_REPLY(250, 5, 0, 0, "x"), false);
}

Test(smtp_reply, a_pending_reply_cannot_be_written, .signal = SIGABRT)
{
    (void)written(&SMTP_PENDING, false);
}
