#include "storage/spool_record.h"

#include "core/crc32c.h"
#include "storage/spool_bytes_private.h"

#define SUPER_MAGIC "KILATSPL"
#define SEGMENT_MAGIC "KILATSEG"
#define GROUP_MAGIC "KGRP"
#define SUPER_CRC_OFFSET (SPOOL_BLOCK_BYTES - 4)
#define SEGMENT_HEADER_BYTES 128u
#define SEGMENT_COPY_OFFSET 2048u
#define GROUP_CRC_OFFSET 60u
#define RECORD_CRC_OFFSET 44u
#define JOURNAL_CRC_OFFSET 4u
#define SUPER_NEWEST_OFFSET 80u
#define SUPER_OLDER_OFFSET 112u

static_assert(SEGMENT_COPY_OFFSET % 512 == 0 && SEGMENT_COPY_OFFSET >= 512,
              "the two copies lie in different sectors");

/* ---- SUPER ---------------------------------------------------------------------------------- */

enum spool_format spool_features_check(const struct spool_features *features)
{
    if (features->major > SPOOL_MAJOR || (features->incompat & ~SPOOL_INCOMPAT_KNOWN) != 0)
        return SPOOL_FORMAT_REFUSED;
    return features->ro_compat != 0 ? SPOOL_FORMAT_READ_ONLY : SPOOL_FORMAT_KNOWN;
}

static void features_encode(const struct spool_features *features, uint8_t *to)
{
    put_16(to, features->major);
    put_16(to + 2, features->minor);
    put_32(to + 4, features->compat);
    put_32(to + 8, features->ro_compat);
    put_32(to + 12, features->incompat);
}

static void features_decode(const uint8_t *from, struct spool_features *ret_features)
{
    ret_features->major = get_16(from);
    ret_features->minor = get_16(from + 2);
    ret_features->compat = get_32(from + 4);
    ret_features->ro_compat = get_32(from + 8);
    ret_features->incompat = get_32(from + 12);
}

static void place_encode(const struct spool_place *place, uint8_t *to)
{
    put_32(to, place->segment);
    put_32(to + 4, place->offset_16);
}

static struct spool_place place_decode(const uint8_t *from)
{
    return (struct spool_place){.segment = get_32(from), .offset_16 = get_32(from + 4)};
}

static void super_checkpoint_encode(const struct spool_super_checkpoint *checkpoint, uint8_t *to)
{
    put_64(to, checkpoint->number);
    place_encode(&checkpoint->d, to + 8);
    place_encode(&checkpoint->r, to + 16);
    place_encode(&checkpoint->j, to + 24);
}

static struct spool_super_checkpoint super_checkpoint_decode(const uint8_t *from)
{
    return (struct spool_super_checkpoint){
        .number = get_64(from),
        .d = place_decode(from + 8),
        .r = place_decode(from + 16),
        .j = place_decode(from + 24),
    };
}

void spool_super_encode(const struct spool_super *super, uint8_t slot[SPOOL_BLOCK_BYTES])
{
    memset(slot, 0, SPOOL_BLOCK_BYTES);
    memcpy(slot, SUPER_MAGIC, 8);
    features_encode(&super->features, slot + 8);
    put_64(slot + 24, super->sequence);
    memcpy(slot + 32, super->uuid, SPOOL_UUID_BYTES);
    put_32(slot + 48, super->number);
    put_64(slot + 56, super->epoch);
    put_64(slot + 64, super->id_limit);
    put_64(slot + 72, super->created_s);
    super_checkpoint_encode(&super->newest, slot + SUPER_NEWEST_OFFSET);
    super_checkpoint_encode(&super->older, slot + SUPER_OLDER_OFFSET);
    put_32(slot + SUPER_CRC_OFFSET, crc32c(0, slice_of(slot, SUPER_CRC_OFFSET)));
}

