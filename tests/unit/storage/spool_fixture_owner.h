/* tests/unit/storage/spool_fixture_owner.h - between the world and the small queue it plays. */
#ifndef KILAT_TESTS_SPOOL_FIXTURE_OWNER_H
#define KILAT_TESTS_SPOOL_FIXTURE_OWNER_H

#include "spool_fixture.h"

const struct spool_owner *world_owner(const struct world *world);
void world_posted(struct world *world, const struct spool_append *append);

#endif
