#include "core/netaddr.h"

#include <arpa/inet.h>
#include <stdio.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff}; /* ::ffff:0:0/96 */

void netaddr_from_ipv4(const uint8_t bytes[4], uint16_t port, struct netaddr *ret_address)
{
    *ret_address = (struct netaddr){.size = sizeof(struct sockaddr_in)};
    ret_address->in.sin_family = AF_INET;
    ret_address->in.sin_port = htons(port);
    memcpy(&ret_address->in.sin_addr, bytes, 4);
}

void netaddr_from_ipv6(const uint8_t bytes[16], uint16_t port, struct netaddr *ret_address)
{
    *ret_address = (struct netaddr){.size = sizeof(struct sockaddr_in6)};
    ret_address->in6.sin6_family = AF_INET6;
    ret_address->in6.sin6_port = htons(port);
    memcpy(&ret_address->in6.sin6_addr, bytes, 16);
}

/* 4 or 16 and the bytes of a host without port; 0 for what is no address. */
static size_t parse_host(struct slice text, uint8_t bytes[16])
{
    char host[INET6_ADDRSTRLEN];

    if (text.size == 0 || !slice_to_cstr(text, host, sizeof(host)))
        return 0;
    if (inet_pton(AF_INET, host, bytes) == 1)
        return 4;
    return inet_pton(AF_INET6, host, bytes) == 1 ? 16 : 0;
}

/* Parts "host", "host:port" (IPv4 alone) and "[host]:port" without looking into either. */
static bool split_port(struct slice text, struct slice *ret_host, struct slice *ret_port,
                       bool *ret_bracketed)
{
    size_t colon = slice_find(text, ':');

    *ret_host = text;
    *ret_port = SLICE_NONE;
    *ret_bracketed = text.size > 0 && text.data[0] == '[';
    if (*ret_bracketed) {
        size_t end = slice_find(text, ']');
        struct slice rest;

        if (end == SIZE_MAX)
            return false;
        *ret_host = slice_skip(slice_first(text, end), 1);
        rest = slice_skip(text, end + 1);
        if (rest.size == 0)
            return true;
        *ret_port = slice_skip(rest, 1);
        return rest.data[0] == ':' && ret_port->size > 0;
    }
    if (colon == SIZE_MAX || colon != slice_find_last(text, ':'))
        return true; /* no port; several colons are a bare IPv6 address */
    *ret_host = slice_first(text, colon);
    *ret_port = slice_skip(text, colon + 1);
    return ret_port->size > 0;
}

bool netaddr_parse(struct slice text, uint16_t default_port, struct netaddr *ret_address)
{
    uint8_t bytes[16];
    struct slice host, port_text;
    uint64_t port = default_port;
    bool bracketed;
    size_t size;

    if (!split_port(text, &host, &port_text, &bracketed))
        return false;
    if (port_text.size > 0 && !slice_parse_u64(port_text, UINT16_MAX, &port))
        return false;
    size = parse_host(host, bytes);
    if (size == 4 && !bracketed)
        netaddr_from_ipv4(bytes, (uint16_t)port, ret_address);
    else if (size == 16)
        netaddr_from_ipv6(bytes, (uint16_t)port, ret_address);
    else
        return false;
    return true;
}

bool netaddr_unix(const char *path, struct netaddr *ret_address)
{
    size_t size = strlen(path);

    if (size == 0 || size >= sizeof(ret_address->un.sun_path))
        return false;
    *ret_address = (struct netaddr){.size = sizeof(struct sockaddr_un)};
    ret_address->un.sun_family = AF_UNIX;
    memcpy(ret_address->un.sun_path, path, size + 1);
    return true;
}

uint16_t netaddr_port(const struct netaddr *address)
{
    switch (address->any.sa_family) {
    case AF_INET:
        return ntohs(address->in.sin_port);
    case AF_INET6:
        return ntohs(address->in6.sin6_port);
    default:
        return 0;
    }
}

void netaddr_set_port(struct netaddr *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET)
        address->in.sin_port = htons(port);
    else if (address->any.sa_family == AF_INET6)
        address->in6.sin6_port = htons(port);
}

bool netaddr_same_host(const struct netaddr *a, const struct netaddr *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    switch (a->any.sa_family) {
    case AF_INET:
        return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    case AF_INET6:
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0 &&
               a->in6.sin6_scope_id == b->in6.sin6_scope_id;
    case AF_UNIX:
        return a->size == b->size &&
               strncmp(a->un.sun_path, b->un.sun_path, sizeof(a->un.sun_path)) == 0;
    default:
        return false;
    }
}

bool netaddr_equal(const struct netaddr *a, const struct netaddr *b)
{
    return netaddr_same_host(a, b) && netaddr_port(a) == netaddr_port(b);
}

void netaddr_format(const struct netaddr *address, char text[NETADDR_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "?";

    switch (address->any.sa_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof(host)); /* cannot fail */
        (void)snprintf(text, NETADDR_TEXT_SIZE, "%s:%u", host, netaddr_port(address));
        break;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &address->in6.sin6_addr, host, sizeof(host));
        (void)snprintf(text, NETADDR_TEXT_SIZE, "[%s]:%u", host, netaddr_port(address));
        break;
    case AF_UNIX:
        (void)snprintf(text, NETADDR_TEXT_SIZE, "unix:%.*s", NETADDR_TEXT_SIZE - 6,
                       address->size > offsetof(struct sockaddr_un, sun_path) ? address->un.sun_path
                                                                              : "");
        break;
    default:
        (void)snprintf(text, NETADDR_TEXT_SIZE, "?");
        break;
    }
}

