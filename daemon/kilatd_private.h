/* daemon/kilatd_private.h - the inside of a server, for the files of daemon/ alone.
 *
 * struct kilatd is the server, struct node is what of it lives on one shard. A node owns its spool,
 * queue, resolver and sessions; what all nodes share is immutable and reference-counted (a
 * generation of settings, a table of accounts) and replaced by messages between shards.
 */
#ifndef KILAT_DAEMON_KILATD_PRIVATE_H
#define KILAT_DAEMON_KILATD_PRIVATE_H

#include "core/shard.h"
#include "core/thread.h"
#include "daemon/crashes.h"
#include "daemon/kilatd.h"
#include "daemon/marker.h"
#include "daemon/users_file.h"
#include "dns/dns.h"
#include "proto/smtp_client.h"
#include "proto/smtp_server.h"
#include "queue/queue.h"
#include <stdatomic.h>

#define KILATD_SHARDS_MAX 64
#define KILATD_LISTENERS_MAX 32

/* ---- what all shards read and none writes ---------------------------------------------------- */

/* One reading of kilat.conf and all that is worked out from it once. */
struct generation {
    atomic_uint references;
    struct settings settings;
    struct smtp_server_config smtp_server;
    struct smtp_client_config smtp_client;
    struct netaddr_network *relay_networks;
    size_t relay_network_count;
    struct netaddr outgoing_source; /* size 0: none */
};
/* Takes `settings` (zeroed on success). 0 or -ENOMEM. */
int generation_create(struct settings *settings, struct generation **ret_generation);
struct generation *generation_ref(struct generation *generation);
void generation_unref(struct generation **generation);
void generation_queue_config(const struct generation *generation, struct queue_config *config);
bool generation_is_local(const struct generation *generation, struct slice domain);
/* Mail of this client for this domain, which is not ours: is it taken? */
bool generation_relays(const struct generation *generation, const struct netaddr *client,
                       struct slice domain);
/* NULL when the domain goes by its MX. */
const struct settings_route *generation_route(const struct generation *generation,
                                              struct slice domain);

/* A table of accounts in use; `table` NULL: none could be read yet (answers are 451). */
struct accounts {
    atomic_uint references;
    struct users_table *table;
};
int accounts_create(struct users_table *table_or_null, struct accounts **ret_accounts);
struct accounts *accounts_ref(struct accounts *accounts);
void accounts_unref(struct accounts **accounts);

/* ---- one shard's part ------------------------------------------------------------------------ */

struct node;
struct node_spool;
struct outbound;
struct local;
struct control;

enum listener_kind { LISTENER_SMTP, LISTENER_SMTP_CACHED, LISTENER_POP3, LISTENER_CONTROL };
struct listener {
    struct node *node;
    enum listener_kind kind;
    int fd; /* owned */
    struct ring_op accept;
    struct timer again; /* after -EMFILE and the like: pause, never spin */
    bool closing;
};

struct node {
    struct kilatd *kilatd;
    struct shard *shard;
    struct generation *generation; /* current; sessions keep a reference to their own */
    struct accounts *accounts;
    struct node_spool *spools; /* its own and adopted ones (node_spools.h) */
    uint32_t spool_count;
    struct timer marking;
    void (*spools_stopped)(struct node *node);
    struct spool *spool; /* its own: new mail goes there */
    struct queue *queue;
    struct dns *dns;
    struct outbound *outbound;
    struct local *local;
    struct control *control; /* on shard 0 */
    struct listener listeners[KILATD_LISTENERS_MAX];
    uint32_t listener_count;

    struct list_node sessions; /* SMTP and POP3 */
    struct list_node holding; /* SMTP sessions that hold receive buffers for a body, oldest first */
    struct list_node starving; /* SMTP sessions that are not read while buffers are scarce */
    struct hash_table peers;   /* sessions per address */
    struct hash_key peers_key;
    uint32_t session_count;
    uint64_t held_bytes; /* receive buffers and copies held by bodies */
    struct timer relief; /* looks whether starving sessions can be read again */

    struct {
        uint64_t smtp_sessions, pop3_sessions, refused_sessions;
        uint64_t accepted_synced, accepted_cached, messages_refused, recipients_refused;
        uint64_t bodies_compacted, bodies_logged_early, sessions_not_read;
        uint64_t compacted_bytes;
        uint64_t reports, local_delivered, pop3_logins, pop3_login_failures;
    } counters;

