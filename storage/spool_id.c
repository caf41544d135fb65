#include "storage/spool.h"

/* Crockford's alphabet: no I, L, O, U. 13 digits hold 65 bits. The check character is a digit
 * too, so that an id can be typed into a shell: a sum over GF(32) in which neighbours have
 * different weights, so it differs after any one wrong digit and after any swap of neighbours. */
#define ID_DIGITS 13
static const char id_alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
static_assert(sizeof(id_alphabet) == 32 + 1, "five bits a digit");
static_assert(SPOOL_ID_TEXT_SIZE >= ID_DIGITS + 2, "digits, check, NUL");

/* Once per digit, from the first to the last: (check + digit) times x, modulo x^5 + x^2 + 1. */
static uint32_t id_check_add(uint32_t check, uint32_t digit)
{
    check = (check ^ digit) << 1;
    return check & 32 ? check ^ 0x25 : check;
}

void spool_id_format(uint64_t id, char text[SPOOL_ID_TEXT_SIZE])
{
    uint32_t check = 0;

    for (int i = 0; i < ID_DIGITS; i++) {
        uint32_t digit = (uint32_t)(id >> (5 * (ID_DIGITS - 1 - i))) & 31;

        text[i] = id_alphabet[digit];
        check = id_check_add(check, digit);
    }
    text[ID_DIGITS] = id_alphabet[check];
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
    for (int i = 0; i < 32; i++) {
        if ((uint8_t)id_alphabet[i] == c)
            return i;
    }
    return -1;
}

bool spool_id_parse(struct slice text, uint64_t *ret_id)
{
    uint64_t id = 0;
    uint32_t check = 0;

    if (text.size != ID_DIGITS + 1)
        return false;
    for (int i = 0; i < ID_DIGITS; i++) {
        int digit = id_digit(text.data[i]);

        /* The first of 13 digits has four bits to give. */
        if (digit < 0 || (i == 0 && digit > 15))
            return false;
        id = id << 5 | (uint64_t)digit;
        check = id_check_add(check, (uint32_t)digit);
    }
    if (id_digit(text.data[ID_DIGITS]) != (int)check)
        return false;
    *ret_id = id;
    return true;
}
