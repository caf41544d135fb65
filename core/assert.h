/* core/assert.h - what must hold in our own code, checked in every build.
 *
 * ASSERT is for our faults alone: never for what a peer sent and never for what the machine
 * answered (STYLE: errors). A failed one prints file, line and condition to standard error and
 * aborts: the queue on disk is what a restart begins from, so stopping is safer than going on with
 * a wrong state.
 */
#ifndef KILAT_CORE_ASSERT_H
#define KILAT_CORE_ASSERT_H

#include "core/defs.h"

/* Shard: any. Never returns; writes one line with plain write(2) and calls abort(). */
KILAT_NORETURN void assert_fail(const char *condition, const char *file, int line);

#define ASSERT(condition)                                                                          \
    (KILAT_LIKELY(condition) ? (void)0 : assert_fail(#condition, __FILE__, __LINE__))

#endif
