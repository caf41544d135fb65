/* kilat-hostile ADDRESS SMTP-PORT POP3-PORT CONTROL-SOCKET CASE [ARGUMENT]: one of the cases below against a running
 * server. Ends with 0 when the server did as it should; what the test has to know (how many letters were accepted, for
 * one) stands on standard output. */
#include "hostile.h"

#include <arpa/inet.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
    const char *name;
    case_fn *run;
} cases[] = {
    {"ends", case_ends},
    {"relay", case_relay},
    {"strangers", case_strangers},
    {"noops", case_noops},
    {"line", case_line},
    {"recipients", case_recipients},
    {"sizes", case_sizes},
    {"received", case_received},
    {"mailbox", case_mailbox},
    {"numbers", case_numbers},
    {"in-use", case_in_use},
    {"cut", case_cut},
    {"control", case_control},
    {"control-half", case_control_half},
    {"flood", case_flood},
    {"bodies", case_bodies},
    {"one-address", case_one_address},
    {"stalled", case_stalled},
};

static struct sockaddr_in address_of(const char *host, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        errx(2, "no IPv4 address: %s", host);
    return address;
}

int main(int argc, char **argv)
{
    struct target target;
    struct rlimit files;

    if (argc < 6)
        errx(2, "expected ADDRESS SMTP-PORT POP3-PORT CONTROL-SOCKET CASE [ARGUMENT]");
    target.smtp = address_of(argv[1], argv[2]);
    target.pop3 = address_of(argv[1], argv[3]);
    target.control = argv[4];
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* a crowd needs many */
    }
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (strcmp(cases[i].name, argv[5]) == 0) {
            cases[i].run(&target, argv[6]);
            return 0;
        }
    errx(2, "no case \"%s\"", argv[5]);
}
