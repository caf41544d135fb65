#include "bench/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/buf.h"

#define INTERRUPTED 1u /* the one bit that the signal handler sets on the shard */

/* ---- options --------------------------------------------------------------------------------- */

static bool read_choice(const struct option_row *row, const char *value)
{
    for (uint64_t i = 0; row->choices[i] != NULL; i++)
        if (strcmp(row->choices[i], value) == 0) {
            *(uint64_t *)row->to = i;
            return true;
        }
    fprintf(stderr, "kilat-bench: %s: \"%s\" is none of:", row->name, value);
    for (uint64_t i = 0; row->choices[i] != NULL; i++)
        fprintf(stderr, " %s", row->choices[i]);
    fprintf(stderr, "\n");
    return false;
}

static bool read_value(const struct option_row *row, const char *value)
{
    switch (row->kind) {
    case OPTION_U64:
        if (slice_parse_u64(slice_cstr(value), row->max, row->to) &&
            *(uint64_t *)row->to >= row->min)
            return true;
        fprintf(stderr, "kilat-bench: %s: expected a number from %llu to %llu, not \"%s\"\n",
                row->name, (unsigned long long)row->min, (unsigned long long)row->max, value);
        return false;
    case OPTION_ADDRESS:
        if (netaddr_parse(slice_cstr(value), 0, row->to) && netaddr_port(row->to) != 0)
            return true;
        fprintf(stderr, "kilat-bench: %s: expected ADDRESS:PORT, not \"%s\"\n", row->name, value);
        return false;
    case OPTION_CHOICE:
        return read_choice(row, value);
    case OPTION_TEXT:
        *(const char **)row->to = value;
        return true;
    }
    return false;
}

bool options_read(int argc, char **argv, const struct option_row *rows)
{
    for (int i = 1; i < argc; i++) {
        const struct option_row *row = rows;

        while (row->name != NULL && strcmp(row->name, argv[i]) != 0)
            row++;
        if (row->name == NULL) {
            fprintf(stderr, "kilat-bench %s: no option \"%s\"; try kilat-bench --help\n", argv[0],
                    argv[i]);
            return false;
        }
        if (i + 1 == argc) {
            fprintf(stderr, "kilat-bench %s: %s needs a value\n", argv[0], argv[i]);
            return false;
        }
        if (!read_value(row, argv[++i]))
            return false;
    }
    return true;
}

/* ---- one shard ------------------------------------------------------------------------------- */

/* The handler's only way to the shard. */
static struct shard *program_shard;

static void on_signal(int number)
{
    int saved = errno;

    (void)number;
    if (program_shard != NULL)
        shard_signal(program_shard, INTERRUPTED);
    errno = saved;
}

static void signalled(struct shard *shard, uint32_t signals)
{
    const struct program *program = shard->user;

    (void)signals;
    program->interrupted(shard);
}

static int start(struct shard *shard, void *context)
{
    const struct program *program = context;

    shard->user = context;
    return program->start(shard, program->context);
}

static void stop(struct shard *shard, void *context)
{
    const struct program *program = context;

    program_shard = NULL;
    if (program->stop != NULL)
        program->stop(shard, program->context);
}

int program_run(const struct program *program)
{
    struct shard_params params = {.count = 1,
                                  .one_thread = true,
                                  .ring.buffer_count = program->buffer_count,
                                  .ring.workers = program->workers,
                                  .start = start,
                                  .stop = stop,
                                  .signalled = signalled,
                                  .context = (void *)(uintptr_t)program};
    struct sigaction action = {.sa_handler = on_signal};
    struct shard_group *group;
    int r;

    r = shard_group_start(&params, &group);
    if (r < 0)
        return r;
    program_shard = shard_group_get(group, 0);
    (void)sigaction(SIGINT, &action, NULL); /* neither can fail with these arguments */
    (void)sigaction(SIGTERM, &action, NULL);
    shard_group_join(&group);
    return 0;
}

/* ---- ledgers --------------------------------------------------------------------------------- */

#define LEDGER_BYTES_MAX (64 * MIB) /* of one tick */

static void flush_ledger(struct ledger *ledger)
{
    struct slice left = buf_slice(&ledger->lines);

    while (left.size > 0) {
        ssize_t written = write(ledger->fd, left.data, left.size);

        if (written <= 0) {
            fprintf(stderr, "kilat-bench: writing the ledger: %s\n", strerror(errno));
            exit(1); /* a ledger with a hole would accuse the server */
        }
        left = slice_skip(left, (size_t)written);
    }
    buf_reset(&ledger->lines);
}

static void run_flush(struct shard_task *task)
{
    flush_ledger(CONTAINER_OF(task, struct ledger, flush));
}

int ledger_open(struct ledger *ledger, struct shard *shard, const char *path)
{
    *ledger = (struct ledger){.fd = -1, .shard = shard};
    buf_init(&ledger->lines, LEDGER_BYTES_MAX);
    shard_task_init(&ledger->flush, run_flush);
    if (path == NULL)
        return 0;
    ledger->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return ledger->fd < 0 ? -errno : 0;
}

void ledger_note(struct ledger *ledger, uint64_t tag, uint64_t id, const char *word)
{
    if (ledger->fd < 0)
        return;
    buf_printf(&ledger->lines, "%016llx %016llx %s\n", (unsigned long long)tag,
               (unsigned long long)id, word);
    shard_defer(ledger->shard, &ledger->flush);
}

void ledger_close(struct ledger *ledger)
{
    if (ledger->fd >= 0) {
        flush_ledger(ledger);
        (void)close(ledger->fd); /* every write was looked at */
        ledger->fd = -1;
    }
    shard_undefer(&ledger->flush);
    buf_deinit(&ledger->lines);
}
