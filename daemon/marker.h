/* daemon/marker.h - what is remembered of a spool beside it: `spool_directory/NNNN.mark`.
 *
 * A spool that was put back from a copy knows nothing of what was delivered since the copy was made; delivering it would send
 * that mail again. So how far a spool had come is written down outside of it, and one that has not come as far as its marker
 * says starts on hold: nothing of what it holds is read or attempted until somebody accepts it (`kilatctl spool accept`).
 *
 * One line of text, written beside and renamed, always after SUPER was written that far:
 *
 *     kilat-mark 1 uuid=32 hex digits epoch=N sequence=N hold=0|1 crc=8 hex digits
 *
 * `sequence` is SUPER's, which grows with each of its writes (a start, a checkpoint, an id limit). `crc` is CRC32C of all
 * before " crc". A marker that cannot be read is told and made anew: it is a safeguard, not a promise.
 */
#ifndef KILAT_DAEMON_MARKER_H
#define KILAT_DAEMON_MARKER_H

#include "storage/spool_look.h"

struct marker {
    uint8_t uuid[SPOOL_UUID_BYTES];
    uint64_t epoch, sequence;
    bool hold;
};

bool marker_parse(struct slice text, struct marker *ret_marker);
void marker_write_text(struct buf *out, const struct marker *marker);

/* What a marker and the spool beside it say together. */
enum marker_verdict {
    MARKER_FINE,
    MARKER_HELD,    /* found to be older before, and not accepted yet */
    MARKER_OLDER,   /* than its marker */
    MARKER_FOREIGN, /* another spool than the marker's */
    MARKER_GONE,    /* a marker and no spool */
};
enum marker_verdict marker_judge(const struct marker *marker, const struct spool_look *look);
/* One sentence for the log and for people; "" for MARKER_FINE. */
const char *marker_sentence(enum marker_verdict verdict);

/* Reads or writes the marker of spool `number` in `dir_fd`. Reading: 0, -ENOENT, -EBADMSG, -errno. Writing makes it durable.
 * Blocks: boot or a job. */
int marker_read(int dir_fd, uint32_t number, struct marker *ret_marker);
int marker_write(int dir_fd, uint32_t number, const struct marker *marker);

#endif
