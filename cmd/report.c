/* SPDX-License-Identifier: GPL-3.0-or-later */
/* report.c - see report.h. */
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "names.h"

static const char *program = "img";

void report_set_program(const char *argv0) {
    const char *slash = strrchr(argv0, '/');
    program = slash ? slash + 1 : argv0;
}

const char *report_program(void) {
    return program;
}

bool report_as_virt_tool(void) {
    return strncmp(program, "virt-", 5) == 0;
}

/* Bytes of the well-formed UTF-8 character at `s` (1 to 4, its value in *code), or 0. */
static size_t utf8_length(const unsigned char *s, uint32_t *code) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (n == 0)
        return 0;
    uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *code = c;
    return n;
}

/* Controls, line and paragraph separators, and what changes the direction of writing. */
static bool is_unsafe(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

char *text_printable(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    char *out = memory(strlen(text) + 1, 4), *p = out;
    while (*s) {
        uint32_t code;
        size_t n = utf8_length(s, &code);
        if (n && !is_unsafe(code)) {
            memcpy(p, s, n);
            p += n;
            s += n;
            continue;
        }
        for (size_t end = n ? n : 1; end > 0; end--)
            p += sprintf(p, "\\x%02x", *s++);
    }
    *p = '\0';
    return out;
}

char *text_utf8(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    char *out = memory(strlen(text) + 1, 3), *p = out;
    while (*s) {
        uint32_t code;
        size_t n = utf8_length(s, &code);
        if (n) {
            memcpy(p, s, n);
            p += n;
            s += n;
        } else {
            memcpy(p, "\xef\xbf\xbd", 3);
            p += 3;
            s++;
        }
    }
    *p = '\0';
    return out;
}

void print_text(FILE *out, const char *text) {
    char *safe = text_printable(text);
    fputs(safe, out);
    free(safe);
}

void print_file_name(FILE *out, const char *name) {
    if (isatty(fileno(out)) && !report_as_virt_tool())
        print_text(out, name);
    else
        fputs(name, out);
}

static void report_text(const char *text) {
    fflush(stdout);
    fprintf(stderr, "%s: ", program);
    print_text(stderr, text);
    fputc('\n', stderr);
}

void report(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    char *text = text_format_list(format, ap);
    va_end(ap);
    report_text(text);
    free(text);
}

/* Who only wants to read an image that is in use, and is refused for that, has another way. */
static char *with_way_out(const char *first, const char *line) {
    size_t length = strlen(line);
    if (strncmp(line, "Is another process", 18) != 0 || !strstr(first, "Failed to get shared"))
        return text_copy(line);
    if (length > 0 && line[length - 1] == ')')
        return text_format("%.*s; -U reads it anyway)", (int)length - 1, line);
    return text_format("%s (-U = read it anyway)", line);
}

/* An image's sentence may have a hint on a line of its own, which gets no prefix. */
static void report_lines(const char *prefix, const char *separator, const char *sentence) {
    char *copy = text_copy(sentence), *rest = copy;
    report("%s%s%s", prefix, separator, strsep(&rest, "\n"));
    while (rest) {
        char *line = with_way_out(sentence, strsep(&rest, "\n"));
        print_text(stderr, line);
        fputc('\n', stderr);
        free(line);
    }
    free(copy);
}

void report_image_error(const struct img_error *err, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    char *prefix = text_format_list(format, ap);
    va_end(ap);
    report_lines(prefix, ": ", err->text);
    free(prefix);
}

void report_sentence(const struct img_error *err) {
    report_lines("", "", err->text);
}

/* "Could not open 'PATH': REASON", with the system's reason: is it the host's file that could not be opened, and not
 * what is in it, or what that names, that is wrong? PATH may stand there with other characters for its controls. */
static bool is_file_error(const struct img_error *err, const char *path) {
    char *start = text_format("Could not open '%s", path), *end = text_format("': %s", strerror(-err->code));
    size_t at = strlen(start);
    bool same = strlen(err->text) == at + strlen(end) && strcmp(err->text + at, end) == 0;
    free(start);
    free(end);
    return same;
}

void report_open_error(const struct img_error *err, const char *path) {
    static const char open_words[] = "Could not open '";
    bool complete = strncmp(err->text, open_words, sizeof(open_words) - 1) == 0;
    if (complete && !is_file_error(err, path_of(path)))
        report_lines("", "", err->text);
    else
        report_image_error(err, "%s%s'", open_words, path);
}

int set_error(struct img_error *err, int code, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(err->text, sizeof(err->text), format, ap);
    va_end(ap);
    err->code = code;
    return code;
}

_Noreturn void usage_error(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    char *text = text_format_list(format, ap);
    va_end(ap);
    report_text(text);
    free(text);
    fprintf(stderr, "Try '%s --help' for more information\n", program);
    exit(EXIT_FAILURE);
}
