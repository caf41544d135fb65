#include "storage/spool.h"

/* Crockford's alphabet: no I, L, O, U. 13 digits hold 65 bits; the check character is the id modulo 37, for which five
 * more signs stand at the end. */
#define ID_DIGITS 13
static const char id_alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";
static_assert(sizeof(id_alphabet) == 37 + 1, "32 digits and five for the check");
static_assert(SPOOL_ID_TEXT_SIZE >= ID_DIGITS + 2, "digits, check, NUL");

void spool_id_format(uint64_t id, char text[SPOOL_ID_TEXT_SIZE])
{
    uint64_t rest = id;

    for (int i = ID_DIGITS - 1; i >= 0; i--, rest >>= 5)
        text[i] = id_alphabet[rest & 31];
    text[ID_DIGITS] = id_alphabet[id % 37];
    text[ID_DIGITS + 1] = '\0';
}

/* Case does not matter; I and L read as 1, O as 0: what people misread. -1 for anything else. */
static int id_digit(uint8_t c)
{
    if (c >= 'a' && c <= 'z')
        c = (uint8_t)(c - 'a' + 'A');
    if (c == 'I' || c == 'L')
        c = '1';
    if (c == 'O')
        c = '0';
    for (int i = 0; i < 37; i++) {
        if ((uint8_t)id_alphabet[i] == c)
            return i;
    }
    return -1;
}

bool spool_id_parse(struct slice text, uint64_t *ret_id)
{
    uint64_t id = 0;

    if (text.size != ID_DIGITS + 1)
        return false;
    for (int i = 0; i < ID_DIGITS; i++) {
        int digit = id_digit(text.data[i]);

        /* The first of 13 digits has four bits to give. */
        if (digit < 0 || digit > 31 || (i == 0 && digit > 15))
            return false;
        id = id << 5 | (uint64_t)digit;
    }
    if (id_digit(text.data[ID_DIGITS]) != (int)(id % 37))
        return false;
    *ret_id = id;
    return true;
}
