/* A server in which one function ends the process for one sender: linked around the real one, so that the server itself
 * has no such switch. */
#include <stdlib.h>

#include "proto/header.h"

void __real_header_write_return_path(struct buf *out, struct slice sender);
void __wrap_header_write_return_path(struct buf *out, struct slice sender);

void __wrap_header_write_return_path(struct buf *out, struct slice sender)
{
    if (slice_starts_nocase(sender, SLICE("racun@")))
        abort();
    __real_header_write_return_path(out, sender);
}
