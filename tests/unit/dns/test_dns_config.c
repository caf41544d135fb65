#include "dns/dns.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Reads `text` as a resolv.conf; the servers as one text. */
static int read_text(const char *text, char servers[400])
{
    char path[] = "/tmp/kilat-resolv-XXXXXX";
    struct dns_config config = {.server_count = 7};
    int fd = mkstemp(path), r;

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    r = dns_read_resolv_conf(path, &config);
    (void)unlink(path);
    servers[0] = '\0';
    for (uint32_t i = 0; r == 0 && i < config.server_count; i++) {
        char address[NETADDR_TEXT_SIZE];

        netaddr_format(&config.servers[i], address);
        (void)snprintf(servers + strlen(servers), 400 - strlen(servers), "%s%s", i == 0 ? "" : " ",
                       address);
    }
    return r;
}

Test(dns_config, resolv_conf_as_its_manual_has_it)
{
    static const struct {
        const char *name, *text, *want;
    } rows[] = {
        {"one", "nameserver 192.0.2.1\n", "192.0.2.1:53"},
        {"without the last line end", "nameserver 192.0.2.1", "192.0.2.1:53"},
        {"IPv6", "nameserver 2001:db8::1\n", "[2001:db8::1]:53"},
        {"tabs, blanks, more words", "nameserver\t 192.0.2.1 \t# ours\n", "192.0.2.1:53"},
        {"CR", "nameserver 192.0.2.1\r\n", "192.0.2.1:53"},
        {"other lines",
         "search a.test\noptions edns0\n; nameserver 192.0.2.9\n#\n\nnameserver ::1\n", "[::1]:53"},
        {"three at most",
         "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
         "nameserver 192.0.2.4\n",
         "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53"},
        {"what is no address",
         "nameserver localhost\nnameserver 192.0.2.1.2\nnameserver\nnameserver \n"
         "nameserver fe80::1%eth0\nnameserver 192.0.2.5\n",
         "192.0.2.5:53"},
        {"a longer word", "nameservers 192.0.2.1\nnameserver192.0.2.2\n", "127.0.0.1:53"},
        {"a shorter word", "name 192.0.2.1\n", "127.0.0.1:53"},
        {"not at the beginning", " nameserver 192.0.2.1\n", "127.0.0.1:53"},
        {"empty: the local machine", "", "127.0.0.1:53"},
    };
    char servers[400];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cr_expect_eq(read_text(rows[i].text, servers), 0, "%s", rows[i].name);
        cr_expect_str_eq(servers, rows[i].want, "%s: %s", rows[i].name, servers);
    }
}

Test(dns_config, a_missing_file_is_told_and_changes_nothing)
{
    struct dns_config config = {.server_count = 7};

    cr_expect_eq(dns_read_resolv_conf("/nonexistent/resolv.conf", &config), -ENOENT);
    cr_expect_eq(config.server_count, 7);
    cr_expect_eq(dns_read_resolv_conf("/", &config), -EISDIR);
    cr_expect_eq(config.server_count, 7);
}
