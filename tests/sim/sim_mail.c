/* tests/sim/sim_mail.c - a world of mail: two servers, a name server, people who write and people who fetch.
 *
 * Trouble by seed for some minutes: connections cut, datagrams lost, servers stopped, killed and without power, wall
 * clocks moved. Then quiet. In the end the ledger is settled, for each letter and recipient:
 *   - a 250 after the final dot was kept: the letter was met in the recipient's mailbox, unaltered, or a report of it
 *     came back to its sender (only for those who do not exist, and from the moody host of sim_odd.c);
 *   - on the server where it was handed in it was met once; on the other, more often only if something was cut or
 *     killed in between (a final dot was sent and its answer lost), and those are counted;
 *   - what was deleted with +OK never came back (sim_pop3.c).
 */
#include "tests/sim/sim_mail.h"

#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_dns.h"
#include "tests/sim/sim_worlds.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define NOBODY "nobody@kawan.test"
#define SETTLE_STEPS 600 /* what has not come after that many pauses of a retry each never comes */

static struct sim_site debian = {.domain = "debianindonesia.test"};
static struct sim_site kawan = {.domain = "kawan.test"};
static struct sim_mailbox mailboxes[] = {
    {.address = "penulis@debianindonesia.test", .password = "rahasia", .site = &debian},
    {.address = "budi@debianindonesia.test", .password = "budi-budi", .site = &debian},
    {.address = "fadli@kawan.test", .password = "kawan", .site = &kawan},
    {.address = "sari@kawan.test", .password = "s a r i", .site = &kawan},
};
static const char *const from_debian[] = {
    "budi@debianindonesia.test", "fadli@kawan.test",
    "aneh@ganjil.test",          "penulis@debianindonesia.test",
    "sari@kawan.test",           NOBODY,
    "hilang@ganjil.test"};
static const char *const from_kawan[] = {"penulis@debianindonesia.test", "sari@kawan.test",
                                         "aneh@ganjil.test", "budi@debianindonesia.test"};

static struct {
    struct sim_host *client;
    uint64_t trouble_ns;
    uint64_t pause_ns; /* how long a person waits at most before the next session */
    uint32_t busy;     /* fibers that still write or fetch */
    uint64_t cuts, clock_moves, disk_troubles;
    uint64_t duplicates;
    bool faultless; /* no trouble at all: nothing may be doubled */
    bool disks_fail;
    bool patient; /* retries as the defaults have them, in hours; otherwise in minutes */
} world;

/* ---- people ----------------------------------------------------------------------------------- */

static bool trouble_lasts(void)
{
    return sim.now_ns < world.trouble_ns;
}

static void writer_main(void *argument)
{
    struct sim_site *site = argument;

    while (trouble_lasts()) {
        uint32_t letters = (uint32_t)sim_between(1, 6);

        if (site == &debian)
            sim_smtp_session(world.client, site, "penulis@debianindonesia.test", from_debian,
                             ARRAY_SIZE(from_debian), letters);
        else
            sim_smtp_session(world.client, site, "fadli@kawan.test", from_kawan,
                             ARRAY_SIZE(from_kawan), letters);
        sim_sleep(sim_between(0, world.pause_ns));
    }
    world.busy--;
}

static void reader_main(void *argument)
{
    while (trouble_lasts()) {
        sim_sleep(sim_between(0, world.pause_ns));
        (void)sim_pop3_session(world.client, argument, sim_chance(200), true);
    }
    world.busy--;
}

/* ---- an operator ------------------------------------------------------------------------------ */

