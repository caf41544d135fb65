#include "proto/smtp.h"

#include <arpa/inet.h>

/* One pass from left to right, no recursion, no table of special cases: RFC 5321 4.1.2 is a regular
 * language. Each function takes from the front of `*rest` what it knows and says whether it was
 * there. */

static bool is_letter_or_digit(uint8_t octet)
{
    return (byte_lower(octet) >= 'a' && byte_lower(octet) <= 'z') || (octet >= '0' && octet <= '9');
}

/* atext of RFC 5322 3.2.3. */
static bool is_atext(uint8_t octet)
{
    return is_letter_or_digit(octet) ||
           (octet > 0x20 && octet < 0x7f && strchr("!#$%&'*+-/=?^_`{|}~", octet) != NULL);
}

static size_t domain_length(struct slice input)
{
    size_t size = 0;

    while (size < input.size && (is_letter_or_digit(input.data[size]) || input.data[size] == '-' ||
                                 input.data[size] == '.'))
        size++;
    return size;
}

bool smtp_domain_is_valid(struct slice domain)
{
    size_t label = 0;

    if (domain.size == 0 || domain.size > SMTP_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < domain.size; i++) {
        uint8_t octet = domain.data[i];
        bool last = i + 1 == domain.size || domain.data[i + 1] == '.';

        if (octet == '.' && label > 0 && i + 1 < domain.size) {
            label = 0;
            continue;
        }
        if (octet == '-' ? label == 0 || last : !is_letter_or_digit(octet))
            return false;
        if (++label > 63)
            return false;
    }
    return true;
}

bool smtp_literal_is_valid(struct slice literal)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    struct slice inner;

    if (literal.size < 2 || literal.data[0] != '[' || literal.data[literal.size - 1] != ']')
        return false;
    inner = slice_of(literal.data + 1, literal.size - 2);
    if (slice_starts_nocase(inner, SLICE("IPv6:")))
        return slice_to_cstr(slice_skip(inner, 5), text, sizeof(text)) &&
               inet_pton(AF_INET6, text, &address) == 1;
    return slice_to_cstr(inner, text, sizeof(text)) && inet_pton(AF_INET, text, &address) == 1;
}

/* Atoms with single dots between them, none at either end. */
static size_t dot_string_length(struct slice input)
{
    size_t size = 0;

    while (size < input.size && (is_atext(input.data[size]) || input.data[size] == '.')) {
        if (input.data[size] == '.' && (size == 0 || input.data[size - 1] == '.'))
            return 0;
        size++;
    }
    return size > 0 && input.data[size - 1] == '.' ? 0 : size;
}

/* Both quotes counted; 0 when it does not end or holds what may not be quoted. */
static size_t quoted_string_length(struct slice input)
{
    size_t size = 1;

    while (size < input.size) {
        uint8_t octet = input.data[size];

        if (octet == '"')
            return size + 1;
        if (octet == '\\' && ++size < input.size)
            octet = input.data[size];
        else if (octet == '\\')
            return 0;
        if (octet < 0x20 || octet > 0x7e)
            return 0;
        size++;
    }
    return 0;
}

static bool take_local_part(struct slice *rest, struct smtp_address *address)
{
    size_t size;

    address->quoted = rest->size > 0 && rest->data[0] == '"';
    size = address->quoted ? quoted_string_length(*rest) : dot_string_length(*rest);
    if (size == 0 || size > SMTP_LOCAL_PART_MAX)
        return false;
    address->local = slice_first(*rest, size);
    *rest = slice_skip(*rest, size);
    return true;
}

static bool take_domain(struct slice *rest, struct smtp_address *address)
{
    size_t size;

    address->literal = rest->size > 0 && rest->data[0] == '[';
    if (address->literal) {
        size_t end = slice_find(*rest, ']');

        size = end == SIZE_MAX ? 0 : end + 1;
        if (!smtp_literal_is_valid(slice_first(*rest, size)))
            return false;
    } else {
        size = domain_length(*rest);
        if (!smtp_domain_is_valid(slice_first(*rest, size)))
            return false;
    }
    address->domain = slice_first(*rest, size);
    *rest = slice_skip(*rest, size);
    return true;
}

static bool take_octet(struct slice *rest, uint8_t octet)
{
    if (rest->size == 0 || rest->data[0] != octet)
        return false;
    *rest = slice_skip(*rest, 1);
    return true;
}

static bool take_mailbox(struct slice *rest, bool postmaster_allowed, struct smtp_address *address)
{
    struct slice begin = *rest;

    if (!take_local_part(rest, address))
        return false;
    if (take_octet(rest, '@')) {
        if (!take_domain(rest, address))
            return false;
    } else if (!postmaster_allowed || !slice_equal_nocase(address->local, SLICE("postmaster"))) {
        return false;
    }
    address->whole = slice_first(begin, (size_t)(rest->data - begin.data));
    return true;
}

/* "@one,@two:", which RFC 5321 appendix C asks to accept and to ignore. */
static bool take_source_route(struct slice *rest)
{
    struct smtp_address ignored;

    do {
        if (!take_octet(rest, '@') || !take_domain(rest, &ignored))
            return false;
    } while (take_octet(rest, ','));
    return take_octet(rest, ':');
}

bool smtp_path_parse(struct slice input, bool null_allowed, bool postmaster_allowed,
                     struct smtp_address *ret_address, struct slice *ret_rest)
{
    struct smtp_address address = {0};
    struct slice rest = input;

    if (!take_octet(&rest, '<'))
        return false;
    if (rest.size > 0 && rest.data[0] == '>') {
        if (!null_allowed)
            return false;
    } else {
        if (rest.size > 0 && rest.data[0] == '@' && !take_source_route(&rest))
            return false;
        if (!take_mailbox(&rest, postmaster_allowed, &address))
            return false;
    }
    if (!take_octet(&rest, '>'))
        return false;
    *ret_address = address;
    *ret_rest = rest;
    return true;
}

bool smtp_address_parse(struct slice input, struct smtp_address *ret_address)
{
    struct smtp_address address = {0};

    if (!take_mailbox(&input, false, &address) || input.size > 0)
        return false;
    *ret_address = address;
    return true;
}
