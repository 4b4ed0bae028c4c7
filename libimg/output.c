/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* output.c - a file that appears under its name only when it is complete (output.h).
 *
 * Order of a commit: content durable, rename, folder durable. So after a power cut the name shows the old file or the
 * complete new one. The old file's lock is held until then: nobody can begin to use it in between and then find himself
 * on a file without a name.
 *
 * Space for a whole disk takes long to make. Where the caller wants to be able to stop that, the file is wrapped in a
 * storage that asks before each piece; drivers know nothing of it.
 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

#define MAX_LINKS 40
#define SUFFIX_LENGTH 6
#define MAX_TRIES 100
#define RESERVED_AT_ONCE (UINT64_C(1) << 30)

/* ---- a storage that can be stopped ----------------------------------------------------------------- */

struct watched {
    struct storage base;
    struct storage *file; /* owned */
    int (*interrupted)(void *opaque);
    void *opaque;
};

static struct watched *watched_of(struct storage *s) {
    return (struct watched *)s;
}

static int ask(struct storage *s) {
    const struct watched *w = watched_of(s);
    return w->interrupted(w->opaque) ? -ECANCELED : 0;
}

static int watched_read(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    return storage_readv(watched_of(s)->file, iov, niov, offset);
}

static int watched_write(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    int r = ask(s);
    return r < 0 ? r : storage_writev(watched_of(s)->file, iov, niov, offset);
}

static int watched_flush(struct storage *s) {
    int r = ask(s);
    return r < 0 ? r : storage_flush(watched_of(s)->file);
}

static int watched_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    struct storage *file = watched_of(s)->file;
    int r = ask(s);
    return r < 0 ? r : file->ops->zero != NULL ? file->ops->zero(file, offset, length, unmap) : -ENOTSUP;
}

static int watched_punch(struct storage *s, uint64_t offset, uint64_t length) {
    struct storage *file = watched_of(s)->file;
    return file->ops->punch != NULL ? file->ops->punch(file, offset, length) : -ENOTSUP;
}

static int watched_truncate(struct storage *s, uint64_t length) {
    struct storage *file = watched_of(s)->file;
    return file->ops->truncate(file, length);
}

static int watched_reserve(struct storage *s, uint64_t offset, uint64_t length) {
    struct storage *file = watched_of(s)->file;
    int r = file->ops->reserve != NULL ? 0 : -ENOTSUP;
    while (r == 0 && length > 0 && (r = ask(s)) == 0) {
        uint64_t piece = length < RESERVED_AT_ONCE ? length : RESERVED_AT_ONCE;
        r = file->ops->reserve(file, offset, piece);
        offset += piece;
        length -= piece;
    }
    return r;
}

static int watched_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *extent) {
    struct storage *file = watched_of(s)->file;
    return file->ops->extent(file, offset, length, extent);
}

static uint64_t watched_size(struct storage *s) {
    return storage_size(watched_of(s)->file);
}

static uint64_t watched_allocated(struct storage *s) {
    struct storage *file = watched_of(s)->file;
    return file->ops->allocated(file);
}

static void watched_close(struct storage *s) {
    storage_close(watched_of(s)->file);
    free(s);
}

static const struct storage_ops watched_ops = {
    .read = watched_read,
    .write = watched_write,
    .flush = watched_flush,
    .zero = watched_zero,
    .punch = watched_punch,
    .truncate = watched_truncate,
    .reserve = watched_reserve,
    .extent = watched_extent,
    .size = watched_size,
    .allocated = watched_allocated,
    .close = watched_close,
};

