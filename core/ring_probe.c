#include "core/ring.h"

#include "core/clock.h"
#include "core/ring_uring_private.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KERNEL_MAJOR_MIN 6
#define KERNEL_MINOR_MIN 1
#define PROBE_WAIT_NS (2 * SECOND_NS) /* a local socket answers in microseconds */

/* ---- what this ring is made of --------------------------------------------------------------- */

/* Any kernel that knows the flag takes it with the least of rings. */
static bool kernel_has_no_sqarray(void)
{
    struct io_uring_params params = {.flags = IORING_SETUP_NO_SQARRAY};
    long fd = syscall(__NR_io_uring_setup, 2, &params);

    if (fd < 0)
        return false;
    (void)close((int)fd); /* nothing was submitted */
    return true;
}

/* By registering such a ring of buffers, empty, under a number nobody uses. */
static bool kernel_has_incremental_buffers(struct ring *ring)
{
    struct io_uring_buf_reg registration = {.ring_entries = 1, .bgid = URING_BUFFER_GROUP + 1};
    uint16_t flags = RING_PBUF_INCREMENTAL;
    void *slots = aligned_alloc(4096, 4096);
    bool has;

    if (slots == NULL)
        return false;
    memset(slots, 0, 4096);
    memcpy(&registration.pad, &flags, sizeof(flags)); /* `flags` in newer headers */
    registration.ring_addr = (uint64_t)(uintptr_t)slots;
    has = io_uring_register_buf_ring(&ring->uring, &registration, 0) == 0;
    if (has)
        (void)io_uring_unregister_buf_ring(&ring->uring, URING_BUFFER_GROUP + 1); /* never used */
    free(slots);
    return has;
}

struct named_bit {
    uint32_t bit;
    const char *name;
};

static const struct named_bit setup_names[] = {
    {IORING_SETUP_SINGLE_ISSUER, "SINGLE_ISSUER"},
    {IORING_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN"},
    {IORING_SETUP_COOP_TASKRUN, "COOP_TASKRUN"},
    {IORING_SETUP_TASKRUN_FLAG, "TASKRUN_FLAG"},
    {IORING_SETUP_SUBMIT_ALL, "SUBMIT_ALL"},
    {IORING_SETUP_CLAMP, "CLAMP"},
    {IORING_SETUP_CQSIZE, "CQSIZE"},
};

static const struct named_bit feature_names[] = {
    {IORING_FEAT_CQE_SKIP, "cqe-skip"},
    {IORING_FEAT_RECVSEND_BUNDLE, "bundles"},
    {IORING_FEAT_MIN_TIMEOUT, "min-wait"},
    {IORING_FEAT_NO_IOWAIT, "no-iowait"},
};

KILAT_PRINTF(3, 4)
static void add(char *text, size_t size_bytes, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text + used, size_bytes - used, format, args); /* cut when too long */
    va_end(args);
}

void uring_describe(struct ring *ring, const struct io_uring_params *params)
{
    struct ring_features *f = &ring->features;
    struct utsname name;

    f->setup_flags = params->flags;
    f->min_wait = (params->features & IORING_FEAT_MIN_TIMEOUT) != 0;
    f->incremental_buffers = kernel_has_incremental_buffers(ring);
    f->no_sqarray = kernel_has_no_sqarray();
    add(f->text, sizeof(f->text), "Linux %s; ring %u/%u, buffers %u x %u;",
        uname(&name) == 0 ? name.release : "?", params->sq_entries, params->cq_entries,
        ring->buffers.count, ring->buffers.size_bytes);
    for (size_t i = 0; i < ARRAY_SIZE(setup_names); i++) {
        if (params->flags & setup_names[i].bit)
            add(f->text, sizeof(f->text), " %s", setup_names[i].name);
    }
    add(f->text, sizeof(f->text), "; offered, not used:");
    for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++) {
        if (params->features & feature_names[i].bit)
            add(f->text, sizeof(f->text), " %s", feature_names[i].name);
    }
    if (f->incremental_buffers)
        add(f->text, sizeof(f->text), " incremental-buffers");
    if (f->no_sqarray)
        add(f->text, sizeof(f->text), " NO_SQARRAY");
}

/* ---- may there be rings at all? -------------------------------------------------------------- */

struct answer {
    char *text;
    size_t size_bytes;
};

KILAT_PRINTF(3, 4)
static int say(struct answer *answer, int result, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(answer->text, answer->size_bytes, format, args); /* cut when too long */
    va_end(args);
    return result;
}

static int check_kernel(struct answer *answer)
{
    struct utsname name;
    unsigned int major = 0, minor = 0;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return 0; /* a release without numbers: what follows will tell */
    if (major > KERNEL_MAJOR_MIN || (major == KERNEL_MAJOR_MIN && minor >= KERNEL_MINOR_MIN))
        return 0;
    return say(answer, -EOPNOTSUPP,
               "this kernel is Linux %s, and Kilat needs Linux %d.%d or newer (io_uring with "
               "deferred completions): boot a newer kernel, Debian 12's own is one",
               name.release, KERNEL_MAJOR_MIN, KERNEL_MINOR_MIN);
}

/* A small number from a file of /proc/sys, or `fallback` where there is none (before Linux 6.6). */
static long read_number(const char *path, long fallback)
{
    char text[32];
    ssize_t size;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return fallback;
    size = read(fd, text, sizeof(text) - 1);
    (void)close(fd); /* nothing was written */
    if (size <= 0)
        return fallback;
    text[size] = '\0';
    return strtol(text, NULL, 10);
}

