/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vfs.h - one vtable for every guest filesystem. Each is one file or folder that no other knows; vfs.c has the table.
 *
 * A filesystem stands on a device and belongs to one thread at a time. Everything in it is named by an inode number,
 * as it is on the disk where the filesystem has such numbers; a driver where it has none (FAT) chooses one that stays
 * the same as long as the file does. Names are bytes, not characters, without '/' and NUL, 1 to 255 of them (but FAT
 * and NTFS: up to 255 UTF-16 units, given as UTF-8).
 *
 * What a driver reads is hostile: it checks every number before use, and its work and memory for one call are bounded
 * by what is really on the disk, never by a number that the disk only claims. What is wrong there is -EUCLEAN with a
 * sentence that names the place and the value. Nothing that reads changes a byte of the device, journals included: what
 * they hold is replayed into memory.
 */
#ifndef FS_VFS_H
#define FS_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device.h"
#include "img.h"

#define FS_NAME_MAX 1020 /* bytes of one name: 255 characters of up to four bytes */

/* What lies on a device, in the words of blkid. */
enum probe_kind {
    PROBE_NOTHING = 0, /* nothing that is known here */
    PROBE_FILESYSTEM,  /* files could be in it, whether or not a driver here reads them */
    PROBE_SWAP,
    PROBE_CONTAINER, /* something of volumes: LVM2_member, crypto_LUKS, linux_raid_member ... */
};

struct probe {
    enum probe_kind kind;
    const char *type; /* "ext4", "xfs", "vfat", "ntfs", "swap", "LVM2_member" ...; static; "" with PROBE_NOTHING */
    char label[257];  /* UTF-8 as far as the disk has it; "" none */
    char uuid[64];    /* as blkid writes it: with dashes, "ABCD-1234" (FAT), 16 digits (NTFS); "" none */
};

struct fs_time {
    int64_t seconds; /* since 1970 */
    uint32_t nanoseconds;
};

struct fs_stat {
    uint64_t ino;
    uint32_t mode; /* as st_mode: type and permissions */
    uint32_t nlink, uid, gid;
    uint32_t rdev_major, rdev_minor; /* of device nodes */
    uint64_t size;                   /* bytes; of a symbolic link the length of its target */
    uint64_t blocks;                 /* of 512 bytes, as st_blocks */
    struct fs_time atime, mtime, ctime, btime;
};

/* As statfs(2) tells it of a mount for reading. */
struct fs_space {
    uint64_t block_size; /* bytes */
    uint64_t blocks, blocks_free, blocks_available;
    uint64_t inodes, inodes_free; /* 0, 0: it has no such number */
};

struct fs_entry {
    const char *name; /* stands during the call; ends in a NUL that does not count */
    size_t length;
    uint64_t ino;
    uint32_t type; /* S_IFMT bits, 0: the directory does not tell */
};
/* Not 0 ends the walk, which returns that. */
typedef int (*fs_entry_call)(void *opaque, const struct fs_entry *entry);
/* An extended attribute under its full name ("user.x", "security.selinux", "system.posix_acl_access" as the kernel's
 * getxattr gives it). Name and value stand during the call. */
typedef int (*fs_xattr_call)(void *opaque, const char *name, const void *value, size_t length);

/* What of a file. */
enum fs_part {
    FS_RECORD,  /* all that stat tells; its place follows from the number alone, nothing is read to find it */
    FS_XATTRS,  /* its attributes */
    FS_CONTENT, /* its bytes, or the names in a directory */
};
/* A range of bytes of fs->shown. A negative return ends the trace, which returns that. */
typedef int (*fs_range_call)(void *opaque, uint64_t offset, uint64_t length);

struct fs;
struct fs_write_ops;

struct fs_open_options {
    bool write; /* changes are wanted: -EROFS, with the reason, where the driver cannot */
    bool
        dry_run; /* ... but none will be made: what is written goes nowhere, and a journal is replayed in memory only */
};

struct fs_driver {
    const char *name;
    /* Is it there? Reads a few sectors and fills *probe; -ENOENT: it is something else. May be NULL. */
    int (*probe)(struct device *device, struct probe *probe);
    /* Opens what probe found; the device stays the caller's. NULL: it is only recognised. */
    int (*open)(struct device *device, const struct probe *probe, const struct fs_open_options *options, struct fs **fs,
                struct img_error *err);
};

struct fs_ops {
    void (*close)(struct fs *fs);
    int (*space)(struct fs *fs, struct fs_space *space, struct img_error *err);

    /* The errors are those of the system calls of these names: -ENOENT, -ENOTDIR, -EISDIR, -EINVAL (no link) */
    int (*stat)(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err);
    int (*lookup)(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err);
    /* All entries of a directory, "." and ".." left out, in the order of the disk. The call may use the filesystem,
     * this directory too. */
    int (*list)(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err);
    /* Up to `count` bytes of a regular file; *got falls short of it at the end of the file only. Holes are zeroes. */
    int (*read)(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
                struct img_error *err);
    /* The next range at or behind `offset` that holds data (what an unwritten or delayed extent shows is a hole).
     * -ENXIO: there is none. NULL: the driver cannot tell, all of the file is data. */
    int (*next_data)(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t *start, uint64_t *length,
                     struct img_error *err);
    /* The target of a symbolic link, at most `size` bytes of it; *length is all of it. No NUL is written. */
    int (*readlink)(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err);
    int (*xattrs)(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err);

    /* Tells the bytes that what is shown of this part rests on, besides the record, and of a content in order. Where
     * the part lies in the record, that is told. -ENOTSUP: they are not known. NULL: never. */
    int (*trace)(struct fs *fs, uint64_t ino, enum fs_part part, fs_range_call call, void *opaque,
                 struct img_error *err);
    /* Do the same bytes in the same places mean the same files in both? They are of this driver. With `trace`. */
    bool (*alike)(struct fs *a, struct fs *b);
};

/* The head of every driver's own struct. */
struct fs {
    const struct fs_ops *ops;
    const struct fs_write_ops *write_ops; /* vfs_write.h; NULL: it was opened for reading */
    const char *type;                     /* as in struct probe */
    struct device *device;                /* what it stands on */
    struct device *shown; /* ... with what its journal holds over it, owned by the driver; with `trace` */
    uint64_t root;        /* inode number of the root directory */
    uint64_t commits;     /* how often changes were made durable, by itself too (vfs_write.h) */
    bool replayed;        /* its journal held something, which is seen here */
    const char *warning;  /* something that its reader should know ("..."), owned by the driver; NULL: nothing */
};

/* What lies on the device. Never fails: what cannot be read is nothing. */
void fs_probe(struct device *device, struct probe *probe);
/* Opens what fs_probe finds. `options` may be NULL: for reading. -ENOTSUP: it is not a filesystem that is read here. */
int fs_open(struct device *device, const struct fs_open_options *options, struct fs **fs,
            struct img_error *err) IMG_WARN_UNUSED;
/* NULL is allowed. */
void fs_close(struct fs *fs);

#endif
