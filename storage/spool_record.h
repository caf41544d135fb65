/* storage/spool_record.h - the formats of storage/README.md as encode and decode functions.
 *
 * Pure: bytes in, structs out. Every decode function takes bytes of unknown origin, checks all of
 * them before it believes any, and answers true only for what our own encoder wrote at this very
 * position. Shard: any. */
#ifndef KILAT_STORAGE_SPOOL_RECORD_H
#define KILAT_STORAGE_SPOOL_RECORD_H

#include "storage/spool.h"

#define SPOOL_BLOCK_BYTES 4096u
#define SPOOL_GROUP_BYTES_MAX (1u << 20)
#define SPOOL_RECORD_ALIGN 16u
#define SPOOL_MAJOR 1
#define SPOOL_MINOR 1

/* Bits of the incompat mask (storage/README.md, Versions and features). */
#define SPOOL_INCOMPAT_CHECKPOINTS 1u
#define SPOOL_INCOMPAT_COLD 2u
#define SPOOL_INCOMPAT_KNOWN (SPOOL_INCOMPAT_CHECKPOINTS | SPOOL_INCOMPAT_COLD)

/* ---- SUPER ---------------------------------------------------------------------------------- */

/* What an unknown bit or a newer major asks for. */
enum spool_format { SPOOL_FORMAT_KNOWN, SPOOL_FORMAT_READ_ONLY, SPOOL_FORMAT_REFUSED };

struct spool_features {
    uint16_t major, minor;
    uint32_t compat, ro_compat, incompat;
};
enum spool_format spool_features_check(const struct spool_features *features);

/* A place in one of the logs: the byte at 16 * offset_16 of a segment, which need not be there any more. */
struct spool_place {
    uint32_t segment, offset_16;
};
/* Where the tails of the logs begin that a checkpoint does not know. */
struct spool_super_checkpoint {
    uint64_t number; /* 0: none */
    struct spool_place d, r, j;
};

struct spool_super {
    struct spool_features features;
    uint64_t sequence;
    uint8_t uuid[SPOOL_UUID_BYTES];
    uint32_t number;
    uint64_t epoch;
    uint64_t id_limit;
    uint64_t created_s;
    struct spool_super_checkpoint newest, older;
};
void spool_super_encode(const struct spool_super *super, uint8_t slot[SPOOL_BLOCK_BYTES]);
bool spool_super_decode(const uint8_t slot[SPOOL_BLOCK_BYTES], struct spool_super *ret_super);

/* ---- segments ------------------------------------------------------------------------------- */

struct spool_segment_header {
    struct spool_features features;
    char stream;  /* 'D', 'R' or 'J' */
    uint8_t lane; /* 1: cold (R) */
    uint32_t number;
    uint8_t uuid[SPOOL_UUID_BYTES];
    uint64_t incarnation;
    uint64_t epoch;
    uint64_t size_bytes;
    uint64_t created_s;
    uint32_t spool_number;
};
void spool_segment_header_encode(const struct spool_segment_header *header,
                                 uint8_t block[SPOOL_BLOCK_BYTES]);
/* From either copy. */
bool spool_segment_header_decode(const uint8_t block[SPOOL_BLOCK_BYTES],
                                 struct spool_segment_header *ret_header);

/* seed(segment): everything in a segment is checksummed from it and the position. */
uint32_t spool_seed(const uint8_t uuid[SPOOL_UUID_BYTES], uint64_t incarnation);

/* ---- groups --------------------------------------------------------------------------------- */

#define SPOOL_GROUP_HEADER_BYTES 64u
#define SPOOL_LSN_BITS 40 /* the number of the write; the epoch stands above it */

struct spool_group_header {
    uint32_t group_bytes;
    uint32_t payload_end;
    uint32_t record_count;
    uint64_t lsn;
    uint64_t incarnation;
    uint64_t durable_lsn;
    uint64_t previous_lsn;
    uint32_t previous_crc;
    uint32_t crc;
};
/* Sets header->crc as well. `offset` in the segment, in bytes. */
void spool_group_header_encode(struct spool_group_header *header, uint32_t seed, uint64_t offset,
                               uint8_t to[SPOOL_GROUP_HEADER_BYTES]);