/* The group that kernel.io_uring_disabled = 1 lets through, from the file beside it; -1: none. */
static long allowed_group(const char *sysctl_path)
{
    char path[256];
    const char *slash = strrchr(sysctl_path, '/');
    int dir_size = slash == NULL ? 0 : (int)(slash - sysctl_path) + 1;
    int size = snprintf(path, sizeof(path), "%.*sio_uring_group", dir_size, sysctl_path);

    return size < 0 || (size_t)size >= sizeof(path) ? -1 : read_number(path, -1);
}

static int check_sysctl(struct answer *answer, const char *sysctl_path)
{
    long value = read_number(sysctl_path, 0);

    if (value == 2)
        return say(answer, -EPERM,
                   "io_uring is switched off for everybody: kernel.io_uring_disabled is 2; "
                   "turn it on with `sysctl -w kernel.io_uring_disabled=0` and a line in "
                   "/etc/sysctl.d/");
    /* Root would still get a ring now, but Kilat gives root up before it makes its rings. */
    if (value == 1 && geteuid() == 0 && allowed_group(sysctl_path) < 0)
        return say(answer, -EPERM,
                   "io_uring is switched off for unprivileged processes, which Kilat is when it "
                   "serves: kernel.io_uring_disabled is 1 and kernel.io_uring_group names no "
                   "group; `sysctl -w kernel.io_uring_disabled=0`, or `sysctl -w "
                   "kernel.io_uring_group=GID` with the group of Kilat's user");
    return 0;
}

static int explain_refusal(struct answer *answer, const char *sysctl_path, int error)
{
    if (error == -ENOMEM)
        return say(answer, error,
                   "io_uring may lock too little memory: raise RLIMIT_MEMLOCK to 8 MiB or more "
                   "(LimitMEMLOCK= in the systemd unit, `ulimit -l` in a shell)");
    if (error == -EPERM && read_number(sysctl_path, 0) == 1)
        return say(answer, error,
                   "io_uring is switched off for this user: kernel.io_uring_disabled is 1 and "
                   "group %ld (kernel.io_uring_group) is not among its groups; `sysctl -w "
                   "kernel.io_uring_disabled=0` or add it to that group",
                   allowed_group(sysctl_path));
    if (error == -EPERM || error == -ENOSYS || error == -EACCES)
        return say(answer, error,
                   "io_uring_setup is refused (%s), most likely by the seccomp filter of a "
                   "container: start it with `docker run --security-opt seccomp=unconfined` or "
                   "`podman run --security-opt seccomp=unconfined`, better with `--security-opt "
                   "seccomp=FILE`, a copy of the default profile that also allows io_uring_setup, "
                   "io_uring_enter and io_uring_register%s",
                   strerrorname_np(-error),
                   error == -ENOSYS ? "; outside of a container: a kernel built without "
                                      "CONFIG_IO_URING"
                                    : "");
    return say(answer, error, "io_uring cannot be set up: %s", strerrordesc_np(-error));
}

/* ---- does what the engine stands on really work? --------------------------------------------- */

struct trial {
    struct ring_op op;
    size_t received_bytes;
    bool ended;
};

static void trial_received(struct ring_op *op)
{
    struct trial *trial = CONTAINER_OF(op, struct trial, op);

    if (op->buffer != NULL) {
        trial->received_bytes += (size_t)op->result;
        ring_buffer_unref(op->buffer);
    }
    if (!op->more)
        trial->ended = true;
}

/* One multishot receive with provided buffers, two pieces, a cancellation. */
static bool try_receive(struct ring *ring, const int fds[2])
{
    uint64_t deadline_ns = clock_monotonic_ns() + PROBE_WAIT_NS;
    struct trial trial = {.ended = false};
    size_t wanted = 0;

    ring_op_init(&trial.op, trial_received);
    ring_receive(ring, &trial.op, fds[0]);
    for (int i = 0; i < 2; i++) {
        if (write(fds[1], "ping", 4) != 4)
            break;
        wanted += 4;
        while (!trial.ended && trial.received_bytes < wanted && clock_monotonic_ns() < deadline_ns)
            (void)ring_poll(ring, deadline_ns);
    }
    ring_cancel(ring, &trial.op);
    while (!trial.ended)
        (void)ring_poll(ring, UINT64_MAX);
    return wanted == 8 && trial.received_bytes == wanted;
}

static int try_ring(struct answer *answer, const char *sysctl_path)
{
    const struct ring_params params = {.entries = 64, .buffer_count = 16};
    struct ring *ring = NULL;
    int fds[2];
    bool works;
    int r;

    r = ring_create(&params, &ring);
    if (r < 0)
        return explain_refusal(answer, sysctl_path, r);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        r = -errno;
        ring_destroy(&ring);
        return say(answer, r, "no socket pair to try io_uring with: %s", strerrordesc_np(-r));
    }
    works = try_receive(ring, fds);
    ring_destroy(&ring);
    ring_close(fds[0]);
    ring_close(fds[1]);
    if (works)
        return say(answer, 0, "io_uring is available");
    return say(answer, -EOPNOTSUPP,
               "io_uring is here, but a multishot receive into provided buffers does not work: "
               "use a plain Linux %d.%d or newer",
               KERNEL_MAJOR_MIN, KERNEL_MINOR_MIN);
}

int ring_probe(const char *sysctl_path, char *text, size_t text_size_bytes)
{
    struct answer answer = {text, text_size_bytes};
    int r;

    r = check_kernel(&answer);
    if (r == 0)
        r = check_sysctl(&answer, sysctl_path);
    if (r == 0)
        r = try_ring(&answer, sysctl_path);
    return r;
}
