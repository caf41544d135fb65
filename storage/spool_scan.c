#include "storage/spool_private.h"

#include <errno.h>

/* What was once acknowledged and no longer verifies is damage; what never was is a torn tail.
 * Which of the two is only known from the next group of the stream: it names its predecessor, and
 * how far the writer knew things to be durable (storage/README.md, Recovery). Until it comes,
 * whatever does not verify is suspect. */

/* ---- the window ----------------------------------------------------------------------------- */

/* `bytes` at `offset`, borrowed until the next call, or NULL: beyond the end, or unreadable. */
static const uint8_t *scan_get(struct spool_scan *scan, uint64_t offset, size_t bytes)
{
    ssize_t got;

    if (offset > scan->size_bytes || bytes > scan->size_bytes - offset)
        return NULL;
    if (offset >= scan->window_offset && offset - scan->window_offset <= scan->window_bytes &&
        bytes <= scan->window_bytes - (offset - scan->window_offset))
        return scan->window + (offset - scan->window_offset);
    got = scan->read(scan->read_context, scan->window,
                     MIN(SPOOL_SCAN_WINDOW_BYTES, scan->size_bytes - offset), offset);
    if (got < 0) /* one bad sector must not hide the rest of the window */
        got = scan->read(scan->read_context, scan->window, bytes, offset);
    if (got < 0)
        scan->result.read_error = true;
    scan->window_offset = offset;
    scan->window_bytes = got < 0 ? 0 : (size_t)got;
    return scan->window_bytes >= bytes ? scan->window : NULL;
}

/* ---- suspects ------------------------------------------------------------------------------- */

static void suspect(struct spool_scan *scan, uint64_t offset, bool trace, uint32_t records)
{
    struct spool_scan_chain *chain = scan->chain;

    /* The place to name is the first trace of a group or, without any, where one could have stood. */
    if (!chain->suspect || (trace && !chain->suspect_trace)) {
        chain->suspect_segment = scan->number;
        chain->suspect_offset = offset;
    }
    chain->suspect = true;
    chain->suspect_trace = chain->suspect_trace || trace;
    chain->suspect_records += records;
}

static void resolve(struct spool_scan_chain *chain, const struct spool_scan_events *events,
                    struct spool_scan_result *result, bool damage)
{
    if (damage)
        result->damaged_records += MAX(chain->suspect_records, 1u);
    else if (chain->suspect_trace)
        result->torn_groups++;
    if ((damage || chain->suspect) && events->resolved != NULL)
        events->resolved(events->context, chain->suspect_segment, damage);
    chain->suspect = chain->suspect_trace = false;
    chain->suspect_records = 0;
}

void spool_scan_end(struct spool_scan_chain *chain, const struct spool_scan_events *events,
                    struct spool_scan_result *result)
{
    resolve(chain, events, result, false);
}

/* What does this group say about those before it? */
static void chain_check(struct spool_scan *scan, uint64_t offset,
                        const struct spool_group_header *header)
{
    struct spool_scan_chain *chain = scan->chain;
    bool damage = false;

    if (chain->any) {
        if (header->previous_lsn > chain->whole_lsn)
            damage = header->durable_lsn >= header->previous_lsn;
        else if (header->previous_lsn == chain->whole_lsn)
            damage = header->previous_crc != chain->whole_crc;
        if (damage && !chain->suspect) {
            chain->suspect_segment = scan->number;
            chain->suspect_offset = offset;
        }
    }
    resolve(chain, scan->events, &scan->result, damage);
}

static void chain_add(struct spool_scan_chain *chain, const struct spool_group_header *header,
                      bool whole)
{
    chain->any = true;
    if (header->lsn > chain->highest_lsn)
        chain->highest_lsn = header->lsn;
    if (whole) {
        chain->whole_lsn = header->lsn;
        chain->whole_crc = header->crc;
    }
}

/* ---- records -------------------------------------------------------------------------------- */

/* A record at `offset`, of which at most `room` bytes can be its own: its size with the gap, or
 * 0. `*ret_whole` says that all of it verifies. */
