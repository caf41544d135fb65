#include "core/file.h"
#include "dns/dns.h"

#include <errno.h>
#include <stdlib.h>

#define RESOLV_CONF_BYTES_MAX (64 * KIB)
#define RESOLV_CONF_SERVERS_MAX 3 /* resolv.conf(5): MAXNS */
#define DNS_PORT 53

/* "nameserver", white space, one address; what follows it does not count. An address with a zone
 * ("fe80::1%eth0") is none that we can ask, and is passed over as the C library passes over what it
 * cannot read. */
static void read_line(struct slice line, struct dns_config *config)
{
    static const struct slice word = {(const uint8_t *)"nameserver", 10};
    struct slice value;
    size_t end = 0;

    if (line.size > 0 && line.data[line.size - 1] == '\r')
        line.size--;
    if (line.size <= word.size || !slice_equal(slice_first(line, word.size), word))
        return;
    value = slice_skip(line, word.size);
    if (value.data[0] != ' ' && value.data[0] != '\t')
        return;
    value = slice_trim(value);
    while (end < value.size && value.data[end] != ' ' && value.data[end] != '\t')
        end++;
    if (config->server_count < RESOLV_CONF_SERVERS_MAX &&
        netaddr_parse(slice_first(value, end), DNS_PORT, &config->servers[config->server_count]))
        config->server_count++;
}

int dns_read_resolv_conf(const char *path, struct dns_config *config)
{
    struct slice rest;
    ssize_t size;
    char *text;
    int fd, r;

    r = file_open_path(path, FILE_READ, 0, &fd);
    if (r < 0)
        return r;
    text = malloc(RESOLV_CONF_BYTES_MAX);
    size = text == NULL ? -ENOMEM : file_read_some(fd, text, RESOLV_CONF_BYTES_MAX, 0);
    (void)file_close(fd); /* nothing was written */
    if (size >= 0) {
        config->server_count = 0;
        rest = slice_of(text, (size_t)size);
        while (rest.size > 0)
            read_line(slice_split(&rest, '\n'), config);
        if (config->server_count == 0) { /* resolv.conf(5): then the local machine's */
            (void)netaddr_parse(SLICE("127.0.0.1"), DNS_PORT, &config->servers[0]);
            config->server_count = 1;
        }
    }
    free(text);
    return size < 0 ? (int)size : 0;
}
