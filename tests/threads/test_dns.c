/* tests/threads/test_dns.c - the resolver's transport, against name servers that misbehave on
 * purpose.
 *
 * Goal: whatever servers do, each question ends, once, with the right answer or the right failure.
 * Method: a thread plays two servers on loopback; the first label of a name says how they behave.
 * One shard on the real ring asks. Each step has a resolver of its own, so that what one has learnt
 * about a server does not change the next. Addresses in answers say which server gave them, and
 * over which transport. */
#include "core/assert.h"
#include "core/clock.h"
#include "core/shard.h"
#include "dns/dns.h"
#include "tests/unit/dns/packet_maker.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SERVERS 2
/* Where all answer, a try is long enough for any machine; where some are silent, it has to end. */
#define TRY_MS 20000
#define SILENT_TRY_MS 500
#define MANY 1500 /* more than may be asked at once */
#define GIVE_UP_MS (60 * SECOND_MS)

/* ---- the servers --------------------------------------------------------------------------- */

struct server {
    int udp_fd;
    int tcp_fd;
    int other_fd; /* a socket of another port */
    struct netaddr address;
};

struct servers {
    struct server server[SERVERS];
    int quit[2];       /* a pipe */
    atomic_uint asked; /* questions that came, all in all */
};

/* One question that came, and where its answer goes. */
struct request {
    struct servers *servers;
    uint32_t index; /* of the server */
    int tcp;        /* -1: UDP */
    struct sockaddr_in from;
    uint8_t bytes[600];
    size_t size;
    char name[DNS_NAME_MAX];
    struct slice label;
    bool edns;
};

static void send_from(const struct request *request, int fd, const struct maker *maker)
{
    uint8_t length[2] = {(uint8_t)(maker->size >> 8), (uint8_t)maker->size};

    if (request->tcp < 0) {
        (void)sendto(fd, maker->bytes, maker->size, 0, (const struct sockaddr *)&request->from,
                     sizeof(request->from));
        return;
    }
    /* The asker may have hung up: that is what some steps are about. */
    (void)send(request->tcp, length, 1, MSG_NOSIGNAL);
    (void)send(request->tcp, length + 1, 1, MSG_NOSIGNAL);
    for (size_t sent = 0; sent < maker->size; sent += 100)
        (void)send(request->tcp, maker->bytes + sent, MIN(maker->size - sent, (size_t)100),
                   MSG_NOSIGNAL);
}

static void send_answer(const struct request *request, const struct maker *maker)
{
    send_from(request, request->servers->server[request->index].udp_fd, maker);
}

static void begin(const struct request *request, const char *name, unsigned int rcode,
                  struct maker *maker)
{
    make_begin(maker, DNS_A, name, rcode);
    memcpy(maker->bytes, request->bytes, 2);
}

/* 1 and 2: the servers by UDP, 11 and 12 by TCP. */
static uint8_t octet(const struct request *request)
{
    return (uint8_t)(1 + request->index + (request->tcp >= 0 ? 10 : 0));
}

static void good(const struct request *request)
{
    struct maker maker;

    begin(request, request->name, 0, &maker);
    make_a(&maker, request->name, 300, octet(request));
    send_answer(request, &maker);
}

static void bad_id(const struct request *request)
{
    struct maker maker;

    begin(request, request->name, 0, &maker);
    maker.bytes[0] ^= 0x55;
    make_a(&maker, request->name, 300, 66);
    send_answer(request, &maker);
}

static void with_rcode(const struct request *request, unsigned int rcode)
{
    struct maker maker;

    begin(request, request->name, rcode, &maker);
    send_answer(request, &maker);
}

static void play_wrong_id(const struct request *request)
{
    bad_id(request);
    good(request);
}

static void play_wrong_name(const struct request *request)
{
    struct maker maker;

    begin(request, "other.test", 0, &maker);
    make_a(&maker, "other.test", 300, 66);
    send_answer(request, &maker);
    good(request);
}

static void play_wrong_port(const struct request *request)
{
    struct maker maker;

    begin(request, request->name, 0, &maker);
    make_a(&maker, request->name, 300, 66);
    send_from(request, request->servers->server[request->index].other_fd, &maker);
    good(request);
}

