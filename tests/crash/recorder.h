/* tests/crash/recorder.h - a disk that remembers every write and every flush, and what it holds after a power cut.
 *
 * The recording is a folder: `image` (the disk as its user sees it), `base` (the disk before the recording), `index` (one
 * struct recorder_op after the other) and `data` (what was written, in the order of the index).
 *
 * Time is a counter: each operation takes one number when it arrives and one when it is about to be answered, and the
 * index is in the order of the answers. A flush covers what was answered before it arrived, so what is durable at any
 * moment is a prefix of the index. A cut is a moment of arrival: of what arrived before it and is not covered by a flush
 * answered before it, anything may be on the disk, each sector of 512 bytes by itself.
 *
 * Each operation also remembers how long the ledgers were when it arrived: what a line in them promises rests on
 * operations answered before that.
 */
#ifndef KILAT_TESTS_RECORDER_H
#define KILAT_TESTS_RECORDER_H

#include <stdint.h>

#define RECORDER_LEDGERS_MAX 6
#define RECORDER_SECTOR 512

enum recorder_kind { RECORDER_WRITE = 1, RECORDER_FLUSH };

struct recorder_op {
    uint64_t arrived, answered;
    uint64_t arrived_ns; /* CLOCK_MONOTONIC */
    uint64_t offset, size;
    uint64_t data_at; /* where its bytes begin in `data` */
    uint64_t ledger_bytes[RECORDER_LEDGERS_MAX];
    uint32_t kind;
    uint32_t zero;
};

/* Opens NAME in `folder`; ends the program when it cannot. */
int recorder_open(const char *folder, const char *name, int flags);

int recorder_disk(int argc, char **argv);
int recorder_now(int argc, char **argv);
int recorder_draw(int argc, char **argv);
int recorder_cut(int argc, char **argv);

#endif