bool spool_super_decode(const uint8_t slot[SPOOL_BLOCK_BYTES], struct spool_super *ret_super)
{
    if (memcmp(slot, SUPER_MAGIC, 8) != 0 ||
        get_32(slot + SUPER_CRC_OFFSET) != crc32c(0, slice_of(slot, SUPER_CRC_OFFSET)))
        return false;
    features_decode(slot + 8, &ret_super->features);
    ret_super->sequence = get_64(slot + 24);
    memcpy(ret_super->uuid, slot + 32, SPOOL_UUID_BYTES);
    ret_super->number = get_32(slot + 48);
    ret_super->epoch = get_64(slot + 56);
    ret_super->id_limit = get_64(slot + 64);
    ret_super->created_s = get_64(slot + 72);
    ret_super->newest = super_checkpoint_decode(slot + SUPER_NEWEST_OFFSET);
    ret_super->older = super_checkpoint_decode(slot + SUPER_OLDER_OFFSET);
    return true;
}

/* ---- segments ------------------------------------------------------------------------------- */

void spool_segment_header_encode(const struct spool_segment_header *header,
                                 uint8_t block[SPOOL_BLOCK_BYTES])
{
    memset(block, 0, SPOOL_BLOCK_BYTES);
    memcpy(block, SEGMENT_MAGIC, 8);
    features_encode(&header->features, block + 8);
    block[24] = (uint8_t)header->stream;
    block[25] = header->lane;
    put_32(block + 28, header->number);
    memcpy(block + 32, header->uuid, SPOOL_UUID_BYTES);
    put_64(block + 48, header->incarnation);
    put_64(block + 56, header->epoch);
    put_64(block + 64, header->size_bytes);
    put_64(block + 72, header->created_s);
    put_32(block + 80, SPOOL_BLOCK_BYTES);
    put_32(block + 84, header->spool_number);
    put_32(block + 124, crc32c(0, slice_of(block, 124)));
    memcpy(block + SEGMENT_COPY_OFFSET, block, SEGMENT_HEADER_BYTES);
}

bool spool_segment_header_decode(const uint8_t block[SPOOL_BLOCK_BYTES],
                                 struct spool_segment_header *ret_header)
{
    const uint8_t *from = block;

    for (int copy = 0; copy < 2; copy++, from = block + SEGMENT_COPY_OFFSET) {
        if (memcmp(from, SEGMENT_MAGIC, 8) != 0 ||
            get_32(from + 124) != crc32c(0, slice_of(from, 124)) ||
            get_32(from + 80) != SPOOL_BLOCK_BYTES)
            continue;
        features_decode(from + 8, &ret_header->features);
        ret_header->stream = (char)from[24];
        ret_header->lane = from[25];
        ret_header->number = get_32(from + 28);
        memcpy(ret_header->uuid, from + 32, SPOOL_UUID_BYTES);
        ret_header->incarnation = get_64(from + 48);
        ret_header->epoch = get_64(from + 56);
        ret_header->size_bytes = get_64(from + 64);
        ret_header->created_s = get_64(from + 72);
        ret_header->spool_number = get_32(from + 84);
        return true;
    }
    return false;
}

uint32_t spool_seed(const uint8_t uuid[SPOOL_UUID_BYTES], uint64_t incarnation)
{
    uint8_t bytes[SPOOL_UUID_BYTES + 8];

    memcpy(bytes, uuid, SPOOL_UUID_BYTES);
    put_64(bytes + SPOOL_UUID_BYTES, incarnation);
    return crc32c(0, slice_of(bytes, sizeof(bytes)));
}

static uint32_t seed_at(uint32_t seed, uint64_t offset)
{
    uint8_t bytes[4];

    put_32(bytes, (uint32_t)(offset / SPOOL_RECORD_ALIGN));
    return crc32c(seed, slice_of(bytes, sizeof(bytes)));
}

/* ---- groups --------------------------------------------------------------------------------- */

void spool_group_header_encode(struct spool_group_header *header, uint32_t seed, uint64_t offset,
                               uint8_t to[SPOOL_GROUP_HEADER_BYTES])
{
    memcpy(to, GROUP_MAGIC, 4);
    put_32(to + 4, header->group_bytes);
    put_32(to + 8, header->payload_end);
    put_32(to + 12, header->record_count);
    put_64(to + 16, header->lsn);
    put_64(to + 24, header->incarnation);
    put_64(to + 32, header->durable_lsn);
    put_64(to + 40, header->previous_lsn);
    put_32(to + 48, header->previous_crc);
    put_64(to + 52, 0);
    header->crc = crc32c(seed_at(seed, offset), slice_of(to, GROUP_CRC_OFFSET));
    put_32(to + GROUP_CRC_OFFSET, header->crc);
}