static void play_empty(const struct request *request)
{
    struct maker maker = {.size = 0};

    send_answer(request, &maker);
    good(request);
}

static void play_flood(const struct request *request)
{
    if (request->tcp < 0) {
        for (int i = 0; i < 100; i++)
            bad_id(request);
    } else {
        good(request);
    }
}

static void play_truncated(const struct request *request)
{
    struct maker maker;

    begin(request, request->name, 0, &maker);
    if (request->tcp < 0)
        maker.bytes[2] |= 0x02;
    for (int i = 0; i < 60; i++)
        make_a(&maker, request->name, 300, octet(request));
    if (request->tcp < 0)
        maker.size = 500;
    send_answer(request, &maker);
}

/* The first server truncates and then hangs up. */
static void play_hang_up(const struct request *request)
{
    struct maker maker;

    if (request->index == 1) {
        good(request);
        return;
    }
    if (request->tcp >= 0)
        return; /* and the connection is closed behind this */
    begin(request, request->name, 0, &maker);
    maker.bytes[2] |= 0x02;
    send_answer(request, &maker);
}

/* Over TCP the first server announces more than anyone needs. */
static void play_too_long(const struct request *request)
{
    struct maker maker;

    if (request->tcp < 0 || request->index == 1) {
        play_hang_up(request);
        return;
    }
    begin(request, request->name, 0, &maker);
    maker.size = 16385;
    send_answer(request, &maker);
}

static void play_silent(const struct request *request)
{
    (void)request;
}

static void play_first_silent(const struct request *request)
{
    if (request->index == 1)
        good(request);
}

static void play_servfail(const struct request *request)
{
    with_rcode(request, 2);
}

static void play_first_servfail(const struct request *request)
{
    if (request->index == 1)
        good(request);
    else
        with_rcode(request, 2);
}

static void play_first_damaged(const struct request *request)
{
    struct maker maker;

    if (request->index == 1) {
        good(request);
        return;
    }
    begin(request, request->name, 0, &maker);
    count_one(&maker, ANSWERS);
    put_pointer(&maker, maker.size); /* to itself */
    send_answer(request, &maker);
}

static void play_no_edns(const struct request *request)
{
    if (request->edns)
        with_rcode(request, 1);
    else
        good(request);
}

static void play_nxdomain(const struct request *request)
{
    with_rcode(request, 3);
}

/* Each CNAME in an answer of its own. */
static void play_alias(const struct request *request)
{
    struct maker maker;

    begin(request, request->name, 0, &maker);
    make_cname(&maker, request->name, 300, "good.test");
    send_answer(request, &maker);
}

static void play_loop(const struct request *request)
{
    struct maker maker;

    begin(request, request->name, 0, &maker);
    make_cname(&maker, request->name, 300,
               slice_equal(request->label, SLICE("loop")) ? "pool.test" : "loop.test");
    send_answer(request, &maker);
}

/* The first time an answer for one second, then silence. */
static void play_once(const struct request *request)
{
    struct maker maker;

    if (atomic_load(&request->servers->asked) > 1)
        return;
    begin(request, request->name, 0, &maker);
    make_a(&maker, request->name, 1, octet(request));
    send_answer(request, &maker);
}

static const struct play {
    const char *label;
    void (*play)(const struct request *request);
} plays[] = {
    {"wrongid", play_wrong_id},
    {"wrongname", play_wrong_name},
    {"wrongport", play_wrong_port},
    {"empty", play_empty},
    {"flood", play_flood},
    {"truncated", play_truncated},
    {"hangup", play_hang_up},
    {"toolong", play_too_long},
    {"silent", play_silent},
    {"firstsilent", play_first_silent},
    {"servfail", play_servfail},
    {"firstservfail", play_first_servfail},
    {"firstdamaged", play_first_damaged},
    {"noedns", play_no_edns},
    {"nxdomain", play_nxdomain},
    {"alias", play_alias},
    {"loop", play_loop},
    {"pool", play_loop},
    {"once", play_once},
};

