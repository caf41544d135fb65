/* A server as a whole: read, check, start, end. */
#include "daemon/kilatd_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/crash.h"
#include "core/file.h"

#define KILATD_LOG_BYTES (1 * MIB) /* per shard; what does not fit is dropped and counted */
#define KILATD_IO_URING_SYSCTL "/proc/sys/kernel/io_uring_disabled"
#define KILATD_RESOLV_CONF "/etc/resolv.conf"

/* ---- create ---------------------------------------------------------------------------------------- */

static int kilatd_read(struct kilatd *kilatd, struct buf *error)
{
    struct settings settings = {0};
    int r;

    if (kilatd->config_path != NULL)
        r = settings_read(settings_table(), kilatd->config_path, &settings, error);
    else
        r = settings_parse(settings_table(), kilatd->config_text, kilatd->config_name, &settings,
                           error);
    if (r < 0)
        return r;
    r = settings_check(&settings, error);
    if (r == 0)
        r = generation_create(&settings, &kilatd->generation);
    if (r < 0)
        settings_free(settings_table(), &settings);
    return r;
}

static int kilatd_new(const char *path, struct slice text, const char *name,
                      struct kilatd **ret_kilatd, struct buf *error)
{
    struct kilatd *kilatd = calloc(1, sizeof(*kilatd));
    int r;

    if (kilatd == NULL)
        return -ENOMEM;
    kilatd->log_fd = -1;
    kilatd->mail_root_fd = -1;
    kilatd->spool_root_fd = -1;
    kilatd->lock_fd = -1;
    kilatd->crashes_fd = -1;
    memset(kilatd->listen_fds, 0xff, sizeof(kilatd->listen_fds)); /* -1 */
    if (path != NULL) {
        kilatd->config_path = strdup(path);
    } else {
        uint8_t *copy = malloc(text.size + 1);
        if (copy != NULL)
            memcpy(copy, text.data, text.size);
        kilatd->config_text = slice_of(copy, text.size);
    }
    kilatd->config_name = strdup(name);
    r = (kilatd->config_path == NULL && kilatd->config_text.data == NULL) ||
                kilatd->config_name == NULL
            ? -ENOMEM
            : kilatd_read(kilatd, error);
    if (r < 0) {
        kilatd_destroy(&kilatd);
        return r;
    }
    *ret_kilatd = kilatd;
    return 0;
}

int kilatd_create(const char *config_path, struct kilatd **ret_kilatd, struct buf *error)
{
    return kilatd_new(config_path, SLICE_NONE, config_path, ret_kilatd, error);
}

int kilatd_create_from_text(struct slice config, const char *name, struct kilatd **ret_kilatd,
                            struct buf *error)
{
    return kilatd_new(NULL, config, name, ret_kilatd, error);
}

const struct settings *kilatd_settings(const struct kilatd *kilatd)
{
    return &kilatd->generation->settings;
}

void kilatd_limit_descriptors(struct kilatd *kilatd, uint64_t count_max)
{
    kilatd->descriptors_max = count_max;
}

void kilatd_catch_crashes(struct kilatd *kilatd)
{
    kilatd->catch_crashes = true;
}

/* ---- before the shards --------------------------------------------------------------------------------- */

static int kilatd_find_resolvers(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    struct dns_config *config = &kilatd->dns_config;
    int r = 0;

    *config = (struct dns_config){
        .timeout_ms = (uint32_t)settings->dns_timeout_ms,
        .tries = (uint32_t)settings->dns_tries,
        .cache_records_max = (uint32_t)settings->dns_cache_records_max,
        .negative_ttl_max_s = 3600,
        .ttl_max_s = 86400,
        .ttl_min_s = 1,
    };
    if (settings->dns_servers.count > DNS_SERVERS_MAX) {
        buf_printf(error, "dns_servers: at most %d", DNS_SERVERS_MAX);
        return -E2BIG;
    }
    for (size_t i = 0; i < settings->dns_servers.count; i++)
        if (netaddr_parse(slice_cstr(settings->dns_servers.items[i]), 53,
                          &config->servers[config->server_count]))
            config->server_count++;
    if (config->server_count == 0)
        r = dns_read_resolv_conf(KILATD_RESOLV_CONF, config);
    if (r < 0)
        buf_printf(error, KILATD_RESOLV_CONF ": cannot be read: %s (or set dns_servers)",
                   strerror(-r));
    return r;
}

