/* cli/json_out.h - writes the answers of the offline commands for programs: an array of objects, one a line.
 *
 * Text is passed on as it is where it is UTF-8; any other byte is written as \u00XX, which spool import takes for that very
 * byte again, so nothing is lost. Errors of the stream are found at its end (ferror()). */
#ifndef KILAT_CLI_JSON_OUT_H
#define KILAT_CLI_JSON_OUT_H

#include "core/slice.h"

#include <stdio.h>

struct json_out {
    FILE *file;
    bool any_object, any_field;
};

void json_out_array(struct json_out *out, FILE *file); /* begins the answer */
void json_out_array_end(struct json_out *out);
/* An object of the answer or, with a name, an array of objects in the one at hand; both end with the end functions. */
void json_out_object(struct json_out *out);
void json_out_object_end(struct json_out *out);
void json_out_list(struct json_out *out, const char *name);
void json_out_list_end(struct json_out *out);

void json_out_text(struct json_out *out, const char *name, struct slice text);
void json_out_cstr(struct json_out *out, const char *name, const char *text);
void json_out_u64(struct json_out *out, const char *name, uint64_t value);
void json_out_bool(struct json_out *out, const char *name, bool value);

#endif
