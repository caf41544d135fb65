/* daemon/control_out.h - answers of the control socket in two forms: for people, and JSON for programs.
 *
 * The same calls write both: an object is a block of aligned "name value" lines for people, and a JSON
 * object, inside the array of the answer's objects, for programs.
 */
#ifndef KILAT_DAEMON_CONTROL_OUT_H
#define KILAT_DAEMON_CONTROL_OUT_H

#include "core/buf.h"

struct control_out {
    struct buf *buf; /* borrowed */
    bool json;
    bool started; /* an object was written before */
    bool in_object, has_field;
};

void control_out_begin(struct control_out *out);
void control_out_end(struct control_out *out);
void control_out_text(struct control_out *out, const char *name, struct slice text);
void control_out_cstr(struct control_out *out, const char *name, const char *text);
void control_out_u64(struct control_out *out, const char *name, uint64_t value);
void control_out_i64(struct control_out *out, const char *name, int64_t value);
void control_out_bool(struct control_out *out, const char *name, bool value);
/* Wall clock, whole seconds: "2026-11-24 22:30:00 UTC (in 3m12s)" for people, the number for programs; 0 is "now". */
void control_out_time(struct control_out *out, const char *name, uint64_t wall_s, uint64_t now_s);
/* Bytes: "12.3 KiB" for people. */
void control_out_bytes(struct control_out *out, const char *name, uint64_t bytes);
/* "3m12s", at most two units; for texts. */
void control_out_span(char *text, size_t size_bytes, uint64_t seconds);

#endif
