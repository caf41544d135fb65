/* kilatctl spool: finds the spools below a directory and gives each to the command. */
#include "cli/spool.h"

#include "cli/spool_private.h"
#include "core/file.h"

#include <errno.h>
#include <stdlib.h>

#define SPOOLS_MAX 1024

static const char usage[] =
    "Usage: kilatctl [--json] spool COMMAND DIR ...\n"
    "\n"
    "DIR is a spool_directory, with spools 0000, 0001, ... in it, or one of those.\n"
    "\n"
    "Read-only: no lock is taken and no byte is changed; a server may run on DIR, or it may be a "
    "copy.\n"
    "  spool check DIR         counts what is there and verifies every byte; exit status 1 when\n"
    "                          something is damaged, with segment and offset of each place\n"
    "  spool dump DIR          one line for each record\n"
    "  spool export DIR OUT    each unfinished message as OUT/ID.eml with its envelope as "
    "OUT/ID.json\n"
    "\n"
    "Writing: refused while a server, or anybody else, holds the lock.\n"
    "  spool import DIR [--from ADDRESS] [--to ADDRESS,...] FILE...\n"
    "                          what spool export wrote (ID.json), and with --to any message files "
    "and\n"
    "                          directories of them, Maildirs too; an envelope of their own they "
    "have not\n"
    "  spool compact DIR       writes a new spool with what is unfinished and puts it in the place "
    "of the\n"
    "                          old one, in one step\n";

struct command {
    const char *name;
    int (*run)(struct ctl_spool_run *run);
    bool writes;
};
static const struct command commands[] = {
    {"check", ctl_spool_check, false},    {"dump", ctl_spool_dump, false},
    {"export", ctl_spool_export, false},  {"import", ctl_spool_import, true},
    {"compact", ctl_spool_compact, true},
};

/* ---- shared by the commands ------------------------------------------------------------------------------ */

struct spool_inspect *ctl_spool_open(const struct ctl_spool_run *run)
{
    struct spool_inspect *inspect = NULL;
    struct buf error;

    buf_init(&error, 4 * KIB);
    if (spool_inspect_open(run->path, &inspect, &error) < 0)
        fprintf(stderr, "kilatctl: %.*s\n", SLICE_ARG(buf_slice(&error)));
    buf_deinit(&error);
    return inspect;
}

bool ctl_spool_scan(const struct ctl_spool_run *run, struct spool_inspect *inspect,
                    const struct spool_inspect_events *events)
{
    struct buf error;
    int r;

    (void)run;
    buf_init(&error, 4 * KIB);
    r = spool_inspect_scan(inspect, events, &error);
    if (r < 0)
        fprintf(stderr, "kilatctl: %.*s\n", SLICE_ARG(buf_slice(&error)));
    buf_deinit(&error);
    return r == 0;
}

void ctl_spool_segment_name(const struct spool_inspect_place *place,
                            char name[SPOOL_NAME_TEXT_SIZE])
{
    snprintf(name, SPOOL_NAME_TEXT_SIZE, "%c-%08x", place->stream, place->segment);
}

const char *ctl_spool_record_word(uint8_t type)
{
    switch (type) {
    case SPOOL_MSG:
        return "MSG";
    case SPOOL_CHUNK:
        return "CHUNK";
    case SPOOL_COMMIT:
        return "COMMIT";
    case SPOOL_RELOC:
        return "RELOC";
    case SPOOL_FOOTER:
        return "FOOTER";
    case SPOOL_J_DONE:
        return "DONE";
    case SPOOL_J_DEFER:
        return "DEFER";
    case SPOOL_J_HOLD:
        return "HOLD";
    case SPOOL_J_RELEASE:
        return "RELEASE";
    case SPOOL_J_ABORT:
        return "ABORT";
    default:
        return "UNKNOWN";
    }
}

/* ---- which spools -------------------------------------------------------------------------------------------- */

struct spools {
    char *paths[SPOOLS_MAX];
    size_t count;
    const char *below;
};