bool spool_group_header_decode(const uint8_t from[SPOOL_GROUP_HEADER_BYTES], uint32_t seed,
                               uint64_t offset, struct spool_group_header *ret_header);
/* Begins like a group of this incarnation, whatever its checksum says: the trace of a torn
 * write. */
bool spool_group_header_trace(const uint8_t from[SPOOL_GROUP_HEADER_BYTES], uint64_t incarnation);

/* ---- D records ------------------------------------------------------------------------------ */

#define SPOOL_RECORD_HEADER_BYTES 48u
#define SPOOL_SKIP_BYTES 8u
#define SPOOL_SKIPS_MAX 1024u
#define SPOOL_UNITS_MAX (1u << 20)
#define SPOOL_CHUNK_LIST_BYTES 16u /* in front of the entries */
#define SPOOL_CHUNK_ENTRY_BYTES 16u
#define SPOOL_ENVELOPE_MAX (512u * 1024u)
#define SPOOL_RECORD_BYTES_MAX (SPOOL_GROUP_BYTES_MAX - SPOOL_GROUP_HEADER_BYTES)

enum spool_record_type {
    SPOOL_MSG = 1,
    SPOOL_CHUNK = 2,
    SPOOL_COMMIT = 3,
    SPOOL_RELOC = 4,
    SPOOL_FOOTER = 5,
};
/* In the flags of a RELOC: it is the copy of a COMMIT. */
#define SPOOL_RELOC_CHUNKED 0x80u

struct spool_record {
    uint8_t type;
    uint8_t flags;
    uint16_t skip_count;
    uint32_t record_bytes;
    uint64_t id;
    uint32_t envelope_bytes;
    uint32_t head_bytes;
    uint32_t body_bytes;
    uint32_t states_bytes; /* RELOC; derived from the other lengths, not written itself */
    uint32_t unit_count;   /* CHUNK: its number in the upload; FOOTER: its number */
    uint32_t arrival_s;    /* FOOTER: how many there are */
    uint32_t front_crc;
    uint32_t body_crc;
};
/* Bytes 0..43; the checksum that ties it to its place is set by spool_record_seal() before each
 * write. */
void spool_record_encode(const struct spool_record *record, uint8_t to[SPOOL_RECORD_HEADER_BYTES]);
void spool_record_seal(uint8_t header[SPOOL_RECORD_HEADER_BYTES], uint32_t seed, uint64_t offset);
/* `room` is what the group or segment holds from here on: a record that would pass it is none. */
bool spool_record_decode(const uint8_t from[SPOOL_RECORD_HEADER_BYTES], uint64_t room,
                         uint32_t seed, uint64_t offset, struct spool_record *ret_record);
/* The sections behind the header. */
struct spool_sections {
    struct slice envelope, head, skips, states, body;
};
void spool_record_sections(const struct spool_record *record, const uint8_t *from,
                           struct spool_sections *ret_sections);
bool spool_record_front_ok(const struct spool_record *record, const uint8_t *from);
bool spool_record_body_ok(const struct spool_record *record, const uint8_t *from);

struct spool_skip spool_skip_get(const uint8_t *skips, uint32_t index);
void spool_skip_put(uint8_t *skips, uint32_t index, struct spool_skip skip);
/* Ascending, not overlapping, inside `body_bytes`; `*ret_bytes` is what they leave out. */
bool spool_skips_ok(struct slice skips, uint64_t body_bytes, uint64_t *ret_bytes);

