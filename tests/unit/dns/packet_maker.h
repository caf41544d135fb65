/* packet_maker.h - writes DNS answers byte by byte, also such as no library would write. */
#ifndef KILAT_TESTS_PACKET_MAKER_H
#define KILAT_TESTS_PACKET_MAKER_H

#include "dns/dns.h"

struct maker {
    uint8_t bytes[20000];
    size_t size;
};

enum { ANSWERS = 6, AUTHORITY = 8, ADDITIONAL = 10 }; /* where the header counts them */

static inline void put_byte(struct maker *maker, unsigned int byte)
{
    maker->bytes[maker->size++] = (uint8_t)byte;
}

static inline void put_be16(struct maker *maker, unsigned int value)
{
    put_byte(maker, value >> 8);
    put_byte(maker, value & 0xff);
}

static inline void put_be32(struct maker *maker, uint32_t value)
{
    put_be16(maker, value >> 16);
    put_be16(maker, value & 0xffff);
}

static inline void put_bytes(struct maker *maker, const void *bytes, size_t size)
{
    memcpy(maker->bytes + maker->size, bytes, size);
    maker->size += size;
}

/* "." and "" are the root; no compression. */
static inline void put_name(struct maker *maker, const char *name)
{
    struct slice rest = slice_cstr(name);

    while (rest.size > 0) {
        struct slice label = slice_split(&rest, '.');

        if (label.size == 0)
            break;
        put_byte(maker, (unsigned int)label.size);
        put_bytes(maker, label.data, label.size);
    }
    put_byte(maker, 0);
}

static inline void put_pointer(struct maker *maker, size_t target)
{
    put_be16(maker, 0xc000u | (unsigned int)target);
}

/* Header and question: id 0x1234, a response to a recursive question. */
static inline void make_begin(struct maker *maker, enum dns_type type, const char *name,
                              unsigned int rcode)
{
    maker->size = 0;
    put_be16(maker, 0x1234);
    put_be16(maker, 0x8180 | rcode);
    put_be16(maker, 1);
    put_be16(maker, 0);
    put_be16(maker, 0);
    put_be16(maker, 0);
    put_name(maker, name);
    put_be16(maker, type);
    put_be16(maker, 1);
}

static inline void count_one(struct maker *maker, size_t section)
{
    unsigned int count = (unsigned int)(maker->bytes[section] << 8 | maker->bytes[section + 1]) + 1;

    maker->bytes[section] = (uint8_t)(count >> 8);
    maker->bytes[section + 1] = (uint8_t)count;
}

/* Name, type, class and TTL of a record; returns where its length stands, for make_end(). */
static inline size_t make_record(struct maker *maker, size_t section, const char *owner,
                                 unsigned int type, uint32_t ttl_s)
{
    count_one(maker, section);
    put_name(maker, owner);
    put_be16(maker, type);
    put_be16(maker, 1);
    put_be32(maker, ttl_s);
    put_be16(maker, 0);
    return maker->size - 2;
}

static inline void make_end(struct maker *maker, size_t length_at)
{
    size_t size = maker->size - length_at - 2;

    maker->bytes[length_at] = (uint8_t)(size >> 8);
    maker->bytes[length_at + 1] = (uint8_t)size;
}

static inline void make_a(struct maker *maker, const char *owner, uint32_t ttl_s, uint8_t last)
{
    size_t at = make_record(maker, ANSWERS, owner, DNS_A, ttl_s);

    put_bytes(maker, (const uint8_t[]){192, 0, 2, last}, 4);
    make_end(maker, at);
}

static inline void make_mx(struct maker *maker, const char *owner, uint32_t ttl_s,
                           unsigned int preference, const char *exchange)
{
    size_t at = make_record(maker, ANSWERS, owner, DNS_MX, ttl_s);

    put_be16(maker, preference);
    put_name(maker, exchange);
    make_end(maker, at);
}

static inline void make_cname(struct maker *maker, const char *owner, uint32_t ttl_s,
                              const char *target)
{
    size_t at = make_record(maker, ANSWERS, owner, 5, ttl_s);

    put_name(maker, target);
    make_end(maker, at);
}

static inline void make_soa(struct maker *maker, const char *zone, uint32_t ttl_s, uint32_t minimum)
{
    size_t at = make_record(maker, AUTHORITY, zone, 6, ttl_s);

    put_name(maker, "ns.invalid");
    put_name(maker, "root.invalid");
    for (int i = 0; i < 4; i++)
        put_be32(maker, 1);
    put_be32(maker, minimum);
    make_end(maker, at);
}

static inline void make_ns(struct maker *maker, const char *zone)
{
    size_t at = make_record(maker, AUTHORITY, zone, 2, 60);

    put_name(maker, "ns.invalid");
    make_end(maker, at);
}

#endif
