/* tests/sim/sim_letter.h - numbered letters, and the ledger of what was promised for each and what came of it.
 *
 * A letter's text follows from its number alone, so that whoever meets it anywhere can say whether it was altered.
 * Per letter and recipient:
 *   promised   a 250 was read after the final dot
 *   possible   the final dot was sent, but no answer came: it may arrive or not
 *   seen       how many times it was met in the recipient's mailbox under names (UIDL) never met before
 *   deleted    the deletion of one was acknowledged; it must not be met again
 *   reported   a report about it came back to its sender
 */
#ifndef KILAT_SIM_LETTER_H
#define KILAT_SIM_LETTER_H

#include "core/buf.h"
#include "tests/sim/sim_world.h"

#define LETTERS_MAX 512
#define LETTER_RECIPIENTS_MAX 6
#define LETTER_NUMBER_FIELD "X-Sim-Number: "

struct sim_letter_recipient {
    const char *address;
    bool accepted; /* 250 to RCPT in the transaction under way */
    bool promised, possible, reported;
    uint32_t seen, deleted;
    uint64_t seen_ns; /* the last time */
};
struct sim_letter {
    uint32_t number;
    const char *sender;
    struct sim_letter_recipient recipients[LETTER_RECIPIENTS_MAX];
    uint32_t recipient_count;
    bool local;      /* all recipients live where it was handed in */
    struct buf text; /* of sim_letter_text() */
};

/* A new one, from `sender` to some of `addresses`. NULL: enough. */
struct sim_letter *sim_letter_create(const char *sender, const char *const *addresses,
                                     size_t count);
/* To all of `addresses`, at most LETTER_RECIPIENTS_MAX. */
struct sim_letter *sim_letter_create_for(const char *sender, const char *const *addresses,
                                         size_t count);
/* Header and body with CRLF, without dot stuffing and without the final dot. */
struct slice sim_letter_text(uint32_t number);
struct sim_letter *sim_letter_find(uint32_t number);
uint32_t sim_letter_count(void);

/* When set: a letter was met once more, after the time it was met before. */
extern void (*sim_letter_doubled)(const struct sim_letter *letter, const char *address,
                                  uint64_t before_ns);
/* A message as POP3 gave it: checks that it is a letter to `mailbox` that nobody altered, or a report.
 * Returns the number, or 0 for a report; what is neither fails the world. */
uint32_t sim_letter_met(struct slice message, const char *mailbox, bool first_time);

#endif
