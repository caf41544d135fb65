/* tests/sim/sim_exhaust.h - every crash of a small day. */
#ifndef KILAT_SIM_EXHAUST_H
#define KILAT_SIM_EXHAUST_H

#include "tests/sim/sim_world.h"

/* `levels` 2: the recovery of every crash is cut as well. `state`: only that path, as a failure prints it; NULL: all. The
 * program's exit status. */
int sim_exhaust(uint32_t levels, uint32_t jobs, const char *state, bool verbose);

#endif
