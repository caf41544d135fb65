#include "dns/dns_packet.h"

#include "core/assert.h"

#include <ldns/ldns.h>

#define HEADER_BYTES 12
#define NAME_WIRE_BYTES_MAX 255
#define EDNS_BYTES 1232 /* fits one Ethernet or tunnel frame, so that no answer is fragmented */
#define TYPE_CNAME 5
#define TYPE_NS 2
#define TYPE_SOA 6
#define TYPE_OPT 41
#define TYPE_OPAQUE 0xff00u /* for private use (RFC 6895 3.1): ldns keeps its data as octets */
#define CLASS_IN 1
#define RCODE_FORMERR 1
#define RCODE_NXDOMAIN 3
#define RCODE_NOTIMP 4

static uint16_t be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

/* ---- names --------------------------------------------------------------------------------- */

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool dns_name_parse(struct slice text, char name[DNS_NAME_MAX])
{
    size_t label = 0;

    if (text.size == 0 || text.size >= DNS_NAME_MAX)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = byte_lower(text.data[i]);

        if (c == '.' ? label == 0 : !is_name_byte(c) || label == LDNS_MAX_LABELLEN)
            return false;
        label = c == '.' ? 0 : label + 1;
        name[i] = (char)c;
    }
    name[text.size] = '\0';
    return label > 0;
}

/* A name of the wire as text. What may not stand in a name of ours becomes "?", which
 * dns_name_parse() refuses: such a host is shown, and can never be asked for. */
static void name_text(const ldns_rdf *rdf, char name[DNS_NAME_MAX])
{
    const uint8_t *wire = ldns_rdf_data(rdf);
    size_t size = ldns_rdf_size(rdf), at = 0, out = 0;

    while (at < size && wire[at] != 0) {
        size_t label = wire[at++];

        if (at + label > size || out + label + 1 >= DNS_NAME_MAX)
            break; /* the look-over has counted to 255 octets: these always fit */
        if (out > 0)
            name[out++] = '.';
        for (size_t i = 0; i < label; i++) {
            uint8_t c = byte_lower(wire[at + i]);

            name[out++] = is_name_byte(c) ? (char)c : '?';
        }
        at += label;
    }
    name[out] = '\0';
}

static struct slice name_wire(const ldns_rdf *rdf)
{
    return slice_of(ldns_rdf_data(rdf), ldns_rdf_size(rdf));
}

/* ldns_dname_compare() makes and frees copies of both names' labels for each label: 64 aliases of
 * 127 labels cost it 7 ms. ldns has taken the pointers out, and the lengths of labels are no
 * letters. */
static bool same_name(const ldns_rdf *a, const ldns_rdf *b)
{
    return slice_equal_nocase(name_wire(a), name_wire(b));
}

/* Is `name` the zone itself, or below it? */
static bool is_within(const ldns_rdf *name, const ldns_rdf *zone)
{
    struct slice rest = name_wire(name), end = name_wire(zone);

    while (rest.size > end.size && rest.data[0] != 0)
        rest = slice_skip(rest, rest.data[0] + 1u);
    return slice_equal_nocase(rest, end);
}

/* ---- the question -------------------------------------------------------------------------- */

size_t dns_packet_build(uint16_t id, enum dns_type type, const char *name, bool edns,
                        uint8_t to[DNS_QUESTION_BYTES_MAX])
{
    ldns_rdf *owner = ldns_dname_new_frm_str(name);
    ldns_pkt *packet = NULL;
    uint8_t *wire = NULL;
    size_t size = 0;

    if (owner != NULL)
        packet = ldns_pkt_query_new(owner, (ldns_rr_type)type, LDNS_RR_CLASS_IN, LDNS_RD);
    if (packet == NULL) {
        ldns_rdf_deep_free(owner);
        return 0;
    }
    ldns_pkt_set_id(packet, id);
    if (edns)
        ldns_pkt_set_edns_udp_size(packet, EDNS_BYTES);
    if (ldns_pkt2wire(&wire, packet, &size) != LDNS_STATUS_OK)
        size = 0;
    ASSERT(size <= DNS_QUESTION_BYTES_MAX);
    if (size > 0)
        memcpy(to, wire, size);
    free(wire);
    ldns_pkt_free(packet); /* and the owner with it */
    return size;
}

/* ---- the look-over ------------------------------------------------------------------------- */

