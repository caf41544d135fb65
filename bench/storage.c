#include "bench/storage.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "bench/program.h"
#include "bench/report.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/thread.h"
#include "storage/spool_owner.h"

#define ROUNDS_MAX 100u
#define LIE_RATIO 1.15 /* a flush that costs less than this over an unflushed write does nothing */
#define MINUTES_MAX 1000u

/* One round: the spool first, because the bare writes are to be of its groups' size. */
enum storage_step {
    STEP_MANY,        /* all writers into the spool */
    STEP_BARE_GROUP,  /* bare writes of that group's size */
    STEP_ONE,         /* one writer into the spool */
    STEP_BARE_ONE,    /* bare writes of its size */
    STEP_BARE_CACHED, /* the same without a flush */
    STEP_COUNT
};

struct storage_round {
    struct storage_measured steps[STEP_COUNT];
};

struct storage_bench {
    struct shard *shard;
    const char *directory, *json_path;
    uint64_t writers, size, round_count, seconds, long_minutes, segment_mib;
    struct worker_pool *workers;
    struct storage_bare bare;
    struct storage_spool spool;
    struct storage_round *rounds;
    uint64_t round;
    enum storage_step step;
    struct storage_measured minute;
    double minute_rates[MINUTES_MAX];
    uint64_t minutes;
    bool interrupted;
    char scratch[4096];
};