void netaddr_format_literal(const struct netaddr *address, char text[NETADDR_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->in6.sin6_addr, host, sizeof(host)); /* cannot fail */
        (void)snprintf(text, NETADDR_TEXT_SIZE, "IPv6:%s", host);
        return;
    }
    if (address->any.sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof(host));
    (void)snprintf(text, NETADDR_TEXT_SIZE, "%s", host);
}

static bool rest_is_zero(const uint8_t *bytes, uint32_t prefix_bits, uint32_t family_bits)
{
    for (uint32_t i = prefix_bits; i < family_bits; i++) {
        if (bytes[i / 8] & (0x80u >> (i % 8)))
            return false;
    }
    return true;
}

bool netaddr_network_parse(struct slice text, struct netaddr_network *ret_network)
{
    struct netaddr_network network = {.family_bits = 0};
    size_t slash = slice_find(text, '/');
    uint64_t prefix_bits;
    size_t size;

    size = parse_host(slice_first(text, slash), network.bytes);
    if (size == 0)
        return false;
    network.family_bits = (uint8_t)(8 * size);
    prefix_bits = network.family_bits;
    if (slash != SIZE_MAX &&
        !slice_parse_u64(slice_skip(text, slash + 1), network.family_bits, &prefix_bits))
        return false;
    network.prefix_bits = (uint8_t)prefix_bits;
    if (!rest_is_zero(network.bytes, network.prefix_bits, network.family_bits))
        return false;
    *ret_network = network;
    return true;
}

/* The bytes of the host and their number of bits; a mapped IPv4 address is an IPv4 address. */
static const uint8_t *host_bytes(const struct netaddr *address, uint32_t *ret_bits)
{
    const uint8_t *bytes;

    if (address->any.sa_family == AF_INET) {
        *ret_bits = 32;
        return (const uint8_t *)&address->in.sin_addr;
    }
    if (address->any.sa_family != AF_INET6) {
        *ret_bits = 0;
        return NULL;
    }
    bytes = address->in6.sin6_addr.s6_addr;
    if (memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0) {
        *ret_bits = 32;
        return bytes + sizeof(mapped_prefix);
    }
    *ret_bits = 128;
    return bytes;
}

static bool prefix_equal(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
    uint32_t whole = bits / 8;
    uint8_t mask = (uint8_t)(0xff00u >> (bits % 8));

    if (memcmp(a, b, whole) != 0)
        return false;
    return bits % 8 == 0 || ((a[whole] ^ b[whole]) & mask) == 0;
}

bool netaddr_network_contains(const struct netaddr_network *network, const struct netaddr *address)
{
    uint32_t bits;
    const uint8_t *bytes = host_bytes(address, &bits);

    return bytes != NULL && bits == network->family_bits &&
           prefix_equal(network->bytes, bytes, network->prefix_bits);
}

/* RFC 6890 and the IANA registries that continue it; the ranges that embed IPv4 (6to4, NAT64,
 * Teredo) are here too, because behind them a private address can hide. */
static const struct netaddr_network special_networks[] = {
    {{0}, 32, 8},                              /* this network */
    {{10}, 32, 8},                             /* private */
    {{100, 64}, 32, 10},                       /* carrier-grade NAT */
    {{127}, 32, 8},                            /* loopback */
    {{169, 254}, 32, 16},                      /* link-local */
    {{172, 16}, 32, 12},                       /* private */
    {{192, 0, 0}, 32, 24},                     /* protocol assignments */
    {{192, 0, 2}, 32, 24},                     /* documentation */
    {{192, 88, 99}, 32, 24},                   /* 6to4 relays */
    {{192, 168}, 32, 16},                      /* private */
    {{198, 18}, 32, 15},                       /* benchmarking */
    {{198, 51, 100}, 32, 24},                  /* documentation */
    {{203, 0, 113}, 32, 24},                   /* documentation */
    {{224}, 32, 4},                            /* multicast */
    {{240}, 32, 4},                            /* reserved, broadcast */
    {{0}, 128, 96},                            /* unspecified, loopback, compatible IPv4 */
    {{0x00, 0x64, 0xff, 0x9b}, 128, 96},       /* NAT64 */
    {{0x00, 0x64, 0xff, 0x9b, 0, 1}, 128, 48}, /* NAT64, local */
    {{0x01}, 128, 64},                         /* discard */
    {{0x20, 0x01}, 128, 23},                   /* protocol assignments, Teredo, benchmarking */
    {{0x20, 0x01, 0x0d, 0xb8}, 128, 32},       /* documentation */
    {{0x20, 0x02}, 128, 16},                   /* 6to4 */
    {{0x3f, 0xff}, 128, 20},                   /* documentation */
    {{0x5f}, 128, 16},                         /* segment routing */
    {{0xfc}, 128, 7},                          /* unique local */
    {{0xfe, 0x80}, 128, 10},                   /* link-local */
    {{0xfe, 0xc0}, 128, 10},                   /* site-local, as it was */
    {{0xff}, 128, 8},                          /* multicast */
};

bool netaddr_is_special(const struct netaddr *address)
{
    for (size_t i = 0; i < ARRAY_SIZE(special_networks); i++) {
        if (netaddr_network_contains(&special_networks[i], address))
            return true;
    }
    return false;
}
