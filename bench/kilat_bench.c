/* kilat-bench - loads mail servers, takes what they deliver, and says what each message has cost. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bench/compare.h"
#include "bench/floor.h"
#include "bench/load_smtp.h"
#include "bench/program.h"
#include "bench/restart.h"
#include "bench/sink.h"
#include "bench/storage.h"

struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct subcommand subcommands[] = {
    {"load", load_main,
     "load --to ADDRESS:PORT [options]     hand over letters by SMTP, each session as fast as it "
     "is\n"
     "                                     answered\n"
     "    --sessions N               side by side (20)\n"
     "    --size BYTES               of each letter, header included (4096)\n"
     "    --messages N, --seconds N  when it ends (10 seconds)\n"
     "    --messages-per-session N   then the session ends and a new one begins\n"
     "    --pipelining none|pipelined   each command waits for its answer, or MAIL, RCPT and DATA "
     "go\n"
     "                               in one write (pipelined)\n"
     "    --from, --rcpt ADDRESS     \"%n\" stands for the letter's number, \"%s\" for the "
     "session's;\n"
     "                               --recipient is the same as --rcpt\n"
     "    --ledger FILE              gets a line for each letter answered 250\n"
     "    --first-id N               number of the first letter (0)\n"},
    {"sink", sink_main,
     "sink --listen ADDRESS:PORT [options]   take every message, check and count it\n"
     "    --messages N               end after so many (at SIGTERM)\n"
     "    --pipelining none|pipelined   whether PIPELINING is offered (pipelined)\n"
     "    --ledger FILE              gets a line for each letter: ok, altered or twice\n"},
    {"floor", floor_main,
     "floor --listen ADDRESS:PORT --to ADDRESS:PORT --directory FOLDER [options]\n"
     "                                     the smallest possible relay between a load and a sink\n"
     "    --sessions N               towards the sink (20)\n"
     "    --pipelining none|pipelined   as the load does, on both sides (pipelined)\n"},
    {"compare", compare_main,
     "compare [options]                    servers in turn under the same load, round by round\n"
     "    --scenario relay-4k|relay-4k-lockstep   (both)\n"
     "    --rounds N                 of each server (5)\n"
     "    --seconds N                of each measured load (5)\n"
     "    --servers NAME,...         of kilatd, floor, postfix, postfix-tuned (all)\n"
     "    --json FILE                gets one object per run\n"},
    {"storage", storage_main,
     "storage --directory FOLDER [options] what the disk below FOLDER can promise\n"
     "    --writers N                messages always under way (128)\n"
     "    --size BYTES               of each message (4096, at most 65536)\n"
     "    --rounds N, --seconds N    rounds, and how long each takes about (5 of 4)\n"
     "    --long N                   afterwards N minutes without a pause, rates by minute\n"
     "    --segment MIB              size of the spool's segments (64)\n"
     "    --json FILE                gets one object\n"},
    {"restart", restart_main,
     "restart --directory FOLDER [options] a server that starts with millions of deferred "
     "messages\n"
     "    --messages N               in all spools (10,000,000)\n"
     "    --spools N                 and as many shards (2)\n"
     "    --size BYTES               of each message (512)\n"
     "    --idle N                   seconds of watching its CPU while nothing is due (30)\n"
     "    --json FILE                gets one object per start\n"},
};

static void print_help(void)
{
    printf("usage: kilat-bench SUBCOMMAND [options]\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
        printf("kilat-bench %s\n", subcommands[i].help);
    printf("kilat-bench --help             this text\n");
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        print_help();
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(subcommands); i++)
        if (strcmp(argv[1], subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "kilat-bench: %s; try kilat-bench --help\n",
            argc > 1 ? "there is no such subcommand" : "what?");
    return PROGRAM_USAGE;
}