static void answer(struct request *request)
{
    struct slice rest;
    size_t at = 12;

    ASSERT(request->size > 17);
    request->edns = request->bytes[11] == 1;
    request->name[0] = '\0';
    while (request->bytes[at] != 0) {
        (void)snprintf(request->name + strlen(request->name),
                       sizeof(request->name) - strlen(request->name), "%s%.*s",
                       request->name[0] == '\0' ? "" : ".", request->bytes[at],
                       (const char *)request->bytes + at + 1);
        at += request->bytes[at] + 1u;
    }
    rest = slice_cstr(request->name);
    request->label = slice_split(&rest, '.');
    atomic_fetch_add(&request->servers->asked, 1);
    for (size_t i = 0; i < ARRAY_SIZE(plays); i++) {
        if (slice_equal(request->label, slice_cstr(plays[i].label))) {
            plays[i].play(request);
            return;
        }
    }
    good(request);
}

static void serve_udp(struct servers *servers, uint32_t index)
{
    struct request request = {.servers = servers, .index = index, .tcp = -1};
    socklen_t from_size = sizeof(request.from);
    ssize_t size = recvfrom(servers->server[index].udp_fd, request.bytes, sizeof(request.bytes), 0,
                            (struct sockaddr *)&request.from, &from_size);

    ASSERT(size > 0);
    request.size = (size_t)size;
    answer(&request);
}

