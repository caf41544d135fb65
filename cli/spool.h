/* cli/spool.h - kilatctl spool: looks into spools and changes stopped ones, without a server. */
#ifndef KILAT_CLI_SPOOL_H
#define KILAT_CLI_SPOOL_H

#include <stdbool.h>

/* The words behind "spool". Returns the exit status; 64: wrong usage. Blocks. */
int ctl_spool(bool json, int argc, char **argv);

#endif
