/* storage/spool_bytes_private.h - integers as the formats of storage/README.md have them: little endian, at any address.
 *
 * Shard: any. Pure. */
#ifndef KILAT_STORAGE_SPOOL_BYTES_PRIVATE_H
#define KILAT_STORAGE_SPOOL_BYTES_PRIVATE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void put_16(uint8_t *to, uint16_t value)
{
    value = htole16(value);
    memcpy(to, &value, sizeof(value));
}

static inline void put_32(uint8_t *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof(value));
}

static inline void put_64(uint8_t *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof(value));
}

static inline uint16_t get_16(const uint8_t *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof(value));
    return le16toh(value);
}

static inline uint32_t get_32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof(value));
    return le32toh(value);
}

static inline uint64_t get_64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof(value));
    return le64toh(value);
}

#endif