static void serve_tcp(struct servers *servers, uint32_t index)
{
    struct request request = {.servers = servers, .index = index};
    uint8_t length[2];
    int one = 1;

    request.tcp = accept(servers->server[index].tcp_fd, NULL, NULL);
    ASSERT(request.tcp >= 0);
    (void)setsockopt(request.tcp, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (recv(request.tcp, length, 2, MSG_WAITALL) == 2) {
        request.size = (size_t)(length[0] << 8 | length[1]);
        ASSERT(request.size <= sizeof(request.bytes));
        if (recv(request.tcp, request.bytes, request.size, MSG_WAITALL) == (ssize_t)request.size)
            answer(&request);
    }
    (void)close(request.tcp);
}

static void *serve(void *context)
{
    struct servers *servers = context;
    struct pollfd fds[1 + 2 * SERVERS] = {{.fd = servers->quit[0], .events = POLLIN}};

    for (uint32_t i = 0; i < SERVERS; i++) {
        fds[1 + 2 * i] = (struct pollfd){.fd = servers->server[i].udp_fd, .events = POLLIN};
        fds[2 + 2 * i] = (struct pollfd){.fd = servers->server[i].tcp_fd, .events = POLLIN};
    }
    for (;;) {
        ASSERT(poll(fds, ARRAY_SIZE(fds), -1) > 0);
        for (uint32_t i = 0; i < SERVERS; i++) {
            if (fds[1 + 2 * i].revents != 0)
                serve_udp(servers, i);
            if (fds[2 + 2 * i].revents != 0)
                serve_tcp(servers, i);
        }
        if (fds[0].revents != 0)
            return NULL;
    }
}

/* UDP and TCP on one free port. */
static void open_server(struct server *server)
{
    int bytes = 4 << 20;

    for (;;) {
        ASSERT(netaddr_parse(SLICE("127.0.0.1"), 0, &server->address));
        server->udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        server->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ASSERT(bind(server->udp_fd, &server->address.any, server->address.size) == 0);
        ASSERT(getsockname(server->udp_fd, &server->address.any, &server->address.size) == 0);
        (void)setsockopt(server->udp_fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
        if (bind(server->tcp_fd, &server->address.any, server->address.size) == 0 &&
            listen(server->tcp_fd, 64) == 0)
            break;
        (void)close(server->udp_fd);
        (void)close(server->tcp_fd);
    }
    server->other_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ASSERT(server->other_fd >= 0);
}

/* ---- the steps ----------------------------------------------------------------------------- */

#define ANY UINT64_MAX

struct test;

struct step {
    const char *label; /* "LABEL.test" is asked for */
    enum dns_status want;
    uint8_t octet; /* of the first address */
    uint32_t records;
    uint64_t udp, tcp, timeouts, wrong, refused;
    bool silent;                    /* somebody does not answer */
    void (*run)(struct test *test); /* instead of one question */
};

struct test {
    struct servers servers;
    struct shard *shard;
    struct dns *dns;
    size_t step;
    struct dns_query query[MANY];
    uint32_t done_count;
    struct rlimit files;
    struct timer timer;
    struct timer give_up;
    struct shard_task next;
};

static void run_joined(struct test *test);
static void run_cached(struct test *test);
static void run_cancelled(struct test *test);
static void run_stopped(struct test *test);
static void run_many(struct test *test);
static void run_few(struct test *test);
static void run_stale(struct test *test);
static void run_avoided(struct test *test);

static const struct step steps[] = {
    {"good", DNS_OK, 1, 1, .udp = 1},
    {"nxdomain", DNS_NXDOMAIN, .udp = 1},
    /* What others send is dropped, counted, and the right answer still waited for. */
    {"wrongid", DNS_OK, 1, 1, .udp = 1, .wrong = 1},
    {"wrongname", DNS_OK, 1, 1, .udp = 1, .wrong = 1},
    {"wrongport", DNS_OK, 1, 1, .udp = 1, .wrong = 0},
    {"empty", DNS_OK, 1, 1, .udp = 1, .wrong = 1},
    {"flood", DNS_OK, 11, 1, .udp = 1, .tcp = 1, .wrong = 16},
    /* TCP. */
    {"truncated", DNS_OK, 11, 60, .udp = 1, .tcp = 1},
    {"hangup", DNS_OK, 2, 1, .udp = 2, .tcp = 1},
    {"toolong", DNS_OK, 2, 1, .udp = 2, .tcp = 1, .refused = 1},
    /* The next server. */
    {"firstsilent", DNS_OK, 2, 1, .udp = 2, .timeouts = 1, .silent = true},
    {"firstservfail", DNS_OK, 2, 1, .udp = 2},
    {"firstdamaged", DNS_OK, 2, 1, .udp = 2, .refused = 1},
    {"noedns", DNS_OK, 1, 1, .udp = 2},
    {"silent", DNS_TIMEOUT, .udp = 4, .timeouts = 4, .silent = true},
    {"servfail", DNS_FAILED, .udp = 4},
    /* CNAMEs that are asked on. */
    {"alias", DNS_OK, 1, 1, .udp = 2},
    {"loop", DNS_FAILED, .udp = 9},
    /* Several questions. */
    {.label = "joined", .run = run_joined},
    {.label = "cached", .run = run_cached},
    {.label = "cancelled", .run = run_cancelled},
    {.label = "avoided", .silent = true, .run = run_avoided},
    {.label = "many", .run = run_many},
    {.label = "few descriptors", .run = run_few},
    {.label = "stale", .silent = true, .run = run_stale},
    {.label = "stopped", .run = run_stopped},
};

#define EXPECT(condition) ((condition) ? (void)0 : failed_step(test, #condition, __LINE__))

static void failed_step(const struct test *test, const char *condition, int line)
{
    (void)fprintf(stderr, "step %s: line %d: not %s\n", steps[test->step].label, line, condition);
    exit(1);
}

static void begin_step(struct test *test)
{
    struct dns_config config = {.server_count = SERVERS,
                                .timeout_ms = steps[test->step].silent ? SILENT_TRY_MS : TRY_MS,
                                .tries = 4,
                                .cache_records_max = 10000};

    for (uint32_t i = 0; i < SERVERS; i++)
        config.servers[i] = test->servers.server[i].address;
    EXPECT(dns_create(test->shard, &config, &test->dns) == 0);
    atomic_store(&test->servers.asked, 0);
    test->done_count = 0;
}

static void on_stopped(void *context)
{
    struct test *test = context;

    dns_destroy(&test->dns);
    test->step++;
    shard_defer(test->shard, &test->next);
}

static void end_step(struct test *test)
{
    dns_stop(test->dns, on_stopped, test);
}

/* One test a process: every query stands in its array. */
static struct test *the_test;

static struct test *test_of(const struct dns_query *query)
{
    ASSERT(query >= the_test->query && query < the_test->query + MANY);
    return the_test;
}

static void look_up(struct test *test, uint32_t index, const char *name, dns_done_fn *done)
{
    dns_lookup(test->dns, DNS_A, slice_cstr(name), &test->query[index], done);
}

static bool counted(uint64_t want, uint64_t got)
{
    return want == ANY || want == got;
}

static void on_one(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);
    const struct step *step = &steps[test->step];
    struct dns_counters counters;

    dns_counters(test->dns, &counters);
    EXPECT(got->status == step->want);
    EXPECT(got->record_count == step->records);
    EXPECT(step->records == 0 || got->records[0].address[3] == step->octet);
    EXPECT(counted(step->udp, counters.sent_udp));
    EXPECT(counted(step->tcp, counters.sent_tcp));
    EXPECT(counted(step->timeouts, counters.timeouts));
    EXPECT(counted(step->wrong, counters.wrong_answers));
    EXPECT(counted(step->refused, counters.refused_answers));
    EXPECT(++test->done_count == 1);
    end_step(test);
}

/* Equal questions under way are one, in any case of letters; another type is another. */
static void on_joined(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);
    struct dns_counters counters;

    EXPECT(got->status == DNS_OK && got->records[0].address[3] == 1);
    if (++test->done_count < 3)
        return;
    dns_counters(test->dns, &counters);
    EXPECT(counters.sent_udp == 1 && counters.joined == 2 && counters.questions == 3);
    EXPECT(atomic_load(&test->servers.asked) == 1);
    end_step(test);
}

