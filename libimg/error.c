/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* error.c - how a sentence gets into struct img_error.
 *
 * Sentences quote names, and names come from images and from whoever typed them. So nothing that a terminal would obey
 * survives (control characters become '?'), and a name that is longer than the sentence may be loses its middle, never
 * the reason that stands behind it.
 *
 * Always holds: `text` is terminated and has no control character but the newline that img_hint itself puts there;
 * `code` is what was returned.
 */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SENTENCE_MAX (sizeof(((struct img_error *)NULL)->text))
/* Longer than any sentence with one path of PATH_MAX in it. */
#define DRAFT_MAX 8192

static void replace_controls(char *text) {
    unsigned char *c = (unsigned char *)text;
    for (; *c != '\0'; c++) {
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
        else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f) /* the C1 controls in UTF-8 */
            c[0] = c[1] = '?';
    }
}

static bool inside_character(char c) {
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* Copies `text` into `out`; what does not fit is taken from its middle, between UTF-8 characters. */
static void copy_fitting(char *out, size_t size, const char *text) {
    static const char gap[] = "...";
    size_t length = strlen(text);
    if (length < size) {
        memcpy(out, text, length + 1);
        return;
    }
    if (size <= sizeof gap) {
        *out = '\0';
        return;
    }
    size_t room = size - sizeof gap;
    size_t head = room / 2, tail = room - head;
    while (head > 0 && inside_character(text[head]))
        head--;
    while (tail > 0 && inside_character(text[length - tail]))
        tail--;
    memcpy(out, text, head);
    memcpy(out + head, gap, sizeof gap - 1);
    memcpy(out + head + sizeof gap - 1, text + length - tail, tail + 1);
}

static void draft(char *out, size_t size, const char *format, va_list arguments) {
    if (vsnprintf(out, size, format, arguments) < 0)
        *out = '\0';
    replace_controls(out);
}

static void store(struct img_error *err, int code, const char *text) {
    err->code = code;
    copy_fitting(err->text, sizeof err->text, text);
}

int img_fail(struct img_error *err, int code, const char *format, ...) {
    if (err == NULL)
        return code;
    char text[DRAFT_MAX];
    va_list arguments;
    va_start(arguments, format);
    draft(text, sizeof text, format, arguments);
    va_end(arguments);
    store(err, code, text);
    return code;
}

int img_fail_errno(struct img_error *err, int code, const char *format, ...) {
    if (err == NULL)
        return code;
    char text[DRAFT_MAX], reason[256];
    va_list arguments;
    va_start(arguments, format);
    draft(text, sizeof text - sizeof reason, format, arguments);
    va_end(arguments);
    size_t length = strlen(text);
    snprintf(text + length, sizeof text - length, ": %s", strerror_r(-code, reason, sizeof reason));
    store(err, code, text);
    return code;
}

int img_prefix(struct img_error *err, int code, const char *format, ...) {
    if (err == NULL)
        return code;
    char text[DRAFT_MAX + SENTENCE_MAX];
    va_list arguments;
    va_start(arguments, format);
    draft(text, DRAFT_MAX, format, arguments);
    va_end(arguments);
    size_t length = strlen(text);
    memcpy(text + length, err->text, strlen(err->text) + 1);
    if (err->code != 0)
        code = err->code;
    store(err, code, text);
    return code;
}

int img_hint(struct img_error *err, int code, const char *format, ...) {
    if (err == NULL)
        return code;
    char text[SENTENCE_MAX + 1 + DRAFT_MAX];
    size_t length = strlen(err->text);
    memcpy(text, err->text, length);
    text[length++] = '\n';
    va_list arguments;
    va_start(arguments, format);
    draft(text + length, sizeof text - length, format, arguments);
    va_end(arguments);
    /* The first line tells what went wrong: when both do not fit, the hint goes. */
    if (strlen(text) < sizeof err->text)
        store(err, err->code, text);
    return code;
}
