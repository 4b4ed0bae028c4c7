/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vfs_write.h - how a guest filesystem is changed: what a driver offers beside the operations of vfs.h when it was
 * opened with fs_open_options.write.
 *
 * Changes are a transaction. File data goes at once to blocks that are free on the disk, so that nothing which is there
 * is overwritten; everything else stays in memory until commit, which makes it durable as a whole. What a power cut, a
 * kill or an error before that leaves is the filesystem as it was. A driver with a journal commits by itself when its
 * journal or its memory would not hold more, but only as the first thing of a create, link, unlink or rename: so a new
 * file with its data and attributes, and what it replaces, are in one whole. A driver without a journal (ext2, FAT)
 * orders its writes so that the worst is lost space, and says so in `whole`.
 *
 * After a commit that failed, or an error that is not one of the arguments' or of space, the driver takes no more
 * changes (-EIO): the filesystem must be opened anew.
 */
#ifndef FS_VFS_WRITE_H
#define FS_VFS_WRITE_H

#include "vfs.h"

enum fs_set {
    FS_SET_MODE = 1 << 0, /* the permissions, not the type */
    FS_SET_OWNER = 1 << 1,
    FS_SET_ATIME = 1 << 2,
    FS_SET_MTIME = 1 << 3,
    FS_SET_ALL = (1 << 4) - 1,
};

/* What a filesystem cannot keep (owners on FAT) is left out without an error. */
struct fs_attributes {
    uint32_t set; /* enum fs_set */
    uint32_t mode, uid, gid;
    struct fs_time atime, mtime;
};

struct fs_new {
    uint32_t mode; /* type and permissions */
    uint32_t uid, gid;
    uint32_t rdev_major, rdev_minor; /* of device nodes */
    const char *target;              /* of a symbolic link */
    uint64_t size;                   /* of a regular file: how long it will probably be; a wish, for its place */
    bool replace;                    /* what has that name, and is no directory, goes in the same change */
    struct fs_time atime, mtime;
};

/* Names end in a NUL that does not count. */
struct fs_write_ops {
    /* true: commits are whole at any power cut; false: a cut may leave lost space */
    bool whole;
    /* A new file of any type but a hard link, empty. -EEXIST; -ENOSPC; -EPERM: the filesystem has no such files. */
    int (*create)(struct fs *fs, uint64_t dir, const char *name, size_t length, const struct fs_new *file,
                  uint64_t *ino, struct img_error *err);
    /* Another name for a file that is no directory. -EEXIST; -EMLINK; -EPERM: the filesystem has no links. */
    int (*link)(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err);
    /* Takes a name away; the file goes with its last one. Directories must be empty (-ENOTEMPTY). */
    int (*unlink)(struct fs *fs, uint64_t dir, const char *name, size_t length, struct img_error *err);
    /* Gives a file another name and place; what has that name already goes, as in rename(2). */
    int (*rename)(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t new_dir, const char *new_name,
                  size_t new_length, struct img_error *err);
    /* Data behind the end of a regular file that was created since the last commit: files are written once, from the
     * front. What lies between the end and `offset` is a hole. */
    int (*append)(struct fs *fs, uint64_t ino, const void *buffer, size_t count, uint64_t offset,
                  struct img_error *err);
    /* Makes a regular file longer by a hole; shorter is -EINVAL. */
    int (*set_size)(struct fs *fs, uint64_t ino, uint64_t size, struct img_error *err);
    int (*set_attributes)(struct fs *fs, uint64_t ino, const struct fs_attributes *attributes, struct img_error *err);
    /* `value` NULL: takes it away (-ENODATA: there is none). -ENOTSUP: the filesystem has no such attributes;
     * -E2BIG: the file has no room for it. */
    int (*set_xattr)(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t length,
                     struct img_error *err);
    int (*commit)(struct fs *fs, struct img_error *err);
};

#endif
