#include "daemon/settings.h"

#include <errno.h>
#include <stdlib.h>

#include "core/netaddr.h"

/* ---- checks of texts ------------------------------------------------------------------------- */

static const char *check_listener(const char *text)
{
    struct netaddr address;

    return netaddr_parse(slice_cstr(text), 0, &address) && netaddr_port(&address) != 0
               ? NULL
               : "an address with a port, \"192.0.2.1:25\" or \"[::]:25\"";
}

static const char *check_dns_server(const char *text)
{
    struct netaddr address;

    return netaddr_parse(slice_cstr(text), 53, &address)
               ? NULL
               : "an address, \"127.0.0.1\" or \"127.0.0.1:5353\"";
}

static const char *check_source(const char *text)
{
    struct netaddr address;

    return text[0] == 0 || netaddr_parse(slice_cstr(text), 0, &address) ? NULL
                                                                        : "an address of this host";
}

static const char *check_network(const char *text)
{
    struct netaddr_network network;

    return netaddr_network_parse(slice_cstr(text), &network)
               ? NULL
               : "a network with no bits set behind its prefix, \"192.0.2.0/24\"";
}

static bool domain_is_plausible(struct slice domain)
{
    size_t label = 0;

    if (domain.size == 0 || domain.size > 253)
        return false;
    for (size_t i = 0; i < domain.size; i++) {
        uint8_t c = byte_lower(domain.data[i]);
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-') || ++label > 63)
            return false;
    }
    return label > 0;
}

static const char *check_domain(const char *text)
{
    return domain_is_plausible(slice_cstr(text)) ? NULL : "a domain name, \"kawan.test\"";
}

static const char *check_path(const char *text)
{
    return text[0] == '/' ? NULL : "an absolute path";
}

static const char *check_via(const char *text)
{
    struct netaddr address;

    return netaddr_parse(slice_cstr(text), 25, &address) || domain_is_plausible(slice_cstr(text))
               ? NULL
               : "an address with or without a port, or a host name";
}

static const char *check_socket(const char *text)
{
    return text[0] == '/' && strlen(text) < sizeof(((struct sockaddr_un *)NULL)->sun_path)
               ? NULL
               : "an absolute path of at most 107 octets";
}

/* ---- the table ------------------------------------------------------------------------------- */

#define FIELD(field) .name = #field, .offset = offsetof(struct settings, field)
/* In the file a duration carries its unit in its value, so its name goes without. */
#define DURATION(stem, low, normal, high)                                                          \
    .name = #stem, .offset = offsetof(struct settings, stem##_ms), .kind = SETTING_DURATION,       \
    .min = (low), .fallback = (normal), .max = (high)
#define NUMBER(field, low, normal, high)                                                           \
    FIELD(field), .kind = SETTING_NUMBER, .min = (low), .fallback = (normal), .max = (high)
#define BYTES(field, low, normal, high)                                                            \
    FIELD(field), .kind = SETTING_SIZE, .min = (low), .fallback = (normal), .max = (high)

static const char *const bare_newline_choices[] = {"reject", "normalize", NULL};
static const char *const in_doubt_choices[] = {"send", "hold", NULL};
static const char *const log_level_choices[] = {"debug",   "info",  "notice",
                                                "warning", "error", NULL};
static const char *const log_format_choices[] = {"logfmt", "json", NULL};

static const struct setting route_rows[] = {
    {.name = "via",
     .kind = SETTING_TEXT,
     .offset = offsetof(struct settings_route, via),
     .required = true,
     .check = check_via,
     .doc = "The next host: an address with or without a port, or a name whose addresses are asked "
            "for."},
    {.name = "port",
     .kind = SETTING_NUMBER,
     .offset = offsetof(struct settings_route, port),
     .min = 0,
     .fallback = 0,
     .max = 65535,
     .doc = "Its port where `via` names none; 0 means outgoing_port."},
    {.name = NULL}};

