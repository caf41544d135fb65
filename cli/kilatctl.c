/* kilatctl: asks and orders a running kilatd, and what needs no server: accounts, and what the settings are. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "cli/control_client.h"
#include "cli/spool.h"
#include "daemon/settings.h"
#include "daemon/users_file.h"

#define CTL_CONFIG "/etc/kilat/kilat.conf"
#define CTL_SOCKET "/run/kilat/control"
#define EXIT_USAGE 64

static const char usage[] =
    "Usage: kilatctl [--socket PATH | --config FILE] [--json] COMMAND\n"
    "\n"
    "Ask the running server:\n"
    "  info                          version, ring, directories, durability\n"
    "  status                        counters: queue, deliveries, sessions, disk\n"
    "  queue list [--destination DOMAIN] [--after ID] [--count N]\n"
    "  message show ID               why it is still here, and when it will be tried\n"
    "  site list                     sessions and back-off of each site\n"
    "  dns MX DOMAIN                 where mail for a domain goes\n"
    "  settings [--changed]          as they are in force\n"
    "\n"
    "Order it:\n"
    "  message hold|release|retry|remove|bounce ID\n"
    "  dns flush                     forget what resolvers have answered\n"
    "  spool accept NUMBER           deliver from a copy that was put back and is on hold\n"
    "  spool copy NUMBER DIR         a consistent copy of a spool, while the server goes on\n"
    "  clock accept                  the wall clock is right: expire and bounce again\n"
    "  reload                        read the settings again; all of them or none\n"
    "  drain [off]                   take no new mail, but deliver what is queued\n"
    "  stop                          end in order\n"
    "\n"
    "Without a server:\n"
    "  user add [--file FILE] NAME@DOMAIN      password from standard input\n"
    "  user remove [--file FILE] NAME@DOMAIN\n"
    "  spool check|dump DIR          look into a spool, running, stopped or copied; read-only\n"
    "  spool export DIR OUT          each unfinished message as a file; read-only\n"
    "  spool import DIR [--from ADDRESS] [--to ADDRESS,...] FILE...    into a stopped spool\n"
    "  spool compact DIR             a stopped spool, rewritten without what is finished\n"
    "  settings --defaults           the sample file, every setting at its default\n"
    "  settings --manual             the rows of kilat.conf(5)\n"
    "\n"
    "  --socket PATH   the control socket (as in the settings, or " CTL_SOCKET ")\n"
    "  --config FILE   settings that name socket and accounts (" CTL_CONFIG ")\n"
    "  --json          answer for programs: an array of objects\n"
    "  --version, --help\n";

struct ctl {
    const char *socket, *config, *file;
    bool json, config_given;
};

/* ---- what the settings say ------------------------------------------------------------------------------- */

/* A text setting, owned; NULL with a sentence when the file was named and cannot be read. */
static char *ctl_setting(const struct ctl *ctl, size_t offset, const char *fallback)
{
    struct settings settings = {0};
    struct buf error;
    char *value = NULL;
    int r;

    buf_init(&error, 8 * KIB);
    r = settings_read(settings_table(), ctl->config, &settings, &error);
    if (r == 0) {
        value = strdup(*(char **)((char *)&settings + offset));
        settings_free(settings_table(), &settings);
    } else if (!ctl->config_given && (r == -ENOENT || r == -EACCES)) {
        value = strdup(fallback);
    } else {
        fprintf(stderr, "kilatctl: %.*s\n", SLICE_ARG(buf_slice(&error)));
    }
    buf_deinit(&error);
    return value;
}

static int ctl_print_settings(const char *what)
{
    struct buf out;

    buf_init(&out, MIB);
    if (strcmp(what, "--defaults") == 0) {
        buf_append_cstr(&out, "# kilat.conf: every setting at its default. See kilat.conf(5).\n\n");
        settings_print_defaults(settings_table(), &out);
    } else {
        settings_print_manual(settings_table(), &out);
    }
    (void)fwrite(out.data, 1, out.size, stdout);
    buf_deinit(&out);
    return 0;
}

/* ---- accounts ------------------------------------------------------------------------------------------------ */

/* One line, without echo on a terminal. */
static bool ctl_read_password(char *line, size_t size)
{
    struct termios before, quiet;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    bool fine;

    if (terminal) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        fputs("Password: ", stderr);
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet); /* shown at worst */
    }
    fine = fgets(line, (int)size, stdin) != NULL;
    if (terminal) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (fine)
        line[strcspn(line, "\r\n")] = 0;
    return fine && line[0] != 0;
}