static uint64_t scan_record(struct spool_scan *scan, uint64_t offset, uint64_t room,
                            bool *ret_whole)
{
    const uint8_t *bytes;
    struct spool_journal_record note;
    struct spool_record record;
    bool front_ok, body_ok;

    if (scan->stream == 'J') {
        bytes =
            scan_get(scan, offset, MIN(room, SPOOL_JOURNAL_HEADER_BYTES + SPOOL_JOURNAL_TEXT_MAX));
        if (bytes == NULL ||
            !spool_journal_decode(bytes,
                                  MIN(room, SPOOL_JOURNAL_HEADER_BYTES + SPOOL_JOURNAL_TEXT_MAX),
                                  scan->result.seed, offset, &note))
            return 0;
        *ret_whole = true;
        scan->events->note(scan->events->context, scan->number, offset, &note, bytes);
        return spool_record_aligned(SPOOL_JOURNAL_HEADER_BYTES + note.text_bytes);
    }
    bytes =
        room < SPOOL_RECORD_HEADER_BYTES ? NULL : scan_get(scan, offset, SPOOL_RECORD_HEADER_BYTES);
    if (bytes == NULL || !spool_record_decode(bytes, room, scan->result.seed, offset, &record))
        return 0;
    bytes = scan_get(scan, offset, record.record_bytes);
    if (bytes == NULL)
        return 0;
    front_ok = spool_record_front_ok(&record, bytes);
    body_ok = spool_record_body_ok(&record, bytes);
    *ret_whole = front_ok && body_ok;
    scan->events->record(scan->events->context, scan->number, offset, &record, bytes, front_ok,
                         body_ok);
    return spool_record_aligned(record.record_bytes);
}

/* The records of a group whose header verifies. Behind one that does not, the next is looked for.
 * Returns how many are missing or damaged. */
static uint32_t scan_group_records(struct spool_scan *scan, uint64_t offset,
                                   const struct spool_group_header *header)
{
    uint64_t at = offset + SPOOL_GROUP_HEADER_BYTES;
    uint64_t end = offset + header->payload_end;
    uint32_t good = 0;

    while (at < end) {
        bool whole = false;
        uint64_t bytes = scan_record(scan, at, end - at, &whole);

        good += whole;
        at += bytes != 0 ? bytes : SPOOL_RECORD_ALIGN;
    }
    return header->record_count > good ? header->record_count - good : 0;
}

/* ---- the segment ---------------------------------------------------------------------------- */

