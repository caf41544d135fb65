/* New settings and accounts for a running server: read on a worker, handed round the shards, or refused as a whole. */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>

#include "core/crash.h"
#include "core/file.h"
#include "daemon/round.h"

/* ---- accounts ------------------------------------------------------------------------------------------- */

struct accounts_round {
    struct round round;
    struct accounts *accounts;
};

static void accounts_visit(struct node *node, struct round *round)
{
    struct accounts_round *r = CONTAINER_OF(round, struct accounts_round, round);

    accounts_unref(&node->accounts);
    node->accounts = accounts_ref(r->accounts);
    round_go_on(node, round);
}

static void accounts_finished(struct node *node, struct round *round)
{
    struct accounts_round *r = CONTAINER_OF(round, struct accounts_round, round);

    (void)node;
    accounts_unref(&r->accounts);
    free(r);
}

void accounts_hand_round(struct node *node, struct accounts *accounts)
{
    struct accounts_round *r = calloc(1, sizeof(*r));

    if (r == NULL) {
        accounts_unref(
            &accounts); /* the next look finds the file unchanged: the old table stays until it changes */
        return;
    }
    r->accounts = accounts;
    r->round.visit = accounts_visit;
    r->round.finished = accounts_finished;
    round_begin(node, &r->round);
}

/* ---- settings -------------------------------------------------------------------------------------------- */

struct reload {
    struct round round;
    struct ring_op op;
    struct node *node;
    struct generation *generation; /* new */
    int log_fd; /* the log's file, opened anew: it may have been rotated; -1: none */
    struct buf error;
    reload_done_fn *done;
    void *context;
};

static int reload_read(struct kilatd *kilatd, struct settings *settings, struct buf *error)
{
    if (kilatd->config_path == NULL)
        return settings_parse(settings_table(), kilatd->config_text, kilatd->config_name, settings,
                              error);
    return settings_read(settings_table(), kilatd->config_path, settings, error);
}

static int reload_open_log(struct reload *reload, const struct settings *settings)
{
    int r;

    if (settings->log_file[0] == 0)
        return 0;
    r = file_open_path(settings->log_file, FILE_WRITE | FILE_CREATE | FILE_APPEND, 0640,
                       &reload->log_fd);
    if (r < 0)
        buf_printf(&reload->error, "%s: cannot be opened: %s; nothing was changed",
                   settings->log_file, strerror(-r));
    return r;
}

static int reload_job(struct ring_op *op)
{
    struct reload *reload = CONTAINER_OF(op, struct reload, op);
    struct settings settings = {0};
    const struct setting *conflict;
    int r;

    r = reload_read(reload->node->kilatd, &settings, &reload->error);
    if (r < 0)
        return r;
    r = settings_check(&settings, &reload->error);
    if (r == 0) {
        conflict = settings_reload_conflict(settings_table(),
                                            &reload->node->kilatd->generation->settings, &settings);
        if (conflict != NULL) {
            buf_printf(&reload->error, "%s has changed and needs a restart; nothing was changed",
                       conflict->name);
            r = -EPERM;
        }
    }
    if (r == 0)
        r = reload_open_log(reload, &settings);
    if (r == 0)
        r = generation_create(&settings, &reload->generation);
    if (r < 0)
        settings_free(settings_table(), &settings);
    return r;
}

static void reload_end(struct reload *reload, int result)
{
    struct node *node = reload->node;
    struct slice text =
        result == 0 ? SLICE("the new settings are in force") : buf_slice(&reload->error);

    log_event(node->shard->log, result == 0 ? LOG_NOTICE : LOG_ERROR,
              result == 0 ? "reload.done" : "reload.refused", log_text("text", text));
    node->reloading = false;
    if (reload->log_fd >= 0)
        ring_close(reload->log_fd); /* not taken over */
    if (reload->done != NULL)
        reload->done(reload->context, result, text);
    buf_deinit(&reload->error);
    free(reload);
    node_check_empty(node);
}

static void reload_visit(struct node *node, struct round *round)
{
    struct reload *reload = CONTAINER_OF(round, struct reload, round);
    const struct settings *settings = &reload->generation->settings;
    struct queue_config config;

    generation_unref(&node->generation);
    node->generation = generation_ref(reload->generation);
    generation_queue_config(node->generation, &config);
    queue_configure(node->queue, &config);
    log_configure(node->shard->log, (enum log_level)settings->log_level,
                  (enum log_format)settings->log_format);
    round_go_on(node, round);
}

static void reload_finished(struct node *node, struct round *round)
{
    struct reload *reload = CONTAINER_OF(round, struct reload, round);

    generation_unref(&node->kilatd->generation);
    node->kilatd->generation = reload->generation;
    if (reload->log_fd >= 0) {
        node->kilatd->log_fd = reload->log_fd; /* the writer closes the one before */
        if (node->kilatd->catch_crashes)
            crash_log_to(reload->log_fd);
        log_writer_reopen(node->kilatd->log_writer, reload->log_fd);
        reload->log_fd = -1;
    }
    users_watch_now(node);
    reload_end(reload, 0);
}

static void reload_read_done(struct ring_op *op)
{
    struct reload *reload = CONTAINER_OF(op, struct reload, op);

    if (op->result >= 0 && reload->node->draining)
        buf_append_cstr(&reload->error, "the server is stopping");
    if (op->result < 0 || reload->node->draining) {
        generation_unref(&reload->generation);
        reload_end(reload, op->result < 0 ? op->result : -ECANCELED);
        return;
    }
    reload->round.visit = reload_visit;
    reload->round.finished = reload_finished;
    round_begin(reload->node, &reload->round);
}

void reload_begin(struct node *node, reload_done_fn *done, void *context)
{
    struct reload *reload = node->reloading ? NULL : calloc(1, sizeof(*reload));

    if (reload == NULL) {
        if (done != NULL)
            done(context, -EBUSY, SLICE("another reload is under way"));
        return;
    }
    reload->node = node;
    reload->log_fd = -1;
    reload->done = done;
    reload->context = context;
    buf_init(&reload->error, 8 * KIB);
    node->reloading = true;
    ring_op_init(&reload->op, reload_read_done);
    ring_job(node->shard->ring, &reload->op, RING_JOB_FILE, reload_job);
}