bool spool_group_header_decode(const uint8_t from[SPOOL_GROUP_HEADER_BYTES], uint32_t seed,
                               uint64_t offset, struct spool_group_header *ret_header)
{
    if (memcmp(from, GROUP_MAGIC, 4) != 0)
        return false;
    *ret_header = (struct spool_group_header){
        .group_bytes = get_32(from + 4),
        .payload_end = get_32(from + 8),
        .record_count = get_32(from + 12),
        .lsn = get_64(from + 16),
        .incarnation = get_64(from + 24),
        .durable_lsn = get_64(from + 32),
        .previous_lsn = get_64(from + 40),
        .previous_crc = get_32(from + 48),
        .crc = get_32(from + GROUP_CRC_OFFSET),
    };
    return ret_header->crc == crc32c(seed_at(seed, offset), slice_of(from, GROUP_CRC_OFFSET)) &&
           ret_header->group_bytes % SPOOL_BLOCK_BYTES == 0 && ret_header->group_bytes != 0 &&
           ret_header->group_bytes <= SPOOL_GROUP_BYTES_MAX &&
           ret_header->payload_end >= SPOOL_GROUP_HEADER_BYTES &&
           ret_header->payload_end <= ret_header->group_bytes;
}

bool spool_group_header_trace(const uint8_t from[SPOOL_GROUP_HEADER_BYTES], uint64_t incarnation)
{
    return memcmp(from, GROUP_MAGIC, 4) == 0 && get_64(from + 24) == incarnation;
}

/* ---- D records ------------------------------------------------------------------------------ */

void spool_record_encode(const struct spool_record *record, uint8_t to[SPOOL_RECORD_HEADER_BYTES])
{
    to[0] = record->type;
    to[1] = record->flags;
    put_16(to + 2, record->skip_count);
    put_32(to + 4, record->record_bytes);
    put_64(to + 8, record->id);
    put_32(to + 16, record->envelope_bytes);
    put_32(to + 20, record->head_bytes);
    put_32(to + 24, record->body_bytes);
    put_32(to + 28, record->unit_count);
    put_32(to + 32, record->arrival_s);
    put_32(to + 36, record->front_crc);
    put_32(to + 40, record->body_crc);
}

void spool_record_seal(uint8_t header[SPOOL_RECORD_HEADER_BYTES], uint32_t seed, uint64_t offset)
{
    put_32(header + RECORD_CRC_OFFSET,
           crc32c(seed_at(seed, offset), slice_of(header, RECORD_CRC_OFFSET)));
}

bool spool_record_decode(const uint8_t from[SPOOL_RECORD_HEADER_BYTES], uint64_t room,
                         uint32_t seed, uint64_t offset, struct spool_record *ret_record)
{
    uint32_t record_bytes = get_32(from + 4);
    uint64_t sum;

    /* Cheap refusals first: a search through a hole asks this at every 16 bytes. */
    if (from[0] == 0 || record_bytes < SPOOL_RECORD_HEADER_BYTES || record_bytes > room ||
        record_bytes > SPOOL_RECORD_BYTES_MAX ||
        get_32(from + RECORD_CRC_OFFSET) !=
            crc32c(seed_at(seed, offset), slice_of(from, RECORD_CRC_OFFSET)))
        return false;
    *ret_record = (struct spool_record){
        .type = from[0],
        .flags = from[1],
        .skip_count = get_16(from + 2),
        .record_bytes = record_bytes,
        .id = get_64(from + 8),
        .envelope_bytes = get_32(from + 16),
        .head_bytes = get_32(from + 20),
        .body_bytes = get_32(from + 24),
        .unit_count = get_32(from + 28),
        .arrival_s = get_32(from + 32),
        .front_crc = get_32(from + 36),
        .body_crc = get_32(from + 40),
    };
    sum = SPOOL_RECORD_HEADER_BYTES + (uint64_t)ret_record->envelope_bytes +
          ret_record->head_bytes + (uint64_t)ret_record->skip_count * SPOOL_SKIP_BYTES +
          ret_record->body_bytes;
    if (ret_record->type == SPOOL_RELOC && sum <= record_bytes) {
        ret_record->states_bytes = (uint32_t)(record_bytes - sum);
        return true;
    }
    return sum == record_bytes;
}

