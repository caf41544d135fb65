/* bench/floor.h - the smallest possible relay: the limit that servers are compared with.
 *
 * The same sessions, the same bytes on the wire on both sides and the same durability as a real relay
 * (one group at a time, O_DIRECT and RWF_DSYNC into a file written before, 250 only after that), and
 * nothing else: it parses nothing, knows no address, has no queue on disk, no policy, no log and no
 * recovery. It understands the end of a write by kilat-bench load, and not SMTP.
 */
#ifndef KILAT_BENCH_FLOOR_H
#define KILAT_BENCH_FLOOR_H

/* The subcommand. */
int floor_main(int argc, char **argv);

#endif
