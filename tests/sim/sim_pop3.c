/* tests/sim/sim_pop3.c - a scripted reader that fetches letters and deletes some.
 *
 * It knows every name (UIDL) that it ever met. A letter whose deletion was acknowledged (+OK to QUIT, RFC 1939 6) must
 * never be met again under that name; one whose QUIT was left without an answer may be there or not.
 */
#include "tests/sim/sim_mail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGES_MAX 2048

/* True for +OK; false for -ERR; -errno. */
static int read_status(struct sim_peer *peer)
{
    char line[1024];
    ssize_t size = sim_peer_read_line(peer, line, sizeof(line));

    if (size < 0)
        return (int)size;
    if (strncmp(line, "+OK", 3) == 0)
        return true;
    if (strncmp(line, "-ERR", 4) != 0)
        sim_fail("a POP3 answer that is none: \"%s\"", line);
    return false;
}

static int command(struct sim_peer *peer, const char *format, const char *argument)
{
    char line[160];
    int r;

    snprintf(line, sizeof(line), "%s%s\r\n", format, argument);
    r = sim_peer_write(peer, slice_cstr(line));
    return r < 0 ? r : read_status(peer);
}

static struct sim_uid *uid_met(struct sim_mailbox *mailbox, const char *text)
{
    struct sim_uid *uid;

    for (size_t i = 0; i < mailbox->uid_count; i++)
        if (strcmp(mailbox->uids[i].text, text) == 0)
            return &mailbox->uids[i];
    if (mailbox->uid_count == mailbox->uid_capacity) {
        mailbox->uid_capacity = mailbox->uid_capacity == 0 ? 64 : mailbox->uid_capacity * 2;
        mailbox->uids = realloc(mailbox->uids, mailbox->uid_capacity * sizeof(*mailbox->uids));
        ASSERT(mailbox->uids != NULL);
    }
    uid = &mailbox->uids[mailbox->uid_count++];
    *uid = (struct sim_uid){.letter = 0};
    snprintf(uid->text, sizeof(uid->text), "%s", text);
    return uid;
}

static size_t index_of(const struct sim_mailbox *mailbox, const struct sim_uid *uid)
{
    return (size_t)(uid - mailbox->uids);
}

/* UIDL: fills `indexes` (into mailbox->uids), one a message. The count, or -errno. */
static int list(struct sim_peer *peer, struct sim_mailbox *mailbox, size_t indexes[MESSAGES_MAX])
{
    char line[256];
    int count = 0, r = command(peer, "UIDL", "");

    if (r <= 0)
        return r < 0 ? r : -EPROTO;
    for (;;) {
        ssize_t size = sim_peer_read_line(peer, line, sizeof(line));
        const char *space;
        struct sim_uid *uid;

        if (size < 0)
            return (int)size;
        if (strcmp(line, ".") == 0)
            return count;
        space = strchr(line, ' ');
        if (space == NULL || count == MESSAGES_MAX) {
            sim_fail("a line of UIDL that is none: \"%s\"", line);
            return -EPROTO;
        }
        uid = uid_met(mailbox, space + 1);
        if (uid->deleted)
            sim_fail("%s was deleted from the mailbox of %s and is back (letter %u)", uid->text,
                     mailbox->address, uid->letter);
        indexes[count++] = index_of(mailbox, uid);
    }
}

/* RETR, without the dot stuffing. 0 or -errno. */
static int fetch(struct sim_peer *peer, int number, struct buf *out)
{
    char line[2048], argument[16];
    int r;

    snprintf(argument, sizeof(argument), "%d", number);
    r = command(peer, "RETR ", argument);
    if (r <= 0)
        return r < 0 ? r : -EPROTO;
    for (;;) {
        ssize_t size = sim_peer_read_line(peer, line, sizeof(line));

        if (size < 0)
            return (int)size;
        if (strcmp(line, ".") == 0)
            return 0;
        if (sim_chance(1))
            sim_sleep(sim_between(0, 5 * SECOND_NS)); /* reads slowly */
        buf_append(out, slice_skip(slice_of(line, (size_t)size), line[0] == '.'));
        buf_append(out, SLICE("\r\n"));
    }
}