static void run_joined(struct test *test)
{
    look_up(test, 0, "joined.test", on_joined);
    look_up(test, 1, "JOINED.test", on_joined);
    look_up(test, 2, "joined.TEST", on_joined);
}

static void on_cached_second(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    EXPECT(got->status == DNS_OK && got->records[0].address[3] == 1);
    EXPECT(got->ttl_s >= 299 && got->ttl_s <= 300);
    test->done_count++;
}

static void on_cached(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);
    struct dns_counters counters;

    EXPECT(got->status == DNS_OK);
    look_up(test, 1, "cached.test", on_cached_second);
    EXPECT(test->done_count == 1); /* within the call */
    dns_counters(test->dns, &counters);
    EXPECT(counters.cache_hits == 1 && counters.sent_udp == 1 && counters.cached_records > 0);
    dns_cache_flush(test->dns);
    dns_counters(test->dns, &counters);
    EXPECT(counters.cached_records == 0);
    end_step(test);
}

static void run_cached(struct test *test)
{
    look_up(test, 0, "cached.test", on_cached);
}

static void on_never(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    (void)got;
    EXPECT(query == NULL); /* was cancelled */
}

/* Cancelled from the callback of one that waits for the same answer, too. */
static void on_cancelled(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    EXPECT(got->status == DNS_OK);
    dns_cancel(test->dns, &test->query[2]);
    dns_cancel(test->dns, &test->query[2]);
    end_step(test);
}

static void run_cancelled(struct test *test)
{
    look_up(test, 0, "cancelled.test", on_never);
    look_up(test, 1, "cancelled.test", on_cancelled);
    look_up(test, 2, "cancelled.test", on_never);
    dns_cancel(test->dns, &test->query[0]);
}

/* A server that was silent is asked last for a while: the second question costs no time-out. */
static void on_avoided(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);
    struct dns_counters counters;

    EXPECT(got->status == DNS_OK && got->records[0].address[3] == 2);
    dns_counters(test->dns, &counters);
    EXPECT(counters.timeouts == 1);
    if (++test->done_count == 1)
        look_up(test, 1, "good.test", on_avoided);
    else
        end_step(test);
}

static void run_avoided(struct test *test)
{
    look_up(test, 0, "firstsilent.test", on_avoided);
}

static void on_many(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    EXPECT(got->status == DNS_OK);
    if (++test->done_count == MANY)
        end_step(test);
}

static void run_many(struct test *test)
{
    char name[32];

    for (uint32_t i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "n%u.test", i);
        look_up(test, i, name, on_many);
    }
}

/* Descriptors for thirty of them at a time: the others pause until some are free. */
static void on_few(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    EXPECT(got->status == DNS_OK);
    if (++test->done_count < MANY)
        return;
    EXPECT(setrlimit(RLIMIT_NOFILE, &test->files) == 0);
    end_step(test);
}

static void run_few(struct test *test)
{
    int free_fd = dup(0);
    struct rlimit few;
    char name[32];

    EXPECT(free_fd >= 0 && close(free_fd) == 0);
    EXPECT(getrlimit(RLIMIT_NOFILE, &test->files) == 0);
    few = (struct rlimit){(rlim_t)free_fd + 30, test->files.rlim_max};
    EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (uint32_t i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "few%u.test", i);
        look_up(test, i, name, on_few);
    }
}

