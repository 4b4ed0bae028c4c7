/* SPDX-License-Identifier: GPL-3.0-or-later */
/* device.c - the checks that all devices share, and the two simplest kinds: a disk and a range (device.h). */
#include "device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "error.h"

static int check_range(const struct device *device, size_t count, uint64_t offset, struct img_error *err) {
    if (offset <= device->size && count <= device->size - offset)
        return 0;
    return fail(err, -EINVAL, "%zu bytes at %" PRIu64 " are not inside a device of %" PRIu64 " bytes", count, offset,
                device->size);
}

int device_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    int ret = check_range(device, count, offset, err);
    if (ret < 0 || count == 0)
        return ret;
    return device->ops->read(device, buffer, count, offset, err);
}

int device_write(struct device *device, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    int ret = check_range(device, count, offset, err);
    if (ret < 0 || count == 0)
        return ret;
    if (!device->writable || !device->ops->write)
        return fail(err, -EROFS, "The disk is open for reading only");
    return device->ops->write(device, buffer, count, offset, err);
}

int device_flush(struct device *device, struct img_error *err) {
    return device->ops->flush ? device->ops->flush(device, err) : 0;
}

bool device_on_disk(struct device *device, uint64_t offset, uint64_t length, struct device **disk, uint64_t *at,
                    uint64_t *run) {
    *run = length;
    while (!device_image(device)) {
        if (!device->ops->locate || device->ops->locate(device, offset, *run, &device, &offset, run) < 0)
            return false;
    }
    *disk = device;
    *at = offset;
    return true;
}

void device_close(struct device *device) {
    if (device)
        device->ops->close(device);
}

/* ---- a disk ---- */

struct disk {
    struct device device;
    struct img *image;
};

static int disk_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    return img_pread(((struct disk *)device)->image, buffer, count, offset, err);
}

static int disk_write(struct device *device, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    return img_pwrite(((struct disk *)device)->image, buffer, count, offset, err);
}

static int disk_flush(struct device *device, struct img_error *err) {
    return img_flush(((struct disk *)device)->image, err);
}

static int pretend_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                         struct img_error *err) {
    (void)device, (void)buffer, (void)count, (void)offset, (void)err;
    return 0;
}

static void close_plain(struct device *device) {
    free(device);
}

static const struct device_ops disk_ops = {
    .read = disk_read, .write = disk_write, .flush = disk_flush, .close = close_plain};
static const struct device_ops pretending_ops = {.read = disk_read, .write = pretend_write, .close = close_plain};

int device_of_image(struct img *image, unsigned sector_size, enum disk_access access, struct device **device,
                    struct img_error *err) {
    struct disk *disk = malloc(sizeof(*disk));
    if (!disk)
        return fail_no_memory(err);
    *disk = (struct disk){.device = {.ops = access == DISK_PRETEND ? &pretending_ops : &disk_ops,
                                     .size = img_size(image),
                                     .sector_size = sector_size,
                                     .writable = access != DISK_READ},
                          .image = image};
    *device = &disk->device;
    return 0;
}

struct img *device_image(struct device *device) {
    bool is_disk = device->ops == &disk_ops || device->ops == &pretending_ops;
    return is_disk ? ((struct disk *)device)->image : NULL;
}

/* ---- a range of a device ---- */

struct range {
    struct device device;
    struct device *below;
    uint64_t offset;
};

static int range_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct range *range = (struct range *)device;
    return device_read(range->below, buffer, count, range->offset + offset, err);
}

static int range_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                       struct img_error *err) {
    struct range *range = (struct range *)device;
    return device_write(range->below, buffer, count, range->offset + offset, err);
}

static int range_flush(struct device *device, struct img_error *err) {
    return device_flush(((struct range *)device)->below, err);
}

static int range_locate(struct device *device, uint64_t offset, uint64_t length, struct device **below, uint64_t *at,
                        uint64_t *run) {
    struct range *range = (struct range *)device;
    *below = range->below;
    *at = range->offset + offset;
    *run = length;
    return 0;
}

static const struct device_ops range_ops = {
    .read = range_read, .write = range_write, .flush = range_flush, .locate = range_locate, .close = close_plain};

int device_of_range(struct device *below, uint64_t offset, uint64_t length, struct device **device,
                    struct img_error *err) {
    if (offset > below->size || length > below->size - offset)
        return fail(err, -EINVAL, "The range %" PRIu64 "+%" PRIu64 " is not inside a device of %" PRIu64 " bytes",
                    offset, length, below->size);
    struct range *range = malloc(sizeof(*range));
    if (!range)
        return fail_no_memory(err);
    *range = (struct range){
        .device = {.ops = &range_ops, .size = length, .sector_size = below->sector_size, .writable = below->writable},
        .below = below,
        .offset = offset};
    *device = &range->device;
    return 0;
}