static int fetch_some(struct sim_peer *peer, struct sim_mailbox *mailbox, const size_t *indexes,
                      int count, bool all)
{
    struct buf message;
    int r = 0;

    buf_init(&message, 4 * MIB);
    for (int i = 0; i < count && r == 0; i++) {
        if (mailbox->uids[indexes[i]].fetched && !all)
            continue;
        buf_reset(&message);
        r = fetch(peer, i + 1, &message);
        if (r == 0) {
            struct sim_uid *uid = &mailbox->uids[indexes[i]];

            uid->letter = sim_letter_met(buf_slice(&message), mailbox->address, !uid->fetched);
            uid->fetched = true;
            sim_mail_counters.fetched++;
        }
    }
    buf_deinit(&message);
    return r;
}

/* QUIT after DELE: what was deleted is known only from the answer. */
static int leave(struct sim_peer *peer, struct sim_mailbox *mailbox, const size_t *indexes,
                 const bool *marked, int count)
{
    int r = command(peer, "QUIT", "");

    for (int i = 0; i < count; i++) {
        struct sim_uid *uid = &mailbox->uids[indexes[i]];

        if (!marked[i])
            continue;
        uid->deleted |= r > 0;
        uid->doubtful |= r <= 0;
        sim_mail_counters.deleted += r > 0;
    }
    return r > 0 ? 0 : r < 0 ? r : -EPROTO;
}

static int delete_some(struct sim_peer *peer, const struct sim_mailbox *mailbox,
                       const size_t *indexes, bool *marked, int count)
{
    char argument[16];
    int r = 1;

    for (int i = 0; i < count && r > 0; i++) {
        if (!mailbox->uids[indexes[i]].fetched || !sim_chance(500))
            continue;
        snprintf(argument, sizeof(argument), "%d", i + 1);
        r = command(peer, "DELE ", argument);
        marked[i] = r > 0;
    }
    return r > 0 ? 0 : r < 0 ? r : -EPROTO;
}

static int log_in(struct sim_peer *peer, const struct sim_mailbox *mailbox)
{
    int r = read_status(peer);

    if (r > 0)
        r = command(peer, "USER ", mailbox->address);
    if (r > 0)
        r = command(peer, "PASS ", mailbox->password);
    return r > 0 ? 0 : r < 0 ? r : -EACCES;
}

int sim_pop3_session(struct sim_host *from, struct sim_mailbox *mailbox, bool all, bool deletes)
{
    static size_t
        indexes_free[8][MESSAGES_MAX]; /* too large for a fiber's stack; sessions take turns */
    static bool taken[8];
    bool marked[MESSAGES_MAX] = {false};
    struct sim_peer peer;
    size_t slot = 0, *indexes;
    int r, count = 0;

    while (taken[slot])
        slot++;
    taken[slot] = true;
    indexes = indexes_free[slot];
    sim_mail_counters.pop3_sessions++;
    r = sim_peer_connect(&peer, from, mailbox->site->host, SIM_POP3_PORT);
    if (r == 0)
        r = log_in(&peer, mailbox);
    if (r == 0) {
        count = list(&peer, mailbox, indexes);
        r = count < 0 ? count : 0;
    }
    if (r == 0)
        r = fetch_some(&peer, mailbox, indexes, count, all);
    if (r == 0 && deletes)
        r = delete_some(&peer, mailbox, indexes, marked, count);
    if (r == 0 && sim_chance(deletes ? 100 : 0))
        r = -ECANCELED; /* goes without QUIT: nothing is deleted (RFC 1939 6) */
    if (r == 0)
        r = leave(&peer, mailbox, indexes, marked, count);
    sim_mail_counters.pop3_cut += r < 0;
    sim_peer_close(&peer);
    taken[slot] = false;
    return r;
}
