/* SPDX-License-Identifier: GPL-3.0-or-later */
/* text.h - walking over the text files of a guest: lines, words, KEY=value.
 *
 * A span is a piece of somebody's text, which must stand as long as the span is used. Nothing is copied before it is
 * wanted, no byte outside of the text is looked at, and whatever the text says, a walk over it ends at its end.
 */
#ifndef FS_TEXT_H
#define FS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const char *at;
    size_t length;
};

struct span span_of(const char *text);

/* Takes the next line off `text`, without its newline and a '\r' before that. False: there is no more. */
bool span_line(struct span *text, struct span *line);
/* Takes the next word off `text`: what stands between blanks. False: there is no more. */
bool span_word(struct span *text, struct span *word);
/* Takes off all before the first `separator`, and this; without one all there is. */
struct span span_until(struct span *text, char separator);

struct span span_trim(struct span span);
bool span_is(struct span span, const char *text);
bool span_begins(struct span span, const char *text);
/* Takes `text` off the front, if it stands there. */
bool span_skip(struct span *span, const char *text);
/* What follows the first `text` in the span; false: it is not in there. */
bool span_behind(struct span span, const char *text, struct span *rest);

/* A decimal number at the front is taken off. False: there is none, or it is above INT32_MAX. */
bool span_number(struct span *span, unsigned *number);
/* The first "N.M" anywhere in the span, otherwise the first "N", and 0. False: no digit is there. */
bool span_version(struct span span, unsigned *major, unsigned *minor);

/* A line as KEY=value; blanks around both are not part of them. False: it is a comment, or has no '='. */
bool span_assignment(struct span line, struct span *key, struct span *value);

/* Copies that the caller frees, ended by a NUL; NULL without memory. */
char *span_copy(struct span span);
/* The value of an assignment, its shell quotes and backslashes resolved. */
char *span_unquoted(struct span span);

/* Sets *field to a copy of the span; false without memory. */
bool span_set(char **field, struct span span);

#endif
