/* SPDX-License-Identifier: GPL-3.0-or-later */
/* partition.h - what both kinds of partition tables share. */
#ifndef FS_VOLUME_PARTITION_H
#define FS_VOLUME_PARTITION_H

#include "volume.h"

#define PARTITIONS_MOST 256 /* of one disk, as in Linux */

/* Are there partition tables on volumes of this kind? As Linux: on disks and arrays. */
bool partition_may_be_on(const struct volume *disk);
/* Adds a partition that is to have `length` bytes at `start` of the disk. What lies behind the end of the disk is cut
 * off, and all of it if nothing else is left: the volume's `trouble` says so. */
int partition_add(struct volumes *volumes, struct volume *disk, unsigned number, uint64_t start, uint64_t length,
                  struct volume **partition, struct img_error *err) IMG_WARN_UNUSED;

#endif
