/* SPDX-License-Identifier: GPL-3.0-or-later */
/* allocate.c - see allocate.h. */
#include "allocate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void out_of_memory(void) {
    fflush(stdout);
    fprintf(stderr, "%s: Out of memory\n", program_invocation_short_name);
    exit(EXIT_FAILURE);
}

void *memory(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size);
    if (!p)
        out_of_memory();
    return p;
}

char *text_copy(const char *text) {
    char *copy = strdup(text);
    if (!copy)
        out_of_memory();
    return copy;
}

char *text_format_list(const char *format, va_list ap) {
    char *text = NULL;
    if (vasprintf(&text, format, ap) < 0)
        out_of_memory();
    return text;
}

char *text_format(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    char *text = text_format_list(format, ap);
    va_end(ap);
    return text;
}
