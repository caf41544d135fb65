/* Log-ins, and the accounts file as it changes under the running server.
 *
 * Passwords are hashed on workers, at most USERS_CHECKS_MAX waiting at once: above it the answer is "temporary". The file is
 * looked at every few seconds by a job; one that is missing, unreadable or half written keeps the table in use.
 */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/file.h"

#define USERS_CHECKS_MAX 200
#define USERS_LOOK_MS (2 * SECOND_MS)

/* ---- a log-in ---------------------------------------------------------------------------------------- */

struct users_check {
    struct ring_op op;
    struct node *node;
    struct accounts *accounts; /* keeps the hash alive */
    const struct users_account *account;
    char password[512];
    size_t password_bytes;
    users_checked_fn *checked; /* NULL: cancelled */
    void *context;
};

static int users_check_job(struct ring_op *op)
{
    struct users_check *check = CONTAINER_OF(op, struct users_check, op);
    const char *hash = check->account == NULL ? NULL : check->account->hash;

    return users_password_matches(hash, slice_of(check->password, check->password_bytes)) ? 1 : 0;
}

static void users_check_done(struct ring_op *op)
{
    struct users_check *check = CONTAINER_OF(op, struct users_check, op);

    explicit_bzero(check->password, sizeof(check->password));
    check->node->password_checks--;
    if (check->checked != NULL)
        check->checked(check->context, op->result == 1, false,
                       check->account == NULL ? NULL : check->account->directory);
    accounts_unref(&check->accounts);
    node_check_empty(check->node);
    free(check);
}

int users_check(struct node *node, struct slice name, struct slice password,
                users_checked_fn *checked, void *context, struct users_check **ret_check)
{
    struct users_check *check;

    if (node->accounts->table == NULL || node->password_checks >= USERS_CHECKS_MAX)
        return -EAGAIN;
    check = calloc(1, sizeof(*check));
    if (check == NULL)
        return -ENOMEM;
    check->node = node;
    check->accounts = accounts_ref(node->accounts);
    check->account = users_table_find(node->accounts->table, name);
    check->checked = checked;
    check->context = context;
    /* One that does not fit is longer than any that can be set, and does not match. */
    check->password_bytes = MIN(password.size, sizeof(check->password));
    if (check->password_bytes > 0)
        memcpy(check->password, password.data, check->password_bytes);
    node->password_checks++;
    ring_op_init(&check->op, users_check_done);
    ring_job(node->shard->ring, &check->op, RING_JOB_HASH, users_check_job);
    *ret_check = check;
    return 0;
}

void users_check_cancel(struct users_check *check)
{
    check->checked = NULL;
}

/* ---- the file ----------------------------------------------------------------------------------------- */

struct users_watch {
    struct node *node;
    struct timer timer;
    struct ring_op op;
    bool stopping;
    char path[4096];
    struct file_info seen;     /* what the table in use was read from */
    struct users_table *table; /* read by the job */
    bool had_accounts;         /* the table in use has some */
    struct buf error;
    int last_error;
};

static bool users_same_file(const struct file_info *a, const struct file_info *b)
{
    return a->inode == b->inode && a->size_bytes == b->size_bytes &&
           a->modified_ns == b->modified_ns;
}

static int users_file_stat(struct users_watch *watch, struct file_info *ret_info)
{
    int fd, r;

    r = file_open_path(watch->path, FILE_READ, 0, &fd);
    if (r == 0) {
        r = file_info(fd, ret_info);
        (void)file_close(fd); /* it was only read */
    }
    if (r < 0)
        buf_printf(&watch->error, "%s: cannot be read: %s", watch->path, strerror(-r));
    return r;
}

