/* kilatd: the program around one server. */
#include <errno.h>
#include <getopt.h>
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

/* Sockets are the limit on sessions: as many as this process may have at all. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* what stands is enough to begin with */
    }
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

/* The shards have ended, by a signal or by `kilatctl stop`: the main thread waits for signals only. */
static void ended(void *context)
{
    (void)context;
    (void)kill(getpid(), SIGUSR2);
}

static void serve(struct kilatd *kilatd, const sigset_t *signals)
{
    bool stopping = false;
    int number;

    notify("READY=1");
    for (;;) {
        if (sigwait(signals, &number) != 0)
            continue;
        if (number == SIGUSR2) /* the shards have ended */
            return;
        if (number == SIGHUP) {
            kilatd_reload(kilatd);
        } else {
            notify("STOPPING=1");
            kilatd_stop(kilatd, stopping ? 0 : MAIN_PATIENCE_MS);
            stopping = true;
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check", no_argument, NULL, 'C'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *config = MAIN_CONFIG;
    struct kilatd *kilatd = NULL;
    bool check = false;
    struct buf error;
    sigset_t signals;
    int option, r;

    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            config = optarg;
            break;
        case 'C':
            check = true;
            break;
        case 'V':
            puts("kilatd " KILAT_VERSION);
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs("Try kilatd --help.\n", stderr);
            return 64; /* EX_USAGE */
        }
    }
    if (optind < argc) {
        fprintf(stderr, "kilatd: unexpected argument \"%s\"; try kilatd --help\n", argv[optind]);
        return 64;
    }
    /* Every thread inherits the mask, so signals reach this one alone. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();

    buf_init(&error, 16 * KIB);
    r = kilatd_create(config, &kilatd, &error);
    if (r == 0)
        kilatd_on_end(kilatd, ended, NULL);
    if (r == 0)
        r = check ? kilatd_check(kilatd, &error) : kilatd_start(kilatd, &error);
    if (r < 0)
        fprintf(stderr, "kilatd: %.*s\n", SLICE_ARG(buf_slice(&error)));
    else if (check)
        printf("kilatd: %s is fine\n", config);
    else
        serve(kilatd, &signals);
    if (r == 0 && !check)
        kilatd_join(kilatd);
    kilatd_destroy(&kilatd);
    buf_deinit(&error);
    return r == 0 ? 0 : r == -EINVAL || r == -ENOENT ? MAIN_EXIT_SETTINGS : 1;
}
