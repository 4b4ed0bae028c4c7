/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.c - see names.h. */
#include "names.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"

#define MAX_LINKS 40

const char *path_last(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *path_folder(const char *path) {
    const char *last = path_last(path);
    if (last == path)
        return text_copy(".");
    if (last == path + 1)
        return text_copy("/");
    return text_format("%.*s", (int)(last - 1 - path), path);
}

char *path_beside(const char *image, const char *name) {
    if (name[0] == '/')
        return text_copy(name);
    return text_format("%.*s%s", (int)(path_last(image) - image), image, name);
}

char *path_follow_links(const char *path) {
    char *at = text_copy(path);
    for (int links = 0;; links++) {
        struct stat st;
        char text[PATH_MAX];
        if (lstat(at, &st) < 0 || !S_ISLNK(st.st_mode))
            return at;
        ssize_t length = links < MAX_LINKS ? readlink(at, text, sizeof(text) - 1) : -1;
        if (length < 0) {
            if (links >= MAX_LINKS)
                errno = ELOOP;
            free(at);
            return NULL;
        }
        text[length] = '\0';
        char *next = path_beside(at, text);
        free(at);
        at = next;
    }
}
