/* tests/sim/sim_echo.h - the server of the echo world. */
#ifndef KILAT_SIM_ECHO_H
#define KILAT_SIM_ECHO_H

#include "tests/sim/sim_world.h"

#define ECHO_PORT 7
#define ECHO_DIRECTORY "/var/echo"
#define ECHO_SHARDS_MAX 4

int echo_server_main(struct sim_process *process, void *context);

#endif
