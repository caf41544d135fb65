/* kilatd: the program around one server. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/kilatd.h"

#define MAIN_CONFIG "/etc/kilat/kilat.conf"
#define MAIN_PATIENCE_MS (20 * SECOND_MS)
#define MAIN_EXIT_USAGE 64    /* EX_USAGE */
#define MAIN_EXIT_SETTINGS 78 /* EX_CONFIG of sysexits(3): systemd need not try again */

static const char usage[] =
    "Usage: kilatd [--config FILE] [--check]\n"
    "The mail transfer agent Kilat, in the foreground; events go to standard error or log_file.\n"
    "\n"
    "  -c, --config FILE   settings to read (" MAIN_CONFIG ")\n"
    "      --check         read and check the settings, change nothing, and exit\n"
    "      --version       print the version\n"
    "  -h, --help          print this\n"
    "\n"
    "Signals: TERM and INT end it in order (a second one at once), HUP reads the settings again.\n"
    "See kilatd(8), kilat.conf(5) and kilatctl(8).\n";

/* Sockets are the limit on sessions: as many as this process may have at all. Returns how many, 0 when unknown. */
static uint64_t raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* what stands is enough to begin with */
    return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? 0 : limit.rlim_cur;
}

/* Tells systemd (Type=notify), if it started us: sd_notify(3) is this one datagram. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path == NULL ? 0 : strlen(path);
    int fd;

    if (length == 0 || length >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    (void)close(fd); /* nobody to tell if it did not arrive */
}

/* Signals have a thread of their own, because the main one may be the shard (single_thread). */
struct serving {
    struct kilatd *kilatd;
    sigset_t signals;
    pthread_mutex_t lock; /* of what follows */
    bool over;            /* the shards are ending: nobody is left to be told */
};

static void ended(void *context)
{
    struct serving *serving = context;

    pthread_mutex_lock(&serving->lock);
    serving->over = true;
    pthread_mutex_unlock(&serving->lock);
}

static void *take_signals(void *context)
{
    struct serving *serving = context;
    bool stopping = false;
    int number;

    for (;;) {
        if (sigwait(&serving->signals, &number) != 0)
            continue;
        if (number == SIGUSR2) /* main() wants us to end */
            return NULL;
        pthread_mutex_lock(&serving->lock);
        if (!serving->over && number == SIGHUP) {
            kilatd_reload(serving->kilatd);
        } else if (!serving->over) {
            notify("STOPPING=1");
            kilatd_stop(serving->kilatd, stopping ? 0 : MAIN_PATIENCE_MS);
            stopping = true;
        }
        pthread_mutex_unlock(&serving->lock);
    }
}

/* Until the shards have ended, by a signal or by `kilatctl stop`. 0 or -errno. */
static int serve(struct serving *serving)
{
    pthread_t thread;
    int r = -pthread_create(&thread, NULL, take_signals, serving);

    if (r < 0) {
        fprintf(stderr, "kilatd: no thread for signals: %s\n", strerror(-r));
        kilatd_stop(serving->kilatd, 0);
    } else {
        notify("READY=1");
    }
    kilatd_join(serving->kilatd);
    if (r == 0) {
        (void)pthread_kill(thread, SIGUSR2); /* neither can fail for a thread that runs */
        (void)pthread_join(thread, NULL);
    }
    return r;
}

#define MAIN_GO_ON -1

/* MAIN_GO_ON, or the exit status of an answer that is given already. */
static int read_options(int argc, char **argv, const char **config, bool *check)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check", no_argument, NULL, 'C'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            *config = optarg;
            break;
        case 'C':
            *check = true;
            break;
        case 'V':
            printf("kilatd %s\n", kilatd_build());
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs("Try kilatd --help.\n", stderr);
            return MAIN_EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "kilatd: unexpected argument \"%s\"; try kilatd --help\n", argv[optind]);
        return MAIN_EXIT_USAGE;
    }
    return MAIN_GO_ON;
}

/* Every thread inherits the mask, so signals reach only the one that waits for them. */
static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    struct serving serving = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const char *config = MAIN_CONFIG;
    bool check = false;
    uint64_t descriptors_max;
    struct buf error;
    int r = read_options(argc, argv, &config, &check);

    if (r != MAIN_GO_ON)
        return r;
    block_signals(&serving.signals);
    descriptors_max = raise_descriptor_limit();
    buf_init(&error, 16 * KIB);
    r = kilatd_create(config, &serving.kilatd, &error);
    if (r == 0) {
        kilatd_on_end(serving.kilatd, ended, &serving);
        kilatd_limit_descriptors(serving.kilatd, descriptors_max);
        kilatd_catch_crashes(serving.kilatd);
    }
    if (r == 0)
        r = check ? kilatd_check(serving.kilatd, &error) : kilatd_start(serving.kilatd, &error);
    if (r < 0)
        fprintf(stderr, "kilatd: %.*s\n", SLICE_ARG(buf_slice(&error)));
    else if (check)
        printf("kilatd: %s is fine\n", config);
    else
        r = serve(&serving);
    kilatd_destroy(&serving.kilatd);
    buf_deinit(&error);
    return r == 0 ? 0 : r == -EINVAL || r == -ENOENT ? MAIN_EXIT_SETTINGS : 1;
}