    uint32_t password_checks;        /* under way */
    struct users_watch *users_watch; /* on shard 0 */
    bool reloading;                  /* on shard 0 */
    uint32_t rounds;                 /* on shard 0: under way */
    bool refusing;                   /* `kilatctl drain`: no new mail, but what is here goes out */
    bool unwound;                    /* of a start that failed: all has ended */
    bool draining;                   /* the orderly end: no new sessions, no new attempts */
    enum { NODE_RUNNING, NODE_DRAINING, NODE_SPOOL_STOPPING, NODE_DNS_STOPPING, NODE_OVER } phase;
    uint64_t patience_until_ns;
    struct timer again; /* looks after what has not ended yet */
    struct shard_task check;
    struct shard_task ready; /* on shard 0: its first tick, when all shards are up */
    struct buf start_error;
};

/* A spool as it was found at the start; the numbers of shards are their own spools', the others are adopted. */
struct kilatd_spool {
    uint32_t number, shard;
    struct spool_look look;
    bool marker_damaged;
    enum marker_verdict verdict; /* but for MARKER_FINE it starts on hold */
};

struct kilatd {
    char *config_path;
    struct slice config_text;      /* instead of a path; owned */
    char *config_name;             /* in error sentences */
    struct generation *generation; /* as read at creation, and by the last reload */
    struct accounts *accounts;
    struct dns_config dns_config;
    uint32_t shard_count;
    struct worker_pool *workers;
    struct log *logs[KILATD_SHARDS_MAX + 1]; /* the last one is the boot thread's */
    struct log_writer *log_writer;
    int log_fd;
    int mail_root_fd, spool_root_fd;
    int lock_fd;                 /* of the spool directory, held until the end */
    struct kilatd_spool *spools; /* in order of their numbers */
    uint32_t spool_count;
    bool catch_crashes;
    int crashes_fd;         /* appends to the record; -1: none */
    struct crashes crashes; /* as it was at the start */
    int listen_fds[KILATD_SHARDS_MAX][KILATD_LISTENERS_MAX];
    enum listener_kind listen_kinds[KILATD_LISTENERS_MAX];
    uint32_t listen_count;
    struct shard_group *shards;
    struct node nodes[KILATD_SHARDS_MAX];
    _Atomic uint64_t patience_ms;
    uint64_t started_wall_ns;
    uint64_t descriptors_max; /* of this process; 0: unknown */
    atomic_uint stopped_queues, ended_nodes;
    atomic_bool rounds_over; /* shard 0 has ended: it sends no round to the others any more */
    void (*ended)(void *context);
    void *ended_context;
};

/* ---- between the files ----------------------------------------------------------------------- */

/* boot.c. Shard: boot. 0 or -errno with a sentence. */
int boot_listen(struct kilatd *kilatd, struct buf *error);
/* Makes what is missing, for the user whom boot_become_user() will become. */
int boot_directories(struct kilatd *kilatd, struct buf *error);
/* boot_spools.c: looks at every spool that there is, finds each a shard, and changes nothing. `owner_uid`: whose they have
 * to be. */
int boot_spools(struct kilatd *kilatd, uint32_t owner_uid, struct buf *error);
/* When root: becomes settings' user for good. Otherwise nothing. */
int boot_become_user(const struct kilatd *kilatd, struct buf *error);
void boot_close_listeners(struct kilatd *kilatd);

/* kilatd.c. Shard: 0, when all have begun. */
void kilatd_log_ready(const struct node *node);

/* node.c: start and end of one shard's part. Shard: owner. */
int node_start(struct shard *shard, void *kilatd);
void node_stop(struct shard *shard, void *kilatd);
void node_signalled(struct shard *shard, uint32_t signals);
#define NODE_SIGNAL_STOP 1u
#define NODE_SIGNAL_RELOAD 2u
/* Something has ended: during the orderly end, is the node empty now? */
void node_check_empty(struct node *node);

/* listener.c */
void listener_open(struct listener *listener, struct node *node, enum listener_kind kind, int fd);
void listener_close(struct listener *listener);
/* What is left of the process's descriptors when a session has got `fd`. */
enum descriptors_left {
    DESCRIPTORS_ENOUGH,
    DESCRIPTORS_FEW, /* the session is told 421 */
    DESCRIPTORS_LAST /* closed at once: also a goodbye takes its time */
};
enum descriptors_left descriptors_left(const struct kilatd *kilatd, int fd);
/* Counts a session of `peer`; false: too many, and nothing was counted. */
bool sessions_admit(struct node *node, const struct netaddr *peer);
void sessions_forget(struct node *node, const struct netaddr *peer);

