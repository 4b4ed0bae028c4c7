/* SPDX-License-Identifier: GPL-3.0-or-later */
/* overlay.h - changes over a device that stay in memory: what replay of a log writes. The device below never changes.
 */
#ifndef FS_XFS_OVERLAY_H
#define FS_XFS_OVERLAY_H

#include "../device.h"

struct overlay;

/* At most `limit` bytes of changes. The device below stays the caller's, and must stand longer. -ENOMEM. */
int overlay_open(struct device *below, uint64_t limit, struct overlay **overlay, struct img_error *err) IMG_WARN_UNUSED;
void overlay_close(struct overlay *overlay);
/* The device with the changes; it is the overlay's, and for reading only. */
struct device *overlay_device(struct overlay *overlay);
/* -EINVAL: the range is not inside the device; -EFBIG: there are too many changes. */
int overlay_write(struct overlay *overlay, const void *buffer, size_t count, uint64_t offset,
                  struct img_error *err) IMG_WARN_UNUSED;

#endif
