/* SPDX-License-Identifier: GPL-3.0-or-later */
/* paths.c - see paths.h. */
#include "paths.h"

#include <string.h>

#include "allocate.h"

char *path_trimmed(const char *path) {
    char *copy = text_copy(path);
    size_t length = strlen(copy);
    while (length > 0 && copy[length - 1] == '/')
        copy[--length] = '\0';
    return copy;
}

bool path_follows(const char *path) {
    size_t length = strlen(path);
    return length > 0 && path[length - 1] == '/';
}

char *path_below(const char *top, const char *below) {
    return text_format("%s%s%s", top, *below || !*top ? "/" : "", below);
}