/* One group at `offset`; its size, or 0 when there is none. */
static uint64_t scan_group(struct spool_scan *scan, uint64_t offset)
{
    const uint8_t *bytes = scan_get(scan, offset, SPOOL_GROUP_HEADER_BYTES);
    struct spool_group_header header;
    uint32_t bad;

    if (bytes == NULL || !spool_group_header_decode(bytes, scan->result.seed, offset, &header) ||
        header.incarnation != scan->result.header.incarnation ||
        header.group_bytes > scan->size_bytes - offset)
        return 0;
    scan->result.groups++;
    chain_check(scan, offset, &header);
    bad = scan_group_records(scan, offset, &header);
    if (bad > 0)
        suspect(scan, offset, true, bad);
    chain_add(scan->chain, &header, bad == 0);
    return header.group_bytes;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* No group begins here. Mostly this is the rest of a segment, never written; but the header of a
 * group may be damaged and its records whole. Returns where to go on: at a record's end, or 16
 * bytes further. */
static uint64_t scan_hole(struct spool_scan *scan, uint64_t offset)
{
    const uint8_t *bytes;
    bool whole = false;
    uint64_t taken;

    if (offset % SPOOL_BLOCK_BYTES == 0) {
        bytes = scan_get(scan, offset, SPOOL_BLOCK_BYTES);
        if (bytes == NULL) {
            suspect(scan, offset, true, 0); /* unreadable: perhaps it was in use */
            return offset + SPOOL_BLOCK_BYTES;
        }
        suspect(scan, offset, spool_group_header_trace(bytes, scan->result.header.incarnation), 0);
        if (is_zero(bytes, SPOOL_BLOCK_BYTES))
            return offset + SPOOL_BLOCK_BYTES;
    }
    bytes = scan_get(scan, offset, SPOOL_RECORD_ALIGN);
    if (bytes == NULL)
        return ROUND_UP(offset + 1, SPOOL_BLOCK_BYTES);
    if (is_zero(bytes, SPOOL_RECORD_ALIGN))
        return offset + SPOOL_RECORD_ALIGN;
    taken = scan_record(scan, offset, scan->size_bytes - offset, &whole);
    if (taken == 0)
        return offset + SPOOL_RECORD_ALIGN;
    suspect(scan, offset, true, whole ? 0 : 1);
    return offset + taken;
}

static bool scan_header(struct spool_scan *scan, const uint8_t uuid[SPOOL_UUID_BYTES])
{
    struct spool_scan_result *result = &scan->result;
    const uint8_t *block = scan_get(scan, 0, SPOOL_BLOCK_BYTES);

    if (block == NULL || !spool_segment_header_decode(block, &result->header))
        return false;
    result->refused = spool_features_check(&result->header.features) != SPOOL_FORMAT_KNOWN;
    if (result->refused || memcmp(result->header.uuid, uuid, SPOOL_UUID_BYTES) != 0 ||
        result->header.stream != scan->stream || result->header.number != scan->number)
        return false;
    result->seed = spool_seed(uuid, result->header.incarnation);
    return true;
}

void spool_scan_begin(struct spool_scan *scan, const uint8_t uuid[SPOOL_UUID_BYTES],
                      uint64_t offset)
{
    struct spool_scan_chain *chain = scan->chain;

    scan->result = (struct spool_scan_result){0};
    scan->window_offset = scan->window_bytes = 0;
    scan->cut = false;
    scan->offset = MAX(ROUND_UP(offset, SPOOL_BLOCK_BYTES), SPOOL_BLOCK_BYTES);
    if (chain->any && scan->number != chain->segment + 1) {
        /* Segments were reclaimed in between: nothing here speaks of what stands before the gap. */
        resolve(chain, scan->events, &scan->result, false);
        chain->any = false;
    }
    chain->segment = scan->number;
    scan->result.readable = scan_header(scan, uuid);
    if (scan->result.readable)
        return;
    chain->any = false;
    scan->offset = scan->size_bytes;
}

/* A file that is shorter than it was made has lost groups of which no trace is left in it. */
static void scan_cut(struct spool_scan *scan)
{
    if (scan->result.readable && !scan->cut && scan->result.header.size_bytes > scan->size_bytes)
        suspect(scan, scan->size_bytes, true, 0);
    scan->cut = true;
}

bool spool_scan_step(struct spool_scan *scan)
{
    uint64_t taken;

    if (scan->offset >= scan->size_bytes) {
        scan_cut(scan);
        return false;
    }
    taken = scan->offset % SPOOL_BLOCK_BYTES == 0 ? scan_group(scan, scan->offset) : 0;
    scan->offset = taken != 0 ? scan->offset + taken : scan_hole(scan, scan->offset);
    return true;
}

void spool_scan_segment(const uint8_t uuid[SPOOL_UUID_BYTES], char stream, uint32_t number,
                        uint64_t size_bytes, spool_scan_read_fn *read, void *read_context,
                        uint8_t *window, struct spool_scan_chain *chain,
                        const struct spool_scan_events *events,
                        struct spool_scan_result *ret_result)
{
    struct spool_scan scan = {
        .stream = stream,
        .number = number,
        .size_bytes = size_bytes,
        .read = read,
        .read_context = read_context,
        .window = window,
        .chain = chain,
        .events = events,
    };

    spool_scan_begin(&scan, uuid, 0);
    while (spool_scan_step(&scan))
        ;
    *ret_result = scan.result;
}