/* When nobody answers any more, an old answer is given for a short while. */
static void on_stale(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    EXPECT(got->status == DNS_OK && got->records[0].address[3] == 1);
    if (++test->done_count == 1) {
        EXPECT(got->ttl_s == 1);
        shard_timer_arm(test->shard, &test->timer, 1100);
    } else {
        EXPECT(got->ttl_s == 30);
        end_step(test);
    }
}

static void on_timer(struct timer *timer)
{
    struct test *test = CONTAINER_OF(timer, struct test, timer);

    look_up(test, 1, "once.test", on_stale);
}

static void run_stale(struct test *test)
{
    look_up(test, 0, "once.test", on_stale);
}

/* What is under way when the resolver stops ends at once; what is asked afterwards too. */
static void on_stop_again(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    EXPECT(got->status == DNS_TIMEOUT);
    test->done_count++;
}

static void on_stop(struct dns_query *query, const struct dns_answer *got)
{
    struct test *test = test_of(query);

    EXPECT(got->status == DNS_TIMEOUT);
    test->done_count++;
    look_up(test, 10, "silent.test", on_stop_again);
}

static void run_stopped(struct test *test)
{
    char name[32];

    for (uint32_t i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof(name), "silent.n%u.test", i);
        look_up(test, i, name, on_stop);
    }
    end_step(test);
    EXPECT(test->done_count == 6);
}

/* ---- the run ------------------------------------------------------------------------------- */

static void next_step(struct shard_task *task)
{
    struct test *test = CONTAINER_OF(task, struct test, next);

    if (test->step == ARRAY_SIZE(steps)) {
        shard_timer_disarm(test->shard, &test->give_up);
        shard_stop(test->shard);
        return;
    }
    begin_step(test);
    if (steps[test->step].run != NULL) {
        steps[test->step].run(test);
    } else {
        char name[64];

        (void)snprintf(name, sizeof(name), "%s.test", steps[test->step].label);
        look_up(test, 0, name, on_one);
    }
}

static void on_give_up(struct timer *timer)
{
    struct test *test = CONTAINER_OF(timer, struct test, give_up);

    failed_step(test, "an end of this step", __LINE__);
}

static int start(struct shard *shard, void *context)
{
    struct test *test = context;

    test->shard = shard;
    timer_init(&test->timer, on_timer);
    timer_init(&test->give_up, on_give_up);
    shard_task_init(&test->next, next_step);
    shard_timer_arm(shard, &test->give_up, GIVE_UP_MS);
    shard_defer(shard, &test->next);
    return 0;
}

/* Nothing of the resolver's is left: no operation, no receive buffer. */
static void stop(struct shard *shard, void *context)
{
    (void)context;
    ASSERT(ring_in_flight(shard->ring) == 0);
    ASSERT(ring_buffers_free(shard->ring) == ring_buffers_total(shard->ring));
}

int main(void)
{
    struct test *test = calloc(1, sizeof(*test));
    /* Eight receive buffers: where many are answered at once, some find none. */
    struct shard_params params = {
        .count = 1, .start = start, .stop = stop, .context = test, .ring = {.buffer_count = 8}};
    struct shard_group *group;
    pthread_t thread;

    ASSERT(test != NULL);
    the_test = test;
    for (uint32_t i = 0; i < SERVERS; i++)
        open_server(&test->servers.server[i]);
    ASSERT(pipe(test->servers.quit) == 0);
    ASSERT(pthread_create(&thread, NULL, serve, &test->servers) == 0);
    ASSERT(shard_group_start(&params, &group) == 0);
    shard_group_join(&group);
    ASSERT(write(test->servers.quit[1], "", 1) == 1);
    ASSERT(pthread_join(thread, NULL) == 0);
    for (uint32_t i = 0; i < SERVERS; i++) {
        (void)close(test->servers.server[i].udp_fd);
        (void)close(test->servers.server[i].tcp_fd);
        (void)close(test->servers.server[i].other_fd);
    }
    (void)printf("%zu steps passed\n", ARRAY_SIZE(steps));
    free(test);
    return 0;
}
