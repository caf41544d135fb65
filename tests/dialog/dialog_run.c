/* dialog_run FOLDER: plays every FOLDER/smtp/ and FOLDER/pop3/ *.dlg against a server session in memory, each whole, line
 * by line and byte by byte. tests/dialog/README.md has the format:
 *
 *   # for the reader
 *   C: the client says this and CRLF            c: this alone, without a line end
 *   S: the server must answer this line, * standing for anything
 *   ! a directive: set, later, answer, closed, message ...
 *   | a line of the message which the directive above names
 *
 * Says one line for each file that fails, with the line's number, and how many played at the end.
 */
#include "tests/dialog/dialog.h"

#include "core/assert.h"
#include "proto/smtp.h"
#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum play { PLAY_WHOLE, PLAY_LINES, PLAY_BYTES, PLAYS };
static const char *const play_names[PLAYS] = {"whole", "line by line", "byte by byte"};

struct dialog_line {
    char kind; /* C c S ! | */
    unsigned number;
    char *text;
};

struct dialog {
    const char *path;
    struct dialog_line *lines;
    size_t line_count;
    const struct dialog_server *server;
    void *session;
    enum play play;
    struct buf unsent;  /* said by the client, not taken by the server */
    struct buf said;    /* by the server, not expected yet */
    size_t expect_from; /* whole play: "S:" lines from here on wait for the next directive */
    bool failed;
};

static void KILAT_PRINTF(3, 4) fail(struct dialog *d, unsigned number, const char *format, ...)
{
    va_list args;

    d->failed = true;
    printf("%s:%u: (%s) ", d->path, number, play_names[d->play]);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One octet, escaped or not, from the front of `*text`. False for an escape that is none. */
static bool take_octet(const char **text, uint8_t *ret)
{
    static const char letters[] = "rnt0\\*|", octets[] = "\r\n\t\0\\*|";
    const char *at;

    if (**text != '\\') {
        *ret = (uint8_t) * (*text)++;
        return true;
    }
    (*text)++;
    if (**text == 'x' && hex_value((*text)[1]) >= 0 && hex_value((*text)[2]) >= 0) {
        *ret = (uint8_t)(hex_value((*text)[1]) * 16 + hex_value((*text)[2]));
        *text += 3;
        return true;
    }
    at = **text == 0 ? NULL : strchr(letters, **text);
    if (at == NULL)
        return false;
    *ret = (uint8_t)octets[at - letters];
    (*text)++;
    return true;
}

/* Escapes and repetitions become octets. */
static bool unescape(const char *text, struct buf *out)
{
    uint8_t octet;

    while (*text != 0) {
        if (text[0] == '\\' && text[1] == '{') {
            char *end;
            unsigned long times = strtoul(text + 2, &end, 10);
            size_t start = out->size, size;
            const char *inner = end + 1;

            if (*end != ':')
                return false;
            while (*inner != 0 && *inner != '}') {
                if (!take_octet(&inner, &octet))
                    return false;
                buf_append_byte(out, octet);
            }
            if (*inner != '}' || times == 0)
                return false;
            size = out->size - start;
            for (; times > 1; times--) {
                uint8_t *to = buf_extend(out, size);
                ASSERT(to != NULL);
                memcpy(to, out->data + start, size);
            }
            text = inner + 1;
            continue;
        }
        if (!take_octet(&text, &octet))
            return false;
        buf_append_byte(out, octet);
    }
    return !out->failed;
}

/* Whether the whole line is what the pattern says; "*" is any run. */
static bool matches(const char *pattern, struct slice line)
{
    const char *star = NULL;
    struct slice star_line = line;

    for (;;) {
        const char *next = pattern;
        uint8_t octet;

        if (*pattern == '*') {
            star = ++pattern;
            star_line = line;
            continue;
        }
        if (*pattern == 0 && line.size == 0)
            return true;
        if (*pattern != 0 && line.size > 0 && take_octet(&next, &octet) && octet == line.data[0]) {
            pattern = next;
            line = slice_skip(line, 1);
            continue;
        }
        if (star == NULL || star_line.size == 0)
            return false;
        pattern = star;
        line = star_line = slice_skip(star_line, 1);
    }
}

/* Gives the server what the client has said, in pieces of the play's size, each in memory of its own. */
static void offer(struct dialog *d)
{
    for (;;) {
        size_t size = MIN(d->play == PLAY_BYTES ? 1 : SIZE_MAX, d->unsent.size), used;
        uint8_t *copy = malloc(size + 1);
        size_t said = d->said.size;

        if (size > 0)
            memcpy(copy, d->unsent.data, size);
        used = d->server->input(d->session, slice_of(copy, size));
        free(copy);
        buf_consume(&d->unsent, used);
        buf_append(&d->said, buf_slice(d->server->out(d->session)));
        buf_reset(d->server->out(d->session));
        if (used == 0 && d->said.size == said)
            return;
    }
}

static void expect_line(struct dialog *d, const struct dialog_line *want)
{
    struct slice line, rest = buf_slice(&d->said);
    size_t lf = slice_find(rest, '\n');

    if (lf == SIZE_MAX) {
        fail(d, want->number, "no more answers; want: %s", want->text);
        return;
    }
    line = slice_first(rest, lf);
    if (line.size == 0 || line.data[line.size - 1] != '\r')
        fail(d, want->number, "an answer that does not end in CRLF");
    else
        line.size--;
    if (!matches(want->text, line))
        fail(d, want->number, "got: %.*s\n    want: %s", SLICE_ARG(line), want->text);
    buf_consume(&d->said, lf + 1);
}

/* A directive or the end: all that was said must have been answered, and all answers expected. */
static void come_to_rest(struct dialog *d, size_t here)
{
    unsigned number = here < d->line_count ? d->lines[here].number : d->lines[here - 1].number;

    offer(d);
    for (size_t i = d->expect_from; i < here && !d->failed && d->play == PLAY_WHOLE; i++) {
        if (d->lines[i].kind == 'S')
            expect_line(d, &d->lines[i]);
    }
    d->expect_from = here;
    if (!d->failed && d->said.size > 0)
        fail(d, number, "not expected: %.*s", (int)MIN(d->said.size, (size_t)200),
             (const char *)d->said.data);
    if (!d->failed && d->unsent.size > 0 && !d->server->pending(d->session) &&
        !d->server->closed(d->session))
        fail(d, number, "the server does not take what the client says");
}

static void split_words(char *text, struct dialog_words *words)
{
    char *save = NULL;

    words->count = 0;
    for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        ASSERT(words->count < DIALOG_WORDS_MAX);
        words->word[words->count++] = word;
    }
}

