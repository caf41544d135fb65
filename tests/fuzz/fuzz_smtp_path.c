/* Any octets as a path: what is accepted is printable, within its limits, and parses again, printed, to the same. */
#include "core/assert.h"
#include "proto/smtp.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parts(const struct smtp_address *address)
{
    ASSERT(slice_is_printable(address->whole));
    ASSERT(address->whole.size <= SMTP_ADDRESS_MAX);
    ASSERT(address->local.size <= SMTP_LOCAL_PART_MAX);
    ASSERT(address->domain.size == 0 || address->literal == smtp_literal_is_valid(address->domain));
    ASSERT(address->domain.size == 0 || address->literal == !smtp_domain_is_valid(address->domain));
    if (address->domain.size > 0)
        ASSERT(address->whole.size == address->local.size + 1 + address->domain.size);
    else
        ASSERT(slice_equal(address->whole, address->local));
}

static void check_again(const struct smtp_address *address)
{
    struct smtp_address again;
    struct slice rest;
    struct buf printed;

    buf_init(&printed, KIB);
    buf_append(&printed, SLICE("<"));
    buf_append(&printed, address->whole);
    buf_append(&printed, SLICE(">"));
    ASSERT(smtp_path_parse(buf_slice(&printed), true, true, &again, &rest));
    ASSERT(rest.size == 0);
    ASSERT(slice_equal(again.whole, address->whole));
    ASSERT(slice_equal(again.local, address->local));
    ASSERT(slice_equal(again.domain, address->domain));
    ASSERT(again.quoted == address->quoted);
    ASSERT(again.literal == address->literal);
    buf_deinit(&printed);
    if (address->domain.size > 0)
        ASSERT(smtp_address_parse(address->whole, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    struct slice input = slice_of(copy, size), rest;
    struct smtp_address address;

    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '"'; /* what a read past the end would find */
    if (smtp_path_parse(input, true, true, &address, &rest)) {
        ASSERT(rest.data >= input.data + 2 && rest.data + rest.size == input.data + size);
        check_parts(&address);
        check_again(&address);
    }
    if (smtp_address_parse(input, &address)) {
        ASSERT(slice_equal(address.whole, input));
        check_parts(&address);
        check_again(&address);
    }
    free(copy);
    return 0;
}
