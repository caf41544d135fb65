/* daemon/settings.h - all that can be set in kilat.conf, as the struct its table fills.
 *
 * One row in settings.c per field; from the rows come the sample file, kilat.conf(5) and `kilatctl
 * settings`. Over core/ alone, so that cli/ may include it. Units: milliseconds (`_ms`), bytes, or
 * counts, as the names say. Owned: settings_free(settings_table, &settings).
 */
#ifndef KILAT_DAEMON_SETTINGS_H
#define KILAT_DAEMON_SETTINGS_H

#include "core/setting.h"

/* route "kawan.test" { via = "127.0.0.2:2525" } : where mail for a domain goes instead of its MX.
 */
struct settings_route {
    char *title; /* the domain, or "*" for every domain that is not ours */
    char *via; /* an address with or without a port, or a host name whose addresses are asked for */
    uint64_t port;
};

struct settings {
    /* who we are */
    char *hostname;
    struct setting_list local_domains;
    char *user; /* whom to become when started as root: a name or a number */

    /* where things are */
    char *spool_directory;
    char *mail_directory;
    char *users_file;
    char *control_socket;
    uint64_t control_mode; /* of the socket, octal digits read as a number: 660 */

    /* receiving */
    struct setting_list smtp_listen;
    struct setting_list smtp_listen_cached; /* whose 250 waits for the write, not for its flush */
    struct setting_list pop3_listen;
    struct setting_list relay_networks;
    struct setting_list relay_domains;
    uint64_t bare_newline; /* choice: reject, normalize */
    uint64_t message_bytes_max;
    uint64_t recipients_max;
    uint64_t command_line_bytes_max;
    uint64_t errors_max;
    uint64_t received_max;
    uint64_t sessions_max;             /* per shard */
    uint64_t sessions_per_address_max; /* per shard; IPv6: per /64 */
    uint64_t smtp_greeting_timeout_ms;
    uint64_t smtp_command_timeout_ms;
    uint64_t smtp_data_timeout_ms; /* per block of a body */
    uint64_t pop3_login_timeout_ms;
    uint64_t pop3_idle_timeout_ms;

    /* the queue */
    uint64_t segment_bytes;
    uint64_t spare_segments;
    uint64_t checkpoint_bytes, checkpoint_interval_ms;
    uint64_t reclaim_after_ms, reclaim_live_percent;
    uint64_t keep_free_bytes;
    uint64_t scrub_rate; /* bytes a second; 0: never */
    bool force_file_system;
    uint64_t queue_messages_max; /* per shard */
    uint64_t retry_first_ms, retry_max_ms;
    uint64_t expire_ms;
    uint64_t in_doubt; /* choice: send, hold */

    /* sending */
    uint64_t outgoing_port;
    char *outgoing_source; /* empty: the kernel chooses */
    bool allow_private_mail_hosts;
    struct settings_routes {
        struct settings_route *items;
        size_t count;
    } routes; /* a struct setting_sections */
    uint64_t site_sessions_max;
    uint64_t site_messages_max;
    uint64_t site_recipients_max;
    uint64_t site_backoff_first_ms, site_backoff_max_ms;
    uint64_t site_idle_ms; /* an idle session is kept this long for the next message */
    uint64_t connect_timeout_ms;
    uint64_t client_greeting_timeout_ms, client_mail_timeout_ms, client_rcpt_timeout_ms,
        client_data_timeout_ms, client_block_timeout_ms, client_dot_timeout_ms;

    /* names */
    struct setting_list dns_servers; /* empty: /etc/resolv.conf */
    uint64_t dns_timeout_ms, dns_tries, dns_cache_records_max;

    /* the machine */
    uint64_t shards;    /* 0: one per CPU */
    bool single_thread; /* one shard, no workers: for valgrind and callgrind */
    uint64_t file_workers, hash_workers;
    uint64_t memory_max;
    uint64_t receive_buffers; /* per shard, a power of two */
    uint64_t receive_buffer_bytes;

    /* the log */
    char *log_file;      /* empty: standard error */
    uint64_t log_level;  /* choice: debug info notice warning error */
    uint64_t log_format; /* choice: logfmt, json */
};

/* Ends with a NULL name. */
const struct setting *settings_table(void);
/* Checks what no single row can see: ports in use twice, a route for a domain of ours, a missing
 * hostname. 0 or -EINVAL with a sentence. */
int settings_check(const struct settings *settings, struct buf *error);

#endif
