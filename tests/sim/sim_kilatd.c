/* tests/sim/sim_kilatd.c - a kilatd as a process of the simulated world: its files, its settings, its births and deaths. */
#include "tests/sim/sim_mail.h"

#include "daemon/kilatd.h"
#include "tests/sim/sim_disk.h"

#include <crypt.h>
#include <stdio.h>
#include <stdlib.h>

#define STOP_PATIENCE_MS 5000

/* The accounts of a site. The hash of 1979: nothing to be proud of, and fast enough for thousands of worlds. */
static void users_text(const struct sim_site *site, struct buf *out)
{
    struct crypt_data *data = calloc(1, sizeof(*data));

    ASSERT(data != NULL);
    for (size_t i = 0; i < site->mailbox_count; i++)
        if (site->mailboxes[i].site == site)
            buf_printf(out, "%s:{CRYPT}%s::::::\n", site->mailboxes[i].address,
                       crypt_r(site->mailboxes[i].password, "ki", data));
    free(data);
}

/* What an administrator would have prepared. */
void sim_site_install(struct sim_site *site, const struct sim_mailbox *mailboxes, size_t count)
{
    site->mailboxes = mailboxes;
    site->mailbox_count = count;
    sim_site_write_users(site, UINT64_MAX);
    (void)sim_disk_make_dirs(site->host, sim_chance(500) ? "/var/spool/kilat" : "/var/spool");
    (void)sim_disk_make_dirs(site->host, sim_chance(500) ? "/var/mail/kilat" : "/var/mail");
    (void)sim_disk_make_dirs(site->host, "/run/kilat");
    (void)sim_disk_make_dirs(site->host, "/var/log");
}

void sim_site_write_users(struct sim_site *site, uint64_t bytes)
{
    struct buf users;

    buf_init(&users, 64 * KIB);
    users_text(site, &users);
    if (bytes > 0 && bytes < users.size && users.data[bytes - 1] == '\n')
        bytes--; /* whole lines would be a whole file, with fewer accounts */
    sim_disk_write_file(site->host, "/etc/kilat/users",
                        slice_first(buf_slice(&users), MIN(bytes, users.size)));
    buf_deinit(&users);
}

static void settings_text(const struct sim_site *site, struct buf *out)
{
    buf_printf(out,
               "hostname = \"mail.%s\"\n"
               "local_domains = {\"%s\"}\n"
               "user = \"65534\"\n"
               "smtp_listen = {\"0.0.0.0:25\"}\n"
               "pop3_listen = {\"0.0.0.0:110\"}\n"
               "relay_networks = {\"11.0.0.4/32\"}\n"
               "dns_servers = {\"11.0.0.3\"}\n"
               "segment_bytes = \"1M\"\n"
               "memory_max = \"16M\"\n"
               "log_file = \"/var/log/kilat.log\"\n"
               "log_level = \"info\"\n",
               site->domain, site->domain);
    buf_printf(out, "shards = %u\nreceive_buffers = %u\nreceive_buffer_bytes = \"%uK\"\n",
               site->shards, site->receive_buffers, site->receive_buffer_kib);
    buf_append_cstr(out, site->chosen);
    if (!site->patient)
        buf_append_cstr(out, "retry_first = \"10s\"\nretry_max = \"2m\"\n"
                             "site_backoff_first = \"5s\"\nsite_backoff_max = \"2m\"\n");
}

