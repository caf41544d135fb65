/* core/setting_private.h - what the reading of settings (setting.c) shares with their printing (setting_print.c). */
#ifndef KILAT_CORE_SETTING_PRIVATE_H
#define KILAT_CORE_SETTING_PRIVATE_H

#include "core/setting.h"

/* A unit behind a number; a list of them ends with a NULL text. */
struct setting_suffix {
    const char *text;
    uint64_t factor;
};
const struct setting_suffix *setting_suffixes(enum setting_kind kind);
/* What a value of this row has to look like, for error sentences and the manual. */
void setting_expectation(const struct setting *row, struct buf *out);

/* Puts blanks in the place of comments; line ends stay where they are. */
void setting_blank_comments(char *text);

#endif
