/* cli/control_client.h - puts one question to a running server over its control socket, and prints the answer. */
#ifndef KILAT_CLI_CONTROL_CLIENT_H
#define KILAT_CLI_CONTROL_CLIENT_H

#include "core/slice.h"

/* Prints parts to standard output, the error sentence to standard error. Returns the exit status: the server's, or 69
 * (EX_UNAVAILABLE) with a sentence that says what to do when there is none. Blocks. */
int control_client_ask(const char *socket_path, bool json, const struct slice *words, size_t count);

#endif
