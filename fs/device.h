/* SPDX-License-Identifier: GPL-3.0-or-later */
/* device.h - a run of bytes that a guest calls a block device: a whole disk, a partition, a logical volume, what a key
 * opens, or one of these with changes over it that are not on the disk.
 *
 * Devices stand on devices, the lowest on an open image (img.h). Whoever stands on a device must be closed first; what
 * was below a device stays its owner's. A device belongs to one thread at a time.
 *
 * Reads and writes are checked here, once for all kinds: a driver is never asked for bytes outside of [0, size).
 */
#ifndef FS_DEVICE_H
#define FS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "img.h"

struct device;

struct device_ops {
    int (*read)(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err);
    /* NULL: it cannot be written */
    int (*write)(struct device *device, const void *buffer, size_t count, uint64_t offset, struct img_error *err);
    /* all that was written survives a power cut; NULL where there is nothing to do */
    int (*flush)(struct device *device, struct img_error *err);
    /* Which device below has the byte at `offset`, and where. *run: that many bytes, up to `length`, lie there one
     * after another. Negative: none has it as it is (it was changed in memory). NULL: no device below has any of its
     * bytes as they are (it is encrypted, it is a disk). */
    int (*locate)(struct device *device, uint64_t offset, uint64_t length, struct device **below, uint64_t *at,
                  uint64_t *run);
    void (*close)(struct device *device); /* frees what the driver has; the struct too */
};

/* The head of every driver's own struct. */
struct device {
    const struct device_ops *ops;
    uint64_t size;        /* bytes */
    unsigned sector_size; /* bytes of a logical sector, 512 or 4096: the unit of partition tables */
    bool writable;
};

/* Exactly `count` bytes at `offset`. A range that is not inside the device is -EINVAL, and names itself. */
int device_read(struct device *device, void *buffer, size_t count, uint64_t offset,
                struct img_error *err) IMG_WARN_UNUSED;
/* -EROFS: it cannot be written. */
int device_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                 struct img_error *err) IMG_WARN_UNUSED;
int device_flush(struct device *device, struct img_error *err) IMG_WARN_UNUSED;
/* Follows ops->locate down to the disk: which disk has the byte, where, and how many bytes lie there in one piece.
 * False: its bytes are not on a disk as they are. */
bool device_on_disk(struct device *device, uint64_t offset, uint64_t length, struct device **disk, uint64_t *at,
                    uint64_t *run);
/* NULL is allowed. */
void device_close(struct device *device);

enum disk_access {
    DISK_READ = 0,
    DISK_WRITE = 1,
    DISK_PRETEND = 2, /* what is written is lost: for changes that are only to be tried */
};
/* A disk: an open image, which stays the caller's and must stand longer. -ENOMEM. */
int device_of_image(struct img *image, unsigned sector_size, enum disk_access access, struct device **device,
                    struct img_error *err) IMG_WARN_UNUSED;
/* The bytes [offset, offset + length) of another one. -EINVAL: they are not inside it. */
int device_of_range(struct device *below, uint64_t offset, uint64_t length, struct device **device,
                    struct img_error *err) IMG_WARN_UNUSED;
/* The image under a disk; NULL for others. */
struct img *device_image(struct device *device);

#endif
