#include "core/setting_private.h"

#include <string.h>

/* libconfuse counts the line ends behind comments twice, so every complaint about a line further down would name a wrong
 * one. It is given the text without its comments: blanks stand in their place, and the line ends stay. */

/* Where a new word may begin, and with it a comment; elsewhere "#" and "//" belong to a word: /var//spool. */
static bool is_between_words(char c)
{
    return c == 0 || strchr(" \t\r\n={}()+,\"'", c) != NULL;
}

/* Behind the quote that ends the text which begins at `text`, or at the end. */
static char *skip_quoted(char *text)
{
    char quote = *text++;

    while (*text != 0 && *text != quote) {
        if (*text == '\\' && text[1] != 0)
            text++;
        text++;
    }
    return *text == 0 ? text : text + 1;
}

static char *blank_until(char *text, const char *end)
{
    for (; text < end; text++)
        if (*text != '\n')
            *text = ' ';
    return text;
}

void setting_blank_comments(char *text)
{
    char before = 0;

    while (*text != 0) {
        bool begins = is_between_words(before);

        before = *text;
        if (*text == '"' || *text == '\'') {
            text = skip_quoted(text);
        } else if (begins && (*text == '#' || (text[0] == '/' && text[1] == '/'))) {
            text = blank_until(text, text + strcspn(text, "\n"));
            before = ' ';
        } else if (begins && text[0] == '/' && text[1] == '*') {
            const char *end = strstr(text + 2, "*/");

            if (end == NULL)
                return; /* left as it is: libconfuse reads on to the end, and finds it missing */
            text = blank_until(text, end + 2);
            before = ' ';
        } else {
            text++;
        }
    }
}