static double process_cpu_us(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail */
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void storage_measured_begin(struct storage_measured *measured)
{
    *measured = (struct storage_measured){.seconds = -(double)clock_monotonic_ns() / 1e9,
                                          .cpu_us = -process_cpu_us()};
    histogram_init(&measured->latency);
}

void storage_measured_end(struct storage_measured *measured)
{
    measured->seconds += (double)clock_monotonic_ns() / 1e9;
    measured->cpu_us += process_cpu_us();
}

/* ---- what a round says ---------------------------------------------------------------------------- */

static double us(const struct storage_measured *measured, double percent)
{
    return measured->writes + measured->messages == 0
               ? NAN
               : (double)histogram_percentile(&measured->latency, percent) / 1000;
}

static double group_bytes(const struct storage_round *round)
{
    const struct storage_measured *many = &round->steps[STEP_MANY];

    return many->writes == 0 ? NAN : (double)many->bytes / (double)many->writes;
}

static double messages_per_s(const struct storage_round *round)
{
    return (double)round->steps[STEP_MANY].messages / round->steps[STEP_MANY].seconds;
}

/* What bare writes of the same groups would carry. */
static double bare_messages_per_s(const struct storage_round *round)
{
    const struct storage_measured *many = &round->steps[STEP_MANY];
    const struct storage_measured *bare = &round->steps[STEP_BARE_GROUP];

    return (double)bare->writes / bare->seconds * (double)many->messages / (double)many->writes;
}

static double cpu_us_per_mib(const struct storage_measured *measured)
{
    return measured->bytes == 0 ? NAN : measured->cpu_us / ((double)measured->bytes / (double)MIB);
}

static double round_rate_ratio(const struct storage_round *round)
{
    return messages_per_s(round) / bare_messages_per_s(round);
}

static double round_cpu_ratio(const struct storage_round *round)
{
    return cpu_us_per_mib(&round->steps[STEP_MANY]) /
           cpu_us_per_mib(&round->steps[STEP_BARE_GROUP]);
}

static double round_one_ratio(const struct storage_round *round)
{
    return us(&round->steps[STEP_ONE], 50) / us(&round->steps[STEP_BARE_ONE], 50);
}

static double round_flush_ratio(const struct storage_round *round)
{
    return us(&round->steps[STEP_BARE_ONE], 50) / us(&round->steps[STEP_BARE_CACHED], 50);
}

static double round_many_p50(const struct storage_round *round)
{
    return us(&round->steps[STEP_MANY], 50);
}

static double round_many_p99(const struct storage_round *round)
{
    return us(&round->steps[STEP_MANY], 99);
}

static double round_one_p50(const struct storage_round *round)
{
    return us(&round->steps[STEP_ONE], 50);
}

static double round_flush_p50(const struct storage_round *round)
{
    return us(&round->steps[STEP_BARE_ONE], 50);
}

static double round_flush_p99(const struct storage_round *round)
{
    return us(&round->steps[STEP_BARE_ONE], 99);
}

static double round_cpu_per_message(const struct storage_round *round)
{
    return round->steps[STEP_MANY].cpu_us / (double)round->steps[STEP_MANY].messages;
}

static double over_rounds(const struct storage_bench *bench,
                          double (*value)(const struct storage_round *round))
{
    double values[ROUNDS_MAX];

    for (uint64_t i = 0; i < bench->round; i++)
        values[i] = value(&bench->rounds[i]);
    return report_median(values, (size_t)bench->round);
}

/* ---- what people read ----------------------------------------------------------------------------- */

/* "write back": the device keeps writes in a volatile cache; "write through": it says that it does not. */
static void read_write_cache(const char *directory, char *text, size_t size)
{
    char path[128];
    struct stat info;
    FILE *file;

    (void)snprintf(text, size, "unknown");
    if (stat(directory, &info) < 0)
        return;
    for (int parent = 0; parent < 2; parent++) { /* a partition has its queue in its disk */
        (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/write_cache",
                       major(info.st_dev), minor(info.st_dev), parent ? "../" : "");
        file = fopen(path, "re");
        if (file == NULL)
            continue;
        if (fgets(text, (int)size, file) != NULL)
            text[strcspn(text, "\n")] = 0;
        (void)fclose(file); /* only read */
        return;
    }
}

static void print_lie(const struct storage_bench *bench, const char *cache)
{
    double ratio = over_rounds(bench, round_flush_ratio);

    if (!(ratio < LIE_RATIO))
        return;
    if (strcmp(cache, "write through") == 0)
        printf("a flush costs nothing here, and the device says that it has no volatile cache: "
               "believable only for\nbattery- or capacitor-backed caches\n");
    else
        printf("WARNING: a flushed write takes %.2f times as long as an unflushed one, although "
               "the device has a volatile\ncache (%s): it may lie about flushes. Mail answered "
               "250 can be lost on it in a power cut.\n",
               ratio, cache);
}

static void print_result(const struct storage_bench *bench)
{
    struct file_system_info info = {.name = "unknown"};
    char cache[64];
    int fd;

    if (file_open_dir_path(bench->directory, &fd) == 0) {
        (void)file_system_info(fd, &info); /* "unknown" then */
        (void)file_close(fd);
    }
    read_write_cache(bench->directory, cache, sizeof(cache));
    printf("%s: %s, volatile cache: %s, %s\n", bench->directory, info.name, cache,
           bench->bare.direct ? "O_DIRECT and RWF_DSYNC" : "no O_DIRECT: write and fdatasync");
    printf("a flushed write of %llu KiB:  p50 %.0f us, p99 %.0f us\n",
           (unsigned long long)(bench->bare.write_bytes / KIB), over_rounds(bench, round_flush_p50),
           over_rounds(bench, round_flush_p99));
    printf("%llu writers, %llu octets:    %.0f messages/s, %.1f a group of %.0f KiB, p50 %.0f us, "
           "p99 %.0f us, %.1f us CPU each\n",
           (unsigned long long)bench->writers, (unsigned long long)bench->size,
           over_rounds(bench, messages_per_s),
           (double)bench->rounds[0].steps[STEP_MANY].messages /
               (double)bench->rounds[0].steps[STEP_MANY].writes,
           over_rounds(bench, group_bytes) / KIB, over_rounds(bench, round_many_p50),
           over_rounds(bench, round_many_p99), over_rounds(bench, round_cpu_per_message));
    printf("  to bare writes of that size:  %.2f of the rate, %.2f times the CPU\n",
           over_rounds(bench, round_rate_ratio), over_rounds(bench, round_cpu_ratio));
    printf("one writer alone:             p50 %.0f us, %.2f times a bare write of that size\n",
           over_rounds(bench, round_one_p50), over_rounds(bench, round_one_ratio));
    print_lie(bench, cache);
}

static void print_minutes(const struct storage_bench *bench)
{
    struct spool_counters counters;
    double third = bench->minutes > 2 ? bench->minute_rates[2] : NAN;

    spool_counters(bench->spool.spool, &counters);
    printf("a long run: %llu minutes, %.0f messages/s in the third, %.0f in the last: %.2f of it\n",
           (unsigned long long)bench->minutes, third, bench->minute_rates[bench->minutes - 1],
           bench->minute_rates[bench->minutes - 1] / third);
    printf("  %.1f GiB in groups, %.1f MiB of journal, %llu MiB on disk at the end\n",
           (double)counters.group_bytes / (double)GIB, (double)counters.journal_bytes / (double)MIB,
           (unsigned long long)(counters.disk_bytes / MIB));
}

static int write_json(const struct storage_bench *bench)
{
    struct buf json;
    FILE *file;
    bool ok;

    if (bench->json_path == NULL)
        return 0;
    buf_init(&json, 64 * KIB);
    report_object_begin(&json);
    report_u64(&json, "writers", bench->writers);
    report_u64(&json, "message_bytes", bench->size);
    report_u64(&json, "rounds", bench->round);
    report_bool(&json, "direct", bench->bare.direct);
    report_number(&json, "messages_per_s", over_rounds(bench, messages_per_s));
    report_number(&json, "group_bytes", over_rounds(bench, group_bytes));
    report_number(&json, "p50_us", over_rounds(bench, round_many_p50));
    report_number(&json, "p99_us", over_rounds(bench, round_many_p99));
    report_number(&json, "cpu_us_per_message", over_rounds(bench, round_cpu_per_message));
    report_number(&json, "rate_to_bare", over_rounds(bench, round_rate_ratio));
    report_number(&json, "cpu_to_bare", over_rounds(bench, round_cpu_ratio));
    report_number(&json, "one_p50_us", over_rounds(bench, round_one_p50));
    report_number(&json, "one_to_bare", over_rounds(bench, round_one_ratio));
    report_number(&json, "flush_p50_us", over_rounds(bench, round_flush_p50));
    report_number(&json, "flush_p99_us", over_rounds(bench, round_flush_p99));
    report_number(&json, "flush_to_unflushed", over_rounds(bench, round_flush_ratio));
    report_object_end(&json);
    file = fopen(bench->json_path, "we");
    ok = file != NULL && fwrite(json.data, 1, json.size, file) == json.size;
    ok = file != NULL && fputc('\n', file) != EOF && ok;
    if ((file != NULL && fclose(file) != 0) || !ok)
        fprintf(stderr, "kilat-bench storage: %s: %s\n", bench->json_path, strerror(errno));
    buf_deinit(&json);
    return ok ? 0 : -EIO;
}

/* ---- the course of it ------------------------------------------------------------------------------ */

static void next_step(void *context);

static void all_stopped(void *context)
{
    struct storage_bench *bench = context;

    shard_stop(bench->shard);
}

static void finish(struct storage_bench *bench)
{
    if (bench->round > 0)
        print_result(bench);
    if (bench->minutes > 0)
        print_minutes(bench);
    (void)write_json(bench); /* has complained */
    storage_spool_stop(&bench->spool, all_stopped, bench);
}

static void minute_over(void *context)
{
    struct storage_bench *bench = context;

    if (bench->minute.messages > 0)
        bench->minute_rates[bench->minutes++] =
            (double)bench->minute.messages / bench->minute.seconds;
    if (bench->minutes > 0)
        fprintf(stderr, "\rminute %llu of %llu: %.0f messages/s  ",
                (unsigned long long)bench->minutes, (unsigned long long)bench->long_minutes,
                bench->minute_rates[bench->minutes - 1]);
    if (bench->interrupted || bench->minutes == bench->long_minutes) {
        fprintf(stderr, "\n");
        finish(bench);
        return;
    }
    storage_spool_run(&bench->spool, bench->writers, 60, &bench->minute, minute_over, bench);
}

static uint64_t blocks(double bytes)
{
    return MIN(MAX(ROUND_UP((uint64_t)bytes, (uint64_t)4096), (uint64_t)4096), (uint64_t)MIB);
}

static void run_step(struct storage_bench *bench)
{
    struct storage_round *round = &bench->rounds[bench->round];
    struct storage_measured *to = &round->steps[bench->step];
    const struct storage_measured *one = &round->steps[STEP_ONE];
    double seconds = (double)bench->seconds / 2;

    switch (bench->step) {
    case STEP_MANY:
        storage_spool_run(&bench->spool, bench->writers, seconds, to, next_step, bench);
        break;
    case STEP_BARE_GROUP:
        storage_bare_run(&bench->bare, blocks(group_bytes(round)), true, seconds, to, next_step,
                         bench);
        break;
    case STEP_ONE:
        storage_spool_run(&bench->spool, 1, seconds / 2, to, next_step, bench);
        break;
    case STEP_BARE_ONE:
    case STEP_BARE_CACHED:
        storage_bare_run(&bench->bare, blocks((double)one->bytes / (double)one->writes),
                         bench->step == STEP_BARE_ONE, seconds / 2, to, next_step, bench);
        break;
    default:
        break;
    }
}

static void next_step(void *context)
{
    struct storage_bench *bench = context;

    if (++bench->step == STEP_COUNT) {
        bench->step = STEP_MANY;
        bench->round++;
        fprintf(stderr, "\rround %llu of %llu ", (unsigned long long)bench->round,
                (unsigned long long)bench->round_count);
        if (bench->round == bench->round_count || bench->interrupted) {
            fprintf(stderr, "\n");
            if (bench->long_minutes > 0)
                minute_over(bench);
            else
                finish(bench);
            return;
        }
    }
    run_step(bench);
}

static int start(struct shard *shard, void *context)
{
    struct storage_bench *bench = context;
    int r;

    bench->shard = shard;
    r = storage_bare_init(&bench->bare, shard, bench->scratch);
    if (r == 0)
        r = storage_spool_init(&bench->spool, shard, bench->scratch, bench->size,
                               bench->segment_mib * MIB);
    if (r == 0)
        run_step(bench);
    return r;
}

static void stop(struct shard *shard, void *context)
{
    struct storage_bench *bench = context;

    (void)shard;
    spool_destroy(&bench->spool.spool);
    storage_bare_deinit(&bench->bare);
    free(bench->spool.writers);
    free(bench->spool.body);
}

static struct storage_bench *bench_of(struct shard *shard)
{
    return ((const struct program *)shard->user)->context;
}

static void interrupted(struct shard *shard)
{
    bench_of(shard)->interrupted = true; /* the round, or the minute, is ended in order */
}

static int remove_each(void *context, const char *name)
{
    int dir_fd = *(int *)context, below;

    if (file_open_dir(dir_fd, name, &below) == 0) {
        (void)file_list(below, remove_each, &below);
        (void)file_close(below);
        (void)file_remove_dir(dir_fd, name);
    } else {
        (void)file_unlink(dir_fd, name);
    }
    return 0;
}

/* Best effort: what is left lies in a folder whose name says whose it is. */
static void remove_scratch(const char *path)
{
    int fd;

    if (file_open_dir_path(path, &fd) < 0)
        return;
    (void)file_list(fd, remove_each, &fd);
    (void)file_close(fd);
    (void)rmdir(path);
}

int storage_main(int argc, char **argv)
{
    struct storage_bench bench = {
        .writers = 128, .size = 4096, .round_count = 5, .seconds = 4, .segment_mib = 64};
    struct program program = {
        .start = start, .stop = stop, .interrupted = interrupted, .context = &bench};
    const struct option_row rows[] = {
        {"--directory", OPTION_TEXT, &bench.directory, 0, 0, NULL},
        {"--writers", OPTION_U64, &bench.writers, 1, 10000, NULL},
        {"--size", OPTION_U64, &bench.size, 1, SPOOL_INLINE_BODY_MAX, NULL},
        {"--rounds", OPTION_U64, &bench.round_count, 1, ROUNDS_MAX, NULL},
        {"--seconds", OPTION_U64, &bench.seconds, 1, 3600, NULL},
        {"--long", OPTION_U64, &bench.long_minutes, 3, MINUTES_MAX, NULL},
        {"--segment", OPTION_U64, &bench.segment_mib, 2, 1024, NULL},
        {"--json", OPTION_TEXT, &bench.json_path, 0, 0, NULL},
        {.name = NULL}};
    int r;

    if (!options_read(argc, argv, rows))
        return PROGRAM_USAGE;
    if (bench.directory == NULL) {
        fprintf(stderr, "kilat-bench storage: it needs --directory, on the disk in question\n");
        return PROGRAM_USAGE;
    }
    (void)snprintf(bench.scratch, sizeof(bench.scratch), "%s/kilat-bench-XXXXXX", bench.directory);
    if (mkdtemp(bench.scratch) == NULL) {
        fprintf(stderr, "kilat-bench storage: %s: %s\n", bench.directory, strerror(errno));
        return 1;
    }
    bench.rounds = calloc((size_t)bench.round_count, sizeof(*bench.rounds));
    r = bench.rounds == NULL ? -ENOMEM : worker_pool_create(1, 1, &bench.workers);
    program.workers = bench.workers;
    if (r == 0)
        r = program_run(&program);
    worker_pool_destroy(&bench.workers);
    free(bench.rounds);
    remove_scratch(bench.scratch);
    if (r < 0)
        fprintf(stderr, "kilat-bench storage: %s\n", strerror(-r));
    return r < 0 ? 1 : 0;
}