static const char *common_directive(struct dialog *d, const char *name, bool *ret_known)
{
    bool closed = d->server->closed(d->session), pending = d->server->pending(d->session);

    *ret_known = true;
    if (strcmp(name, "closed") == 0)
        return closed ? NULL : "the session has not ended";
    if (strcmp(name, "open") == 0)
        return closed ? "the session has ended" : NULL;
    if (strcmp(name, "pending") == 0)
        return pending ? NULL : "nothing is pending";
    if (strcmp(name, "idle") == 0)
        return pending ? "something is pending" : NULL;
    *ret_known = strcmp(name, "timeout") == 0;
    if (*ret_known)
        d->server->timeout(d->session);
    return NULL;
}

/* Runs the directive at `at`, with the "|" lines below it; returns the last line used. */
static size_t run_directive(struct dialog *d, size_t at, bool preparing)
{
    const struct dialog_line *line = &d->lines[at];
    char *copy = strdup(line->text);
    struct dialog_words words = {.text = line->text};
    const char *wrong = NULL;
    struct buf content;
    bool known = false;

    buf_init(&content, 64 * MIB);
    for (; at + 1 < d->line_count && d->lines[at + 1].kind == '|'; at++) {
        if (!unescape(d->lines[at + 1].text, &content))
            fail(d, d->lines[at + 1].number, "bad escape");
        buf_append(&content, SLICE("\r\n"));
    }
    split_words(copy, &words);
    if (words.count == 0)
        wrong = "an empty directive";
    else if (preparing)
        wrong = d->server->prepare(d->session, &words, buf_slice(&content));
    else if (d->server->prepares(words.word[0]))
        wrong = "must stand before everything else";
    else
        wrong = common_directive(d, words.word[0], &known);
    if (!wrong && !known && !preparing)
        wrong = d->server->directive(d->session, &words, buf_slice(&content));
    if (wrong)
        fail(d, line->number, "%s: %s", line->text, wrong);
    buf_deinit(&content);
    free(copy);
    return at;
}

static void play_line(struct dialog *d, size_t *at)
{
    const struct dialog_line *line = &d->lines[*at];

    switch (line->kind) {
    case 'C':
    case 'c':
        if (!unescape(line->text, &d->unsent))
            fail(d, line->number, "bad escape: %s", line->text);
        if (line->kind == 'C')
            buf_append(&d->unsent, SLICE("\r\n"));
        if (d->play != PLAY_WHOLE)
            offer(d);
        break;
    case 'S':
        if (d->play != PLAY_WHOLE) {
            offer(d);
            expect_line(d, line);
        }
        break;
    case '!':
        come_to_rest(d, *at);
        if (!d->failed)
            *at = run_directive(d, *at, false);
        d->expect_from = *at + 1;
        offer(d);
        break;
    default:
        fail(d, line->number, "a content line without its directive");
    }
}

