#include "core/crc32c.h"

#include <nmmintrin.h>

/* The instruction has a latency of three cycles and could begin anew in each: so three lanes run
 * side by side over three parts of a block, and their sums are joined at its end. A lane's sum
 * is moved over the bytes of the lanes behind it by a multiplication with x^(8 * bytes) modulo
 * the polynomial, which is linear: what it makes of each of the 32 bits stands in a table.
 * tests/unit/core/test_crc32c.c computes both anew. */
#define LANE_BYTES 1024
#define BLOCK_BYTES (3 * LANE_BYTES)

static const uint32_t over_one_lane[32] = {
    0xfe314258, 0xf98ef241, 0xf6f19273, 0xe80f5217, 0xd5f2d2df, 0xae09d34f, 0x59ffd06f, 0xb3ffa0de,
    0x6213374d, 0xc4266e9a, 0x8da0abc5, 0x1ead217b, 0x3d5a42f6, 0x7ab485ec, 0xf5690bd8, 0xef3e6141,
    0xdb90b473, 0xb2cd1e17, 0x60764adf, 0xc0ec95be, 0x84355d8d, 0x0d86cdeb, 0x1b0d9bd6, 0x361b37ac,
    0x6c366f58, 0xd86cdeb0, 0xb535cb91, 0x6f87e1d3, 0xdf0fc3a6, 0xbbf3f1bd, 0x720b958b, 0xe4172b16,
};

static const uint32_t over_two_lanes[32] = {
    0xf7506984, 0xeb4ca5f9, 0xd3753d03, 0xa3060cf7, 0x43e06f1f, 0x87c0de3e, 0x0a6dca8d, 0x14db951a,
    0x29b72a34, 0x536e5468, 0xa6dca8d0, 0x48552751, 0x90aa4ea2, 0x24b8ebb5, 0x4971d76a, 0x92e3aed4,
    0x202b2b59, 0x405656b2, 0x80acad64, 0x04b52c39, 0x096a5872, 0x12d4b0e4, 0x25a961c8, 0x4b52c390,
    0x96a58720, 0x28a778b1, 0x514ef162, 0xa29de2c4, 0x40d7b379, 0x81af66f2, 0x06b2bb15, 0x0d65762a,
};

static uint32_t moved(uint64_t state, const uint32_t table[32])
{
    uint32_t result = 0;

    for (int bit = 0; bit < 32; bit++)
        result ^= table[bit] & (0u - ((uint32_t)(state >> bit) & 1u));
    return result;
}

static uint64_t load(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, 8);
    return word;
}

/* One block; copied to `to` unless that is NULL. Inlined with a constant, so that neither
 * variant tests it. */
static inline __attribute__((always_inline)) uint32_t sum_block(uint32_t state, uint8_t *to,
                                                                const uint8_t *at)
{
    uint64_t first = state, second = 0, third = 0;

    for (size_t i = 0; i < LANE_BYTES; i += 8) {
        uint64_t a = load(at + i);
        uint64_t b = load(at + LANE_BYTES + i);
        uint64_t c = load(at + 2 * LANE_BYTES + i);

        first = _mm_crc32_u64(first, a);
        second = _mm_crc32_u64(second, b);
        third = _mm_crc32_u64(third, c);
        if (to != NULL) {
            memcpy(to + i, &a, 8);
            memcpy(to + LANE_BYTES + i, &b, 8);
            memcpy(to + 2 * LANE_BYTES + i, &c, 8);
        }
    }
    return moved(first, over_two_lanes) ^ moved(second, over_one_lane) ^ (uint32_t)third;
}

static inline __attribute__((always_inline)) uint32_t sum(uint32_t crc, uint8_t *to,
                                                          struct slice bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;
    uint64_t state = (uint32_t)~crc;

    for (; left >= BLOCK_BYTES; left -= BLOCK_BYTES, at += BLOCK_BYTES) {
        state = sum_block((uint32_t)state, to, at);
        to = to == NULL ? NULL : to + BLOCK_BYTES;
    }
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word = load(at);

        state = _mm_crc32_u64(state, word);
        if (to != NULL) {
            memcpy(to, &word, 8);
            to += 8;
        }
    }
    for (; left > 0; left--, at++) {
        state = _mm_crc32_u8((uint32_t)state, *at);
        if (to != NULL)
            *to++ = *at;
    }
    return ~(uint32_t)state;
}

uint32_t crc32c(uint32_t crc, struct slice bytes)
{
    return sum(crc, NULL, bytes);
}

uint32_t crc32c_copy(uint32_t crc, void *to, struct slice bytes, uint64_t *copied_bytes)
{
    if (bytes.size == 0)
        return crc;
    *copied_bytes += bytes.size;
    return sum(crc, to, bytes);
}
