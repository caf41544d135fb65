/* dns/dns_packet.h - questions written and answers read; the only file that knows ldns.
 *
 * Pure: no I/O, no clock. Answers come from anywhere, so they are looked over before ldns sees
 * them: ldns 1.8.3 follows 65,535 compression pointers in any direction, and a legal answer of 64
 * kB costs it 145 ms.
 *
 * What ldns is shown holds only A, AAAA, MX, TXT, CNAME and SOA records of class IN; the type of
 * every other record is overwritten with a private number, so that its data stays opaque.
 */
#ifndef KILAT_DNS_DNS_PACKET_H
#define KILAT_DNS_DNS_PACKET_H

#include "dns/dns.h"

#define DNS_QUESTION_BYTES_MAX 288 /* header 12, name 255, type and class 4, OPT 11 */
#define DNS_ANSWER_UDP_BYTES_MAX 4096
#define DNS_ANSWER_TCP_BYTES_MAX 16384
#define DNS_SECTION_RECORDS_MAX DNS_RECORDS_MAX
#define DNS_POINTERS_MAX 16 /* compression pointers of one name */
#define DNS_ALIASES_MAX 8   /* CNAMEs on the way from a name to its records */

/* Makes a name that can be asked: lower case, labels of 1..63 letters, digits, "-" and "_" (host
 * names of RFC 1123 2.1, and the names of TXT records). False for anything else: no host that takes
 * mail has such a name. */
bool dns_name_parse(struct slice text, char name[DNS_NAME_MAX]);

/* Writes a question with RD and, with `edns`, an OPT record that offers 1232 octets (RFC 6891).
 * `name` comes from dns_name_parse(). Returns its size, or 0 when there was no memory. */
size_t dns_packet_build(uint16_t id, enum dns_type type, const char *name, bool edns,
                        uint8_t to[DNS_QUESTION_BYTES_MAX]);

/* Is `answer` a response to `question` (as built): id, QR, opcode and exactly the one question?
 * Anything else is someone else's. */
bool dns_packet_answers(struct slice question, struct slice answer);

enum dns_verdict {
    DNS_VERDICT_OK,
    DNS_VERDICT_NODATA,
    DNS_VERDICT_NXDOMAIN,
    DNS_VERDICT_ALIAS,     /* the chain of CNAMEs leaves the answer: ask for `alias` */
    DNS_VERDICT_LOOP,      /* more CNAMEs than allowed, or to a name that cannot be asked */
    DNS_VERDICT_TRUNCATED, /* ask over TCP */
    DNS_VERDICT_NO_EDNS,   /* FORMERR, NOTIMP, BADVERS: ask without OPT */
    DNS_VERDICT_SERVER,    /* SERVFAIL, REFUSED, a referral: ask another server */
    DNS_VERDICT_DAMAGED    /* refused: not looked at any further */
};

struct dns_packet_answer {
    enum dns_verdict verdict;
    uint32_t ttl_s; /* the shortest on the way; of a negative answer as RFC 2308 5 has it; 0: do not
                       keep */
    uint32_t aliases; /* CNAMEs followed */
    char alias[DNS_NAME_MAX];
    size_t record_count;
    struct dns_record records[DNS_RECORDS_MAX];
    size_t text_bytes;
    uint8_t text[DNS_ANSWER_TCP_BYTES_MAX]; /* what the TXT records point into */
};

/* Reads an answer that dns_packet_answers() has let through. Borrows `packet` and spoils it.
 * `aliases_left` bounds the CNAMEs that are followed. Fills `ret_answer` whatever the packet holds.
 */
void dns_packet_read(uint8_t *packet, size_t size_bytes, bool tcp, enum dns_type type,
                     uint32_t aliases_left, struct dns_packet_answer *ret_answer);

#endif
