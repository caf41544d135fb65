/* cli/spool_writer.h - appends messages to a stopped spool by the path every message takes: groups, checksums, syncs.
 *
 * One shard without threads, driven from inside these calls. Messages are in flight together, so that a group carries many;
 * spool_writer_close() waits for all of them. */
#ifndef KILAT_CLI_SPOOL_WRITER_H
#define KILAT_CLI_SPOOL_WRITER_H

#include "core/buf.h"
#include "storage/spool.h"

struct spool_writer;

/* Locks and opens it. 0 or -errno with one sentence (who holds the lock, a newer format). */
int spool_writer_open(const char *path, uint32_t number, uint64_t segment_bytes,
                      struct spool_writer **ret_writer, struct buf *error);
/* A message: begin, its bytes in pieces (the first `head_bytes` are the head), end. `id` 0: a fresh one. Once an error was
 * returned nothing more is written. */
int spool_writer_begin(struct spool_writer *writer, uint64_t id, uint32_t head_bytes);
int spool_writer_piece(struct spool_writer *writer, struct slice piece);

struct spool_writer_message {
    struct slice envelope;
    uint32_t unit_count;
    uint8_t flags;
    uint32_t arrival_s;
    bool held;
    const struct spool_unit *units; /* what is known of them; NULL: nothing. Copied. */
    struct slice reason;            /* of the newest deferral. Copied. */
};
int spool_writer_end(struct spool_writer *writer, const struct spool_writer_message *message);
/* All is durable (0), or the first error. Accepts NULL. */
int spool_writer_close(struct spool_writer **writer);

#endif