/* Looks, asks, holds, lets go, has things tried at once: whatever does not take mail away. */
static void operator_main(void *argument)
{
    static const char *const questions[] = {
        "status",   "info",   "queue list --count 3", "site list",
        "settings", "reload", "dns MX kawan.test",    "dns flush"};
    static const char *const acts[] = {"message show", "message retry", "message hold",
                                       "message release"};
    struct sim_site *site = argument;
    struct buf answer;
    char command[64], id[32];

    buf_init(&answer, MIB);
    while (trouble_lasts()) {
        sim_sleep(sim_between(0, world.pause_ns));
        (void)sim_control(site, questions[sim_between(0, ARRAY_SIZE(questions) - 1)], &answer);
        for (uint64_t i = sim_between(0, 4); i > 0; i--) {
            if (sim_control(site, "queue list", &answer) != 0 ||
                !settle_find_id(&answer, sim_between(0, 5), id))
                continue;
            snprintf(command, sizeof(command), "%s %s", acts[sim_between(0, ARRAY_SIZE(acts) - 1)],
                     id);
            (void)sim_control(site, command, &answer);
        }
    }
    buf_deinit(&answer);
    world.busy--;
}

/* ---- trouble ---------------------------------------------------------------------------------- */

/* As systemd would: until it stays up. */
static void accident_end(struct sim_site *site)
{
    while (!site->process->alive && trouble_lasts()) {
        sim_site_start(site);
        sim_sleep(sim_between(1, 3 * SECOND_NS));
    }
    if (!site->process->alive)
        sim_site_start(site);
    site->in_hand = false;
}

static void accident_main(void *argument)
{
    struct sim_site *site = argument;

    if (sim_chance(500)) {
        sim_site_kill(site);
    } else {
        sim_site_cut_power(site);
        sim_sleep(sim_between(0, 5 * SECOND_NS));
        sim_host_power_on(site->host);
    }
    accident_end(site);
    world.busy--;
}

/* A 250 has just been read. What the server has left to do for it must not matter. */
static void on_promised(struct sim_site *site)
{
    if (!trouble_lasts() || world.faultless || site->in_hand || !sim_chance(15))
        return;
    site->in_hand = true;
    world.busy++;
    (void)sim_fiber_start(NULL, accident_main, site, sim.now_ns);
}

/* By minutes, as after a long drift; or by hours, as when somebody has set the wrong time zone. */
static void move_clock(struct sim_host *host)
{
    int64_t most_s = sim_chance(100) ? 6 * 3600 : 600;

    host->wall_offset_ns +=
        ((int64_t)sim_between(0, 2 * (uint64_t)most_s) - most_s) * (int64_t)SECOND_NS;
}

/* The disk fails, is slow, or is filled by somebody who then makes room again; the server may die of it or meanwhile. */
static void disk_trouble(struct sim_site *site)
{
    struct sim_disk *disk = site->host->disk;

    sim.errors_expected = true;
    world.disk_troubles++;
    if (sim_chance(600))
        sim_disk_faults_choose(&disk->faults);
    if (sim_chance(400))
        disk->faults.capacity_bytes = disk->used_bytes + sim_between(1, 6 * MIB);
    sim_sleep(sim_between(0, 20 * SECOND_NS));
    if (sim_chance(200))
        sim_site_kill(site);
    if (sim_chance(200)) {
        sim_site_cut_power(site);
        sim_host_power_on(site->host);
    }
    if (!site->process->alive && sim_chance(500)) /* a start on that disk */
        sim_site_start(site);
    sim_sleep(sim_between(0, 20 * SECOND_NS));
    disk->faults = (struct sim_disk_faults){.capacity_bytes = 0};
}

