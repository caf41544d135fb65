/* tests/sim/sim_dns.h - a name server of the simulated world: one table, built with ldns, unkind by seed. */
#ifndef KILAT_SIM_DNS_H
#define KILAT_SIM_DNS_H

#include "tests/sim/sim_world.h"

#define SIM_DNS_FORGED_ADDRESS "11.0.9.9"

struct sim_dns_faults { /* per mille of the questions */
    uint32_t slow, lost, truncated, servfail, forged;
};
extern struct sim_dns_faults sim_dns_faults;

struct sim_dns_counters {
    uint64_t questions, over_tcp, lost, truncated, forged;
};
extern struct sim_dns_counters sim_dns_counters;

/* A record as a zone file has it: "kawan.test. 300 IN MX 10 mail.kawan.test." */
void sim_dns_add(const char *record);
/* Answers on port 53 of `host`, over UDP and TCP. */
void sim_dns_serve(struct sim_host *host);

#endif
