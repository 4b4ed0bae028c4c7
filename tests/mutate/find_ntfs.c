// SPDX-License-Identifier: GPL-3.0-or-later
/* find_ntfs.c - what of NTFS does not matter: the table of capital letters, 128 KiB that are the same on all volumes.
 * It is read whenever one is opened, and would be most of all places. Records of NTFS have no checksums. */
#include "mutate.h"

#include <string.h>

#define SECTOR 512u
#define TABLE (128u << 10)

void ntfs_prepare(struct base *base, const char *path) {
    struct disk *disk = &base->disks[0];
    uint16_t first[SECTOR / 2];
    (void)path;
    for (unsigned i = 0; i < SECTOR / 2; i++)
        first[i] = (uint16_t)(i >= 'a' && i <= 'z' ? i - 'a' + 'A' : i);
    /* behind ASCII, whatever the version of the table */
    for (uint64_t at = 0; at + TABLE <= disk->size; at += SECTOR)
        if (memcmp(disk->base + at, first, SECTOR / 4) == 0)
            memset(disk->read + at / SECTOR, 0, TABLE / SECTOR);
}
