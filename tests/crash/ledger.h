/* tests/crash/ledger.h - letters that can be told apart and checked: what the crash tests send and look for.
 *
 * A letter is made of its number alone, so who receives it can make it again and compare every octet. Its
 * first field is "X-Ledger: <number>", which is also how it is found behind the fields that servers put in front.
 * Sizes differ: most letters are a few KiB, every 50th is over 64 KiB, so that it travels through the log in
 * chunks. Some lines begin with dots. A ledger is a file of lines, appended by single writes.
 */
#ifndef KILAT_TESTS_LEDGER_H
#define KILAT_TESTS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEDGER_LETTER_MAX (256 * 1024)

/* The next of a row of numbers: splitmix64. */
uint64_t ledger_random(uint64_t *state);

/* Writes letter `number` with CRLF line ends, not dot-stuffed; returns its size. */
size_t ledger_letter(uint64_t number, char letter[LEDGER_LETTER_MAX]);

/* Finds the number of a letter that a server may have put fields in front of, and says whether all of it from its
 * first field on is unaltered. LF for CRLF passes only with `lf_lines`. False when it is no letter of ours. */
bool ledger_check(const char *text, size_t size, bool lf_lines, uint64_t *ret_number,
                  bool *ret_unaltered);

/* Opens a ledger for appending, and appends one line: number, word, wall clock in milliseconds. Both end the program when they cannot. */
int ledger_open(const char *path);
void ledger_note(int fd, uint64_t number, const char *word);

int ledger_send(int argc, char **argv);
int ledger_sink(int argc, char **argv);
int ledger_read(int argc, char **argv);
int ledger_fetch(int argc, char **argv);
int ledger_spool(int argc, char **argv);
int ledger_flip(int argc, char **argv);

/* An IPv4 address and port, "127.0.0.1:2525"; ends the program when it is none. */
struct sockaddr_in;
void ledger_address(const char *text, struct sockaddr_in *ret_address);

#endif
