/* SPDX-License-Identifier: GPL-3.0-or-later */
/* supply.c - what libntfs-3g takes from us: bytes of the device, and memory. Both have bounds, so that no disk can make
 * it read for ever or allocate what it only claims to need.
 *
 * The library calls its own allocation functions by name; those defined here take their place, as the dynamic linker
 * has it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../error.h"
#include "ntfs.h"

/* ---- memory ---- */

/* The largest that a sound disk needs: the runs of a file in a few million pieces. */
#define MOST_MEMORY (64ull << 20)

void *ntfs_malloc(size_t size) {
    if (size <= MOST_MEMORY)
        return malloc(size);
    errno = EFBIG;
    return NULL;
}

void *ntfs_calloc(size_t size) {
    if (size <= MOST_MEMORY)
        return calloc(1, size);
    errno = EFBIG;
    return NULL;
}

/* ---- bytes ---- */

static struct ntfs *of_library(struct ntfs_device *device) {
    return device->d_private;
}

static int supply_open(struct ntfs_device *device, int flags) {
    (void)flags;
    if (NDevOpen(device)) {
        errno = EBUSY;
        return -1;
    }
    NDevSetReadOnly(device);
    NDevSetOpen(device);
    return 0;
}

static int supply_close(struct ntfs_device *device) {
    NDevClearOpen(device);
    return 0;
}

/* As pread(2): what lies behind the end of the device is not there. */
static s64 supply_pread(struct ntfs_device *device, void *buffer, s64 count, s64 offset) {
    struct ntfs *ntfs = of_library(device);
    uint64_t size = ntfs->fs.device->size;
    if (count < 0 || offset < 0 || (uint64_t)offset >= size)
        return count > 0 && offset >= 0 ? 0 : (errno = EINVAL, -1);
    if ((uint64_t)count > size - (uint64_t)offset)
        count = (s64)(size - (uint64_t)offset);
    if ((uint64_t)count > ntfs->budget) {
        ntfs->exhausted = true;
        errno = EIO;
        return -1;
    }
    ntfs->budget -= (uint64_t)count;
    if (device_read(ntfs->fs.device, buffer, (size_t)count, (uint64_t)offset, &ntfs->device_error) < 0) {
        errno = EIO;
        return -1;
    }
    return count;
}

static s64 refuse_transfer(void) {
    errno = EROFS;
    return -1;
}

/* The library has a place of its own for these only where it makes volumes. */
static s64 supply_seek(struct ntfs_device *device, s64 offset, int whence) {
    if (whence == SEEK_SET && offset >= 0 && (uint64_t)offset <= of_library(device)->fs.device->size)
        return offset;
    errno = EINVAL;
    return -1;
}

static s64 supply_read(struct ntfs_device *device, void *buffer, s64 count) {
    (void)device, (void)buffer, (void)count;
    return refuse_transfer();
}

static s64 supply_write(struct ntfs_device *device, const void *buffer, s64 count) {
    (void)device, (void)buffer, (void)count;
    return refuse_transfer();
}

static s64 supply_pwrite(struct ntfs_device *device, const void *buffer, s64 count, s64 offset) {
    (void)device, (void)buffer, (void)count, (void)offset;
    return refuse_transfer();
}

static int supply_sync(struct ntfs_device *device) {
    (void)device;
    return 0;
}

static int supply_stat(struct ntfs_device *device, struct stat *stat) {
    memset(stat, 0, sizeof(*stat));
    stat->st_mode = S_IFREG | 0400;
    stat->st_size = (off_t)of_library(device)->fs.device->size;
    return 0;
}

static int supply_ioctl(struct ntfs_device *device, unsigned long request, void *argument) {
    (void)device, (void)request, (void)argument;
    errno = EOPNOTSUPP;
    return -1;
}

struct ntfs_device_operations ntfs_supply = {.open = supply_open,
                                             .close = supply_close,
                                             .seek = supply_seek,
                                             .read = supply_read,
                                             .write = supply_write,
                                             .pread = supply_pread,
                                             .pwrite = supply_pwrite,
                                             .sync = supply_sync,
                                             .stat = supply_stat,
                                             .ioctl = supply_ioctl};

/* ---- calls ---- */

uint64_t ntfs_begin(struct ntfs *ntfs, uint64_t budget) {
    uint64_t saved = ntfs->budget;
    ntfs->budget = budget;
    ntfs->exhausted = false;
    ntfs->device_error.code = 0;
    errno = 0;
    return saved;
}

void ntfs_end(struct ntfs *ntfs, uint64_t saved) {
    ntfs->budget = saved;
}

int ntfs_error(struct ntfs *ntfs, uint64_t ino, struct img_error *err) {
    int code = errno;
    char what[40] = "the volume";
    if (ino != NTFS_WHOLE)
        snprintf(what, sizeof(what), "file %" PRIu64, ino);
    if (ntfs->device_error.code)
        return fail(err, ntfs->device_error.code, "%s", ntfs->device_error.text);
    if (ntfs->exhausted)
        return fail(err, -EUCLEAN, "NTFS: %s wants to be read more often than can be right", what);
    if (code == ENOMEM)
        return fail_no_memory(err);
    if (ino != NTFS_WHOLE && (code == ENOENT || code == EACCES))
        return fail(err, -code, "NTFS: %s: %s", what, strerror(code));
    return fail(err, -EUCLEAN, "NTFS: %s is damaged (%s)", what, strerror(code ? code : EIO));
}

ntfs_inode *ntfs_enter(struct ntfs *ntfs, uint64_t ino, int *ret, struct img_error *err) {
    ntfs_inode *inode = NULL;
    *ret = -ENOENT;
    if (ino >= (uint64_t)ntfs->volume->mft_na->data_size >> ntfs->volume->mft_record_size_bits)
        fail(err, -ENOENT, "NTFS: there is no file with the number %" PRIu64, ino);
    else if (!(inode = ntfs_inode_open(ntfs->volume, ino)))
        *ret = ntfs_error(ntfs, ino, err);
    else
        *ret = 0;
    return inode;
}
