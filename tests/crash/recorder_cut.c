/* The other half: moments of a recording, and the disk as a power cut at one of them leaves it.
 *
 * Cuts are built in the order of time. `durable` in the recording is the disk with the durable prefix of the index written
 * to it, and `durable.at` says how long that prefix is, so that the next cut begins where the last one was. */
#include "tests/crash/recorder.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PENDING_TRIES                                                                              \
    4 /* with nothing pending there is nothing to lose: so often another moment is looked for */
#define HEAD_BYTES                                                                                 \
    4096 /* ext4 keeps a superblock of two sectors there and does not survive half of it */
#define COPY_BYTES (1u << 20)
#define PENDING_TRIES                                                                              \
    4 /* a moment with nothing pending is the dullest: so often another one is looked for */

struct recording {
    const struct recorder_op *ops; /* in the order of their answers */
    size_t count;
    int data_fd;
};

enum fate { FATE_NONE, FATE_ALL, FATE_SOME, FATE_TORN };

static const char *const fate_names[] = {"none", "all", "some", "torn"};

/* splitmix64: a seed has to draw the same again, nothing more. */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static struct recording recording_open(const char *folder)
{
    int fd = recorder_open(folder, "index", O_RDONLY);
    struct recording recording = {.data_fd = recorder_open(folder, "data", O_RDONLY)};
    struct stat info;

    if (fstat(fd, &info) < 0 || info.st_size < (off_t)sizeof(struct recorder_op))
        errx(2, "%s: nothing was recorded", folder);
    recording.count = (size_t)info.st_size / sizeof(struct recorder_op);
    recording.ops = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (recording.ops == MAP_FAILED)
        err(2, "%s", folder);
    close(fd);
    return recording;
}

/* How many operations a flush answered before `moment` has made durable. */
static size_t durable_count(const struct recording *recording, uint64_t moment)
{
    uint64_t covered = 0;
    size_t count = 0;

    for (size_t i = 0; i < recording->count && recording->ops[i].answered < moment; i++)
        if (recording->ops[i].kind == RECORDER_FLUSH && recording->ops[i].arrived > covered)
            covered = recording->ops[i].arrived;
    while (count < recording->count && recording->ops[count].answered < covered)
        count++;
    return count;
}

static bool is_pending(const struct recorder_op *op, uint64_t moment)
{
    return op->kind == RECORDER_WRITE && op->arrived < moment;
}

static size_t pending_count(const struct recording *recording, uint64_t moment)
{
    size_t count = 0;

    for (size_t i = durable_count(recording, moment); i < recording->count; i++)
        count += is_pending(&recording->ops[i], moment);
    return count;
}

