/* tests/sim/sim_dns.c - answers questions from a table: slowly, truncated, twice, not at all, or with forgeries before.
 *
 * A forgery is an answer of the right question with a wrong id, sent before the true one, whose addresses lead to a
 * thief: whoever believes it loses the letter.
 */
#include "tests/sim/sim_dns.h"

#include "tests/sim/sim_peer.h"

#include <ldns/ldns.h>
#include <stdlib.h>

#define RECORDS_MAX 64
#define DNS_PORT 53

struct sim_dns_faults sim_dns_faults;
struct sim_dns_counters sim_dns_counters;

static ldns_rr *records[RECORDS_MAX];
static size_t record_count;

void sim_dns_add(const char *record)
{
    ASSERT(record_count < RECORDS_MAX);
    ASSERT(ldns_rr_new_frm_str(&records[record_count], record, 0, NULL, NULL) == LDNS_STATUS_OK);
    record_count++;
}

/* True when the name has records of any type. */
static bool push_answers(ldns_pkt *answer, ldns_rdf *name, ldns_rr_type type, bool forged)
{
    bool exists = false;

    for (size_t i = 0; i < record_count; i++) {
        ldns_rr *rr;

        if (ldns_dname_compare(ldns_rr_owner(records[i]), name) != 0)
            continue;
        exists = true;
        if (ldns_rr_get_type(records[i]) != type)
            continue;
        rr = ldns_rr_clone(records[i]);
        if (forged && type == LDNS_RR_TYPE_A)
            ldns_rdf_deep_free(ldns_rr_set_rdf(
                rr, ldns_rdf_new_frm_str(LDNS_RDF_TYPE_A, SIM_DNS_FORGED_ADDRESS), 0));
        ldns_pkt_push_rr(answer, LDNS_SECTION_ANSWER, rr);
    }
    return exists;
}

/* The wire form of the answer, owned; NULL when the question cannot be read. */
static uint8_t *answer_make(struct slice question, bool truncated, bool forged, size_t *ret_size)
{
    ldns_pkt *asked = NULL, *answer;
    uint8_t *wire = NULL;
    ldns_rr *rr;

    if (ldns_wire2pkt(&asked, question.data, question.size) != LDNS_STATUS_OK)
        return NULL;
    rr = ldns_rr_list_rr(ldns_pkt_question(asked), 0);
    answer = ldns_pkt_new();
    ldns_pkt_set_id(answer, (uint16_t)(ldns_pkt_id(asked) + (forged ? sim_between(1, 65535) : 0)));
    ldns_pkt_set_qr(answer, true);
    ldns_pkt_set_rd(answer, true);
    ldns_pkt_set_ra(answer, true);
    ldns_pkt_push_rr(answer, LDNS_SECTION_QUESTION, ldns_rr_clone(rr));
    if (truncated)
        ldns_pkt_set_tc(answer, true);
    else if (!forged && sim_chance(sim_dns_faults.servfail))
        ldns_pkt_set_rcode(answer, LDNS_RCODE_SERVFAIL);
    else if (!push_answers(answer, ldns_rr_owner(rr), ldns_rr_get_type(rr), forged))
        ldns_pkt_set_rcode(answer, LDNS_RCODE_NXDOMAIN);
    if (ldns_pkt2wire(&wire, answer, ret_size) != LDNS_STATUS_OK)
        wire = NULL;
    ldns_pkt_free(answer);
    ldns_pkt_free(asked);
    return wire;
}

/* ---- UDP -------------------------------------------------------------------------------------- */

struct late_answer {
    struct sim_event event;
    struct sim_host *host;
    struct netaddr to;
    uint8_t *wire;
    size_t size;
};

static void answer_now(struct sim_event *event)
{
    struct late_answer *late = CONTAINER_OF(event, struct late_answer, event);

    sim_send_udp(late->host, DNS_PORT, &late->to, slice_of(late->wire, late->size));
    free(late->wire);
    free(late);
}

static void answer_at(struct sim_host *host, const struct netaddr *to, uint8_t *wire, size_t size,
                      uint64_t at_ns)
{
    struct late_answer *late = calloc(1, sizeof(*late));

    ASSERT(late != NULL);
    *late = (struct late_answer){.host = host, .to = *to, .wire = wire, .size = size};
    sim_event_arm(&late->event, at_ns, answer_now);
}

static void on_datagram(struct sim_host *host, const struct netaddr *from, struct slice bytes,
                        void *context)
{
    bool truncated = sim_chance(sim_dns_faults.truncated);
    uint64_t at_ns = sim.now_ns + sim_between(10000, 2 * MS_NS);
    uint8_t *wire;
    size_t size;

    (void)context;
    sim_dns_counters.questions++;
    if (sim_chance(sim_dns_faults.lost)) {
        sim_dns_counters.lost++;
        return;
    }
    if (sim_chance(sim_dns_faults.forged)) {
        wire = answer_make(bytes, false, true, &size);
        if (wire != NULL)
            answer_at(host, from, wire, size, sim.now_ns);
        sim_dns_counters.forged++;
        at_ns += 60 * MS_NS; /* the forger wins the race */
    }
    if (sim_chance(sim_dns_faults.slow))
        at_ns += sim_between(0, 6 * SECOND_NS);
    wire = answer_make(bytes, truncated, false, &size);
    sim_dns_counters.truncated += truncated;
    if (wire != NULL)
        answer_at(host, from, wire, size, at_ns);
}

/* ---- TCP -------------------------------------------------------------------------------------- */

static int read_all(struct sim_peer *peer, uint8_t *to, size_t size)
{
    while (size > 0) {
        ssize_t count = sim_peer_read(peer, to, size);

        if (count <= 0)
            return -1;
        to += count;
        size -= (size_t)count;
    }
    return 0;
}

static void tcp_main(void *argument)
{
    struct sim_peer peer;
    uint8_t head[2], question[1024];

    sim_peer_adopt(&peer, argument);
    while (read_all(&peer, head, 2) == 0) {
        size_t size = (size_t)head[0] << 8 | head[1];
        uint8_t *wire;

        if (size > sizeof(question) || read_all(&peer, question, size) < 0)
            break;
        sim_dns_counters.over_tcp++;
        sim_sleep(sim_between(10000, 5 * MS_NS));
        wire = answer_make(slice_of(question, size), false, false, &size);
        if (wire == NULL)
            break;
        head[0] = (uint8_t)(size >> 8);
        head[1] = (uint8_t)size;
        if (sim_peer_write(&peer, slice_of(head, 2)) < 0 ||
            sim_peer_write(&peer, slice_of(wire, size)) < 0)
            sim_trace("dns.cut", 0, 0, 0);
        free(wire);
    }
    sim_peer_close(&peer);
}

static void on_accepted(struct sim_end *end, void *context)
{
    (void)context;
    (void)sim_fiber_start(NULL, tcp_main, end, sim.now_ns);
}

void sim_dns_serve(struct sim_host *host)
{
    sim_serve_udp(host, DNS_PORT, on_datagram, NULL);
    sim_serve_tcp(host, DNS_PORT, on_accepted, NULL);
}
