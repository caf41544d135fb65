#include "daemon/settings.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int parse(const char *text, struct settings *settings, struct buf *error)
{
    int r;

    *settings = (struct settings){0};
    buf_init(error, 4 * KIB);
    r = settings_parse(settings_table(), slice_cstr(text), "kilat.conf", settings, error);
    if (r == 0)
        r = settings_check(settings, error);
    buf_append_byte(error, 0);
    return r;
}

static const struct {
    const char *name, *text, *wanted; /* text behind the hostname, which is line 1 */
} refusals[] = {
    {"a domain with a label too long",
     "local_domains = {\"a123456789012345678901234567890123456789012345678901234567890123.test\"}",
     "kilat.conf:2: local_domains: expected a domain name"},
    {"a domain with an empty label", "local_domains = {\"a..test\"}",
     "kilat.conf:2: local_domains: expected a domain name"},
    {"a domain that ends with a dot", "relay_domains = {\"a.test.\"}",
     "kilat.conf:2: relay_domains: expected a domain name"},
    {"a domain that leads out of the mail root", "local_domains = {\"../../etc\"}",
     "kilat.conf:2: local_domains: expected a domain name"},
    {"a domain that is a directory's dots", "local_domains = {\"..\"}",
     "kilat.conf:2: local_domains: expected a domain name"},
    {"a listener without a port", "smtp_listen = {\"127.0.0.1\"}",
     "kilat.conf:2: smtp_listen: expected an address with a port"},
    {"a listener at port 0", "pop3_listen = {\"127.0.0.1:0\"}",
     "kilat.conf:2: pop3_listen: expected an address with a port"},
    {"a listener by name", "smtp_listen = {\"localhost:25\"}",
     "kilat.conf:2: smtp_listen: expected an address with a port"},
    {"a network with bits behind its prefix", "relay_networks = {\"10.0.0.1/8\"}",
     "kilat.conf:2: relay_networks: expected a network with no bits set behind its prefix"},
    {"a relative path", "spool_directory = \"spool\"",
     "kilat.conf:2: spool_directory: expected an absolute path"},
    {"an empty path", "mail_directory = \"\"",
     "kilat.conf:2: mail_directory: expected an absolute path"},
    {"a socket's path too long",
     "control_socket = \"/run/"
     "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
     "1234567890123\"",
     "kilat.conf:2: control_socket: expected an absolute path of at most 107 octets"},
    {"a mode that is not octal", "control_mode = 648",
     "control_mode: expected three octal digits, got 648"},
    {"a mode without the owner", "control_mode = 60",
     "kilat.conf:2: control_mode: expected a number"},
    {"fewer recipients than RFC 5321 asks for", "recipients_max = 99",
     "kilat.conf:2: recipients_max: expected a number between 100 and 10000, got \"99\""},
    {"a command line shorter than RFC 5321 asks for", "command_line_bytes_max = 511",
     "kilat.conf:2: command_line_bytes_max: expected a size between 512 and 8K, got \"511\""},
    {"fewer hops than RFC 5321 asks for", "received_max = 99",
     "kilat.conf:2: received_max: expected a number between 100 and 1000, got \"99\""},
    {"a message smaller than RFC 5321 asks for", "message_bytes_max = 63K",
     "kilat.conf:2: message_bytes_max: expected a size between 64K and 2G, got \"63K\""},
    {"POP3 cut off before RFC 1939's time", "pop3_idle_timeout = 9m",
     "kilat.conf:2: pop3_idle_timeout: expected a duration between 10m and 1d, got \"9m\""},
    {"an unknown form of the log", "log_format = xml",
     "kilat.conf:2: log_format: expected one of logfmt, json, got \"xml\""},
    {"a route that names no host", "route \"kawan.test\" {\n}",
     "kilat.conf:3: route \"kawan.test\": via is missing"},
    {"a route by something that is no host", "route \"kawan.test\" {\n via = \"a b\"\n}",
     "kilat.conf:3: via: expected an address with or without a port, or a host name, got \"a b\""},
    {"a route with a port that is none", "route \"kawan.test\" {\n via = a.test\n port = 65536\n}",
     "kilat.conf:4: port: expected a number between 0 and 65535, got \"65536\""},
    {"a route for what is no domain", "route \"@kawan\" {\n via = a.test\n}",
     "route \"@kawan\": expected a domain name or \"*\""},
    {"a route for a domain of ours",
     "local_domains = {\"Kawan.test\"}\nroute \"kawan.TEST\" {\n via = a.test\n}",
     "route \"kawan.TEST\": that domain is in local_domains as well"},
    {"two routes for one domain",
     "route \"kawan.test\" { via = a.test }\nroute \"Kawan.test\" { via = b.test }",
     "route \"Kawan.test\": there is another route for that domain"},
    {"one port twice", "smtp_listen = {\"127.0.0.1:25\", \"127.0.0.1:25\"}",
     "127.0.0.1:25 is listened on twice"},
    {"one port for two protocols",
     "smtp_listen = {\"[::1]:2525\"}\npop3_listen = {\"[0:0::1]:2525\"}",
     "[::1]:2525 is listened on twice"},
    {"receive buffers that are no power of two", "receive_buffers = 500",
     "receive_buffers: expected a power of two, got 500"},
    {"a segment of odd size", "segment_bytes = 1025K", "segment_bytes: expected a multiple of 1M"},
    {"a longest wait shorter than the first", "retry_first = 1h\nretry_max = 30m",
     "a longest wait (retry_max, site_backoff_max) is shorter than the first"},
    {"a site's longest rest shorter than the first", "site_backoff_first = 2h",
     "a longest wait (retry_max, site_backoff_max) is shorter than the first"},
};

