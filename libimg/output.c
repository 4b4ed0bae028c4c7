/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* output.c - a file that appears under its name only when it is complete (output.h).
 *
 * Order of a commit: content durable, rename, folder durable. So after a power cut the name shows the old file or the
 * complete new one. The old file's lock is held until then: nobody can begin to use it in between and then find himself
 * on a file without a name.
 */
#include "output.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

#define MAX_LINKS 40
#define SUFFIX_LENGTH 6
#define MAX_TRIES 100

/* The length of the folder's part of a path, the last slash included. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? (size_t)(slash - path) + 1 : 0;
}

/* Follows one link. 1: *path is another name now; 0: it is no link; or -errno. */
static int follow(char **path) {
    struct stat st;
    if (lstat(*path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISLNK(st.st_mode))
        return 0;
    char target[PATH_MAX];
    ssize_t length = readlink(*path, target, sizeof target - 1);
    if (length < 0)
        return -errno;
    target[length] = '\0';
    char *next;
    int folder = target[0] == '/' ? 0 : (int)folder_length(*path);
    if (asprintf(&next, "%.*s%s", folder, *path, target) < 0)
        return -ENOMEM;
    free(*path);
    *path = next;
    return 1;
}

/* The name that a rename must replace: a link stays, also one that points to nothing yet. */
static int resolve_links(const char *path, char **out) {
    *out = strdup(path);
    if (*out == NULL)
        return -ENOMEM;
    int r = 1;
    for (int i = 0; r == 1 && i < MAX_LINKS; i++)
        r = follow(out);
    return r == 1 ? -ELOOP : r;
}

/* ".NAME.XXXXXX" beside `path`, with a NAME cut so that the file system takes it. */
static char *temporary_name(const char *path) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char random[SUFFIX_LENGTH];
    char suffix[SUFFIX_LENGTH + 1] = {0}, *name;
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return NULL;
    for (size_t i = 0; i < SUFFIX_LENGTH; i++)
        suffix[i] = letters[random[i] % (sizeof letters - 1)];
    size_t folder = folder_length(path);
    int most = NAME_MAX - SUFFIX_LENGTH - 2;
    if (asprintf(&name, "%.*s.%.*s.%s", (int)folder, path, most, path + folder, suffix) < 0)
        return NULL;
    return name;
}

/* The new file looks like the one that it replaces, as far as we may make it so. */
static int copy_owner_and_mode(const char *from, const char *to) {
    struct stat st;
    if (stat(from, &st) < 0)
        return -errno;
    bool owned = chown(to, st.st_uid, st.st_gid) == 0;
    /* Another group must not get what was meant for the old one. */
    mode_t mode = st.st_mode & (owned || st.st_gid == getegid() ? 0777 : 0707);
    return chmod(to, mode) < 0 ? -errno : 0;
}

static int create_temporary(struct output *out, const char *path, struct img_error *err) {
    int r = -EEXIST;
    for (int i = 0; r == -EEXIST && i < MAX_TRIES; i++) {
        free(out->temporary);
        out->temporary = temporary_name(out->path);
        r = out->temporary == NULL ? -ENOMEM : file_create(out->temporary, IMG_CACHE_WRITEBACK, &out->file, NULL);
    }
    if (r == 0 && out->old != NULL)
        r = copy_owner_and_mode(out->path, out->temporary);
    if (r < 0)
        img_fail_errno(err, r, "Could not create '%s'", path);
    if (r < 0 && out->file == NULL) {
        free(out->temporary); /* nothing of that name is ours */
        out->temporary = NULL;
    }
    return r;
}

int output_open(const char *path, struct output *out, struct img_error *err) {
    *out = (struct output){0};
    struct stat st;
    int r = *path == '\0' ? -ENOENT : resolve_links(path, &out->path);
    if (r < 0) {
        img_fail_errno(err, r, "Could not create '%s'", path);
    } else if (stat(out->path, &st) == 0) {
        r = file_open(out->path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &out->old, err);
        if (r == 0 && out->old->fixed_size) {
            out->file = out->old;
            out->old = NULL;
        }
    }
    if (r == 0 && out->file == NULL)
        r = create_temporary(out, path, err);
    if (r < 0)
        output_abandon(out);
    return r;
}

void output_abandon(struct output *out) {
    if (out->temporary != NULL)
        unlink(out->temporary);
    storage_close(out->file);
    storage_close(out->old);
    free(out->temporary);
    free(out->path);
    *out = (struct output){0};
}

int output_commit(struct output *out, struct img_error *err) {
    int r = storage_flush(out->file);
    if (r < 0) {
        img_fail_errno(err, r, "Could not write '%s'", out->path);
    } else if (out->temporary != NULL) {
        if (rename(out->temporary, out->path) < 0) {
            r = img_fail_errno(err, -errno, "Could not create '%s'", out->path);
        } else {
            free(out->temporary);
            out->temporary = NULL;
            r = file_sync_directory(out->path, err);
        }
    }
    output_abandon(out);
    return r;
}
