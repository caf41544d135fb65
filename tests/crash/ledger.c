/* kilat-ledger: sends letters that can be checked, receives them, reads them back from a Maildir. */
#include "tests/crash/ledger.h"

#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FIELD "X-Ledger: "
#define LINE_BYTES 70
#define BIG_EVERY 50
#define BIG_LINES 3000 /* 35 bytes each on average, so over 64 KiB: such letters go in chunks */

/* splitmix64: the letter's content has to be reproducible, nothing more. */
uint64_t ledger_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

size_t ledger_letter(uint64_t number, char letter[LEDGER_LETTER_MAX])
{
    uint64_t state = number;
    size_t lines = number % BIG_EVERY == 0 ? BIG_LINES : 1 + ledger_random(&state) % 100;
    size_t size =
        (size_t)snprintf(letter, LEDGER_LETTER_MAX,
                         FIELD "%" PRIu64 "\r\nSubject: surat %" PRIu64 "\r\n\r\n", number, number);

    for (size_t i = 0; i < lines; i++) {
        size_t length = ledger_random(&state) % LINE_BYTES;

        for (size_t j = 0; j < length; j++)
            letter[size++] = (char)(' ' + ledger_random(&state) % 95);
        if (length > 0 && ledger_random(&state) % 8 == 0)
            letter[size - length] = '.';
        letter[size++] = '\r';
        letter[size++] = '\n';
    }
    return size;
}

/* Compares with CRLF read as LF, for mail that lies in a file. */
static bool equal_lf(const char *text, size_t size, const char *letter, size_t letter_size)
{
    size_t at = 0;

    for (size_t i = 0; i < letter_size; i++) {
        if (letter[i] == '\r')
            continue;
        if (at == size || text[at++] != letter[i])
            return false;
    }
    return at == size;
}

bool ledger_check(const char *text, size_t size, bool lf_lines, uint64_t *ret_number,
                  bool *ret_unaltered)
{
    static _Thread_local char letter[LEDGER_LETTER_MAX];
    const char *start = memmem(text, size, "\n" FIELD, strlen("\n" FIELD));
    size_t rest, letter_size;

    if (size >= strlen(FIELD) && memcmp(text, FIELD, strlen(FIELD)) == 0)
        start = text;
    else if (start == NULL)
        return false;
    else
        start++;
    rest = size - (size_t)(start - text);
    *ret_number = 0;
    for (const char *c = start + strlen(FIELD); c < text + size && *c >= '0' && *c <= '9'; c++)
        *ret_number = *ret_number * 10 + (uint64_t)(*c - '0');
    letter_size = ledger_letter(*ret_number, letter);
    *ret_unaltered = rest == letter_size && memcmp(start, letter, rest) == 0;
    if (!*ret_unaltered && lf_lines)
        *ret_unaltered = equal_lf(start, rest, letter, letter_size);
    return true;
}

int ledger_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (fd < 0)
        err(2, "%s", path);
    return fd;
}

void ledger_note(int fd, uint64_t number, const char *word)
{
    struct timespec now;
    char line[64];
    int size;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    size = snprintf(line, sizeof(line), "%" PRIu64 " %s %lld\n", number, word,
                    (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);

    if (write(fd, line, (size_t)size) != size)
        err(2, "writing the ledger");
}

void ledger_address(const char *text, struct sockaddr_in *ret_address)
{
    char host[64];
    const char *colon = strrchr(text, ':');

    *ret_address = (struct sockaddr_in){.sin_family = AF_INET};
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        errx(2, "%s: expected ADDRESS:PORT", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    ret_address->sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &ret_address->sin_addr) != 1)
        errx(2, "%s: expected an IPv4 address", host);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "send") == 0)
        return ledger_send(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "sink") == 0)
        return ledger_sink(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "read") == 0)
        return ledger_read(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "fetch") == 0)
        return ledger_fetch(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "flip") == 0)
        return ledger_flip(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "spool") == 0)
        return ledger_spool(argc - 1, argv + 1);
    fprintf(
        stderr,
        "kilat-ledger send ADDRESS:PORT RECIPIENT LEDGER SESSIONS STOP-FILE [FIRST]\n"
        "    sends letters until STOP-FILE exists, none while STOP-FILE.pause does; LEDGER gets "
        "the number of each one answered "
        "250\n"
        "kilat-ledger sink ADDRESS:PORT LEDGER\n"
        "    takes letters; LEDGER gets \"NUMBER ok\" or \"NUMBER altered\" and the time in ms\n"
        "    before each 250; LEDGER.open holds the number of sessions that are open\n"
        "kilat-ledger read DIRECTORY\n"
        "    prints \"NUMBER ok\" or \"NUMBER altered\" of each letter in new/ and cur/\n"
        "kilat-ledger fetch ADDRESS:PORT USER PASSWORD LEDGER STOP-FILE\n"
        "    fetches and deletes letters by POP3 until STOP-FILE exists; LEDGER gets \"NUMBER "
        "leaving\" before QUIT\n"
        "    and \"NUMBER gone\" after its answer, or \"NUMBER altered\"\n"
        "kilat-ledger spool [--damaged] DIRECTORY\n"
        "    prints \"NUMBER waiting\" of each unfinished letter in the spools 0000, 0001, ... of "
        "a\n"
        "    killed server; damage is an error, but with --damaged, which reads each letter whole\n"
        "kilat-ledger flip DIRECTORY SEED\n"
        "    damages one to four places of the spool, and says which\n");
    return 2;
}