/* Returns where the name at `at` ends, or 0 to refuse it. Each pointer leads to before the piece of
 * name it stands in, so that no chain can come back; none leads into the header. */
static size_t name_end(struct slice packet, size_t at)
{
    size_t end = 0, piece = at, wire_bytes = 1;
    uint32_t pointers = 0;

    while (at < packet.size) {
        uint8_t byte = packet.data[at];

        if (byte == 0)
            return end != 0 ? end : at + 1;
        if (byte >= 0xc0) {
            size_t target;

            if (at + 1 >= packet.size)
                return 0;
            target = be16(packet.data + at) & 0x3fffu;
            if (target >= piece || target < HEADER_BYTES || ++pointers > DNS_POINTERS_MAX)
                return 0;
            if (end == 0)
                end = at + 2;
            at = piece = target;
            continue;
        }
        wire_bytes += byte + 1u;
        if (byte > LDNS_MAX_LABELLEN || wire_bytes > NAME_WIRE_BYTES_MAX)
            return 0;
        at += byte + 1u;
    }
    return 0;
}

static bool strings_fill(struct slice data)
{
    if (data.size == 0)
        return false;
    while (data.size > 0) {
        if (data.data[0] >= data.size)
            return false;
        data = slice_skip(data, data.data[0] + 1u);
    }
    return true;
}

/* Does the data of a record of a type that we read have exactly the shape of that type? */
static bool data_fits(struct slice packet, uint16_t type, size_t at, size_t size)
{
    switch (type) {
    case DNS_A:
        return size == 4;
    case DNS_AAAA:
        return size == 16;
    case DNS_TXT:
        return strings_fill(slice_of(packet.data + at, size));
    case DNS_MX:
        return size > 2 && name_end(packet, at + 2) == at + size;
    case TYPE_CNAME:
        return size > 0 && name_end(packet, at) == at + size;
    case TYPE_SOA: {
        size_t end = name_end(packet, at);

        end = end == 0 ? 0 : name_end(packet, end);
        return end != 0 && end + 20 == at + size; /* five numbers */
    }
    default:
        return false;
    }
}

static bool is_read(uint16_t type)
{
    return type == DNS_A || type == DNS_AAAA || type == DNS_TXT || type == DNS_MX ||
           type == TYPE_CNAME || type == TYPE_SOA;
}

/* What the look-over learns on its way. */
struct look {
    size_t at;
    uint8_t extended_rcode; /* of OPT */
    bool has_ns;            /* in the authority section */
};

static bool look_over_record(uint8_t *packet, size_t size, bool authority, struct look *look)
{
    struct slice whole = slice_of(packet, size);
    size_t head = name_end(whole, look->at), data_bytes;
    uint16_t type;

    if (head == 0 || head + 10 > size)
        return false;
    type = be16(packet + head);
    data_bytes = be16(packet + head + 8);
    if (head + 10 + data_bytes > size)
        return false;
    if (is_read(type) && be16(packet + head + 2) == CLASS_IN) {
        if (!data_fits(whole, type, head + 10, data_bytes))
            return false;
    } else {
        if (type == TYPE_OPT)
            look->extended_rcode = packet[head + 4]; /* the upper eight bits (RFC 6891 6.1.3) */
        if (type == TYPE_NS && authority)
            look->has_ns = true;
        packet[head] = TYPE_OPAQUE >> 8;
        packet[head + 1] = TYPE_OPAQUE & 0xff;
    }
    look->at = head + 10 + data_bytes;
    return true;
}

static bool look_over(uint8_t *packet, size_t size, size_t size_max, struct look *ret_look)
{
    *ret_look = (struct look){.at = HEADER_BYTES};
    if (size < HEADER_BYTES || size > size_max || be16(packet + 4) != 1)
        return false;
    ret_look->at = name_end(slice_of(packet, size), HEADER_BYTES);
    if (ret_look->at == 0 || ret_look->at + 4 > size)
        return false;
    ret_look->at += 4;
    for (size_t section = 0; section < 3; section++) {
        uint16_t count = be16(packet + 6 + 2 * section);

        if (count > DNS_SECTION_RECORDS_MAX)
            return false;
        for (uint16_t i = 0; i < count; i++) {
            if (!look_over_record(packet, size, section == 1, ret_look))
                return false;
        }
    }
    return true;
}

