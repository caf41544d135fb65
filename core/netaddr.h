/* core/netaddr.h - socket addresses and networks: parse, print, match. Pure. */
#ifndef KILAT_CORE_NETADDR_H
#define KILAT_CORE_NETADDR_H

#include "core/slice.h"
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct netaddr {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t size;
};

#define NETADDR_TEXT_SIZE 64 /* "[" IPv6 "]:65535" and the NUL, with room */

/* "127.0.0.1", "::1", "[::1]:25", "127.0.0.1:25"; `default_port` in host order where none is
 * written. False for anything else, names included. */
bool netaddr_parse(struct slice text, uint16_t default_port, struct netaddr *ret_address);
bool netaddr_unix(const char *path, struct netaddr *ret_address); /* false: path too long */
void netaddr_from_ipv4(const uint8_t bytes[4], uint16_t port, struct netaddr *ret_address);
void netaddr_from_ipv6(const uint8_t bytes[16], uint16_t port, struct netaddr *ret_address);
uint16_t netaddr_port(const struct netaddr *address); /* host order */
void netaddr_set_port(struct netaddr *address, uint16_t port);
bool netaddr_equal(const struct netaddr *a, const struct netaddr *b); /* address and port */
bool netaddr_same_host(const struct netaddr *a,
                       const struct netaddr *b); /* the port does not count */
/* "127.0.0.1:25", "[::1]:25"; always terminated. */
void netaddr_format(const struct netaddr *address, char text[NETADDR_TEXT_SIZE]);
/* The host alone, as RFC 5321 4.1.3 writes it in brackets: "127.0.0.1", "IPv6:::1". */
void netaddr_format_literal(const struct netaddr *address, char text[NETADDR_TEXT_SIZE]);

struct netaddr_network {
    uint8_t bytes[16];
    uint8_t family_bits; /* 32 or 128 */
    uint8_t prefix_bits;
};
/* "10.0.0.0/8", "::1/128", or a single address; false for bits set behind the prefix. */
bool netaddr_network_parse(struct slice text, struct netaddr_network *ret_network);
/* IPv4 mapped into IPv6 counts as IPv4. */
bool netaddr_network_contains(const struct netaddr_network *network, const struct netaddr *address);
/* Loopback, private, link-local, multicast, unspecified, reserved, documentation, CGN ranges: where
 * mail hosts of foreign domains must not lead (RFC 6890; SSRF by MX). */
bool netaddr_is_special(const struct netaddr *address);

#endif