static void trouble_of_site(struct sim_site *site)
{
    if (site->in_hand)
        return;
    site->in_hand = true;
    switch (sim_between(0, world.disks_fail ? 12 : 8)) {
    case 0:
        sim_site_kill(site);
        break;
    case 1:
        sim_site_cut_power(site);
        sim_sleep(sim_between(0, 30 * SECOND_NS));
        sim_host_power_on(site->host);
        break;
    case 2: /* between two exact calls of core/file.h */
        site->process->file_calls_until = site->process->file_calls + sim_between(1, 200);
        sim_sleep(sim_between(0, 20 * SECOND_NS));
        site->kills += !site->process->alive;
        break;
    case 3:
        sim_site_stop(site);
        break;
    case 4:
        move_clock(site->host);
        world.clock_moves++;
        break;
    case 5: /* an editor that writes in place: nobody may be told that he does not exist */
        sim_site_write_users(site, sim_between(0, 100));
        sim_sleep(sim_between(0, 10 * SECOND_NS));
        sim_site_write_users(site, UINT64_MAX);
        break;
    case 6:
        sim_site_reload(site);
        break;
    case 7: /* no descriptor is to be had for a while */
        if (!site->running)
            break; /* a start may fail for that */
        sim.errors_expected = true;
        sim_fd_limit(site->process, (int)sim_between(0, 4));
        sim_sleep(sim_between(0, 30 * SECOND_NS));
        sim_fd_limit(site->process, INT_MAX);
        break;
    case 9:
    case 10:
    case 11:
        disk_trouble(site);
        break;
    default:
        break;
    }
    accident_end(site);
}

static void trouble_main(void *argument)
{
    uint64_t pause_ns = world.trouble_ns / sim_between(3, 12);

    (void)argument;
    if (sim_chance(200)) /* hardly born */
        trouble_of_site(sim_chance(500) ? &debian : &kawan);
    while (trouble_lasts()) {
        struct sim_end *end;

        sim_sleep(sim_between(1, pause_ns));
        if (sim_chance(600) && (end = sim_end_any()) != NULL) {
            world.cuts++;
            sim_end_cut(end);
        }
        if (sim_chance(700))
            trouble_of_site(sim_chance(500) ? &debian : &kawan);
    }
    world.busy--;
}

static void choose_faults(void)
{
    if (world.faultless)
        return;
    sim.faults = (struct sim_faults){
        .short_segments = (uint32_t)sim_between(0, 300),
        .delays = (uint32_t)sim_between(0, 10),
        .connect_lost = (uint32_t)sim_between(0, 50),
        .connect_cut = (uint32_t)sim_between(0, 200),
        .udp_lost = (uint32_t)sim_between(0, 200),
        .udp_twice = (uint32_t)sim_between(0, 100),
        .slow_disk = (uint32_t)sim_between(0, 10),
        .disk_us = sim_chance(300) ? (uint32_t)sim_between(400, 60000) : 0,
        .latency_us = (uint32_t)sim_between(50, sim_chance(500) ? 500 : 50000),
    };
    sim_odd_mood_per_mille = (uint32_t)sim_between(0, 300);
    sim_dns_faults = (struct sim_dns_faults){
        .slow = (uint32_t)sim_between(0, 300),
        .lost = (uint32_t)sim_between(0, 200),
        .truncated = (uint32_t)sim_between(0, 500),
        .servfail = (uint32_t)sim_between(0, 200),
        .forged = (uint32_t)sim_between(0, 300),
    };
}

/* ---- the ledger is settled --------------------------------------------------------------------- */

static bool is_local(const struct sim_letter *letter, const struct sim_letter_recipient *recipient)
{
    return strcmp(strchr(letter->sender, '@'), strchr(recipient->address, '@')) == 0;
}

static void check_recipient(const struct sim_letter *letter,
                            const struct sim_letter_recipient *recipient)
{
    bool exists = strcmp(recipient->address, NOBODY) != 0 &&
                  strcmp(recipient->address, "hilang@ganjil.test") != 0;
    /* Who is moody may say never. */
    bool surely = exists && strstr(recipient->address, "@ganjil.test") == NULL;

    if (recipient->reported && surely)
        sim_fail("letter %u: a report says that %s could not be reached", letter->number,
                 recipient->address);
    if (recipient->seen > 0 && !exists)
        sim_fail("letter %u reached somebody who does not exist", letter->number);
    if (recipient->seen <= 1)
        return;
    world.duplicates += recipient->seen - 1;
    if (is_local(letter, recipient))
        sim_fail("letter %u is %u times in the mailbox of %s, on the server that took it",
                 letter->number, recipient->seen, recipient->address);
    if (world.faultless)
        sim_fail("letter %u is %u times in the mailbox of %s, and nothing had happened",
                 letter->number, recipient->seen, recipient->address);
}