/* A file of accounts that cannot be read does not keep the server from starting: log-ins and local recipients are told
 * "later" until it can (the watch says so in the log). */
static int kilatd_read_accounts(struct kilatd *kilatd)
{
    struct users_table *table = NULL;
    struct buf error;
    int r;

    buf_init(&error, 4 * KIB);
    (void)users_file_read(kilatd->generation->settings.users_file, &table, &error);
    buf_deinit(&error);
    r = accounts_create(table, &kilatd->accounts);
    if (r < 0)
        users_table_destroy(&table);
    return r;
}

static int kilatd_open_log(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    int r = 0;

    if (settings->log_file[0] == 0) {
        kilatd->log_fd = dup(STDERR_FILENO);
        r = kilatd->log_fd < 0 ? -errno : 0;
    } else {
        r = file_open_path(settings->log_file, FILE_WRITE | FILE_CREATE | FILE_APPEND, 0640,
                           &kilatd->log_fd);
    }
    if (r < 0)
        buf_printf(error, "%s: cannot be opened: %s", settings->log_file, strerror(-r));
    for (uint32_t i = 0; i <= kilatd->shard_count && r == 0; i++)
        r = log_create(KILATD_LOG_BYTES, (enum log_level)settings->log_level,
                       (enum log_format)settings->log_format, &kilatd->logs[i]);
    return r;
}

static int kilatd_guard(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    struct crash_config config = {.log_fd = kilatd->log_fd,
                                  .log_format = (enum log_format)settings->log_format,
                                  .build = kilatd_build(),
                                  .subject_name = "message",
                                  .subject_format = spool_id_format};
    int r;

    if (!kilatd->catch_crashes)
        return 0;
    r = crashes_open(settings->spool_directory, &kilatd->crashes, &kilatd->crashes_fd);
    if (r < 0) {
        buf_printf(error, "%s/" CRASHES_FILE ": cannot be opened: %s", settings->spool_directory,
                   strerror(-r));
        return r;
    }
    config.record_fd = kilatd->crashes_fd;
    return crash_catch(&config);
}

int kilatd_check(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    struct users_table *table = NULL;
    struct dns_config unused;
    char text[512];
    int r;

    r = ring_probe(KILATD_IO_URING_SYSCTL, text, sizeof(text));
    if (r < 0) {
        buf_append_cstr(error, text);
        return r;
    }
    unused = kilatd->dns_config;
    r = kilatd_find_resolvers(kilatd, error);
    kilatd->dns_config = unused;
    if (r == 0)
        r = users_file_read(settings->users_file, &table, error);
    users_table_destroy(&table);
    return r;
}

/* ---- start ------------------------------------------------------------------------------------------------ */

static uint32_t kilatd_count_shards(const struct settings *settings)
{
    if (settings->single_thread)
        return 1;
    if (settings->shards > 0)
        return (uint32_t)settings->shards;
    return MIN(thread_cpu_count(), KILATD_SHARDS_MAX);
}

static struct slice kilatd_first_error(struct kilatd *kilatd)
{
    for (uint32_t i = 0; i < kilatd->shard_count; i++)
        if (kilatd->nodes[i].start_error.size > 0)
            return buf_slice(&kilatd->nodes[i].start_error);
    return SLICE_NONE;
}

static int kilatd_start_shards(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    struct shard_params params = {
        .count = kilatd->shard_count,
        .ring = {.buffer_count = (uint32_t)settings->receive_buffers,
                 .buffer_size_bytes = (uint32_t)settings->receive_buffer_bytes},
        .logs = kilatd->logs,
        .start = node_start,
        .stop = node_stop,
        .signalled = node_signalled,
        .context = kilatd,
        .one_thread = settings->single_thread,
    };
    int r = 0;

    if (!settings->single_thread)
        r = worker_pool_create((uint32_t)settings->file_workers, (uint32_t)settings->hash_workers,
                               &kilatd->workers);
    params.ring.workers = kilatd->workers;
    if (r == 0)
        r = shard_group_start(&params, &kilatd->shards);
    if (r < 0) {
        buf_append(error, kilatd_first_error(kilatd));
        if (error->size == 0)
            buf_printf(error, "the shards cannot be started: %s", strerror(-r));
    }
    return r;
}