static const struct setting rows[] = {
    {FIELD(hostname), .kind = SETTING_TEXT, .required = true, .check = check_domain,
     .doc = "The name of this host: in the greeting, in EHLO (RFC 5321 4.1.1.1) and in Received "
            "fields."},
    {FIELD(local_domains), .kind = SETTING_LIST, .check = check_domain, .reload = true,
     .doc = "Domains whose mail is kept here, in the mailboxes of users_file."},
    {FIELD(user), .kind = SETTING_TEXT, .fallback_text = "kilat",
     .doc = "Whom to become, for good, when started as root: a name or a numeric uid, with "
            "\":group\" if wanted."},

    {FIELD(spool_directory), .kind = SETTING_TEXT, .fallback_text = "/var/spool/kilat",
     .check = check_path,
     .doc = "The queue: one spool per shard below it. On ext4 or XFS (see force_file_system)."},
    {FIELD(mail_directory), .kind = SETTING_TEXT, .fallback_text = "/var/mail/kilat",
     .check = check_path, .doc = "The mailboxes: a Maildir per account at DOMAIN/NAME below it."},
    {FIELD(users_file), .kind = SETTING_TEXT, .fallback_text = "/etc/kilat/users",
     .check = check_path, .reload = true,
     .doc = "The accounts, in the passwd-file format that Dovecot reads too: "
            "name@domain:{CRYPT}hash."},
    {FIELD(control_socket), .kind = SETTING_TEXT, .fallback_text = "/run/kilat/control",
     .check = check_socket, .doc = "Where kilatctl speaks to the server."},
    {NUMBER(control_mode, 600, 660, 666),
     .doc = "Permissions of the control socket, as chmod writes them; root and the server's own "
            "user may always speak."},

    {FIELD(smtp_listen), .kind = SETTING_LIST, .fallback_text = "0.0.0.0:25 [::]:25",
     .check = check_listener,
     .doc =
         "Addresses and ports that receive mail by SMTP. A 250 here means synced: the message is "
         "on stable storage and survives a power cut."},
    {FIELD(smtp_listen_cached), .kind = SETTING_LIST, .check = check_listener,
     .doc = "The same, but a 250 here means cached: the message is written and NOT flushed, so it "
            "survives the end of the server and is lost when the machine crashes; the 250 says so. "
            "For "
            "mail that its sender can send again; none by default."},
    {FIELD(pop3_listen), .kind = SETTING_LIST, .check = check_listener,
     .doc = "Addresses and ports where users fetch their mail by POP3; none by default, as TLS is "
            "not built in yet."},
    {FIELD(relay_networks), .kind = SETTING_LIST, .check = check_network, .reload = true,
     .doc = "Networks whose clients may send to any domain; none by default."},
    {FIELD(relay_domains), .kind = SETTING_LIST, .check = check_domain, .reload = true,
     .doc =
         "Domains whose mail is taken from anyone and handed on, by a route or a better MX: what "
         "a mail gateway is; none by default."},
    {FIELD(bare_newline), .kind = SETTING_CHOICE, .choices = bare_newline_choices, .reload = true,
     .doc = "A bare CR or LF in a message: refuse it after its true end, or make it CRLF. Never an "
            "end of data (RFC 5321 4.1.1.4)."},
    {BYTES(message_bytes_max, 64 * KIB, 50 * MIB, 2 * GIB), .reload = true,
     .doc = "The largest message, announced as SIZE (RFC 1870); RFC 5321 4.5.3.1.7 asks for at "
            "least 64K."},
    {NUMBER(recipients_max, 100, 1000, 10000), .reload = true,
     .doc = "Recipients of one message; more are told 452 (RFC 5321 4.5.3.1.8: at least 100)."},
    {BYTES(command_line_bytes_max, 512, 2048, 8192), .reload = true,
     .doc = "The longest command line (RFC 5321 4.5.3.1.4: at least 512)."},
    {NUMBER(errors_max, 1, 20, 1000), .reload = true,
     .doc = "Commands in error before the session is closed with 421."},
    {NUMBER(received_max, 100, 100, 1000), .reload = true,
     .doc = "Received fields above which a message is a loop (RFC 5321 6.3: at least 100)."},
    {NUMBER(sessions_max, 1, 20000, 1000000), .reload = true,
     .doc = "Sessions per shard, SMTP and POP3 together; more are told 421."},
    {NUMBER(sessions_per_address_max, 1, 1000, 1000000), .reload = true,
     .doc = "Sessions per shard from one address (IPv6: one /64); more are told 421."},
    {DURATION(smtp_greeting_timeout, 5 * MINUTE_MS, 5 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for the first command (RFC 5321 4.5.3.2.7: at least 5 min)."},
    {DURATION(smtp_command_timeout, 5 * MINUTE_MS, 5 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for the next command (RFC 5321 4.5.3.2.7: at least 5 min)."},
    {DURATION(smtp_data_timeout, 5 * MINUTE_MS, 5 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc =
         "Wait for the next block of a message (RFC 5321 4.5.3.2.5: 3 min on the sender's side)."},
    {DURATION(pop3_login_timeout, 5 * SECOND_MS, MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for a log-in."},
    {DURATION(pop3_idle_timeout, 10 * MINUTE_MS, 10 * MINUTE_MS, DAY_MS), .reload = true,
     .doc = "Wait for the next command after log-in (RFC 1939 3: at least 10 min)."},

    {BYTES(segment_bytes, MIB, 64 * MIB, GIB),
     .doc = "Size of a segment of the queue's log; written before it is used."},
    {NUMBER(spare_segments, 1, 1, 64), .doc = "Segments prepared ahead of need, per shard."},
    {BYTES(checkpoint_bytes, MIB, 256 * MIB, 64 * GIB),
     .doc = "A checkpoint of the queue is written after so much was appended to its log: less of "
            "it is read at the next start, and more written meanwhile."},
    {DURATION(checkpoint_interval, SECOND_MS, MINUTE_MS, DAY_MS),
     .doc = "Or after this time, when anything was appended."},
    {DURATION(reclaim_after, SECOND_MS, 10 * MINUTE_MS, 7 * DAY_MS),
     .doc = "What is still needed of a segment this old is copied to the cold lane, so that the "
            "segment can be used again, when little of it is (reclaim_live_percent)."},
    {NUMBER(reclaim_live_percent, 1, 30, 90),
     .doc = "How much of a segment may still be needed for it to be reclaimed: more saves disk "
            "space and costs writes."},
    {BYTES(scrub_rate, 0, MIB, GIB),
     .doc = "How fast sealed segments are read to find damage before it is needed, in bytes a "
            "second; 0: never."},
    {BYTES(keep_free_bytes, 0, 0, 1024 * GIB),
     .doc = "Left free on the file system of the queue: with less than that new mail is told 452, "
            "and what is queued goes out."},
    {FIELD(force_file_system), .kind = SETTING_BOOL,
     .doc = "Accept a spool on a file system other than ext4 and XFS; on tmpfs nothing survives a "
            "power cut."},
    {NUMBER(queue_messages_max, 1000, 10000000, 100000000), .reload = true,
     .doc = "Messages in the queue of one shard; beyond it new ones are told 452."},
    {DURATION(retry_first, SECOND_MS, 5 * MINUTE_MS, DAY_MS), .reload = true,
     .doc = "Wait before the second attempt; doubled each time (RFC 5321 4.5.4.1)."},
    {DURATION(retry_max, SECOND_MS, 2 * HOUR_MS, 2 * DAY_MS), .reload = true,
     .doc = "Longest wait between two attempts."},
    {DURATION(expire, SECOND_MS, 5 * DAY_MS, 60 * DAY_MS), .reload = true,
     .doc = "When a message is given up and its sender told (RFC 5321 4.5.4.1: 4 to 5 days)."},
    {FIELD(in_doubt), .kind = SETTING_CHOICE, .choices = in_doubt_choices, .reload = true,
     .doc = "A delivery whose end was sent and whose answer never came may have arrived: send it "
            "again (some get it twice, RFC 5321 6.1), or hold it until somebody decides."},

    {NUMBER(outgoing_port, 1, 25, 65535), .reload = true,
     .doc = "The port of mail hosts; anything but 25 is for tests."},
    {FIELD(outgoing_source), .kind = SETTING_TEXT, .check = check_source, .reload = true,
     .doc = "The address that connections to mail hosts come from; empty: the kernel chooses."},
    {FIELD(allow_private_mail_hosts), .kind = SETTING_BOOL, .reload = true,
     .doc = "Deliver to mail hosts in loopback, private and other special networks (RFC 6890); "
            "off, because an MX is chosen by strangers."},
    {.name = "route",
     .offset = offsetof(struct settings, routes),
     .kind = SETTING_SECTION,
     .rows = route_rows,
     .section_size = sizeof(struct settings_route),
     .reload = true,
     .doc = "Where mail for the domain NAME goes instead of its MX; \"*\" is every domain that is "
            "not ours."},
    {NUMBER(site_sessions_max, 1, 20, 10000), .reload = true,
     .doc = "Sessions to one site (all domains with the same MX set), over all shards."},
    {NUMBER(site_messages_max, 1, 1000, 1000000), .reload = true,
     .doc = "Messages on one outgoing session before a new one is made."},
    {NUMBER(site_recipients_max, 1, 100, 1000), .reload = true,
     .doc =
         "Recipients of one outgoing transaction (RFC 5321 4.5.3.1.8: a host takes at least 100)."},
    {DURATION(site_backoff_first, SECOND_MS, MINUTE_MS, DAY_MS), .reload = true,
     .doc = "A site none of whose hosts answers rests this long; doubled each time."},
    {DURATION(site_backoff_max, SECOND_MS, HOUR_MS, DAY_MS), .reload = true,
     .doc = "Longest rest of a site."},
    {DURATION(site_idle, 0, 5 * SECOND_MS, 5 * MINUTE_MS), .reload = true,
     .doc = "How long an outgoing session is kept for the next message."},
    {DURATION(connect_timeout, SECOND_MS, 30 * SECOND_MS, 5 * MINUTE_MS), .reload = true,
     .doc = "Wait for a connection to one address."},
    {DURATION(client_greeting_timeout, SECOND_MS, 5 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for the greeting and for EHLO's answer (RFC 5321 4.5.3.2.1: 5 min)."},
    {DURATION(client_mail_timeout, SECOND_MS, 5 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for the answer to MAIL (RFC 5321 4.5.3.2.2: 5 min)."},
    {DURATION(client_rcpt_timeout, SECOND_MS, 5 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for the answer to RCPT (RFC 5321 4.5.3.2.3: 5 min)."},
    {DURATION(client_data_timeout, SECOND_MS, 2 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for the answer to DATA (RFC 5321 4.5.3.2.4: 2 min)."},
    {DURATION(client_block_timeout, SECOND_MS, 3 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for a block of a message to be taken (RFC 5321 4.5.3.2.5: 3 min)."},
    {DURATION(client_dot_timeout, SECOND_MS, 10 * MINUTE_MS, HOUR_MS), .reload = true,
     .doc = "Wait for the answer to the end of data (RFC 5321 4.5.3.2.6: 10 min)."},

    {FIELD(dns_servers), .kind = SETTING_LIST, .check = check_dns_server,
     .doc = "Resolvers, asked in this order; empty: those of /etc/resolv.conf."},
    {DURATION(dns_timeout, 100, 2 * SECOND_MS, MINUTE_MS), .doc = "Wait for one answer."},
    {NUMBER(dns_tries, 1, 4, 16), .doc = "Tries of one question, over all resolvers."},
    {NUMBER(dns_cache_records_max, 100, 100000, 10000000), .doc = "Records kept per shard."},

    {NUMBER(shards, 0, 0, 64),
     .doc = "Threads that do the work, one per CPU; 0: as many as there are CPUs. With fewer than "
            "before, the spools that are left over are delivered by those that remain."},
    {FIELD(single_thread), .kind = SETTING_BOOL,
     .doc = "One shard and no workers, for valgrind and callgrind: what blocks, blocks."},
    {NUMBER(file_workers, 1, 2, 64), .doc = "Threads for directory work and mailbox files."},
    {NUMBER(hash_workers, 1, 1, 64), .doc = "Threads for password hashes."},
    {BYTES(memory_max, 16 * MIB, 512 * MIB, 1024 * GIB),
     .doc = "Memory for bodies on their way, over all shards; near it sessions give way "
            "(back-pressure, then 421)."},
    {NUMBER(receive_buffers, 16, 512, 32768), .doc = "Receive buffers per shard, a power of two."},
    {BYTES(receive_buffer_bytes, 2 * KIB, 8 * KIB, 64 * KIB), .doc = "Size of one receive buffer."},

    {FIELD(log_file), .kind = SETTING_TEXT,
     .doc = "Where events go, one line each; empty: standard error."},
    {FIELD(log_level), .kind = SETTING_CHOICE, .choices = log_level_choices, .fallback = 1,
     .reload = true, .doc = "The least important event that is written."},
    {FIELD(log_format), .kind = SETTING_CHOICE, .choices = log_format_choices, .reload = true,
     .doc = "How an event is written: logfmt or a JSON object."},
    {.name = NULL}};

static_assert(sizeof(struct settings_routes) == sizeof(struct setting_sections),
              "the routes are read as sections");

const struct setting *settings_table(void)
{
    return rows;
}

/* ---- what no single row can see -------------------------------------------------------------- */

static bool listens_twice(const struct setting_list *a, const struct setting_list *b,
                          struct buf *error)
{
    struct netaddr left, right;

    for (size_t i = 0; i < a->count; i++)
        for (size_t j = a == b ? i + 1 : 0; j < b->count; j++)
            if (netaddr_parse(slice_cstr(a->items[i]), 0, &left) &&
                netaddr_parse(slice_cstr(b->items[j]), 0, &right) && netaddr_equal(&left, &right)) {
                buf_printf(error,
                           "%s is listened on twice (smtp_listen, smtp_listen_cached, pop3_listen)",
                           a->items[i]);
                return true;
            }
    return false;
}

static bool route_is_wrong(const struct settings *settings, size_t index, struct buf *error)
{
    const char *domain = settings->routes.items[index].title;

    if (strcmp(domain, "*") != 0 && check_domain(domain) != NULL) {
        buf_printf(error, "route \"%s\": expected a domain name or \"*\"", domain);
        return true;
    }
    for (size_t i = 0; i < index; i++)
        if (slice_equal_nocase(slice_cstr(domain), slice_cstr(settings->routes.items[i].title))) {
            buf_printf(error, "route \"%s\": there is another route for that domain", domain);
            return true;
        }
    for (size_t i = 0; i < settings->local_domains.count; i++)
        if (slice_equal_nocase(slice_cstr(domain), slice_cstr(settings->local_domains.items[i]))) {
            buf_printf(error, "route \"%s\": that domain is in local_domains as well", domain);
            return true;
        }
    return false;
}

/* Octal digits read as a decimal number: an 8 would run over into its neighbour's bits. */
static bool mode_is_wrong(uint64_t mode, struct buf *error)
{
    for (uint64_t digits = mode; digits > 0; digits /= 10)
        if (digits % 10 > 7) {
            buf_printf(error, "control_mode: expected three octal digits, got %llu",
                       (unsigned long long)mode);
            return true;
        }
    return false;
}

int settings_check(const struct settings *settings, struct buf *error)
{
    const struct setting_list *const listened[] = {
        &settings->smtp_listen, &settings->smtp_listen_cached, &settings->pop3_listen};

    for (size_t i = 0; i < ARRAY_SIZE(listened); i++)
        for (size_t j = i; j < ARRAY_SIZE(listened); j++)
            if (listens_twice(listened[i], listened[j], error))
                return -EINVAL;
    for (size_t i = 0; i < settings->routes.count; i++)
        if (route_is_wrong(settings, i, error))
            return -EINVAL;
    if (mode_is_wrong(settings->control_mode, error))
        return -EINVAL;
    if ((settings->receive_buffers & (settings->receive_buffers - 1)) != 0) {
        buf_printf(error, "receive_buffers: expected a power of two, got %llu",
                   (unsigned long long)settings->receive_buffers);
        return -EINVAL;
    }
    if (settings->retry_max_ms < settings->retry_first_ms ||
        settings->site_backoff_max_ms < settings->site_backoff_first_ms) {
        buf_append_cstr(error,
                        "a longest wait (retry_max, site_backoff_max) is shorter than the first");
        return -EINVAL;
    }
    if (settings->segment_bytes % MIB != 0) {
        buf_append_cstr(error, "segment_bytes: expected a multiple of 1M");
        return -EINVAL;
    }
    return 0;
}
