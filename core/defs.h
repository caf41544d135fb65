/* core/defs.h - the few words every file uses.
 *
 * Macros only: nothing here has state, and nothing here may grow into a collection of helpers.
 */
#ifndef KILAT_CORE_DEFS_H
#define KILAT_CORE_DEFS_H

#include <assert.h> /* static_assert */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ROUND_UP(value, unit) ((((value) + (unit)-1) / (unit)) * (unit))

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)

/* Times are nanoseconds (`_ns`), milliseconds (`_ms`) or whole seconds (`_s`), as their names say.
 */
#define US_NS 1000ull
#define MS_NS 1000000ull
#define SECOND_NS 1000000000ull
#define SECOND_MS 1000ull
#define MINUTE_MS (60ull * SECOND_MS)
#define HOUR_MS (60ull * MINUTE_MS)
#define DAY_MS (24ull * HOUR_MS)
#define HOUR_NS (HOUR_MS * MS_NS)

#define KILAT_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define KILAT_NORETURN __attribute__((noreturn))
#define KILAT_UNUSED __attribute__((unused))
#define KILAT_LIKELY(x) __builtin_expect(!!(x), 1)
#define KILAT_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