/* By a shard, not by the thread that starts them: a reload or a stop may come at once. */
void kilatd_log_ready(const struct node *node)
{
    const struct kilatd *kilatd = node->kilatd;
    const struct settings *settings = &node->generation->settings;
    struct log *log = node->shard->log;

    log_event(log, LOG_NOTICE, "kilatd.ready", log_cstr("version", KILAT_VERSION),
              log_cstr("build", kilatd_build()), log_cstr("hostname", settings->hostname),
              log_u64("shards", kilatd->shard_count), log_u64("spools", kilatd->spool_count),
              log_u64("accounts", node->accounts->table == NULL ? 0 : node->accounts->table->count),
              log_text("ring", slice_cstr(ring_features(node->shard->ring)->text)));
}

int kilatd_start(struct kilatd *kilatd, struct buf *error)
{
    const struct settings *settings = &kilatd->generation->settings;
    char text[512];
    int r;

    kilatd->shard_count = kilatd_count_shards(settings);
    kilatd->started_wall_ns = clock_wall_ns();
    r = ring_probe(KILATD_IO_URING_SYSCTL, text, sizeof(text));
    if (r < 0)
        buf_append_cstr(error, text);
    if (r == 0)
        r = kilatd_find_resolvers(kilatd, error);
    if (r == 0)
        r = boot_directories(kilatd, error);
    if (r == 0)
        r = kilatd_open_log(kilatd, error);
    if (r == 0)
        r = boot_listen(kilatd, error);
    if (r == 0)
        r = boot_become_user(kilatd, error);
    if (r == 0)
        r = kilatd_guard(kilatd, error);
    if (r == 0)
        r = kilatd_read_accounts(kilatd);
    if (r == 0)
        r = file_open_dir_path(settings->mail_directory, &kilatd->mail_root_fd);
    if (r == 0)
        r = file_open_dir_path(settings->spool_directory, &kilatd->spool_root_fd);
    if (r == 0)
        r = log_writer_start(kilatd->logs, kilatd->shard_count + 1, kilatd->log_fd,
                             &kilatd->log_writer);
    if (r == 0)
        r = kilatd_start_shards(kilatd, error);
    if (r < 0 && error->size == 0)
        buf_printf(error, "cannot start: %s", strerror(-r));
    return r;
}

/* ---- end ---------------------------------------------------------------------------------------------------- */

void kilatd_stop(struct kilatd *kilatd, uint64_t patience_ms)
{
    atomic_store(&kilatd->patience_ms, patience_ms);
    for (uint32_t i = 0; i < kilatd->shard_count; i++)
        shard_signal(kilatd->nodes[i].shard, NODE_SIGNAL_STOP);
}

void kilatd_reload(struct kilatd *kilatd)
{
    shard_signal(kilatd->nodes[0].shard, NODE_SIGNAL_RELOAD);
}

void kilatd_on_end(struct kilatd *kilatd, void (*ended)(void *context), void *context)
{
    kilatd->ended = ended;
    kilatd->ended_context = context;
}

void kilatd_join(struct kilatd *kilatd)
{
    shard_group_join(&kilatd->shards);
}

void kilatd_destroy(struct kilatd **kilatd)
{
    struct kilatd *k = *kilatd;

    if (k == NULL)
        return;
    ASSERT(k->shards == NULL);
    worker_pool_destroy(&k->workers);
    log_writer_stop(&k->log_writer);
    for (uint32_t i = 0; i <= k->shard_count; i++)
        log_destroy(&k->logs[i]);
    for (uint32_t i = 0; i < k->shard_count; i++)
        buf_deinit(&k->nodes[i].start_error);
    boot_close_listeners(k);
    if (k->catch_crashes)
        crash_release();
    if (k->crashes_fd >= 0)
        (void)file_close(k->crashes_fd); /* what it says was written by others */
    if (k->lock_fd >= 0)
        (void)file_close(k->lock_fd);
    if (k->spool_root_fd >= 0)
        (void)file_close(k->spool_root_fd);
    if (k->mail_root_fd >= 0)
        (void)file_close(k->mail_root_fd);
    if (k->log_fd >= 0)
        (void)file_close(k->log_fd);
    accounts_unref(&k->accounts);
    generation_unref(&k->generation);
    free(k->spools);
    free(k->config_path);
    free(k->config_name);
    free((void *)k->config_text.data);
    free(k);
    *kilatd = NULL;
}
