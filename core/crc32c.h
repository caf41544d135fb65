/* core/crc32c.h - CRC-32C (Castagnoli), the checksum of everything on disk.
 *
 * The hardware instruction is used (SSE4.2); crc32c_copy() is the one function that copies bodies:
 * the checksum is fused with the copy, and it counts what it copied, so that "copies per byte
 * relayed" is a number and not an opinion.
 */
#ifndef KILAT_CORE_CRC32C_H
#define KILAT_CORE_CRC32C_H

#include "core/slice.h"

/* Continues from `crc` (0 at the start). */
uint32_t crc32c(uint32_t crc, struct slice bytes);
/* Copies `bytes` to `to`, adds their size to `*copied_bytes`, returns the continued checksum. */
uint32_t crc32c_copy(uint32_t crc, void *to, struct slice bytes, uint64_t *copied_bytes);

#endif
