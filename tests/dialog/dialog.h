/* tests/dialog/dialog.h - between the player of dialogue files and the two servers it can play against.
 */
#ifndef KILAT_TESTS_DIALOG_DIALOG_H
#define KILAT_TESTS_DIALOG_DIALOG_H

#include "core/buf.h"

#define DIALOG_WORDS_MAX 16

/* A directive, split at blanks: words[0] is its name. */
struct dialog_words {
    const char *text; /* all of it, as in the file */
    const char *word[DIALOG_WORDS_MAX];
    unsigned count;
};

/* One server session in memory, with all that stands behind it. Each returns NULL, or what is wrong in words. */
struct dialog_server {
    void *(*create)(void);
    void (*destroy)(void *session);
    /* `! set` and what else must stand before the first line: the session begins afterwards. */
    const char *(*prepare)(void *session, const struct dialog_words *words, struct slice content);
    bool (*prepares)(const char *name);
    void (*begin)(void *session);
    size_t (*input)(void *session, struct slice input);
    struct buf *(*out)(void *session);
    /* `content`: the "|" lines below the directive. */
    const char *(*directive)(void *session, const struct dialog_words *words, struct slice content);
    bool (*closed)(void *session);
    bool (*pending)(void *session);
    void (*timeout)(void *session);
};

extern const struct dialog_server dialog_smtp, dialog_pop3;

/* "452 4.3.1 text" out of the words from `first` on. */
struct smtp_reply;
bool dialog_parse_reply(const struct dialog_words *words, unsigned first, struct smtp_reply *ret);
bool dialog_parse_number(const char *word, uint64_t *ret);

#endif