void spool_record_sections(const struct spool_record *record, const uint8_t *from,
                           struct spool_sections *ret_sections)
{
    const uint8_t *at = from + SPOOL_RECORD_HEADER_BYTES;

    ret_sections->envelope = slice_of(at, record->envelope_bytes);
    at += record->envelope_bytes;
    ret_sections->head = slice_of(at, record->head_bytes);
    at += record->head_bytes;
    ret_sections->skips = slice_of(at, (size_t)record->skip_count * SPOOL_SKIP_BYTES);
    at += ret_sections->skips.size;
    ret_sections->states = slice_of(at, record->states_bytes);
    at += record->states_bytes;
    ret_sections->body = slice_of(at, record->body_bytes);
}

bool spool_record_front_ok(const struct spool_record *record, const uint8_t *from)
{
    size_t bytes = record->record_bytes - SPOOL_RECORD_HEADER_BYTES - record->body_bytes;

    return crc32c(0, slice_of(from + SPOOL_RECORD_HEADER_BYTES, bytes)) == record->front_crc;
}

bool spool_record_body_ok(const struct spool_record *record, const uint8_t *from)
{
    const uint8_t *body = from + (record->record_bytes - record->body_bytes);

    return crc32c(0, slice_of(body, record->body_bytes)) == record->body_crc;
}

struct spool_skip spool_skip_get(const uint8_t *skips, uint32_t index)
{
    const uint8_t *from = skips + (size_t)index * SPOOL_SKIP_BYTES;

    return (struct spool_skip){.offset = get_32(from), .bytes = get_32(from + 4)};
}

void spool_skip_put(uint8_t *skips, uint32_t index, struct spool_skip skip)
{
    put_32(skips + (size_t)index * SPOOL_SKIP_BYTES, skip.offset);
    put_32(skips + (size_t)index * SPOOL_SKIP_BYTES + 4, skip.bytes);
}

bool spool_skips_ok(struct slice skips, uint64_t body_bytes, uint64_t *ret_bytes)
{
    uint64_t end = 0, sum = 0;

    for (uint32_t i = 0; i < skips.size / SPOOL_SKIP_BYTES; i++) {
        struct spool_skip skip = spool_skip_get(skips.data, i);

        if (skip.offset < end)
            return false;
        end = (uint64_t)skip.offset + skip.bytes;
        sum += skip.bytes;
    }
    *ret_bytes = sum;
    return end <= body_bytes;
}

struct spool_chunk_entry spool_chunk_entry_get(const struct spool_chunk_list *list, uint32_t index)
{
    const uint8_t *from = list->entries + (size_t)index * SPOOL_CHUNK_ENTRY_BYTES;

    return (struct spool_chunk_entry){
        .segment = get_32(from),
        .offset_16 = get_32(from + 4),
        .body_bytes = get_32(from + 8),
        .body_crc = get_32(from + 12),
    };
}

bool spool_chunk_list_decode(struct slice list, struct spool_chunk_list *ret_list)
{
    uint64_t sum = 0;

    if (list.size < SPOOL_CHUNK_LIST_BYTES)
        return false;
    ret_list->body_bytes = get_64(list.data);
    ret_list->body_crc = get_32(list.data + 8);
    ret_list->count = get_32(list.data + 12);
    ret_list->entries = list.data + SPOOL_CHUNK_LIST_BYTES;
    if (list.size - SPOOL_CHUNK_LIST_BYTES != (uint64_t)ret_list->count * SPOOL_CHUNK_ENTRY_BYTES)
        return false;
    for (uint32_t i = 0; i < ret_list->count; i++)
        sum += spool_chunk_entry_get(ret_list, i).body_bytes;
    return sum == ret_list->body_bytes;
}

void spool_chunk_list_encode(uint8_t to[SPOOL_CHUNK_LIST_BYTES], uint64_t body_bytes,
                             uint32_t body_crc, uint32_t count)
{
    put_64(to, body_bytes);
    put_32(to + 8, body_crc);
    put_32(to + 12, count);
}

