/* tests/sim/sim_mail.h - the people of the mail world: who writes, who fetches, and what they keep account of. */
#ifndef KILAT_SIM_MAIL_H
#define KILAT_SIM_MAIL_H

#include "tests/sim/sim_letter.h"
#include "tests/sim/sim_peer.h"

#define SIM_SMTP_PORT 25
#define SIM_POP3_PORT 110
#define SIM_NOBODY "hilang@ganjil.test" /* 550 is the answer to whoever writes to them */

struct kilatd;
struct sim_site { /* one server and its users */
    const char *domain;
    struct sim_host *host;
    struct sim_process *process; /* the newest; may be dead */
    struct kilatd *kilatd;
    bool running; /* it accepts */
    bool in_hand; /* somebody has ended it and will start it again */
    bool patient; /* retries in hours */
    uint32_t shards, receive_buffers, receive_buffer_kib;
    bool one_thread;  /* no shard but the first, no workers */
    char chosen[512]; /* further lines of kilat.conf */
    uint64_t kills, power_cuts, stops, refused_starts;
    const struct sim_mailbox *mailboxes; /* of all sites */
    size_t mailbox_count;
};

struct sim_mailbox {
    const char *address;
    const char *password;
    struct sim_site *site;
    /* Names (UIDL) met so far, in order. */
    struct sim_uid {
        char text[72];
        uint32_t letter; /* 0: a report, or not fetched */
        bool fetched;
        bool deleted;  /* acknowledged by +OK to QUIT */
        bool doubtful; /* QUIT was sent after DELE, the answer was lost */
    } * uids;
    size_t uid_count, uid_capacity;
};

/* ---- servers (sim_kilatd.c) ------------------------------------------------------------------- */

void sim_site_choose_settings(struct sim_site *site);
void sim_site_install(struct sim_site *site, const struct sim_mailbox *mailboxes, size_t count);
/* The accounts file, whole, or its first `bytes` bytes as an editor that writes in place would leave it for a while. */
void sim_site_write_users(struct sim_site *site, uint64_t bytes);
void sim_site_start(struct sim_site *site);
void sim_site_kill(struct sim_site *site);
/* Its disk has failed or was full at some time: then a start may fail, and what was answered with 4xx may arrive. */
bool sim_site_excused(const struct sim_site *site);
void sim_site_cut_power(struct sim_site *site);
/* Reads settings and accounts again, while it runs. */
void sim_site_reload(struct sim_site *site);
void sim_site_ask_to_stop(struct sim_site *site);
/* Asks for an orderly end and waits for it. */
void sim_site_stop(struct sim_site *site);

/* Asks over the control socket, as `kilatctl --json COMMAND`. The exit status, or -errno; the answer goes to `out`. */
int sim_control(struct sim_site *site, const char *command, struct buf *out);

/* ---- people ----------------------------------------------------------------------------------- */

struct sim_mail_counters {
    uint64_t sessions, promised, possible, refused, cut;
    uint64_t fetched, deleted, pop3_sessions, pop3_cut;
    uint64_t stolen;
};
extern struct sim_mail_counters sim_mail_counters;

/* Called when a promise was read: the worst moment for an accident. */
extern void (*sim_smtp_promised)(struct sim_site *site);
/* One SMTP session: hands in up to `letters` letters of `sender` to some of `addresses`. */
void sim_smtp_session(struct sim_host *from, struct sim_site *site, const char *sender,
                      const char *const *addresses, size_t address_count, uint32_t letters);

/* One session with one letter. */
void sim_smtp_letter(struct sim_host *from, struct sim_site *site, struct sim_letter *letter);

/* A host whose SMTP server says 250 to everything and delivers nothing: where forged answers lead. */
void sim_smtp_thief(struct sim_host *host);

/* The mail host of ganjil.test (sim_odd.c), and how moody it is. */
extern uint32_t sim_odd_mood_per_mille;
void sim_odd_serve(struct sim_host *host);

/* One POP3 session: fetches what is new (or all), deletes some when `deletes`. 0 when it ended with +OK. */
int sim_pop3_session(struct sim_host *from, struct sim_mailbox *mailbox, bool all, bool deletes);

/* ---- quiet times (sim_settle.c) --------------------------------------------------------------- */

/* The `wanted`th id in the answer to `queue list`; false: there are not so many. */
bool settle_find_id(const struct buf *answer, uint64_t wanted, char id[32]);
/* What is held is let go. False: there is something in the queue. */
bool settle_queue_is_empty(struct sim_site *site);
/* NULL: everything promised has come to its end; otherwise one letter that has not, and for whom. */
struct sim_letter *settle_open_letter(const char **ret_address);
void settle_fetch_all(struct sim_host *from, struct sim_mailbox *mailboxes, size_t count,
                      bool again);
/* A file in tmp/ is a letter that nobody sees. */
void settle_check_leftovers(const struct sim_mailbox *mailboxes, size_t count);

#endif
