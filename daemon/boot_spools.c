/* Which spools there are, before any of them is touched: whose, whole, not newer than we are, not older than we left them. */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/file.h"

#define BOOT_SPOOLS_MAX 1024 /* the numbers that an id has room for */

struct boot_seen {
    bool spool[BOOT_SPOOLS_MAX], mark[BOOT_SPOOLS_MAX];
};

/* "0007" is a spool and "0007.mark" its marker; anything else is somebody's own. */
static int boot_see_spool(void *context, const char *name)
{
    struct boot_seen *seen = context;
    struct slice rest = slice_cstr(name);
    struct slice digits = slice_first(rest, 4);
    uint64_t number;

    rest = slice_skip(rest, 4);
    if (digits.size != 4 || !slice_parse_u64(digits, BOOT_SPOOLS_MAX - 1, &number))
        return 0;
    seen->spool[number] |= rest.size == 0;
    seen->mark[number] |= slice_equal(rest, SLICE(".mark"));
    return 0;
}

static int boot_judge(struct kilatd_spool *spool, int dir_fd, const char *path, struct buf *error)
{
    struct marker marker;
    int r = marker_read(dir_fd, spool->number, &marker);

    spool->verdict = MARKER_FINE;
    spool->marker_damaged = r == -EBADMSG;
    if (r == -ENOENT || r == -EBADMSG)
        return 0;
    if (r < 0) {
        buf_printf(error, "%s.mark: cannot be read: %s", path, strerror(-r));
        return r;
    }
    spool->verdict = marker_judge(&marker, &spool->look);
    if (spool->verdict != MARKER_GONE)
        return 0;
    buf_printf(error, "%s: %s (to give its mail up, remove %s.mark); nothing was changed", path,
               marker_sentence(MARKER_GONE), path);
    return -ENOENT;
}

/* Those without a shard of their number go round the shards. */
static int boot_look_all(struct kilatd *kilatd, const struct boot_seen *seen, int dir_fd,
                         uint32_t owner_uid, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    char path[4096];
    int r = 0;

    ASSERT(kilatd->shard_count > 0);
    for (uint32_t number = 0; number < BOOT_SPOOLS_MAX && r == 0; number++) {
        struct kilatd_spool *spool = &kilatd->spools[kilatd->spool_count];
        if (!seen->spool[number] && !seen->mark[number] && number >= kilatd->shard_count)
            continue;
        *spool = (struct kilatd_spool){.number = number, .shard = number % kilatd->shard_count};
        (void)snprintf(path, sizeof(path), "%s/%04u", settings->spool_directory, number);
        r = spool_look(path, number, owner_uid, &spool->look, error);
        if (r == 0)
            r = boot_judge(spool, dir_fd, path, error);
        kilatd->spool_count++;
    }
    return r;
}

int boot_spools(struct kilatd *kilatd, uint32_t owner_uid, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    struct boot_seen seen = {0};
    int dir_fd, r;

    kilatd->spools = calloc(BOOT_SPOOLS_MAX, sizeof(*kilatd->spools));
    if (kilatd->spools == NULL)
        return -ENOMEM;
    r = file_open_dir_path(settings->spool_directory, &dir_fd);
    if (r == 0) {
        r = file_list(dir_fd, boot_see_spool, &seen);
        if (r == 0)
            r = boot_look_all(kilatd, &seen, dir_fd, owner_uid, error);
        (void)file_close(dir_fd); /* nothing was written */
    }
    if (r < 0 && error->size == 0)
        buf_printf(error, "%s: cannot be listed: %s", settings->spool_directory, strerror(-r));
    return r;
}