static int ctl_user(struct ctl *ctl, int argc, char **argv)
{
    char *path = NULL, password[512];
    const char *name = NULL;
    struct buf error;
    int r = -EINVAL;
    bool add = argc > 0 && strcmp(argv[0], "add") == 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--file") == 0 && i + 1 < argc)
            ctl->file = argv[++i];
        else if (name == NULL && argv[i][0] != '-')
            name = argv[i];
        else
            name = NULL, argc = 0;
    }
    if (name == NULL || (!add && strcmp(argv[0], "remove") != 0)) {
        fputs("usage: kilatctl user add|remove [--file FILE] NAME@DOMAIN\n", stderr);
        return EXIT_USAGE;
    }
    path = ctl->file != NULL
               ? realpath(ctl->file, NULL)
               : ctl_setting(ctl, offsetof(struct settings, users_file), "/etc/kilat/users");
    if (path == NULL && ctl->file != NULL)
        path = ctl->file[0] == '/' ? strdup(ctl->file) : NULL;
    if (path == NULL) {
        if (ctl->file != NULL)
            fprintf(stderr, "kilatctl: %s: not there yet; name it with its whole path\n",
                    ctl->file);
        return EXIT_USAGE;
    }
    buf_init(&error, 4 * KIB);
    if (!add)
        r = users_file_remove(path, slice_cstr(name), &error);
    else if (ctl_read_password(password, sizeof(password)))
        r = users_file_set(path, slice_cstr(name), slice_cstr(password), &error);
    else
        buf_append_cstr(&error, "expected a password on standard input");
    explicit_bzero(password, sizeof(password));
    if (r < 0)
        fprintf(stderr, "kilatctl: %.*s\n", SLICE_ARG(buf_slice(&error)));
    else
        printf("%s: %s in %s\n", name, add ? "set" : "removed", path);
    buf_deinit(&error);
    free(path);
    return r < 0 ? 1 : 0;
}

/* ---- the running server ------------------------------------------------------------------------------------------ */

static int ctl_ask(struct ctl *ctl, int argc, char **argv)
{
    struct slice words[64];
    char *socket;
    int status;

    if (argc > (int)ARRAY_SIZE(words)) {
        fputs("kilatctl: too many words\n", stderr);
        return EXIT_USAGE;
    }
    for (int i = 0; i < argc; i++)
        words[i] = slice_cstr(argv[i]);
    socket = ctl->socket != NULL
                 ? strdup(ctl->socket)
                 : ctl_setting(ctl, offsetof(struct settings, control_socket), CTL_SOCKET);
    if (socket == NULL)
        return EXIT_USAGE;
    status = control_client_ask(socket, ctl->json, words, (size_t)argc);
    free(socket);
    return status;
}

/* The server has a working directory of its own, so a path goes to it whole. */
static int ctl_spool_copy(struct ctl *ctl, int argc, char **argv)
{
    char *here, *path = NULL;
    char *words[4];
    int status;

    if (argc != 4 || argv[3][0] == 0) {
        fputs("usage: kilatctl spool copy NUMBER DIR\n", stderr);
        return EXIT_USAGE;
    }
    here = getcwd(NULL, 0);
    if (argv[3][0] == '/')
        path = strdup(argv[3]);
    else if (here != NULL && asprintf(&path, "%s/%s", here, argv[3]) < 0)
        path = NULL;
    free(here);
    if (path == NULL) {
        fprintf(stderr, "kilatctl: the path of %s cannot be worked out\n", argv[3]);
        return EXIT_USAGE;
    }
    memcpy(words, argv, sizeof(words));
    words[3] = path;
    status = ctl_ask(ctl, argc, words);
    free(path);
    return status;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.config = CTL_CONFIG};
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc) {
            ctl.socket = argv[++i];
        } else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            ctl.config = argv[++i];
            ctl.config_given = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            ctl.json = true;
        } else if (strcmp(argv[i], "--version") == 0) {
            puts("kilatctl " KILAT_VERSION);
            return 0;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        } else {
            fprintf(stderr, "kilatctl: unknown option %s; try kilatctl --help\n", argv[i]);
            return EXIT_USAGE;
        }
    }
    if (i == argc) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[i], "user") == 0)
        return ctl_user(&ctl, argc - i - 1, argv + i + 1);
    if (strcmp(argv[i], "spool") == 0 && i + 1 < argc && strcmp(argv[i + 1], "copy") == 0)
        return ctl_spool_copy(&ctl, argc - i, argv + i);
    if (strcmp(argv[i], "spool") == 0 && !(i + 1 < argc && strcmp(argv[i + 1], "accept") == 0))
        return ctl_spool(ctl.json, argc - i - 1, argv + i + 1);
    if (strcmp(argv[i], "settings") == 0 && i + 1 < argc &&
        (strcmp(argv[i + 1], "--defaults") == 0 || strcmp(argv[i + 1], "--manual") == 0))
        return ctl_print_settings(argv[i + 1]);
    return ctl_ask(&ctl, argc - i, argv + i);
}