void spool_chunk_entry_encode(uint8_t to[SPOOL_CHUNK_ENTRY_BYTES],
                              const struct spool_chunk_entry *entry)
{
    put_32(to, entry->segment);
    put_32(to + 4, entry->offset_16);
    put_32(to + 8, entry->body_bytes);
    put_32(to + 12, entry->body_crc);
}

/* ---- RELOC and FOOTER ----------------------------------------------------------------------- */

#define STATES_HELD 1u
#define STATES_IN_DOUBT 1u

uint32_t spool_states_bytes(uint32_t unit_count, size_t reason_bytes)
{
    return SPOOL_STATES_HEADER_BYTES + unit_count * SPOOL_STATES_UNIT_BYTES +
           (uint32_t)MIN(reason_bytes, (size_t)SPOOL_STATES_REASON_MAX);
}

void spool_states_encode(uint8_t *to, bool held, const struct spool_unit *units,
                         uint32_t unit_count, struct slice reason)
{
    uint16_t reason_bytes = (uint16_t)MIN(reason.size, (size_t)SPOOL_STATES_REASON_MAX);
    uint8_t *at = to + SPOOL_STATES_HEADER_BYTES;

    memset(to, 0, SPOOL_STATES_HEADER_BYTES);
    to[0] = held ? STATES_HELD : 0;
    put_16(to + 2, reason_bytes);
    for (uint32_t i = 0; i < unit_count; i++, at += SPOOL_STATES_UNIT_BYTES) {
        at[0] = units[i].state;
        at[1] = units[i].attempts;
        at[2] = units[i].in_doubt ? STATES_IN_DOUBT : 0;
        at[3] = 0;
        put_32(at + 4, units[i].next_s);
    }
    if (reason_bytes > 0)
        memcpy(at, reason.data, reason_bytes);
}

bool spool_states_decode(struct slice states, uint32_t unit_count, struct spool_states *ret_states)
{
    uint64_t units_bytes = (uint64_t)unit_count * SPOOL_STATES_UNIT_BYTES;
    uint32_t reason_bytes;

    if (states.size < SPOOL_STATES_HEADER_BYTES)
        return false;
    reason_bytes = get_16(states.data + 2);
    if (reason_bytes > SPOOL_STATES_REASON_MAX ||
        states.size != SPOOL_STATES_HEADER_BYTES + units_bytes + reason_bytes)
        return false;
    ret_states->held = (states.data[0] & STATES_HELD) != 0;
    ret_states->unit_count = unit_count;
    ret_states->units = states.data + SPOOL_STATES_HEADER_BYTES;
    ret_states->reason = slice_of(ret_states->units + units_bytes, reason_bytes);
    return true;
}

struct spool_unit spool_states_unit(const struct spool_states *states, uint32_t index)
{
    const uint8_t *from = states->units + (size_t)index * SPOOL_STATES_UNIT_BYTES;

    return (struct spool_unit){
        .state = from[0] == SPOOL_UNIT_DONE ? SPOOL_UNIT_DONE : SPOOL_UNIT_WAITING,
        .attempts = from[1],
        .in_doubt = (from[2] & STATES_IN_DOUBT) != 0,
        .next_s = get_32(from + 4),
    };
}

void spool_footer_entry_put(uint8_t *entries, uint32_t index,
                            const struct spool_footer_entry *entry)
{
    uint8_t *to = entries + (size_t)index * SPOOL_FOOTER_ENTRY_BYTES;

    put_32(to, entry->type);
    put_32(to + 4, entry->offset_16);
    put_64(to + 8, entry->id);
    put_32(to + 16, entry->record_bytes);
    put_32(to + 20, entry->front_bytes);
}

struct spool_footer_entry spool_footer_entry_get(const uint8_t *entries, uint32_t index)
{
    const uint8_t *from = entries + (size_t)index * SPOOL_FOOTER_ENTRY_BYTES;

    return (struct spool_footer_entry){
        .type = from[0],
        .offset_16 = get_32(from + 4),
        .id = get_64(from + 8),
        .record_bytes = get_32(from + 16),
        .front_bytes = get_32(from + 20),
    };
}

