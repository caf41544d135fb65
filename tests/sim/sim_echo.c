/* tests/sim/sim_echo.c - a world that proves the door: an echo server, its clients, and all that can happen to them.
 *
 * Clients keep a ledger of every PUT and FILE that was answered OK. In the end, after kills and power cuts, each of
 * them must be on the disk, whole.
 */
#include "tests/sim/sim_echo.h"

#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_peer.h"
#include "tests/sim/sim_worlds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CLIENTS 3
#define NUMBERS_MAX 4096
#define TROUBLE_NS (60 * SECOND_NS)

static struct {
    struct sim_host *server, *client;
    struct sim_process *process;
    bool put_ok[NUMBERS_MAX], file_ok[NUMBERS_MAX];
    uint64_t next_number;
    uint64_t answers, errors, kills, power_cuts;
    uint32_t clients_left;
} world;

/* ---- clients ---------------------------------------------------------------------------------- */

static int expect_line(struct sim_peer *peer, const char *wanted)
{
    char line[256];
    ssize_t size = sim_peer_read_line(peer, line, sizeof(line));

    if (size < 0)
        return (int)size;
    if (strcmp(line, wanted) != 0)
        sim_fail("answer \"%s\" where \"%s\" was due", line, wanted);
    return 0;
}

static int ask(struct sim_peer *peer, const char *verb, uint64_t number, bool *ledger)
{
    char text[64], line[256];
    ssize_t size;
    int r;

    snprintf(text, sizeof(text), "%s %llu\n", verb, (unsigned long long)number);
    r = sim_peer_write(peer, slice_cstr(text));
    if (r < 0)
        return r;
    size = sim_peer_read_line(peer, line, sizeof(line));
    if (size < 0)
        return (int)size;
    snprintf(text, sizeof(text), "OK %llu", (unsigned long long)number);
    if (strcmp(line, text) == 0) {
        if (ledger != NULL)
            ledger[number] = true;
        return 0;
    }
    if (strncmp(line, "NO ", 3) != 0)
        sim_fail("answer \"%s\" where \"%s\" was due", line, text);
    return 0;
}

static int echo(struct sim_peer *peer)
{
    char text[128];
    size_t size = sim_between(6, 100);
    int r;

    memset(text, 'e', sizeof(text));
    memcpy(text, "ECHO ", 5);
    text[size] = '\n';
    r = sim_peer_write(peer, slice_of(text, size + 1));
    text[size] = '\0';
    return r < 0 ? r : expect_line(peer, text);
}

static int big(struct sim_peer *peer)
{
    uint64_t size = sim_between(1000, 600000), left = size;
    char text[64], bytes[8192];
    int r;

    snprintf(text, sizeof(text), "BIG %llu\n", (unsigned long long)size);
    r = sim_peer_write(peer, slice_cstr(text));
    while (r >= 0 && left > 0) {
        r = (int)sim_peer_read(peer, bytes, (size_t)MIN(left, sizeof(bytes)));
        if (r == 0)
            return -ENODATA;
        for (int i = 0; i < r; i++)
            if (bytes[i] != 'x')
                sim_fail("byte %d of a big answer is altered", bytes[i]);
        left -= r < 0 ? 0 : (uint64_t)r;
        if (sim_chance(100))
            sim_sleep(sim_between(0, 20 * MS_NS)); /* a slow reader */
    }
    return r < 0 ? r : expect_line(peer, "");
}

static int one_command(struct sim_peer *peer)
{
    uint64_t number = world.next_number < NUMBERS_MAX - 1 ? world.next_number++ : 0;

    switch (sim_between(0, number == 0 ? 2 : 5)) {
    case 0:
        return echo(peer);
    case 1:
        return ask(peer, "ASK", number, NULL);
    case 2:
        return big(peer);
    case 3:
        return ask(peer, "FILE", number, world.file_ok);
    default:
        return ask(peer, "PUT", number, world.put_ok);
    }
}

static void client_main(void *argument)
{
    struct sim_peer peer;

    (void)argument;
    while (sim.now_ns < TROUBLE_NS) {
        int r = sim_peer_connect(&peer, world.client, world.server, ECHO_PORT);
        uint64_t commands = sim_between(1, 40);

        while (r == 0 && commands-- > 0) {
            r = one_command(&peer);
            world.answers += r == 0;
        }
        world.errors += r != 0;
        sim_trace("client.closes", (uint64_t)-r, 0, 0);
        sim_peer_close(&peer);
        sim_sleep(sim_between(0, SECOND_NS));
    }
    world.clients_left--;
}

/* ---- trouble ---------------------------------------------------------------------------------- */