bool dns_packet_answers(struct slice question, struct slice answer)
{
    size_t end = name_end(question, HEADER_BYTES);
    struct slice asked;

    ASSERT(end != 0); /* we have built it */
    asked = slice_first(slice_skip(question, HEADER_BYTES), end + 4 - HEADER_BYTES);
    if (answer.size < HEADER_BYTES + asked.size)
        return false;
    if (be16(answer.data) != be16(question.data) || (answer.data[2] & 0xf8) != 0x80 ||
        be16(answer.data + 4) != 1)
        return false;
    /* Without case, because a resolver may answer in another one; the lengths of labels are no
     * letters. */
    return slice_equal_nocase(asked, slice_first(slice_skip(answer, HEADER_BYTES), asked.size));
}

/* ---- the answer, as ldns reads it ---------------------------------------------------------- */

/* RFC 2181 8: a time to live has 31 bits; with the highest one set it counts as 0. */
static uint32_t ttl_of(const ldns_rr *record)
{
    return ldns_rr_ttl(record) > INT32_MAX ? 0 : ldns_rr_ttl(record);
}

static void read_text(const ldns_rr *record, struct dns_packet_answer *answer,
                      struct dns_record *ret_record)
{
    size_t begin = answer->text_bytes;

    for (size_t i = 0; i < ldns_rr_rd_count(record); i++) {
        const ldns_rdf *string = ldns_rr_rdf(record, i);
        size_t size = ldns_rdf_size(string);

        if (size < 1 || answer->text_bytes + size - 1 > sizeof(answer->text))
            break; /* the strings of a packet are shorter than it */
        memcpy(answer->text + answer->text_bytes, ldns_rdf_data(string) + 1, size - 1);
        answer->text_bytes += size - 1;
    }
    ret_record->text = slice_of(answer->text + begin, answer->text_bytes - begin);
}

static void read_record(const ldns_rr *record, struct dns_packet_answer *answer)
{
    struct dns_record *to = &answer->records[answer->record_count++];
    const ldns_rdf *first = ldns_rr_rdf(record, 0);

    *to = (struct dns_record){.type = (enum dns_type)ldns_rr_get_type(record),
                              .ttl_s = ttl_of(record)};
    switch (to->type) {
    case DNS_A:
    case DNS_AAAA:
        memcpy(to->address, ldns_rdf_data(first), MIN(ldns_rdf_size(first), sizeof(to->address)));
        break;
    case DNS_MX:
        to->preference = ldns_rdf2native_int16(first);
        name_text(ldns_rr_rdf(record, 1), to->name);
        break;
    case DNS_TXT:
        read_text(record, answer, to);
        break;
    }
}

static const ldns_rr *find_alias(const ldns_rr_list *list, const ldns_rdf *owner)
{
    for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++) {
        const ldns_rr *record = ldns_rr_list_rr(list, i);

        if (ldns_rr_get_type(record) == LDNS_RR_TYPE_CNAME &&
            same_name(ldns_rr_owner(record), owner))
            return record;
    }
    return NULL;
}

/* Follows the CNAMEs that the answer holds. Returns the last name, or NULL when there are too many:
 * a loop. */
static const ldns_rdf *follow(const ldns_rr_list *list, const ldns_rdf *owner,
                              uint32_t aliases_left, struct dns_packet_answer *answer)
{
    const ldns_rr *alias;

    while ((alias = find_alias(list, owner)) != NULL) {
        if (answer->aliases == aliases_left)
            return NULL;
        answer->aliases++;
        answer->ttl_s = MIN(answer->ttl_s, ttl_of(alias));
        owner = ldns_rr_rdf(alias, 0);
    }
    return owner;
}

static void collect(const ldns_rr_list *list, const ldns_rdf *owner, enum dns_type type,
                    struct dns_packet_answer *answer)
{
    for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++) {
        const ldns_rr *record = ldns_rr_list_rr(list, i);

        if (ldns_rr_get_type(record) != (ldns_rr_type)type ||
            !same_name(ldns_rr_owner(record), owner))
            continue;
        answer->ttl_s = MIN(answer->ttl_s, ttl_of(record));
        read_record(record, answer); /* at most 64: the look-over has counted */
    }
}

/* RFC 2308 5: the smaller of the SOA's own TTL and its MINIMUM. Without the SOA of a zone above
 * `owner` a negative answer is not kept. */
