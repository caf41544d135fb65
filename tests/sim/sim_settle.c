/* tests/sim/sim_settle.c - in quiet times: everybody fetches, operators look, and the ledger is compared. */
#include "tests/sim/sim_mail.h"

#include "tests/sim/sim_disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The `wanted`th id in the answer to `queue list`; false: there are not so many. */
bool settle_find_id(const struct buf *answer, uint64_t wanted, char id[32])
{
    static const char mark[] = "\"id\": \"";
    struct slice rest = buf_slice(answer);

    for (;;) {
        const uint8_t *at = memmem(rest.data, rest.size, mark, sizeof(mark) - 1);

        if (at == NULL)
            return false;
        rest = slice_skip(rest, (size_t)(at - rest.data) + sizeof(mark) - 1);
        if (wanted-- == 0)
            return slice_to_cstr(slice_first(rest, slice_find(rest, '"')), id, 32);
    }
}

/* In quiet times: what is held is let go. False: there is something in the queue. */
bool settle_queue_is_empty(struct sim_site *site)
{
    struct buf answer, told;
    char command[64], id[32];
    uint64_t count = 0;
    int r;

    buf_init(&answer, MIB);
    buf_init(&told, MIB);
    (void)sim_control(site, "clock accept", &told); /* it was moved: nothing is returned before */
    r = sim_control(site, "queue list", &answer);
    if (r != 0)
        sim_fail("in quiet times kilatctl queue list of %s ends with %d", site->domain, r);
    for (; r == 0 && settle_find_id(&answer, count, id); count++) {
        snprintf(command, sizeof(command), "message release %s", id);
        (void)sim_control(site, command, &told); /* refused for one that is not held */
    }
    buf_deinit(&answer);
    buf_deinit(&told);
    return count == 0;
}

/* NULL: everything promised has come to its end; otherwise one that has not. */
struct sim_letter *settle_open_letter(const char **ret_address)
{
    for (uint32_t number = 1; number <= sim_letter_count(); number++) {
        struct sim_letter *letter = sim_letter_find(number);

        for (uint32_t i = 0; i < letter->recipient_count; i++) {
            struct sim_letter_recipient *recipient = &letter->recipients[i];

            if (!recipient->promised || recipient->seen > 0 || recipient->reported)
                continue;
            *ret_address = recipient->address;
            return letter;
        }
    }
    return NULL;
}

/* A session whose connection has gone silent holds its mailbox until it has been idle for ten minutes (RFC 1939 3). */
void settle_fetch_all(struct sim_host *from, struct sim_mailbox *mailboxes, size_t count,
                      bool again)
{
    for (size_t i = 0; i < count; i++) {
        int r = -EACCES;

        for (int tries = 0; r == -EACCES && tries < 12; tries++) {
            if (tries > 0)
                sim_sleep(60 * SECOND_NS);
            r = sim_pop3_session(from, &mailboxes[i], again, false);
        }
        if (r < 0)
            sim_fail("in quiet times a POP3 session of %s ends with %d", mailboxes[i].address, r);
    }
}

/* A file in tmp/ is a letter that nobody sees. */
void settle_check_leftovers(const struct sim_mailbox *mailboxes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *at = strchr(mailboxes[i].address, '@');
        const struct sim_inode *tmp;
        char path[256];

        snprintf(path, sizeof(path), "/var/mail/kilat/%s/%.*s/tmp", at + 1,
                 (int)(at - mailboxes[i].address), mailboxes[i].address);
        tmp = sim_disk_find(mailboxes[i].site->host, path);
        if (tmp != NULL && tmp->names.count > 0)
            sim_fail("in quiet times %s is left in %s", tmp->names.items[0].text, path);
    }
}
