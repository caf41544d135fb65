/* tests/sim/sim_trace.c - what happened, as a hash and, when asked, as lines.
 *
 * Two runs of one seed must agree in every event: the hash is over the time, the host and process, the kind and the
 * numbers of each event, and over the content of what is sent, written and logged. Nothing that differs
 * between two processes of one machine (addresses, real descriptors, real time) ever enters it.
 */
#include "tests/sim/sim_world.h"

#include <inttypes.h>
#include <nmmintrin.h>
#include <stdio.h>

/* FNV's prime with a fold: it only has to notice a difference. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x100000001b3ull;
    return hash ^ (hash >> 29);
}

/* The checksum of the bytes by the processor's own instruction, then mixed in. */
uint64_t sim_hash_bytes(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t crc = (uint32_t)~0u, word, length = size;

    for (; size >= sizeof(word); bytes += sizeof(word), size -= sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        crc = _mm_crc32_u64(crc, word);
    }
    for (; size > 0; bytes++, size--)
        crc = _mm_crc32_u8((uint32_t)crc, *bytes);
    return mix(mix(hash, crc), length);
}

static const char *where(void)
{
    static char text[128]; /* a test's object may have static data */

    if (sim.process == NULL)
        return "-";
    snprintf(text, sizeof(text), "%s/%s[%d]", sim.process->host->name, sim.process->name,
             sim.process->pid);
    return text;
}

static void trace_head(const char *what)
{
    sim.trace_hash = mix(sim.trace_hash, sim.now_ns);
    sim.trace_hash = mix(sim.trace_hash, sim.process == NULL ? 0 : (uint64_t)sim.process->pid);
    sim.trace_hash = sim_hash_bytes(sim.trace_hash, what, strlen(what));
}

void sim_trace(const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    trace_head(what);
    sim.trace_hash = mix(mix(mix(sim.trace_hash, a), b), c);
    if (sim.verbose)
        printf("%12.6f %s %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (double)sim.now_ns / 1e9,
               where(), what, a, b, c);
}

void sim_trace_text(const char *what, struct slice text)
{
    trace_head(what);
    sim.trace_hash = sim_hash_bytes(sim.trace_hash, text.data, text.size);
    if (sim.verbose)
        printf("%12.6f %s %s %.*s\n", (double)sim.now_ns / 1e9, where(), what, SLICE_ARG(text));
}
