/* SPDX-License-Identifier: GPL-3.0-or-later */
/* text.c - see text.h. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static struct span from(struct span span, size_t index) {
    return (struct span){span.at + index, span.length - index};
}

struct span span_of(const char *text) {
    return (struct span){text, strlen(text)};
}

struct span span_until(struct span *text, char separator) {
    const char *end = text->length > 0 ? memchr(text->at, separator, text->length) : NULL;
    struct span head = {text->at, end ? (size_t)(end - text->at) : text->length};
    *text = from(*text, end ? head.length + 1 : head.length);
    return head;
}

bool span_line(struct span *text, struct span *line) {
    if (text->length == 0)
        return false;
    *line = span_until(text, '\n');
    if (line->length > 0 && line->at[line->length - 1] == '\r')
        line->length--;
    return true;
}

bool span_word(struct span *text, struct span *word) {
    size_t start = 0, end;
    while (start < text->length && is_blank(text->at[start]))
        start++;
    for (end = start; end < text->length && !is_blank(text->at[end]); end++)
        ;
    *word = (struct span){text->at + start, end - start};
    *text = from(*text, end);
    return word->length > 0;
}

struct span span_trim(struct span span) {
    while (span.length > 0 && is_blank(span.at[0]))
        span = from(span, 1);
    while (span.length > 0 && is_blank(span.at[span.length - 1]))
        span.length--;
    return span;
}

bool span_is(struct span span, const char *text) {
    return span.length == strlen(text) && memcmp(span.at, text, span.length) == 0;
}

bool span_begins(struct span span, const char *text) {
    size_t length = strlen(text);
    return span.length >= length && memcmp(span.at, text, length) == 0;
}

bool span_skip(struct span *span, const char *text) {
    if (!span_begins(*span, text))
        return false;
    *span = from(*span, strlen(text));
    return true;
}

bool span_behind(struct span span, const char *text, struct span *rest) {
    size_t length = strlen(text);
    const char *found = span.length > 0 ? memmem(span.at, span.length, text, length) : NULL;
    if (!found)
        return false;
    *rest = from(span, (size_t)(found - span.at) + length);
    return true;
}

bool span_number(struct span *span, unsigned *number) {
    uint64_t value = 0;
    size_t n = 0;
    for (; n < span->length && is_digit(span->at[n]); n++) {
        value = value * 10 + (unsigned)(span->at[n] - '0');
        if (value > INT32_MAX)
            return false;
    }
    if (n == 0)
        return false;
    *span = from(*span, n);
    *number = (unsigned)value;
    return true;
}

bool span_version(struct span span, unsigned *major, unsigned *minor) {
    bool found = false;
    while (span.length > 0) {
        unsigned first, second;
        if (!is_digit(span.at[0])) {
            span = from(span, 1);
            continue;
        }
        if (!span_number(&span, &first)) {
            while (span.length > 0 && is_digit(span.at[0]))
                span = from(span, 1);
            continue;
        }
        struct span rest = span;
        if (span_skip(&rest, ".") && span_number(&rest, &second)) {
            *major = first;
            *minor = second;
            return true;
        }
        if (!found) {
            *major = first;
            *minor = 0;
            found = true;
        }
    }
    return found;
}

bool span_assignment(struct span line, struct span *key, struct span *value) {
    line = span_trim(line);
    if (line.length == 0 || line.at[0] == '#' || !memchr(line.at, '=', line.length))
        return false;
    *key = span_trim(span_until(&line, '='));
    *value = span_trim(line);
    return true;
}

char *span_copy(struct span span) {
    char *copy = malloc(span.length + 1);
    if (!copy)
        return NULL;
    if (span.length > 0)
        memcpy(copy, span.at, span.length);
    copy[span.length] = '\0';
    return copy;
}

char *span_unquoted(struct span span) {
    char *copy = malloc(span.length + 1), *out = copy;
    char quote = '\0';
    if (!copy)
        return NULL;
    for (size_t i = 0; i < span.length && span.at[i] != '\0'; i++) {
        char c = span.at[i];
        if (quote == '\0' && (c == '"' || c == '\''))
            quote = c;
        else if (c == quote)
            quote = '\0';
        else if (c == '\\' && quote != '\'' && i + 1 < span.length && span.at[i + 1] != '\0')
            *out++ = span.at[++i];
        else
            *out++ = c;
    }
    *out = '\0';
    return copy;
}

bool span_set(char **field, struct span span) {
    char *copy = span_copy(span);
    if (!copy)
        return false;
    free(*field);
    *field = copy;
    return true;
}