/* An orderly end in quiet times, and a start that must not bring anything back. */
static void restart_all(void)
{
    struct sim_site *sites[] = {&debian, &kawan};

    for (size_t i = 0; i < ARRAY_SIZE(sites); i++) {
        sim_site_stop(sites[i]);
        sim_site_start(sites[i]);
    }
    sim_sleep(30 * SECOND_NS);
}

static void settle_main(void *argument)
{
    struct sim_letter *open;
    const char *address = NULL;
    bool empty = false;

    (void)argument;
    while (world.busy > 0)
        sim_sleep(SECOND_NS);
    sim.faults = (struct sim_faults){.latency_us = 200};
    sim_dns_faults = (struct sim_dns_faults){.slow = 0};
    sim_odd_mood_per_mille = 0;
    debian.process->file_calls_until = kawan.process->file_calls_until = 0;
    debian.host->disk->faults = kawan.host->disk->faults = (struct sim_disk_faults){0};
    if (!debian.process->alive)
        sim_site_start(&debian);
    if (!kawan.process->alive)
        sim_site_start(&kawan);
    sim_trace("quiet", 0, 0, 0);
    sim_sleep(60 * SECOND_NS);
    for (int step = 0; step < SETTLE_STEPS; step++) {
        settle_fetch_all(world.client, mailboxes, ARRAY_SIZE(mailboxes), false);
        empty = settle_queue_is_empty(&debian) & settle_queue_is_empty(&kawan);
        if (empty && settle_open_letter(&address) == NULL)
            break;
        sim_sleep((world.patient ? 600 : 60) * SECOND_NS);
    }
    open = settle_open_letter(&address);
    if (open != NULL)
        sim_fail("letter %u to %s was answered with 250 and is nowhere", open->number, address);
    if (!empty)
        sim_fail("everybody has got what was promised, and something stays in a queue");
    sim_sleep((world.patient ? 3 * 3600 : 600) * SECOND_NS); /* what would come twice comes now */
    settle_fetch_all(world.client, mailboxes, ARRAY_SIZE(mailboxes), false);
    settle_check_leftovers(mailboxes, ARRAY_SIZE(mailboxes));
    restart_all();
    settle_fetch_all(world.client, mailboxes, ARRAY_SIZE(mailboxes), true);
    sim_end_world();
}

static void check_ledger(void)
{
    for (uint32_t number = 1; number <= sim_letter_count(); number++) {
        struct sim_letter *letter = sim_letter_find(number);

        for (uint32_t i = 0; i < letter->recipient_count; i++)
            check_recipient(letter, &letter->recipients[i]);
    }
    if (world.duplicates > 0 && sim.delivery_in_doubt == 0 &&
        debian.kills + kawan.kills + debian.power_cuts + kawan.power_cuts == 0)
        sim_fail("%llu letters came twice, and no answer to a final dot was lost",
                 (unsigned long long)world.duplicates);
}

/* ---- the world -------------------------------------------------------------------------------- */