static void start_server(void)
{
    world.process = sim_process_start(world.server, "echo", echo_server_main, NULL);
    world.process->cpu_count = (uint32_t)sim_between(1, 3);
    if (sim_chance(300))
        world.process->file_calls_until = sim_between(1, 400);
}

static void trouble_main(void *argument)
{
    struct sim_end *end;

    (void)argument;
    while (sim.now_ns < TROUBLE_NS) {
        sim_sleep(sim_between(1, 4 * SECOND_NS));
        if (sim_chance(400) && (end = sim_end_any()) != NULL)
            sim_end_cut(end);
        if (sim_chance(300)) {
            world.kills++;
            sim_process_kill(world.process);
        }
        if (sim_chance(200)) {
            world.power_cuts++;
            sim_host_power_cut(world.server);
            sim_sleep(sim_between(0, 3 * SECOND_NS));
            sim_host_power_on(world.server);
        }
        if (!world.process->alive)
            start_server();
    }
    while (world.clients_left > 0) {
        sim_sleep(SECOND_NS);
        if (!world.process->alive)
            start_server();
        world.process->file_calls_until = 0;
    }
    sim_host_power_cut(world.server);
    sim_end_world();
}

/* ---- the oracle ------------------------------------------------------------------------------- */

static void note_log(bool *found, const struct sim_inode *inode)
{
    char block[4096];

    for (uint64_t at = 0; inode != NULL && at + sizeof(block) <= inode->size; at += sizeof(block)) {
        unsigned long number;

        sim_inode_read(inode, block, sizeof(block), at);
        number = strtoul(block, NULL, 10);
        if (number < NUMBERS_MAX && memcmp(block, block + sizeof(block) - 32, 32) == 0)
            found[number] = true;
    }
}

static void check_ledger(void)
{
    static bool found[NUMBERS_MAX];
    char path[128], content[64], wanted[64];

    for (int i = 0; i < ECHO_SHARDS_MAX; i++) {
        snprintf(path, sizeof(path), "%s/log-%d", ECHO_DIRECTORY, i);
        note_log(found, sim_disk_find(world.server, path));
    }
    for (uint64_t i = 1; i < NUMBERS_MAX; i++) {
        struct sim_inode *inode;

        if (world.put_ok[i] && !found[i])
            sim_fail("PUT %llu was answered OK and is not in a log", (unsigned long long)i);
        if (!world.file_ok[i])
            continue;
        snprintf(wanted, sizeof(wanted), "f%llu", (unsigned long long)i);
        snprintf(path, sizeof(path), "%s/%s", ECHO_DIRECTORY, wanted);
        inode = sim_disk_find(world.server, path);
        if (inode == NULL || inode->size != strlen(wanted)) {
            sim_fail("FILE %llu was answered OK and is missing or short", (unsigned long long)i);
            continue;
        }
        sim_inode_read(inode, content, strlen(wanted), 0);
        if (memcmp(content, wanted, strlen(wanted)) != 0)
            sim_fail("FILE %llu was answered OK and is altered", (unsigned long long)i);
    }
}

static void run_echo(char *note, size_t note_bytes)
{
    world.server = sim_host_create("server", "11.0.0.1");
    world.client = sim_host_create("client", "11.0.0.2");
    world.next_number = 1;
    (void)sim_disk_make_dirs(world.server, ECHO_DIRECTORY);
    sim.faults = (struct sim_faults){
        .short_segments = (uint32_t)sim_between(0, 500),
        .delays = (uint32_t)sim_between(0, 20),
        .connect_lost = (uint32_t)sim_between(0, 50),
        .connect_cut = (uint32_t)sim_between(0, 300),
        .slow_disk = (uint32_t)sim_between(0, 20),
        .latency_us = (uint32_t)sim_between(20, 20000),
    };
    start_server();
    for (world.clients_left = 0; world.clients_left < CLIENTS; world.clients_left++)
        (void)sim_fiber_start(NULL, client_main, NULL, sim.now_ns + sim_between(0, 50 * MS_NS));
    (void)sim_fiber_start(NULL, trouble_main, NULL, 0);
    sim_run(3600 * SECOND_NS);
    if (!sim.over && sim.failure[0] == '\0')
        sim_fail("the world came to a standstill");
    check_ledger();
    if (world.answers == 0)
        sim_fail("not a single answer");
    snprintf(note, note_bytes, "%llu answers, %llu errors, %llu kills, %llu power cuts",
             (unsigned long long)world.answers, (unsigned long long)world.errors,
             (unsigned long long)world.kills, (unsigned long long)world.power_cuts);
}

const struct sim_world sim_world_echo = {.name = "echo", .run = run_echo};
