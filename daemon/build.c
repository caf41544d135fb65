#include "daemon/kilatd.h"

/* The one file that is compiled again when the name changes. */
const char *kilatd_build(void)
{
    return KILAT_BUILD;
}