/* What an administrator may have changed, chosen once for each site: no promise hangs on it. */
void sim_site_choose_settings(struct sim_site *site)
{
    struct buf text;

    buf_init(&text, sizeof(site->chosen));
    site->shards = (uint32_t)sim_between(1, 3);
    site->receive_buffers = 16u << sim_between(0, 4);
    site->receive_buffer_kib = 2u << sim_between(0, 2);
    if (sim_chance(500))
        buf_printf(&text, "site_sessions_max = %u\n", (unsigned)sim_between(1, 4));
    if (sim_chance(300))
        buf_printf(&text, "site_messages_max = %u\n", (unsigned)sim_between(1, 5));
    if (sim_chance(300))
        buf_printf(&text, "site_recipients_max = %u\n", (unsigned)sim_between(1, 3));
    if (sim_chance(300))
        buf_printf(&text, "site_idle = \"%us\"\n", (unsigned)sim_between(0, 60));
    if (sim_chance(300))
        buf_printf(&text, "spare_segments = %u\n", (unsigned)sim_between(1, 3));
    if (sim_chance(300))
        buf_printf(&text, "file_workers = %u\n", (unsigned)sim_between(1, 4));
    if (sim_chance(300))
        buf_printf(&text, "dns_tries = %u\ndns_timeout = \"%ums\"\n", (unsigned)sim_between(1, 6),
                   (unsigned)sim_between(200, 4000));
    if (sim_chance(100)) {
        site->one_thread = true;
        buf_append_cstr(&text, "single_thread = true\n");
    }
    (void)slice_to_cstr(buf_slice(&text), site->chosen, sizeof(site->chosen));
    buf_deinit(&text);
}

bool sim_site_excused(const struct sim_site *site)
{
    return site->host->disk->errors_made + site->host->disk->refused_full > 0;
}

static int kilatd_main(struct sim_process *process, void *context)
{
    struct sim_site *site = context;
    struct buf text, error;
    int r;

    (void)process;
    buf_init(&text, 16 * KIB);
    buf_init(&error, 4 * KIB);
    settings_text(site, &text);
    r = kilatd_create_from_text(buf_slice(&text), "kilat.conf", &site->kilatd, &error);
    if (r == 0)
        r = kilatd_start(site->kilatd, &error);
    if (r < 0) {
        if (!sim_site_excused(site))
            sim_fail("the server of %s does not start: %.*s (%d)", site->domain,
                     SLICE_ARG(buf_slice(&error)), r);
        sim_trace_text("kilatd.refused", buf_slice(&error));
        site->refused_starts++;
        return 1;
    }
    site->running = true;
    sim_trace("kilatd.started", 0, 0, 0);
    kilatd_join(site->kilatd);
    site->running = false;
    kilatd_destroy(&site->kilatd);
    buf_deinit(&text);
    buf_deinit(&error);
    site->stops++;
    return 0;
}

void sim_site_start(struct sim_site *site)
{
    site->running = false;
    site->kilatd = NULL;
    if (!site->one_thread && sim_chance(200)) /* another machine, or another mind */
        site->shards = (uint32_t)sim_between(1, 3);
    site->process = sim_process_start(site->host, "kilatd", kilatd_main, site);
    site->process->cpu_count = site->shards;
}

void sim_site_kill(struct sim_site *site)
{
    site->kills += site->process->alive;
    sim_process_kill(site->process);
}

void sim_site_cut_power(struct sim_site *site)
{
    site->power_cuts++;
    sim_host_power_cut(site->host);
}

static void stop_main(void *argument)
{
    struct sim_site *site = argument;

    kilatd_stop(site->kilatd, STOP_PATIENCE_MS);
}

static void reload_main(void *argument)
{
    struct sim_site *site = argument;

    kilatd_reload(site->kilatd);
}

void sim_site_reload(struct sim_site *site)
{
    if (site->process->alive && site->running)
        (void)sim_fiber_start(site->process, reload_main, site, sim.now_ns);
}

void sim_site_ask_to_stop(struct sim_site *site)
{
    (void)sim_fiber_start(site->process, stop_main, site, sim.now_ns);
}

/* As systemctl would: asks it to end, and kills it when it has not ended after a while. */
void sim_site_stop(struct sim_site *site)
{
    if (!site->process->alive || !site->running)
        return;
    sim_site_ask_to_stop(site);
    for (int i = 0; i < 1200 && site->process->alive; i++)
        sim_sleep(100 * MS_NS);
    if (site->process->alive && sim.errors_expected) /* what waits for a disk that fails waits */
        sim_site_kill(site);
    if (site->process->alive)
        sim_fail("the server of %s does not end two minutes after it was asked to", site->domain);
}