/* Puts one around *file. */
static int watch(struct storage **file, const struct output_options *o) {
    if (o->interrupted == NULL)
        return 0;
    struct watched *w = malloc(sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    *w = (struct watched){.base = **file, .file = *file, .interrupted = o->interrupted, .opaque = o->opaque};
    w->base.ops = &watched_ops; /* the name stays the inner one's */
    *file = &w->base;
    return 0;
}

/* ---- names ----------------------------------------------------------------------------------------- */

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

static bool same_inode(const struct stat *a, const struct stat *b) {
    if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
        return a->st_rdev == b->st_rdev;
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Of names that nothing stands under: the folder is the same, and the last part. */
static bool same_place(const char *a, const char *b) {
    char *folder_a = NULL, *folder_b = NULL;
    size_t la = folder_length(a), lb = folder_length(b);
    struct stat sa, sb;
    bool same = strcmp(a + la, b + lb) == 0 && asprintf(&folder_a, "%.*s.", (int)la, a) >= 0 &&
                asprintf(&folder_b, "%.*s.", (int)lb, b) >= 0 && stat(folder_a, &sa) == 0 && stat(folder_b, &sb) == 0 &&
                same_inode(&sa, &sb);
    free(folder_a);
    free(folder_b);
    return same;
}

bool output_same_name(const char *a, const char *b) {
    char *real_a = NULL, *real_b = NULL;
    struct stat sa, sb;
    bool same = strcmp(a, b) == 0;
    if (!same && resolve_links(a, &real_a) == 0 && resolve_links(b, &real_b) == 0) {
        bool a_is_there = stat(real_a, &sa) == 0, b_is_there = stat(real_b, &sb) == 0;
        same =
            a_is_there && b_is_there ? same_inode(&sa, &sb) : !a_is_there && !b_is_there && same_place(real_a, real_b);
    }
    free(real_a);
    free(real_b);
    return same;
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

/* ---- the file -------------------------------------------------------------------------------------- */

/* Messages speak of the name that the user knows. */
static int show_name(struct storage *file, const char *path) {
    char *name = strdup(path);
    if (name == NULL)
        return -ENOMEM;
    free(file->name);
    file->name = name;
    return 0;
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

/* Both must be said while the file is empty. A file system that knows nothing of them is no reason to fail. */
static void express_wishes(const struct output *out) {
    const struct output_options *o = &out->options;
    const char *name = out->callers ? o->write_to : out->temporary;
    struct fsxattr attributes;
    int flags;
    if (name == NULL || (!o->nocow && o->extent_size_hint == 0))
        return;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (o->nocow && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    if (o->extent_size_hint > 0 && ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0) {
        attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attributes.fsx_extsize = o->extent_size_hint;
        (void)ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
    }
    if (fd >= 0)
        close(fd);
}

/* The caller's file. */
static int open_callers(struct output *out, const char *write_to, struct img_error *err) {
    out->callers = true;
    return file_open(write_to, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &out->file, err);
}

/* A file of our own, or the block device. */
static int open_own(struct output *out, const char *path, struct img_error *err) {
    struct stat st;
    int r = 0;
    if (stat(out->path, &st) == 0) {
        r = file_open(out->path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &out->old, err);
        if (r == 0 && out->old->fixed_size) {
            out->file = out->old;
            out->old = NULL;
        }
    }
    return r == 0 && out->file == NULL ? create_temporary(out, path, err) : r;
}

int output_open(const char *path, const struct output_options *options, struct output *out, struct img_error *err) {
    *out = (struct output){.options = *options};
    int r = *path == '\0' ? -ENOENT : resolve_links(path, &out->path);
    if (r < 0)
        img_fail_errno(err, r, "Could not create '%s'", path);
    else
        r = options->write_to != NULL ? open_callers(out, options->write_to, err) : open_own(out, path, err);
    if (r == 0) {
        r = show_name(out->file, out->path);
        if (r == 0)
            r = watch(&out->file, options);
        if (r < 0)
            img_fail_errno(err, r, "Could not create '%s'", path);
    }
    if (r < 0)
        output_abandon(out);
    return r;
}

int output_begin(struct output *out, struct img_error *err) {
    int r = 0;
    if (out->callers && !out->file->fixed_size && storage_size(out->file) > 0)
        r = out->file->ops->truncate(out->file, 0);
    if (r < 0)
        return img_fail_errno(err, r, "Could not write '%s'", out->path);
    express_wishes(out);
    return 0;
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
    int r = out->callers ? 0 : storage_flush(out->file);
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