/* Every accepted session begins with this, so that the node can end them all. */
struct session {
    struct list_node node;                /* of node->sessions */
    void (*end)(struct session *session); /* orderly: 421 or nothing, then close */
    void (*cut)(struct session *session); /* at once */
};

/* inbound.c, pop3.c, control.c: take `fd`. */
void inbound_accept(struct node *node, int fd, const struct netaddr *peer,
                    enum spool_durability durability);
void pop3_accept(struct node *node, int fd, const struct netaddr *peer);
void control_accept(struct node *node, int fd);
/* Buffers or memory are scarce: make bodies give way, in the order of DESIGN 4. */
void inbound_relieve(struct node *node);
void inbound_relief(struct timer *relief); /* of node->relief */

/* policy.c: may this recipient be taken from this client? 250 or a refusal. */
struct smtp_reply policy_recipient(struct node *node, const struct generation *generation,
                                   const struct netaddr *client,
                                   const struct smtp_address *address);
/* The mailbox of a queued local recipient, "domain/name", as it is now. */
enum policy_mailbox {
    POLICY_MAILBOX,    /* written to `directory` */
    POLICY_NO_MAILBOX, /* the account is gone */
    POLICY_UNKNOWN     /* the accounts cannot be read just now */
};
enum policy_mailbox policy_mailbox(struct node *node, struct slice address, char *directory,
                                   size_t size_bytes);

/* What stands between a host's name and its reply in the reason of a failed delivery: outbound.c
 * writes it, and bounce.c takes the two apart again for the report (RFC 3464 2.3.5). */
#define DELIVERY_SAID " said: "

/* outbound.c: the queue's transport to other hosts. */
int outbound_create(struct node *node, struct outbound **ret_outbound);
void outbound_destroy(struct outbound **outbound);
void outbound_resolve(struct outbound *outbound, uint32_t destination, struct slice name);
void outbound_connect(struct outbound *outbound, struct queue_slot *slot);
void outbound_more(struct outbound *outbound, struct queue_slot *slot);
void outbound_recall(struct outbound *outbound, struct queue_slot *slot);
/* Idle sessions say QUIT, and with `cut` all end at once. */
void outbound_end(struct outbound *outbound, bool cut);
uint32_t outbound_sessions(const struct outbound *outbound);
/* Is this address one of ours (a listener of SMTP)? For MX that lead back here. */
bool outbound_is_self(void *node, struct slice host_name, const struct netaddr *address);

/* local.c: the queue's transport to mailboxes. */
int local_create(struct node *node, struct local **ret_local);
void local_destroy(struct local **local);
void local_ready(struct local *local);
bool local_busy(const struct local *local);

/* bounce.c */
void bounce_report(struct node *node, struct queue_report *report);

/* users.c: log-ins, and the accounts file as it changes. */
typedef void users_checked_fn(void *context, bool matches, bool temporary, const char *directory);
struct users_check;
/* Hashes on a worker; `password` is copied and wiped. `*ret_check` may be cancelled (the callback does not run). 0 or -ENOMEM. */
int users_check(struct node *node, struct slice name, struct slice password,
                users_checked_fn *checked, void *context, struct users_check **ret_check);
void users_check_cancel(struct users_check *check);
/* On shard 0: looks at the file every few seconds and reads it when it has changed. */
int users_watch_start(struct node *node);
void users_watch_now(struct node *node);
void users_watch_stop(struct node *node);
bool users_watch_busy(const struct node *node);
void users_watch_destroy(struct node *node);

/* control.c, on shard 0. */
int control_create(struct node *node, struct control **ret_control);
void control_destroy(struct control **control);
/* With `cut` also those that are being answered. */
void control_end(struct control *control, bool cut);
bool control_busy(const struct control *control);
/* reload.c. Shard: 0. Takes `accounts`; every shard uses them from its next tick on. */
void accounts_hand_round(struct node *node, struct accounts *accounts);
/* Shard 0 reads the file on a worker and hands the new generation round. */
typedef void reload_done_fn(void *context, int result, struct slice text);
void reload_begin(struct node *node, reload_done_fn *done, void *context);

#endif
