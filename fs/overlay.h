/* SPDX-License-Identifier: GPL-3.0-or-later */
/* overlay.h - a device that reads as another one, with changes over it that are not on the disk: what a journal holds,
 * as it would be after recovery.
 *
 * Changes are kept in units (of a filesystem's block, or a sector). A unit that is whole in a journal needs no memory
 * for its bytes: it is redirected to where they lie below. Others are kept in memory up to a limit, which is never more
 * than what is really in the journal.
 */
#ifndef FS_OVERLAY_H
#define FS_OVERLAY_H

#include "device.h"

#define OVERLAY_MOST (256ull << 20) /* bytes in memory */

/* Over `below`, which stays the caller's and is never written. `unit`: bytes, a power of two from 512 to 65536.
 * A write fails with -EFBIG when more than OVERLAY_MOST bytes would have to be kept. */
int device_of_overlay(struct device *below, unsigned unit, struct device **overlay,
                      struct img_error *err) IMG_WARN_UNUSED;
/* The unit at `offset` reads as the one at `from` below. Both must be multiples of the unit, inside the device. */
int overlay_redirect(struct device *overlay, uint64_t offset, uint64_t from, struct img_error *err) IMG_WARN_UNUSED;
/* Writes every change to the device below, where it can be written; the overlay stays as it is. */
int overlay_settle(struct device *device, struct img_error *err) IMG_WARN_UNUSED;
/* How many units are changed. */
size_t overlay_count(const struct device *overlay);

#endif
