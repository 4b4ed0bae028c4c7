/* SPDX-License-Identifier: GPL-3.0-or-later */
/* barred.c - see barred.h. */
#include "barred.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "error.h"

#define ROOT 1

struct barred {
    struct fs fs;
    char why[256];
};

static int refuse(struct fs *fs, struct img_error *err) {
    return fail(err, -EACCES, "%s", ((struct barred *)fs)->why);
}

static void close_barred(struct fs *fs) {
    free(fs);
}

static int space(struct fs *fs, struct fs_space *space, struct img_error *err) {
    (void)space;
    return refuse(fs, err);
}

static int stat_root(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err) {
    *stat = (struct fs_stat){.ino = ROOT, .mode = S_IFDIR, .nlink = 2};
    return ino == ROOT ? 0 : refuse(fs, err);
}

static int lookup(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err) {
    (void)dir, (void)name, (void)length, (void)ino;
    return refuse(fs, err);
}

static int list(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err) {
    (void)dir, (void)call, (void)opaque;
    return refuse(fs, err);
}

static int read_nothing(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
                        struct img_error *err) {
    (void)ino, (void)buffer, (void)count, (void)offset, (void)got;
    return refuse(fs, err);
}

static int read_no_link(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err) {
    (void)ino, (void)target, (void)size, (void)length;
    return refuse(fs, err);
}

static const struct fs_ops ops = {.close = close_barred,
                                  .space = space,
                                  .stat = stat_root,
                                  .lookup = lookup,
                                  .list = list,
                                  .read = read_nothing,
                                  .readlink = read_no_link};

int barred_open(struct device *device, const char *why, struct fs **fs, struct img_error *err) {
    struct barred *barred = calloc(1, sizeof(*barred));
    if (!barred)
        return fail_no_memory(err);
    barred->fs = (struct fs){.ops = &ops, .type = "", .device = device, .root = ROOT};
    snprintf(barred->why, sizeof(barred->why), "%s", why);
    *fs = &barred->fs;
    return 0;
}
