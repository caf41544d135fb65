#include "core/crc32c.h"

#include <nmmintrin.h>

uint32_t crc32c(uint32_t crc, struct slice bytes)
{
    uint64_t state = (uint32_t)~crc;
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;

    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;

        memcpy(&word, at, 8);
        state = _mm_crc32_u64(state, word);
    }
    for (; left > 0; left--, at++)
        state = _mm_crc32_u8((uint32_t)state, *at);
    return ~(uint32_t)state;
}

uint32_t crc32c_copy(uint32_t crc, void *to, struct slice bytes, uint64_t *copied_bytes)
{
    uint64_t state = (uint32_t)~crc;
    const uint8_t *at = bytes.data;
    uint8_t *out = to;
    size_t left = bytes.size;

    for (; left >= 8; left -= 8, at += 8, out += 8) {
        uint64_t word;

        memcpy(&word, at, 8);
        memcpy(out, &word, 8);
        state = _mm_crc32_u64(state, word);
    }
    for (; left > 0; left--) {
        *out++ = *at;
        state = _mm_crc32_u8((uint32_t)state, *at++);
    }
    *copied_bytes += bytes.size;
    return ~(uint32_t)state;
}
