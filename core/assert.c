#include "core/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void assert_fail(const char *condition, const char *file, int line)
{
    char text[512];
    int size;

    size = snprintf(text, sizeof(text), "kilat: assertion failed: %s (%s:%d)\n", condition, file,
                    line);
    if (size > 0) {
        size_t count = MIN((size_t)size, sizeof(text) - 1);

        /* Best effort: the process ends whether or not anybody can read why. */
        if (write(STDERR_FILENO, text, count) < 0)
            abort();
    }
    abort();
}
