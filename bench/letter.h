/* bench/letter.h - letters that can be told apart and checked, cheaply enough for a load.
 *
 * A letter's first field is
 *
 *     X-Kilat-Bench: <tag> <id> <sum>        16, 16 and 8 hexadecimal digits
 *
 * `tag` names the load, `id` the letter, and `sum` is the CRC-32C of every octet behind this line, to
 * the end of the message and without dot-stuffing. Servers put their fields in front of it; whatever
 * they would change behind it shows. The id stands in the text as well, so it is under the sum, and
 * one line begins with a dot, so stuffing is under test with every letter.
 */
#ifndef KILAT_BENCH_LETTER_H
#define KILAT_BENCH_LETTER_H

#include "core/slice.h"

#define LETTER_SIZE_MIN 640u
#define LETTER_SIZE_MAX (64u * 1024 * 1024)
#define LETTER_FIELD_SIZE 59 /* of the field with its CRLF */

/* What all letters of one load share. Owned: letter_form_deinit(). */
struct letter_form {
    uint8_t *wire; /* the letter as sent after 354: dot-stuffed, with the final dot */
    size_t wire_bytes;
    size_t dot_at;       /* the stuffed dot, which is not summed */
    size_t summed_end;   /* where the final dot begins */
    size_t id_places[2]; /* besides the one in the field */
};

/* `size_bytes` is that of the message as it is stored (header and text, no stuffing). `from` and
 * `rcpt` go into From and To. 0, -ENOMEM, or -EINVAL for a size out of bounds. */
int letter_form_init(struct letter_form *form, uint64_t tag, size_t size_bytes, const char *from,
                     const char *rcpt);
void letter_form_deinit(struct letter_form *form);
/* Makes the form's `wire` letter `id`; borrowed until the next call. */
struct slice letter_write(struct letter_form *form, uint64_t id);

enum letter_verdict { LETTER_FOREIGN, LETTER_ALTERED, LETTER_UNALTERED };

/* The receiving side: from 354 to the final dot. */
struct letter_check {
    uint64_t tag, id; /* of a letter that is not foreign */
    uint64_t size_bytes;
    enum letter_verdict verdict; /* valid at the end */
    /* private: */
    uint8_t state;
    uint8_t last;
    bool searching; /* our field has not come, and may */
    bool found;
    uint32_t sum, sum_wanted;
    size_t line_bytes;
    uint8_t line[LETTER_FIELD_SIZE];
};
void letter_check_init(struct letter_check *check);
/* Takes from `*input` what belongs to the letter; true when its final dot was taken: `verdict` is
 * set, and what is left in `*input` is the next command. */
bool letter_check_input(struct letter_check *check, struct slice *input);

#endif