static bool negative_ttl(const ldns_rr_list *list, const ldns_rdf *owner, uint32_t *ret_ttl_s)
{
    for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++) {
        const ldns_rr *record = ldns_rr_list_rr(list, i);
        const ldns_rdf *zone = ldns_rr_owner(record);

        if (ldns_rr_get_type(record) != LDNS_RR_TYPE_SOA || !is_within(owner, zone))
            continue;
        *ret_ttl_s = MIN(ttl_of(record), ldns_rdf2native_int32(ldns_rr_rdf(record, 6)));
        return true;
    }
    return false;
}

/* No record of the type: the name lacks it, or goes on elsewhere, or this server does not know. */
static enum dns_verdict judge_empty(const ldns_pkt *packet, const ldns_rdf *owner, bool has_ns,
                                    struct dns_packet_answer *answer)
{
    uint32_t ttl_s;

    if (negative_ttl(ldns_pkt_authority(packet), owner, &ttl_s)) {
        answer->ttl_s = MIN(answer->ttl_s, ttl_s);
        return DNS_VERDICT_NODATA;
    }
    if (answer->aliases > 0) {
        char name[DNS_NAME_MAX];

        name_text(owner, name);
        return dns_name_parse(slice_cstr(name), answer->alias) ? DNS_VERDICT_ALIAS
                                                               : DNS_VERDICT_LOOP;
    }
    answer->ttl_s = 0;
    /* Name servers and no SOA are a referral (RFC 2308 2.2): it does not recurse for us, and taking
     * that for "no MX" would return mail. */
    return has_ns ? DNS_VERDICT_SERVER : DNS_VERDICT_NODATA;
}

static enum dns_verdict judge(const ldns_pkt *packet, enum dns_type type, bool has_ns,
                              uint32_t aliases_left, struct dns_packet_answer *answer)
{
    const ldns_rr_list *list = ldns_pkt_answer(packet);
    const ldns_rdf *owner = ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_question(packet), 0));
    uint32_t ttl_s = 0;

    owner = follow(list, owner, aliases_left, answer);
    if (owner == NULL)
        return DNS_VERDICT_LOOP;
    collect(list, owner, type, answer);
    if (ldns_pkt_get_rcode(packet) == LDNS_RCODE_NXDOMAIN) {
        if (answer->record_count > 0)
            return DNS_VERDICT_DAMAGED; /* there, and not there: believed in neither */
        (void)negative_ttl(ldns_pkt_authority(packet), owner, &ttl_s); /* 0 without one */
        answer->ttl_s = MIN(answer->ttl_s, ttl_s);
        return DNS_VERDICT_NXDOMAIN;
    }
    return answer->record_count > 0 ? DNS_VERDICT_OK : judge_empty(packet, owner, has_ns, answer);
}

void dns_packet_read(uint8_t *packet, size_t size_bytes, bool tcp, enum dns_type type,
                     uint32_t aliases_left, struct dns_packet_answer *ret_answer)
{
    size_t size_max = tcp ? DNS_ANSWER_TCP_BYTES_MAX : DNS_ANSWER_UDP_BYTES_MAX;
    uint8_t rcode = size_bytes < HEADER_BYTES ? 0 : packet[3] & 0x0f;
    struct look look;
    ldns_pkt *read = NULL;

    ret_answer->verdict = DNS_VERDICT_DAMAGED;
    ret_answer->ttl_s = UINT32_MAX;
    ret_answer->aliases = 0;
    ret_answer->record_count = 0;
    ret_answer->text_bytes = 0;
    ret_answer->alias[0] = '\0';
    if (!tcp && size_bytes >= HEADER_BYTES && packet[2] & 0x02) {
        ret_answer->verdict = DNS_VERDICT_TRUNCATED; /* what is there may end anywhere */
        return;
    }
    if (!look_over(packet, size_bytes, size_max, &look))
        return;
    if (rcode == RCODE_FORMERR || rcode == RCODE_NOTIMP || look.extended_rcode != 0) {
        ret_answer->verdict = DNS_VERDICT_NO_EDNS;
        return;
    }
    if (rcode != 0 && rcode != RCODE_NXDOMAIN) {
        ret_answer->verdict = DNS_VERDICT_SERVER;
        return;
    }
    if (ldns_wire2pkt(&read, packet, size_bytes) != LDNS_STATUS_OK)
        return; /* or no memory: either way there is no answer in it */
    ret_answer->verdict = judge(read, type, look.has_ns, aliases_left, ret_answer);
    ldns_pkt_free(read);
}
