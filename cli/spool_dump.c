/* kilatctl spool dump: one line for each record, in the order of the segments. Read-only. */
#include "cli/spool_private.h"

#include <inttypes.h>

static void begin_object(struct json_out *out, const struct spool_inspect_place *place,
                         uint8_t type, uint64_t id)
{
    char name[SPOOL_NAME_TEXT_SIZE], text[SPOOL_ID_TEXT_SIZE];

    ctl_spool_segment_name(place, name);
    spool_id_format(id, text);
    json_out_object(out);
    json_out_cstr(out, "segment", name);
    json_out_u64(out, "offset", place->offset);
    json_out_cstr(out, "type", ctl_spool_record_word(type));
    json_out_u64(out, "type_number", type);
    json_out_cstr(out, "id", text);
}

static void begin_line(const struct spool_inspect_place *place, uint8_t type, uint64_t id)
{
    char name[SPOOL_NAME_TEXT_SIZE], text[SPOOL_ID_TEXT_SIZE];

    ctl_spool_segment_name(place, name);
    spool_id_format(id, text);
    printf("%s %10" PRIu64 " %-7s %s", name, place->offset, ctl_spool_record_word(type), text);
}

static void dump_record(void *context, const struct spool_inspect_place *place,
                        const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                        bool body_ok)
{
    struct ctl_spool_run *run = context;
    struct json_out *out = &run->json;

    (void)bytes;
    if (!run->wants_json) {
        begin_line(place, record->type, record->id);
        printf(" bytes=%u units=%u envelope=%u head=%u body=%u arrival=%u flags=%u%s%s\n",
               record->record_bytes, record->unit_count, record->envelope_bytes, record->head_bytes,
               record->body_bytes, record->arrival_s, record->flags,
               front_ok ? "" : " ENVELOPE-DAMAGED", body_ok ? "" : " BODY-DAMAGED");
        return;
    }
    begin_object(out, place, record->type, record->id);
    json_out_u64(out, "record_bytes", record->record_bytes);
    json_out_u64(out, "units", record->unit_count);
    json_out_u64(out, "envelope_bytes", record->envelope_bytes);
    json_out_u64(out, "head_bytes", record->head_bytes);
    json_out_u64(out, "body_bytes", record->body_bytes);
    json_out_u64(out, "arrival", record->arrival_s);
    json_out_u64(out, "flags", record->flags);
    json_out_bool(out, "envelope_ok", front_ok);
    json_out_bool(out, "body_ok", body_ok);
    json_out_object_end(out);
}

static void dump_note(void *context, const struct spool_inspect_place *place,
                      const struct spool_journal_record *record, struct slice text)
{
    struct ctl_spool_run *run = context;
    struct json_out *out = &run->json;
    char status[16];

    snprintf(status, sizeof(status), "%u.%u.%u", record->status[0], record->status[1],
             record->status[2]);
    if (!run->wants_json) {
        begin_line(place, record->type, record->id);
        printf(" units=%u+%u outcome=%u status=%s attempts=%u next=%u", record->unit_first,
               record->unit_count, record->outcome, status, record->attempts, record->next_s);
        if (text.size > 0 && slice_is_printable(text))
            printf(" %.*s", SLICE_ARG(text));
        putchar('\n');
        return;
    }
    begin_object(out, place, record->type, record->id);
    json_out_u64(out, "unit_first", record->unit_first);
    json_out_u64(out, "unit_count", record->unit_count);
    json_out_u64(out, "outcome", record->outcome);
    json_out_cstr(out, "status", status);
    json_out_u64(out, "attempts", record->attempts);
    json_out_u64(out, "next", record->next_s);
    json_out_text(out, "text", text);
    json_out_object_end(out);
}

static void dump_damage(void *context, const struct spool_inspect_place *place, bool torn,
                        const char *what)
{
    struct ctl_spool_run *run = context;
    char name[SPOOL_NAME_TEXT_SIZE];

    ctl_spool_segment_name(place, name);
    if (!run->wants_json) {
        printf("%s %10" PRIu64 " %-7s %s\n", name, place->offset, torn ? "CUT" : "DAMAGED", what);
        return;
    }
    json_out_object(&run->json);
    json_out_cstr(&run->json, "segment", name);
    json_out_u64(&run->json, "offset", place->offset);
    json_out_cstr(&run->json, "type", torn ? "CUT" : "DAMAGED");
    json_out_cstr(&run->json, "what", what);
    json_out_object_end(&run->json);
}

int ctl_spool_dump(struct ctl_spool_run *run)
{
    struct spool_inspect_events events = {
        .context = run, .record = dump_record, .note = dump_note, .damage = dump_damage};
    struct spool_inspect *inspect = ctl_spool_open(run);
    bool fine = inspect != NULL && ctl_spool_scan(run, inspect, &events);

    spool_inspect_close(&inspect);
    return fine ? 0 : 1;
}
