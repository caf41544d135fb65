/* fuzz_dns_answer.c - answers of name servers: the look-over, ldns behind it, and what is taken
 * from it.
 *
 * Input: one octet (bit 0: TCP; bits 1-2: the type asked for; bits 3-6: aliases left), then the
 * packet; it is read from a copy of exactly its size. The same octets are also tried as a name.
 * Holds: whatever comes, the verdict is one of ours, counts stay within bounds, names can be
 * printed and texts lie within the answer; a name that may be asked makes a question that its own
 * answer matches; and nothing takes long. */
#include "core/assert.h"
#include "dns/dns_packet.h"

#include <stdlib.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum dns_type types[4] = {DNS_A, DNS_MX, DNS_TXT, DNS_AAAA};

/* Sanitizers cost some twenty times; the bound without them is 1 ms (SECURITY 1.2 F). A single slow
 * run may be the machine's: three in a row are the packet's. */
#define SLOW_US 30000

static long run(const uint8_t *data, size_t size, struct dns_packet_answer *answer)
{
    uint8_t *packet = malloc(size > 1 ? size - 1 : 1);
    clock_t begin = clock();

    ASSERT(packet != NULL);
    memcpy(packet, data + 1, size - 1);
    dns_packet_read(packet, size - 1, data[0] & 1, types[data[0] >> 1 & 3], data[0] >> 3 & 15,
                    answer);
    free(packet);
    return (long)((clock() - begin) * 1000000 / CLOCKS_PER_SEC);
}

static void check(const struct dns_packet_answer *answer, uint8_t how)
{
    char name[DNS_NAME_MAX];

    ASSERT(answer->verdict <= DNS_VERDICT_DAMAGED);
    ASSERT(answer->record_count <= DNS_RECORDS_MAX);
    ASSERT(answer->verdict != DNS_VERDICT_OK || answer->record_count > 0);
    ASSERT(answer->verdict != DNS_VERDICT_TRUNCATED || !(how & 1));
    ASSERT(answer->aliases <= (how >> 3 & 15u));
    ASSERT(answer->text_bytes <= sizeof(answer->text));
    if (answer->verdict == DNS_VERDICT_ALIAS)
        ASSERT(dns_name_parse(slice_cstr(answer->alias), name));
    if (answer->verdict != DNS_VERDICT_OK)
        return;
    for (size_t i = 0; i < answer->record_count; i++) {
        const struct dns_record *record = &answer->records[i];

        ASSERT(record->type == types[how >> 1 & 3]);
        ASSERT(memchr(record->name, 0, sizeof(record->name)) != NULL);
        ASSERT(slice_is_printable(slice_cstr(record->name)));
        ASSERT(record->ttl_s <= INT32_MAX && answer->ttl_s <= record->ttl_s);
        if (record->text.size > 0)
            ASSERT(record->text.data >= answer->text &&
                   record->text.data + record->text.size <= answer->text + answer->text_bytes);
    }
}

static void try_name(struct slice text)
{
    uint8_t wire[DNS_QUESTION_BYTES_MAX], back[DNS_QUESTION_BYTES_MAX];
    char name[DNS_NAME_MAX];
    size_t size;

    if (!dns_name_parse(text, name))
        return;
    size = dns_packet_build(0x4711, DNS_MX, name, true, wire);
    ASSERT(size > 0);
    memcpy(back, wire, size);
    ASSERT(!dns_packet_answers(slice_of(wire, size), slice_of(back, size)));
    back[2] |= 0x80;
    ASSERT(dns_packet_answers(slice_of(wire, size), slice_of(back, size)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_packet_answer *answer;
    int slow = 0;

    if (size == 0)
        return 0;
    answer = malloc(sizeof(*answer));
    ASSERT(answer != NULL);
    memset(answer, 0xee, sizeof(*answer)); /* nothing of it may be taken for an answer */
    while (run(data, size, answer) > SLOW_US)
        ASSERT(++slow < 3);
    check(answer, data[0]);
    free(answer);
    try_name(slice_of(data, size));
    return 0;
}
