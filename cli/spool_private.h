/* cli/spool_private.h - what the commands on spools share. Each works on one spool after the other (spool.c finds them) and
 * returns 0, or 1 when something is wrong with this one, told on standard error. */
#ifndef KILAT_CLI_SPOOL_PRIVATE_H
#define KILAT_CLI_SPOOL_PRIVATE_H

#include "cli/json_out.h"
#include "core/buf.h"
#include "storage/spool_inspect.h"

#define EXIT_USAGE 64
#define SPOOL_NAME_TEXT_SIZE 24

struct ctl_spool_run {
    struct json_out json; /* begun when wants_json */
    bool wants_json;
    const char *path;   /* of the spool in hand */
    const char *target; /* export: where to */
    char **files;       /* import */
    int file_count;
    const char *recipients; /* import: for mail that comes without its envelope */
    const char *sender;
};

int ctl_spool_check(struct ctl_spool_run *run);
int ctl_spool_dump(struct ctl_spool_run *run);
int ctl_spool_export(struct ctl_spool_run *run);
int ctl_spool_import(struct ctl_spool_run *run);
int ctl_spool_compact(struct ctl_spool_run *run);

/* Opens run->path, with a sentence on standard error when that cannot be; NULL then. */
struct spool_inspect *ctl_spool_open(const struct ctl_spool_run *run);
/* Scans; false with a sentence. */
bool ctl_spool_scan(const struct ctl_spool_run *run, struct spool_inspect *inspect,
                    const struct spool_inspect_events *events);
/* The file's name of a segment, "D-00000001". */
void ctl_spool_segment_name(const struct spool_inspect_place *place,
                            char name[SPOOL_NAME_TEXT_SIZE]);
const char *ctl_spool_record_word(uint8_t type);

#endif