static void build(void)
{
    struct sim_host *names;

    debian.host = sim_host_create("debian", "11.0.0.1");
    kawan.host = sim_host_create("kawan", "11.0.0.2");
    names = sim_host_create("names", "11.0.0.3");
    world.client = sim_host_create("client", "11.0.0.4");
    (void)sim_host_create("refuser", "11.0.0.5"); /* nobody listens there */
    sim_odd_serve(sim_host_create("odd", "11.0.0.6"));
    sim_dns_add("ganjil.test. 300 IN MX 10 mx.ganjil.test.");
    sim_dns_add("mx.ganjil.test. 300 IN A 11.0.0.6");
    sim_smtp_thief(sim_host_create("thief", SIM_DNS_FORGED_ADDRESS));
    sim_dns_serve(names);
    sim_dns_add("debianindonesia.test. 300 IN MX 10 mail.debianindonesia.test.");
    sim_dns_add("mail.debianindonesia.test. 300 IN A 11.0.0.1");
    sim_dns_add("kawan.test. 300 IN MX 10 mail.kawan.test.");
    sim_dns_add("mail.kawan.test. 300 IN A 11.0.0.2");
    if (sim_chance(300)) {
        sim_dns_add("kawan.test. 300 IN MX 5 old.kawan.test.");
        sim_dns_add("old.kawan.test. 300 IN A 11.0.0.5");
    }
}

static void run_mail(char *note, size_t note_bytes)
{
    struct sim_site *sites[] = {&debian, &kawan};

    world.faultless = sim_chance(100);
    world.patient = sim_chance(100);
    world.disks_fail = sim_chance(400);
    world.trouble_ns = sim_between(20, sim_chance(150) ? 900 : 240) * SECOND_NS;
    world.pause_ns = world.trouble_ns / sim_between(1, 4); /* a quiet world, or a busy one */
    sim_smtp_promised = on_promised;
    build();
    choose_faults();
    for (size_t i = 0; i < ARRAY_SIZE(sites); i++) {
        sites[i]->patient = world.patient;
        sim_site_choose_settings(sites[i]);
        sim_site_install(sites[i], mailboxes, ARRAY_SIZE(mailboxes));
        sim_site_start(sites[i]);
        world.busy++;
        (void)sim_fiber_start(NULL, operator_main, sites[i], SECOND_NS);
        for (uint64_t w = sim_between(1, 3); w > 0; w--, world.busy++)
            (void)sim_fiber_start(NULL, writer_main, sites[i], SECOND_NS);
    }
    for (size_t i = 0; i < ARRAY_SIZE(mailboxes); i++, world.busy++)
        (void)sim_fiber_start(NULL, reader_main, &mailboxes[i], SECOND_NS);
    if (!world.faultless) {
        world.busy++;
        (void)sim_fiber_start(NULL, trouble_main, NULL, sim_between(0, 2 * SECOND_NS));
    }
    (void)sim_fiber_start(NULL, settle_main, NULL, 2 * SECOND_NS);
    sim_run(UINT64_MAX);
    if (!sim.over && sim.failure[0] == '\0')
        sim_fail("the world came to a standstill");
    check_ledger();
    if (world.faultless && sim_mail_counters.promised == 0)
        sim_fail("not a single letter was taken");
    snprintf(
        note, note_bytes,
        "%u letters: %llu promised, %llu possible, %llu refused; %llu fetched, %llu deleted, %llu "
        "doubled; %llu kills, %llu power cuts, %llu stops, %llu cuts; %llu times trouble with a "
        "disk, %llu errors",
        sim_letter_count(), (unsigned long long)sim_mail_counters.promised,
        (unsigned long long)sim_mail_counters.possible,
        (unsigned long long)sim_mail_counters.refused,
        (unsigned long long)sim_mail_counters.fetched,
        (unsigned long long)sim_mail_counters.deleted, (unsigned long long)world.duplicates,
        (unsigned long long)(debian.kills + kawan.kills),
        (unsigned long long)(debian.power_cuts + kawan.power_cuts),
        (unsigned long long)(debian.stops + kawan.stops), (unsigned long long)world.cuts,
        (unsigned long long)world.disk_troubles,
        (unsigned long long)(debian.host->disk->errors_made + kawan.host->disk->errors_made));
}

const struct sim_world sim_world_mail = {.name = "mail", .run = run_mail};
