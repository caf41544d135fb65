/* tests/sim/sim_peer.h - a scripted peer's connection, in the blocking style of a script.
 *
 * Called from fibers that belong to no process. Every wait has a time limit in virtual time.
 */
#ifndef KILAT_SIM_PEER_H
#define KILAT_SIM_PEER_H

#include "tests/sim/sim_net.h"

struct sim_peer {
    struct sim_end *end;
    uint64_t patience_ns; /* of each call */
};

/* 0 or -errno. */
int sim_peer_connect(struct sim_peer *peer, struct sim_host *from, struct sim_host *to,
                     uint16_t port);
int sim_peer_connect_unix(struct sim_peer *peer, struct sim_host *host, const char *path);
/* Takes an end that a service was given. */
void sim_peer_adopt(struct sim_peer *peer, struct sim_end *end);
/* 0, or -errno: how much of it went is not known then. */
int sim_peer_write(struct sim_peer *peer, struct slice bytes);
/* One line without its LF (and CR); its length, -ENODATA at the end of the stream, -ETIMEDOUT, -EMSGSIZE, or -errno. */
ssize_t sim_peer_read_line(struct sim_peer *peer, char *line, size_t size);
/* At least one byte; the count, 0 at the end of the stream, or -errno. */
ssize_t sim_peer_read(struct sim_peer *peer, void *to, size_t size);
void sim_peer_close(struct sim_peer *peer);

#endif
