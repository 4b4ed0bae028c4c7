/* SPDX-License-Identifier: GPL-3.0-or-later */
/* twins.h - two guests on disks that have most of their bytes in common: one disk at two times, overlays over one base.
 *
 * The images tell in which ranges their disks may differ (img_diff). A filesystem tells on which bytes a file rests
 * (fs_ops.trace). Where these are the same in both, so is the file, and nobody needs to look at it twice, or at all.
 * Bytes of which the images do not know that they are the same are read and compared; so nothing is called the same
 * that is not, and what a replayed journal shows is compared as it is shown.
 */
#ifndef FS_TWINS_H
#define FS_TWINS_H

#include "vfs.h"

struct twins;

/* The disks stay the caller's and must stand longer. *twins is NULL where no disk of a's has a file in common with one
 * of b's. */
int twins_create(struct device *const *a, size_t na, struct device *const *b, size_t nb, struct twins **twins,
                 struct img_error *err) IMG_WARN_UNUSED;
/* NULL is allowed. */
void twins_free(struct twins *twins);

/* Are all bytes of two devices known to be the same? Nothing is read. */
bool twins_same_device(struct twins *twins, struct device *a, struct device *b);
/* Do the two filesystems show the same of this inode? False where that is not known. What lies outside of the record
 * is the same only where the record is. */
bool twins_same_part(struct twins *twins, struct fs *a, struct fs *b, uint64_t ino, enum fs_part part);
/* Are the same names in this directory, whatever else has become of it? Times of access change without anything else.
 */
bool twins_same_names(struct twins *twins, struct fs *a, struct fs *b, uint64_t ino);

#endif
