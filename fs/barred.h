/* SPDX-License-Identifier: GPL-3.0-or-later */
/* barred.h - a filesystem that stands where one is mounted that cannot be had: an empty room with a locked door. What
 * is changed below it would otherwise land in the directory that lies under the mount, and be hidden when the guest
 * runs.
 */
#ifndef FS_BARRED_H
#define FS_BARRED_H

#include "vfs.h"

/* Its root is a directory, of which everything else is -EACCES with the sentence `why`. */
int barred_open(struct device *device, const char *why, struct fs **fs, struct img_error *err);

#endif