static bool play_once(struct dialog *d, enum play play)
{
    size_t at = 0;

    d->play = play;
    d->failed = false;
    d->session = d->server->create();
    buf_init(&d->unsent, 256 * MIB);
    buf_init(&d->said, 256 * MIB);
    while (at < d->line_count && d->lines[at].kind == '!' && !d->failed) {
        char name[32] = "";

        (void)sscanf(d->lines[at].text, "%31s", name);
        if (!d->server->prepares(name))
            break;
        at = run_directive(d, at, true) + 1;
    }
    d->expect_from = at;
    if (!d->failed)
        d->server->begin(d->session);
    for (; at < d->line_count && !d->failed; at++)
        play_line(d, &at);
    if (!d->failed)
        come_to_rest(d, d->line_count);
    d->server->destroy(d->session);
    buf_deinit(&d->unsent);
    buf_deinit(&d->said);
    return !d->failed;
}

static bool load(struct dialog *d)
{
    FILE *file = fopen(d->path, "r");
    char *text = NULL;
    size_t size = 0;
    unsigned number = 0;
    ssize_t got;

    if (file == NULL)
        return false;
    while ((got = getline(&text, &size, file)) >= 0) {
        char kind = text[0], *from = text + 1;

        number++;
        if (got > 0 && text[got - 1] == '\n')
            text[got - 1] = 0;
        if (text[0] == '#' || text[0] == 0)
            continue;
        if (strchr("CcS", kind) != NULL && *from++ != ':')
            kind = '?';
        if (*from == ' ')
            from++;
        d->lines = realloc(d->lines, (d->line_count + 1) * sizeof(*d->lines));
        ASSERT(d->lines != NULL);
        d->lines[d->line_count++] = (struct dialog_line){kind, number, strdup(from)};
    }
    free(text);
    (void)fclose(file);
    return d->line_count > 0;
}

static bool play_file(const char *path, const struct dialog_server *server)
{
    struct dialog d = {.path = path, .server = server};
    bool good = load(&d);

    if (!good)
        printf("%s: cannot be read, or says nothing\n", path);
    for (enum play play = 0; play < PLAYS && good; play++)
        good = play_once(&d, play);
    for (size_t i = 0; i < d.line_count; i++)
        free(d.lines[i].text);
    free(d.lines);
    return good;
}

static void play_folder(const char *folder, const char *protocol,
                        const struct dialog_server *server, unsigned *played, unsigned *failed)
{
    char pattern[4096];
    glob_t found;

    (void)snprintf(pattern, sizeof(pattern), "%s/%s/*.dlg", folder, protocol);
    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        ++*played;
        *failed += !play_file(found.gl_pathv[i], server);
    }
    globfree(&found);
}

int main(int argc, char **argv)
{
    unsigned played = 0, failed = 0;

    if (argc != 2) {
        fprintf(stderr, "usage: dialog_run FOLDER\n");
        return 2;
    }
    if (strlen(argv[1]) > 4 && strcmp(argv[1] + strlen(argv[1]) - 4, ".dlg") == 0) {
        played = 1;
        failed = !play_file(argv[1], strstr(argv[1], "pop3/") ? &dialog_pop3 : &dialog_smtp);
    } else {
        play_folder(argv[1], "smtp", &dialog_smtp, &played, &failed);
        play_folder(argv[1], "pop3", &dialog_pop3, &played, &failed);
    }
    printf("dialog: %u of %u dialogues passed, each whole, line by line and byte by byte\n",
           played - failed, played);
    return failed > 0 || played == 0;
}

bool dialog_parse_number(const char *word, uint64_t *ret)
{
    return slice_parse_u64(slice_cstr(word), UINT64_MAX, ret);
}

bool dialog_parse_reply(const struct dialog_words *words, unsigned first, struct smtp_reply *ret)
{
    unsigned code, a, b, c;
    const char *text;

    if (first + 2 >= words->count || sscanf(words->word[first], "%3u", &code) != 1 ||
        sscanf(words->word[first + 1], "%1u.%3u.%3u", &a, &b, &c) != 3)
        return false;
    text = strstr(words->text, words->word[first + 1]) + strlen(words->word[first + 1]) + 1;
    *ret = (struct smtp_reply){.code = (uint16_t)code,
                               .status = {(uint8_t)a, (uint8_t)b, (uint8_t)c},
                               .text = slice_cstr(text)};
    return true;
}