bool spool_footer_ok(struct slice body, uint64_t segment_bytes)
{
    uint64_t end = SPOOL_BLOCK_BYTES;

    if (body.size % SPOOL_FOOTER_ENTRY_BYTES != 0)
        return false;
    for (uint32_t i = 0; i < body.size / SPOOL_FOOTER_ENTRY_BYTES; i++) {
        struct spool_footer_entry entry = spool_footer_entry_get(body.data, i);
        uint64_t offset = (uint64_t)entry.offset_16 * SPOOL_RECORD_ALIGN;

        if (offset < end || entry.front_bytes < SPOOL_RECORD_HEADER_BYTES ||
            entry.front_bytes > entry.record_bytes || entry.record_bytes > SPOOL_RECORD_BYTES_MAX)
            return false;
        end = offset + entry.record_bytes;
    }
    return end <= segment_bytes;
}

/* ---- joining checksums ---------------------------------------------------------------------- */

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected */

/* a * b modulo the polynomial, both reflected: bit 31 is x^0. */
static uint32_t crc_multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = (b >> 1) ^ ((b & 1) ? CRC32C_POLYNOMIAL : 0);
    }
    return product;
}

/* Appending b_bytes zeros to A multiplies its checksum by x^(8 * b_bytes); the pre- and post-
 * conditioning of A and B cancel, so the exclusive or with B's is that of both. */
uint32_t spool_crc_join(uint32_t crc_a, uint32_t crc_b, uint64_t b_bytes)
{
    uint32_t factor = 1u << 31; /* x^0 */
    uint32_t square = 1u << 23; /* x^8: one byte */

    for (uint64_t rest = b_bytes; rest != 0; rest >>= 1) {
        if (rest & 1)
            factor = crc_multiply(factor, square);
        square = crc_multiply(square, square);
    }
    return crc_multiply(factor, crc_a) ^ crc_b;
}

/* ---- J records ------------------------------------------------------------------------------ */

void spool_journal_encode(const struct spool_journal_record *record,
                          uint8_t to[SPOOL_JOURNAL_HEADER_BYTES])
{
    to[0] = record->type;
    to[1] = record->outcome;
    put_16(to + 2, record->text_bytes);
    put_32(to + 4, 0);
    put_64(to + 8, record->id);
    put_32(to + 16, record->unit_first);
    put_32(to + 20, record->unit_count);
    put_32(to + 24, record->next_s);
    memcpy(to + 28, record->status, 3);
    to[31] = record->attempts;
}

static uint32_t journal_crc(const uint8_t *record, uint32_t bytes, uint32_t seed, uint64_t offset)
{
    uint32_t crc = crc32c(seed_at(seed, offset), slice_of(record, JOURNAL_CRC_OFFSET));

    return crc32c(crc, slice_of(record + JOURNAL_CRC_OFFSET + 4, bytes - JOURNAL_CRC_OFFSET - 4));
}

void spool_journal_seal(uint8_t *record, uint32_t seed, uint64_t offset)
{
    uint32_t bytes = spool_record_length('J', record);

    put_32(record + JOURNAL_CRC_OFFSET, journal_crc(record, bytes, seed, offset));
}

bool spool_journal_decode(const uint8_t *from, uint64_t room, uint32_t seed, uint64_t offset,
                          struct spool_journal_record *ret_record)
{
    uint32_t bytes;

    if (room < SPOOL_JOURNAL_HEADER_BYTES || from[0] == 0 ||
        get_16(from + 2) > SPOOL_JOURNAL_TEXT_MAX)
        return false;
    bytes = spool_record_length('J', from);
    if (bytes > room || get_32(from + JOURNAL_CRC_OFFSET) != journal_crc(from, bytes, seed, offset))
        return false;
    *ret_record = (struct spool_journal_record){
        .type = from[0],
        .outcome = from[1],
        .text_bytes = get_16(from + 2),
        .id = get_64(from + 8),
        .unit_first = get_32(from + 16),
        .unit_count = get_32(from + 20),
        .next_s = get_32(from + 24),
        .attempts = from[31],
    };
    memcpy(ret_record->status, from + 28, 3);
    return true;
}

uint32_t spool_record_length(char stream, const uint8_t *record)
{
    return stream == 'J' ? SPOOL_JOURNAL_HEADER_BYTES + get_16(record + 2) : get_32(record + 4);
}
