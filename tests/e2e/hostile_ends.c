/* What some server somewhere takes for the end of a letter, and we must not: SMTP smuggling. */
#include "hostile.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* What becomes of a letter that holds the form. */
enum outcome {
    TEXT,   /* a line like any other: accepted */
    BARE,   /* holds a bare CR or LF: refused at its true end, or normalized */
    BINARY, /* holds a NUL: refused */
};

struct form {
    const char *name, *bytes;
    size_t size;
    enum outcome outcome;
};
#define FORM(name, bytes, outcome)                                                                 \
    {                                                                                              \
        name, bytes, sizeof(bytes) - 1, outcome                                                    \
    }

static const struct form forms[] = {
    FORM("LF.LF", "\n.\n", BARE),
    FORM("LF.CRLF", "\n.\r\n", BARE),
    FORM("CRLF.LF", "\r\n.\n", BARE),
    FORM("CRLF.CRCRLF", "\r\n.\r\r\n", BARE),
    FORM("CRCRLF.CRCRLF", "\r\r\n.\r\r\n", BARE),
    FORM("CR.CR", "\r.\r", BARE),
    FORM("CRLF.CR", "\r\n.\r", BARE),
    FORM("CR.CRLF", "\r.\r\n", BARE),
    FORM("LFCR.LFCR", "\n\r.\n\r", BARE),
    FORM("CRLF.CRLFLF without the last CR", "\r\n.\n\r\n", BARE),
    FORM("CRLF NUL.CRLF", "\r\n\0.\r\n", BINARY),
    FORM("CRLF.NUL CRLF", "\r\n.\0\r\n", BINARY),
    FORM("CRLF. SP CRLF", "\r\n. \r\n", TEXT),
    FORM("VT.VT", "\v.\v\r\n", TEXT),
    FORM("NEL.NEL", "\xc2\x85.\xc2\x85\r\n", TEXT),
    FORM("LS.LS", "\xe2\x80\xa8.\xe2\x80\xa8\r\n", TEXT),
    FORM("dots that are stuffed", "\r\n..\r\n", TEXT),
};

#define SESSIONS_MAX 256
#define SHARDS_MAX_TRIES 8 /* so many connections reach every shard of a small server */

struct letter {
    char bytes[512];
    size_t size;
    size_t form_begin, form_end;
};

/* The form stands where the letter would end; what follows would be a second one. */
static void write_letter(struct letter *letter, const struct form *form, unsigned number)
{
    static const char hidden[] = "MAIL FROM:<y@asing.test>\r\nRCPT TO:<ani@kawan.test>\r\nDATA\r\n"
                                 "Subject: selundupan\r\n\r\ndua\r\n.\r\n";
    int size =
        snprintf(letter->bytes, sizeof(letter->bytes), "Subject: ujung %u\r\n\r\nsatu", number);

    letter->form_begin = (size_t)size;
    memcpy(letter->bytes + size, form->bytes, form->size);
    letter->form_end = letter->form_begin + form->size;
    memcpy(letter->bytes + letter->form_end, hidden, sizeof(hidden) - 1);
    letter->size = letter->form_end + sizeof(hidden) - 1;
}

/* One answer to the letter, no second one, and a session that goes on in good order. Returns whether it was accepted. */
static bool judge(struct client *client, const struct form *form, bool normalize, const char *how)
{
    bool accepted = form->outcome == TEXT || (form->outcome == BARE && normalize);
    char what[128];

    (void)snprintf(what, sizeof(what), "a letter with %s, %s", form->name, how);
    smtp_expect(client, accepted ? 250 : 550, what);
    smtp_quit(client);
    return accepted;
}

/* An answer to a later question: what was sent before has been looked at. */
static void barrier(struct client *others)
{
    for (unsigned i = 0; i < SHARDS_MAX_TRIES; i++) {
        client_say(&others[i], "NOOP\r\n");
        smtp_expect(&others[i], 250, "NOOP");
    }
}

/* Cut at each byte from before the form to the end of the letter: all first parts are sent before any second part. */
static unsigned split(const struct target *target, const struct form *form, bool normalize,
                      struct client *others, unsigned *number)
{
    static struct client clients[SESSIONS_MAX];
    struct letter letter;
    size_t first, count;
    unsigned accepted = 0;

    write_letter(&letter, form, *number);
    first = letter.form_begin - 2;
    count = letter.size - first;
    if (count > SESSIONS_MAX)
        errx(2, "more places to cut than sessions");
    for (size_t i = 0; i < count; i++) {
        smtp_open(&clients[i], target, 1 + (unsigned)i % 7);
        smtp_envelope(&clients[i]);
        write_letter(&letter, form, ++*number);
        client_send(&clients[i], letter.bytes, letter.size - count + i);
    }
    barrier(others);
    for (size_t i = 0; i < count; i++)
        client_send(&clients[i], letter.bytes + letter.size - count + i, count - i);
    for (size_t i = 0; i < count; i++)
        accepted += judge(&clients[i], form, normalize, "cut in two");
    return accepted;
}

static unsigned whole_and_bytewise(const struct target *target, const struct form *form,
                                   bool normalize, unsigned *number)
{
    struct client whole, bytewise;
    struct letter letter;
    unsigned accepted;

    smtp_open(&whole, target, 0);
    smtp_envelope(&whole);
    write_letter(&letter, form, ++*number);
    client_send(&whole, letter.bytes, letter.size);
    accepted = judge(&whole, form, normalize, "in one piece");
    smtp_open(&bytewise, target, 0);
    smtp_envelope(&bytewise);
    write_letter(&letter, form, ++*number);
    for (size_t i = 0; i < letter.size; i++)
        client_send(&bytewise, letter.bytes + i, 1);
    return accepted + judge(&bytewise, form, normalize, "byte by byte");
}

/* The true end, which may be cut anywhere as well; the first one belongs to a letter without anything in it. */
static unsigned true_ends(const struct target *target)
{
    static const char *const letters[] = {".\r\n", "Subject: ujung 0\r\n\r\nsatu\r\n.\r\n"};
    unsigned accepted = 0;

    for (size_t i = 0; i < COUNT_OF(letters); i++) {
        struct client client;

        smtp_open(&client, target, 0);
        smtp_envelope(&client);
        for (const char *at = letters[i]; *at != '\0'; at++)
            client_send(&client, at, 1);
        smtp_expect(&client, 250, "a letter that ends as it should");
        accepted++;
        smtp_quit(&client);
    }
    return accepted;
}

/* Argument: "normalize" when the server is set to that. Prints how many letters were accepted. */
void case_ends(const struct target *target, const char *argument)
{
    static struct client others[SHARDS_MAX_TRIES];
    bool normalize = argument != NULL && strcmp(argument, "normalize") == 0;
    unsigned number = 0, accepted = true_ends(target);

    for (size_t i = 0; i < COUNT_OF(others); i++)
        smtp_open(&others[i], target, 0);
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        accepted += whole_and_bytewise(target, &forms[i], normalize, &number);
        accepted += split(target, &forms[i], normalize, others, &number);
    }
    for (size_t i = 0; i < COUNT_OF(others); i++)
        smtp_quit(&others[i]);
    printf("%u\n", accepted);
}
