/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.c - see names.h. */
#include "names.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "allocate.h"

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

const char *path_of(const char *argument) {
    return strncmp(argument, "file:", 5) == 0 ? argument + 5 : argument;
}

char *path_beside(const char *image, const char *name) {
    name = path_of(name);
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

static bool same_inode(const char *a, const char *b) {
    struct stat sa, sb;
    if (stat(a, &sa) < 0 || stat(b, &sb) < 0)
        return false;
    if (S_ISBLK(sa.st_mode) && S_ISBLK(sb.st_mode))
        return sa.st_rdev == sb.st_rdev;
    return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static bool same_place(const char *a, const char *b) {
    if (strcmp(path_last(a), path_last(b)) != 0)
        return false;
    char *folder_a = path_folder(a), *folder_b = path_folder(b);
    bool same = same_inode(folder_a, folder_b);
    free(folder_a);
    free(folder_b);
    return same;
}

bool names_same(const char *a, const char *b) {
    char *real_a = path_follow_links(a), *real_b = path_follow_links(b);
    bool same = real_a && real_b && (same_inode(real_a, real_b) || same_place(real_a, real_b));
    free(real_a);
    free(real_b);
    return same;
}
