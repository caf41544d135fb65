#include "storage/spool_private.h"

void spool_relocate_group_done(struct spool *spool, struct spool_group *group, int result)
{
    (void)spool;
    (void)group;
    (void)result;
}