static int spools_see(void *context, const char *name)
{
    struct spools *spools = context;

    if (strlen(name) != 4 || strspn(name, "0123456789") != 4 || spools->count == SPOOLS_MAX)
        return 0;
    return asprintf(&spools->paths[spools->count++], "%s/%s", spools->below, name) < 0 ? -ENOMEM
                                                                                       : 0;
}

static int path_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A directory with SUPER is a spool; otherwise the spools are below it. False with a sentence. */
static bool spools_find(const char *path, struct spools *spools)
{
    struct file_info info;
    int fd;
    int r = file_open_dir_path(path, &fd);

    *spools = (struct spools){.below = path};
    if (r < 0) {
        fprintf(stderr, "kilatctl: %s: cannot be opened as a directory: %s\n", path, strerror(-r));
        return false;
    }
    r = file_info_at(fd, "SUPER", &info);
    if (r == 0)
        r = asprintf(&spools->paths[spools->count++], "%s", path) < 0 ? -ENOMEM : 0;
    else if (r == -ENOENT)
        r = file_list(fd, spools_see, spools);
    (void)file_close(fd);
    if (r == 0 && spools->count == 0)
        r = -ENOENT;
    if (r == -ENOENT)
        fprintf(stderr, "kilatctl: %s: is no spool and has none below it\n", path);
    else if (r < 0)
        fprintf(stderr, "kilatctl: %s: cannot be read: %s\n", path, strerror(-r));
    qsort(spools->paths, spools->count, sizeof(*spools->paths), path_compare);
    return r == 0;
}

static int usage_error(const char *what)
{
    fprintf(stderr, "kilatctl: %s; try kilatctl spool --help\n", what);
    return EXIT_USAGE;
}

/* What stands behind DIR. 0, or the exit status of a wrong usage. */
static int read_words(struct ctl_spool_run *run, const struct command *command, int argc,
                      char **argv)
{
    bool is_export = command->run == ctl_spool_export, is_import = command->run == ctl_spool_import;
    int i = 0;

    for (; is_import && i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--to") == 0)
            run->recipients = argv[i + 1];
        else if (strcmp(argv[i], "--from") == 0)
            run->sender = argv[i + 1];
        else
            break;
    }
    run->files = argv + i;
    run->file_count = argc - i;
    if (is_export && argc != 1)
        return usage_error("spool export: expected DIR and OUT");
    if (is_export)
        run->target = argv[0];
    if (is_import && run->file_count == 0)
        return usage_error("spool import: expected DIR and files");
    if (!is_import && !is_export && argc != 0)
        return usage_error("spool: too many words");
    return 0;
}

static int run_all(struct ctl_spool_run *run, const struct command *command,
                   const struct spools *spools)
{
    int status = 0;

    if (run->wants_json)
        json_out_array(&run->json, stdout);
    for (size_t i = 0; i < spools->count && (status == 0 || !command->writes); i++) {
        int r;

        run->path = spools->paths[i];
        r = command->run(run);
        status = status == 0 ? r : status;
        if (command->run == ctl_spool_import)
            break; /* into the first one: a server spreads nothing over several either */
    }
    if (run->wants_json)
        json_out_array_end(&run->json);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "kilatctl: the answer could not be written\n");
        status = 1;
    }
    return status;
}

int ctl_spool(bool json, int argc, char **argv)
{
    struct ctl_spool_run run = {.wants_json = json};
    const struct command *command = NULL;
    struct spools spools = {0};
    int status;

    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    for (size_t i = 0; argc > 0 && i < ARRAY_SIZE(commands); i++)
        if (strcmp(argv[0], commands[i].name) == 0)
            command = &commands[i];
    if (command == NULL)
        return usage_error("spool: expected check, dump, export, import or compact");
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc < 2)
        return usage_error("spool: expected a directory");
    status = read_words(&run, command, argc - 2, argv + 2);
    if (status != 0)
        return status;
    status = spools_find(argv[1], &spools) ? run_all(&run, command, &spools) : 1;
    for (size_t i = 0; i < spools.count; i++)
        free(spools.paths[i]);
    return status;
}