int recorder_now(int argc, char **argv)
{
    struct recording recording;

    if (argc != 2)
        errx(2, "now: expected RECORDING");
    recording = recording_open(argv[1]);
    printf("%" PRIu64 "\n", recording.ops[recording.count - 1].answered);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

/* Half of the moments are drawn among the operations, half in time: then long stretches in which nothing reached the disk
 * count for what they are, and the first operation after one is where all that was promised meanwhile may be missing. */
static uint64_t draw_moment(const struct recording *recording, size_t first, uint64_t *seed)
{
    const struct recorder_op *ops = recording->ops, *next_op = NULL;
    uint64_t begin_ns = ops[first].arrived_ns,
             span_ns = ops[recording->count - 1].arrived_ns - begin_ns;
    uint64_t at_ns, moment;

    if (next(seed) % 2 == 0 || span_ns == 0) {
        for (int tries = 0; tries < PENDING_TRIES; tries++) {
            moment = ops[first + next(seed) % (recording->count - first)].arrived;
            if (pending_count(recording, moment) > 0)
                break;
        }
        return moment;
    }
    at_ns = begin_ns + next(seed) % span_ns;
    for (size_t i = first; i < recording->count; i++)
        if (ops[i].arrived_ns >= at_ns && (next_op == NULL || ops[i].arrived < next_op->arrived))
            next_op = &ops[i];
    return next_op->arrived; /* the last operation arrived after `at_ns` */
}

int recorder_draw(int argc, char **argv)
{
    struct recording recording;
    uint64_t from, seed, *moments;
    size_t count, first = 0;

    if (argc != 5)
        errx(2, "draw: expected RECORDING FROM COUNT SEED");
    recording = recording_open(argv[1]);
    from = strtoull(argv[2], NULL, 10);
    count = strtoull(argv[3], NULL, 10);
    seed = strtoull(argv[4], NULL, 10);
    while (first < recording.count && recording.ops[first].arrived <= from)
        first++;
    if (first == recording.count)
        errx(2, "draw: nothing was recorded after moment %" PRIu64, from);
    moments = calloc(count, sizeof(*moments));
    if (moments == NULL)
        errx(2, "out of memory");
    for (size_t i = 0; i < count; i++)
        moments[i] = draw_moment(&recording, first, &seed);
    qsort(moments, count, sizeof(*moments), by_size);
    for (size_t i = 0; i < count; i++)
        printf("%" PRIu64 "\n", moments[i]);
    free(moments);
    return 0;
}

static void copy_bytes(int from_fd, off_t from, int to_fd, off_t to, size_t size)
{
    static char bytes[COPY_BYTES];

    while (size > 0) {
        size_t part = size < COPY_BYTES ? size : COPY_BYTES;

        if (pread(from_fd, bytes, part, from) != (ssize_t)part ||
            pwrite(to_fd, bytes, part, to) != (ssize_t)part)
            err(2, "copying a disk");
        from += (off_t)part;
        to += (off_t)part;
        size -= part;
    }
}

/* A new file with the bytes of `from_fd`, its holes left out. */
static int copy_disk(int from_fd, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    off_t end = lseek(from_fd, 0, SEEK_END), at = 0, hole;

    if (fd < 0 || ftruncate(fd, end) < 0)
        err(2, "%s", path);
    while ((at = lseek(from_fd, at, SEEK_DATA)) >= 0) {
        hole = lseek(from_fd, at, SEEK_HOLE);
        copy_bytes(from_fd, at, fd, at, (size_t)(hole - at));
        at = hole;
    }
    return fd;
}

static void apply(const struct recording *recording, const struct recorder_op *op, int image_fd,
                  uint64_t skip, uint64_t size)
{
    copy_bytes(recording->data_fd, (off_t)(op->data_at + skip), image_fd,
               (off_t)(op->offset + skip), size);
}

/* Brings `durable` to the first `count` operations; the first time, or when it is ahead, from the beginning. */
static int durable_advance(const struct recording *recording, const char *folder, size_t count)
{
    int at_fd = recorder_open(folder, "durable.at", O_RDWR | O_CREAT);
    uint64_t at = 0;
    char *path;
    int fd;

    if (asprintf(&path, "%s/durable", folder) < 0)
        errx(2, "out of memory");
    if (pread(at_fd, &at, sizeof(at), 0) != sizeof(at) || at > count) {
        int base_fd = recorder_open(folder, "base", O_RDONLY);

        (void)unlink(path);
        at = 0;
        fd = copy_disk(base_fd, path);
        close(base_fd);
    } else {
        fd = recorder_open(folder, "durable", O_RDWR);
    }
    for (; at < count; at++)
        if (recording->ops[at].kind == RECORDER_WRITE)
            apply(recording, &recording->ops[at], fd, 0, recording->ops[at].size);
    if (pwrite(at_fd, &at, sizeof(at), 0) != sizeof(at))
        err(2, "durable.at");
    close(at_fd);
    free(path);
    return fd;
}

/* What becomes of one pending write. Returns whether any of it is on the disk. `torn`: each is whole, missing, cut at a
 * sector, or has each of its sectors or not; a device owes no
 * more. Only where the file system itself needs a block whole, at the head of the disk, it is. */
static bool apply_pending(const struct recording *recording, const struct recorder_op *op,
                          enum fate fate, uint64_t *seed, int image_fd)
{
    uint64_t sectors = (op->size + RECORDER_SECTOR - 1) / RECORDER_SECTOR, kept = 0;
    unsigned how = fate == FATE_TORN ? next(seed) % 4 : next(seed) % 2;

    if (op->offset < HEAD_BYTES)
        how %= 2;
    if (fate == FATE_NONE || (fate != FATE_ALL && how == 0))
        return false;
    if (fate == FATE_ALL || how == 1) {
        apply(recording, op, image_fd, 0, op->size);
        return true;
    }
    if (how == 2) {
        kept = next(seed) % sectors;
        apply(recording, op, image_fd, 0, kept * RECORDER_SECTOR);
        return kept > 0;
    }
    for (uint64_t i = 0; i < sectors; i++) {
        uint64_t skip = i * RECORDER_SECTOR, left = op->size - skip;

        if (next(seed) % 2 == 0)
            continue;
        apply(recording, op, image_fd, skip, left < RECORDER_SECTOR ? left : RECORDER_SECTOR);
        kept++;
    }
    return kept > 0;
}

static const struct recorder_op *op_at(const struct recording *recording, uint64_t moment)
{
    for (size_t i = 0; i < recording->count; i++)
        if (recording->ops[i].arrived == moment)
            return &recording->ops[i];
    errx(2, "no operation arrived at moment %" PRIu64, moment);
}

static enum fate fate_parse(const char *name)
{
    for (unsigned i = 0; i < sizeof(fate_names) / sizeof(*fate_names); i++)
        if (strcmp(name, fate_names[i]) == 0)
            return (enum fate)i;
    errx(2, "%s: expected none, all, some or torn", name);
}

int recorder_cut(int argc, char **argv)
{
    struct recording recording;
    const struct recorder_op *cut;
    uint64_t moment, seed;
    size_t durable, pending = 0, kept = 0;
    enum fate fate;
    int durable_fd, image_fd;

    if (argc != 6)
        errx(2, "cut: expected RECORDING MOMENT FATE SEED IMAGE");
    recording = recording_open(argv[1]);
    moment = strtoull(argv[2], NULL, 10);
    fate = fate_parse(argv[3]);
    seed = strtoull(argv[4], NULL, 10);
    cut = op_at(&recording, moment);
    durable = durable_count(&recording, moment);
    durable_fd = durable_advance(&recording, argv[1], durable);
    (void)unlink(argv[5]);
    image_fd = copy_disk(durable_fd, argv[5]);
    for (size_t i = durable; i < recording.count; i++) {
        if (!is_pending(&recording.ops[i], moment))
            continue;
        pending++;
        kept += apply_pending(&recording, &recording.ops[i], fate, &seed, image_fd);
    }
    printf("%zu %zu", pending, kept);
    for (int i = 0; i < RECORDER_LEDGERS_MAX; i++)
        printf(" %" PRIu64, cut->ledger_bytes[i]);
    printf("\n");
    return 0;
}