struct spool_chunk_entry {
    uint32_t segment, offset_16, body_bytes, body_crc;
};
struct spool_chunk_list {
    uint64_t body_bytes;
    uint32_t body_crc;
    uint32_t count;
    const uint8_t *entries; /* borrowed */
};
/* False when the bytes are not a list whose sum is its body. */
bool spool_chunk_list_decode(struct slice list, struct spool_chunk_list *ret_list);
struct spool_chunk_entry spool_chunk_entry_get(const struct spool_chunk_list *list, uint32_t index);
void spool_chunk_list_encode(uint8_t to[SPOOL_CHUNK_LIST_BYTES], uint64_t body_bytes,
                             uint32_t body_crc, uint32_t count);
void spool_chunk_entry_encode(uint8_t to[SPOOL_CHUNK_ENTRY_BYTES],
                              const struct spool_chunk_entry *entry);

/* The states section of a RELOC. */
#define SPOOL_STATES_HEADER_BYTES 8u
#define SPOOL_STATES_UNIT_BYTES 8u
#define SPOOL_STATES_REASON_MAX 512u

struct spool_states {
    bool held;
    uint32_t unit_count;
    struct slice reason;  /* borrowed */
    const uint8_t *units; /* borrowed: spool_states_unit() */
};
uint32_t spool_states_bytes(uint32_t unit_count, size_t reason_bytes);
void spool_states_encode(uint8_t *to, bool held, const struct spool_unit *units,
                         uint32_t unit_count, struct slice reason);
/* False when the bytes are not the states of so many units. */
bool spool_states_decode(struct slice states, uint32_t unit_count, struct spool_states *ret_states);
struct spool_unit spool_states_unit(const struct spool_states *states, uint32_t index);

/* The body of a FOOTER. */
#define SPOOL_FOOTER_ENTRY_BYTES 24u
struct spool_footer_entry {
    uint8_t type;
    uint32_t offset_16;
    uint64_t id;
    uint32_t record_bytes;
    uint32_t front_bytes; /* header and sections without the body */
};
void spool_footer_entry_put(uint8_t *entries, uint32_t index,
                            const struct spool_footer_entry *entry);
struct spool_footer_entry spool_footer_entry_get(const uint8_t *entries, uint32_t index);
/* Entries of records, in order of place, inside a segment of `segment_bytes`. */
bool spool_footer_ok(struct slice body, uint64_t segment_bytes);

/* The checksum of A and B behind each other, from theirs. */
uint32_t spool_crc_join(uint32_t crc_a, uint32_t crc_b, uint64_t b_bytes);

/* ---- J records ------------------------------------------------------------------------------ */

#define SPOOL_JOURNAL_HEADER_BYTES 32u
#define SPOOL_JOURNAL_TEXT_MAX 512u

enum spool_journal_type {
    SPOOL_J_DONE = 0x41,
    SPOOL_J_DEFER = 0x42,
    SPOOL_J_HOLD = 0x43,
    SPOOL_J_RELEASE = 0x44,
    SPOOL_J_ABORT = 0x45,
};

struct spool_journal_record {
    uint8_t type;
    uint8_t outcome; /* DONE: enum spool_note_outcome; DEFER: 1 when in doubt */
    uint16_t text_bytes;
    uint64_t id;
    uint32_t unit_first, unit_count;
    uint32_t next_s;
    uint8_t status[3];
    uint8_t attempts;
};
void spool_journal_encode(const struct spool_journal_record *record,
                          uint8_t to[SPOOL_JOURNAL_HEADER_BYTES]);
/* The checksum over header and text, before each write. */
void spool_journal_seal(uint8_t *record, uint32_t seed, uint64_t offset);
/* `from` holds `room` bytes. Text follows at from + 32. */
bool spool_journal_decode(const uint8_t *from, uint64_t room, uint32_t seed, uint64_t offset,
                          struct spool_journal_record *ret_record);

/* What a record takes up, its gap included. */
static inline uint64_t spool_record_aligned(uint64_t bytes)
{
    return ROUND_UP(bytes, (uint64_t)SPOOL_RECORD_ALIGN);
}
/* Of a sealed record of either stream, from its length field. */
uint32_t spool_record_length(char stream, const uint8_t *record);

#endif
