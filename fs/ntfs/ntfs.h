/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ntfs.h - what the files of the NTFS driver share. NTFS is read by libntfs-3g, which stands on a struct device here.
 *
 *   boot.c     is it NTFS, and what would blkid call it: without the library
 *   supply.c   what the library takes from us: bytes of the device and memory, both within bounds
 *   ntfs.c     opening, space; file.c   one file: what it shows, its contents; dir.c   directories
 *
 * The library was written for disks that their owner trusts: it was corrected many times, and it may still go round in
 * a circle on a disk that was made for that. So each call here has a budget of bytes that it may read, and no
 * allocation is larger than what a sound disk needs. A call that uses up its budget fails with -EUCLEAN.
 *
 * A file shows what ntfs-3g shows of it when it is mounted without options: everything is root's and for everybody,
 * named streams are attributes of the user, a reparse point that it does not know is a link to a text that says so.
 */
#ifndef FS_NTFS_H
#define FS_NTFS_H

#include "../vfs.h"
#include "library.h"

struct ntfs {
    struct fs fs;
    ntfs_volume *volume;
    uint64_t budget;               /* bytes that the present call may still read */
    bool exhausted;                /* it wanted more */
    struct img_error device_error; /* what the device said when it failed last; code 0: it did not */
    /* the file that is being read: NULL or both open */
    ntfs_inode *inode;
    ntfs_attr *data;
};

/* ---- boot.c ---- */

int ntfs_probe(struct device *device, struct probe *probe);

/* ---- supply.c ---- */

extern struct ntfs_device_operations ntfs_supply;

#define NTFS_BUDGET (64ull << 20) /* of a call, beside what it is asked for */

/* Begins a call of the library; returns what was left of the call around it, which ntfs_end gives back. */
uint64_t ntfs_begin(struct ntfs *ntfs, uint64_t budget);
void ntfs_end(struct ntfs *ntfs, uint64_t saved);
/* Why the library failed, from its errno, about a file or NTFS_WHOLE. Returns the code. */
int ntfs_error(struct ntfs *ntfs, uint64_t ino, struct img_error *err);
#define NTFS_WHOLE UINT64_MAX
/* Opens a file within a call; NULL: *ret says why. */
ntfs_inode *ntfs_enter(struct ntfs *ntfs, uint64_t ino, int *ret, struct img_error *err);

/* ---- file.c ---- */

int ntfs_stat(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err);
int ntfs_read(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
              struct img_error *err);
int ntfs_next_data(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t *start, uint64_t *length,
                   struct img_error *err);
int ntfs_readlink(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err);
int ntfs_xattrs(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err);
/* Closes the file that is being read. */
void ntfs_forget_file(struct ntfs *ntfs);

/* ---- dir.c ---- */

int ntfs_lookup(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err);
int ntfs_list(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err);

static inline struct ntfs *ntfs_of(struct fs *fs) {
    return (struct ntfs *)fs;
}

#endif