/* 1: read anew. 0: as before. */
static int users_watch_job(struct ring_op *op)
{
    struct users_watch *watch = CONTAINER_OF(op, struct users_watch, op);
    struct file_info before = {0}, after = {0};
    int r;

    buf_reset(&watch->error);
    r = users_file_stat(watch, &before);
    if (r < 0 || users_same_file(&before, &watch->seen))
        return r;
    if (before.size_bytes == 0 && watch->had_accounts) {
        /* An editor that writes in place begins with an empty file, and nobody may be told meanwhile that he does not
         * exist. */
        buf_printf(&watch->error, "%s: is empty; a file of no accounts holds a comment",
                   watch->path);
        return -ENODATA;
    }
    r = users_file_read(watch->path, &watch->table, &watch->error);
    if (r == 0)
        r = users_file_stat(watch, &after);
    if (r == 0 && users_same_file(&before, &after)) {
        watch->seen = before;
        return 1;
    }
    users_table_destroy(&watch->table); /* somebody is writing: the next look will tell */
    return r;
}

static void users_watch_again(struct users_watch *watch)
{
    if (!watch->stopping)
        shard_timer_arm(watch->node->shard, &watch->timer, USERS_LOOK_MS);
}

static void users_watch_done(struct ring_op *op)
{
    struct users_watch *watch = CONTAINER_OF(op, struct users_watch, op);
    struct node *node = watch->node;
    struct accounts *accounts;

    if (op->result == 1) {
        log_event(node->shard->log, LOG_NOTICE, "users.read",
                  log_u64("accounts", watch->table->count));
        if (!watch->stopping && accounts_create(watch->table, &accounts) == 0)
            accounts_hand_round(node, accounts);
        else
            users_table_destroy(&watch->table);
        watch->table = NULL;
    } else if (op->result < 0 && op->result != watch->last_error) {
        log_event(node->shard->log, LOG_ERROR, "users.not_read",
                  log_text("error", buf_slice(&watch->error)),
                  log_cstr("now", node->accounts->table == NULL ? "answering 451"
                                                                : "the old table stays"));
    }
    watch->last_error = MIN(op->result, 0);
    if (watch->stopping)
        node_check_empty(node);
    users_watch_again(watch);
}

static void users_watch_look(struct timer *timer)
{
    struct users_watch *watch = CONTAINER_OF(timer, struct users_watch, timer);

    if (watch->op.in_flight)
        return;
    (void)slice_to_cstr(slice_cstr(watch->node->generation->settings.users_file), watch->path,
                        sizeof(watch->path));
    watch->had_accounts =
        watch->node->accounts->table != NULL && watch->node->accounts->table->count > 0;
    ring_op_init(&watch->op, users_watch_done);
    ring_job(watch->node->shard->ring, &watch->op, RING_JOB_FILE, users_watch_job);
}

int users_watch_start(struct node *node)
{
    struct users_watch *watch = calloc(1, sizeof(*watch));

    if (watch == NULL)
        return -ENOMEM;
    watch->node = node;
    buf_init(&watch->error, 4 * KIB);
    timer_init(&watch->timer, users_watch_look);
    ring_op_init(&watch->op, users_watch_done);
    node->users_watch = watch;
    shard_timer_arm(node->shard, &watch->timer, 1);
    return 0;
}

void users_watch_now(struct node *node)
{
    struct users_watch *watch = node->users_watch;

    if (watch != NULL && !watch->stopping)
        shard_timer_arm(node->shard, &watch->timer, 0);
}

void users_watch_stop(struct node *node)
{
    if (node->users_watch == NULL)
        return;
    node->users_watch->stopping = true;
    shard_timer_disarm(node->shard, &node->users_watch->timer);
}

bool users_watch_busy(const struct node *node)
{
    return node->users_watch != NULL && node->users_watch->op.in_flight;
}

void users_watch_destroy(struct node *node)
{
    if (node->users_watch == NULL)
        return;
    ASSERT(!users_watch_busy(node));
    buf_deinit(&node->users_watch->error);
    free(node->users_watch);
    node->users_watch = NULL;
}
