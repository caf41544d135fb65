/* cli/json_in.h - reads the JSON that spool export writes: an array of objects whose values are plain, or arrays of such
 * objects. Anything else is refused. Pure; bounded by the text it is given. */
#ifndef KILAT_CLI_JSON_IN_H
#define KILAT_CLI_JSON_IN_H

#include "core/buf.h"

struct json_in_value {
    const char *list; /* name of the array inside the object, "" for the object itself */
    uint32_t index;   /* of the object in its array */
    struct slice name, text;
    uint64_t number;
    bool truth; /* the value is `true` */
};
/* Called for each plain value, borrowed for the call. False ends the reading. */
typedef bool json_in_fn(void *context, const struct json_in_value *value);

/* False: it is no such text, or `each` has ended it. */
bool json_in_read(struct slice text, json_in_fn *each, void *context);

#endif
