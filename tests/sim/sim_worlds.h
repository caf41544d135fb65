/* tests/sim/sim_worlds.h - the worlds that kilat-sim can run. */
#ifndef KILAT_SIM_WORLDS_H
#define KILAT_SIM_WORLDS_H

#include "tests/sim/sim_world.h"

/* Runs between sim_begin() and the report; failures go to sim_fail(), a line of figures to `note`. */
struct sim_world {
    const char *name;
    void (*run)(char *note, size_t note_bytes);
};

extern const struct sim_world sim_world_echo;  /* the door alone: sim_echo.c */
extern const struct sim_world sim_world_mail;  /* two servers and their users: sim_mail.c */
extern const struct sim_world sim_world_spool; /* the queue's log and its crashes: sim_spool.c */

#endif
