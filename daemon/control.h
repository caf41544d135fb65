/* daemon/control.h - one question of kilatctl, from its words to its answer; shared by control.c (the socket) and
 * control_commands.c (the table of commands).
 */
#ifndef KILAT_DAEMON_CONTROL_H
#define KILAT_DAEMON_CONTROL_H

#include "core/control_wire.h"
#include "daemon/control_out.h"
#include "daemon/round.h"

struct control_call;

struct control_command {
    const char *words;     /* "queue list" */
    const char *arguments; /* for the usage line */
    uint8_t arguments_min, arguments_max;
    bool changes; /* something: only root, the server's own user and its group may */
    /* Runs on every shard in turn; calls control_go_on() when it is done. NULL: only `finish`. */
    void (*visit)(struct node *node, struct control_call *call);
    /* Runs on shard 0 when all shards were visited; calls control_answer() when it is done, now or later. */
    void (*finish)(struct node *node, struct control_call *call);
};
/* NULL: no such command, and `error` says what there is. */
const struct control_command *control_command_find(const struct slice *words, size_t count,
                                                   size_t *ret_words, struct buf *error);

struct control_totals {
    struct queue_counters queue;
    struct spool_counters spool;
    struct dns_counters dns;
    uint64_t sessions, smtp_sessions, pop3_sessions, refused_sessions, outgoing;
    uint64_t accepted_synced, accepted_cached, messages_refused, recipients_refused;
    uint64_t bodies_compacted, bodies_logged_early, sessions_not_read, compacted_bytes, held_bytes;
    uint64_t reports, local_delivered, pop3_logins, pop3_login_failures;
    uint64_t spools, spools_not_ready;
    uint64_t syscalls, ticks, log_dropped, receive_buffers_free, receive_buffers;
};

struct control_call {
    struct round round;
    struct node *home; /* shard 0's */
    const struct control_command *command;
    struct slice
        arguments[CONTROL_ARGUMENTS_MAX]; /* behind the command's words; borrowed from `request` */
    size_t argument_count;
    struct buf request; /* owned copy of the frame's payload */
    struct buf text;    /* the answer */
    struct buf error;
    uint32_t status; /* exit status of kilatctl */
    struct control_out out;
    uint32_t uid;
    uint64_t now_s; /* wall clock when it was asked: shard 0's own is not for others to read */
    /* of the commands: */
    struct control_totals totals;
    uint64_t id;
    uint64_t after_id;
    struct slice destination;
    uint32_t count, count_max;
    bool found;
    struct node *at; /* the shard a visit of which is waiting */
    struct spool_reader *reader;
    struct queue_view view;
    struct dns_mx_query mx;
    struct buf second; /* of `status`: one object a spool, behind the totals */
    struct control_out second_out;
};

/* Shard: the one being visited. */
void control_go_on(struct node *node, struct control_call *call);
/* Shard: 0. Sends the answer and frees the call. */
void control_answer(struct control_call *call);
/* Sets exit status and sentence. */
void control_fail(struct control_call *call, uint32_t status, const char *format, ...)
    KILAT_PRINTF(3, 4);

/* control_spools.c: the rows of the table that are about spools. */
struct node_spool;
void control_out_spool(struct control_out *out, struct node_spool *spool);
void control_visit_spool_accept(struct node *node, struct control_call *call);
void control_visit_spool_copy(struct node *node, struct control_call *call);
void control_finish_spool(struct node *node, struct control_call *call);
void control_visit_clock_accept(struct node *node, struct control_call *call);

#endif