Test(settings, each_refusal_says_what_was_expected)
{
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct settings settings;
        struct buf error;
        char text[1024];

        (void)snprintf(text, sizeof(text), "hostname = mx.test\n%s\n", refusals[i].text);
        cr_expect_eq(parse(text, &settings, &error), -EINVAL, "%s", refusals[i].name);
        cr_expect_not_null(strstr((char *)error.data, refusals[i].wanted), "%s: %s",
                           refusals[i].name, (char *)error.data);
        settings_free(settings_table(), &settings); /* settings_check() does not */
        buf_deinit(&error);
    }
}

Test(settings, a_host_without_a_name_is_refused)
{
    struct settings settings;
    struct buf error;

    cr_expect_eq(parse("local_domains = {\"a.test\"}\n", &settings, &error), -EINVAL);
    cr_expect_str_eq((char *)error.data, "kilat.conf: hostname is missing");
    buf_deinit(&error);
}

static void sample(struct buf *out)
{
    buf_init(out, MIB);
    settings_print_defaults(settings_table(), out);
    cr_assert(!out->failed);
}

/* With only the name of the host filled in, and each "#name = value" line opened. */
Test(settings, the_sample_file_can_be_read_back)
{
    struct settings settings, fallbacks = {0};
    struct buf error, out, text;
    struct slice rest;

    sample(&out);
    buf_init(&text, MIB);
    rest = buf_slice(&out);
    while (rest.size > 0) {
        struct slice line = slice_split(&rest, '\n');
        if (slice_equal(line, SLICE("#hostname = \"\"")))
            line = SLICE("#hostname = mx.test");
        /* Prose begins with a blank behind its sign, however far it is set in; the route is an example. */
        if (line.size > 1 && line.data[0] == '#' && line.data[1] >= 'a' && line.data[1] <= 'z' &&
            !slice_starts_nocase(line, SLICE("#route")))
            buf_append(&text, slice_skip(line, 1));
        buf_append_byte(&text, '\n');
    }
    buf_append_byte(&text, 0);
    cr_assert_eq(parse((char *)text.data, &settings, &error), 0, "%s in %s", (char *)error.data,
                 (char *)text.data);
    settings_fallbacks(settings_table(), &fallbacks);
    free(fallbacks.hostname);
    fallbacks.hostname = strdup("mx.test");
    for (const struct setting *row = settings_table(); row->name != NULL; row++) {
        struct setting alone[2] = {*row, {.name = NULL}};
        alone[0].reload = false;
        cr_expect_null(settings_reload_conflict(alone, &settings, &fallbacks), "%s", row->name);
    }
    settings_free(settings_table(), &settings);
    settings_free(settings_table(), &fallbacks);
    buf_deinit(&error);
    buf_deinit(&out);
    buf_deinit(&text);
}

Test(settings, sample_and_manual_know_every_row)
{
    struct buf out, manual;

    sample(&out);
    buf_append_byte(&out, 0);
    buf_init(&manual, MIB);
    settings_print_manual(settings_table(), &manual);
    buf_append_byte(&manual, 0);
    for (const struct setting *row = settings_table(); row->name != NULL; row++) {
        char heading[80];
        (void)snprintf(heading, sizeof(heading), "\n.B %s", row->name);
        cr_expect_not_null(strstr((char *)manual.data, heading), "%s", row->name);
        (void)snprintf(heading, sizeof(heading), "\n#%s ", row->name);
        cr_expect_not_null(strstr((char *)out.data, heading), "%s", row->name);
        cr_expect(row->doc != NULL && row->doc[strlen(row->doc) - 1] == '.', "%s", row->name);
    }
    buf_deinit(&out);
    buf_deinit(&manual);
}

/* A fallback outside of its own row's limits could not be written into a file. */
Test(settings, every_default_is_within_its_limits)
{
    for (const struct setting *row = settings_table(); row->name != NULL; row++) {
        if (row->kind != SETTING_NUMBER && row->kind != SETTING_DURATION &&
            row->kind != SETTING_SIZE)
            continue;
        cr_expect(row->min <= row->fallback && row->fallback <= row->max, "%s", row->name);
    }
}

Test(settings, what_the_machine_was_made_with_needs_a_restart)
{
    static const char *const lines[] = {
        "hostname = b.test\n",
        "hostname = a.test\nsmtp_listen = {\"127.0.0.1:2525\"}\n",
        "hostname = a.test\nspool_directory = /elsewhere\n",
        "hostname = a.test\nshards = 7\n",
        "hostname = a.test\nmemory_max = 1G\n",
    };
    struct settings before, after;
    struct buf error;

    cr_assert_eq(parse("hostname = a.test\n", &before, &error), 0);
    buf_deinit(&error);
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        cr_assert_eq(parse(lines[i], &after, &error), 0);
        cr_expect_not_null(settings_reload_conflict(settings_table(), &before, &after), "%s",
                           lines[i]);
        settings_free(settings_table(), &after);
        buf_deinit(&error);
    }
    settings_free(settings_table(), &before);
}
