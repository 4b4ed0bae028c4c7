/* SPDX-License-Identifier: GPL-3.0-or-later */
/* format.h - FAT as it lies on the disk, and nothing that acts on it: the boot sector, a slot of a directory, the
 * values of a table entry. All numbers are little-endian and not aligned, so every field is a run of bytes.
 */
#ifndef FS_FAT_FORMAT_H
#define FS_FAT_FORMAT_H

#include <stdint.h>

static inline uint16_t fat_get16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t fat_get32(const uint8_t *p) {
    return fat_get16(p) | (uint32_t)fat_get16(p + 2) << 16;
}

/* ---- sector 0 ---- */

struct fat_boot_tail {
    uint8_t drive, state, signature; /* 0x29: serial, label and type are there; 0x28: the serial alone */
    uint8_t serial[4];
    uint8_t label[11], type[8];
};

struct fat_boot {
    uint8_t jump[3], maker[8];
    uint8_t sector_size[2]; /* bytes */
    uint8_t cluster_sectors;
    uint8_t reserved_sectors[2]; /* before the first table */
    uint8_t tables;              /* copies of it */
    uint8_t root_entries[2];     /* 0 with FAT32 */
    uint8_t sectors_16[2];       /* 0: see sectors_32 */
    uint8_t media;
    uint8_t table_sectors_16[2]; /* 0: FAT32 */
    uint8_t track_sectors[2], heads[2], hidden_sectors[4];
    uint8_t sectors_32[4];
    union {
        struct fat_boot_tail tail;
        struct {
            uint8_t table_sectors_32[4];
            uint8_t flags[2]; /* FAT32_ONE_TABLE, and then the number of the table that counts */
            uint8_t version[2];
            uint8_t root_cluster[4];
            uint8_t info_sector[2], backup_sector[2], unused[12];
            struct fat_boot_tail tail;
        } fat32;
    };
};

#define FAT32_ONE_TABLE 0x80u
#define FAT32_TABLE_NUMBER 0x0fu

/* ---- the table ---- */

/* Numbers of clusters begin with 2; an entry of 0 is a free cluster. */
#define FAT_FIRST 2u
/* More clusters than these make a table of the next width. */
#define FAT12_MOST 0xff4u
#define FAT16_MOST 0xfff4u
#define FAT32_MOST 0x0ffffff6u
/* From here on an entry names no other cluster: bad (this very number), or the last of its file. */
#define FAT12_LAST 0xff7u
#define FAT16_LAST 0xfff7u
#define FAT32_LAST 0x0ffffff7u
#define FAT32_MASK 0x0fffffffu

/* ---- a directory ---- */

#define FAT_SLOT 32u         /* bytes */
#define FAT_SLOTS_MOST 65536 /* of one directory: 2 MiB */

#define FAT_READ_ONLY 0x01u
#define FAT_VOLUME 0x08u
#define FAT_DIRECTORY 0x10u
#define FAT_LONG 0x0fu /* a part of a long name */

#define FAT_END_OF_DIRECTORY 0x00u /* first bytes of a name */
#define FAT_DELETED 0xe5u
#define FAT_STANDS_FOR_E5 0x05u

#define FAT_LOWER_BASE 0x08u /* the name before the dot, behind it, is in lower case */
#define FAT_LOWER_EXTENSION 0x10u

#define FAT_SHORT 11u /* bytes of a short name: 8 and 3 */

struct fat_slot {
    uint8_t name[FAT_SHORT];
    uint8_t attributes;
    uint8_t lower;            /* FAT_LOWER_* */
    uint8_t created_hundreds; /* of a second, 0 to 199 */
    uint8_t created_time[2], created_date[2];
    uint8_t access_date[2];
    uint8_t cluster_high[2];
    uint8_t time[2], date[2];
    uint8_t cluster_low[2];
    uint8_t size[4];
};

/* The parts of a long name lie before the slot with its short name, the last part first. */
#define FAT_LONG_FIRST 0x40u /* in `order` of the first slot */
#define FAT_LONG_UNITS 13u   /* UTF-16 units in one slot */
#define FAT_LONG_SLOTS 20u   /* at most */

struct fat_long_slot {
    uint8_t order; /* 1: the slot before the short name */
    uint8_t units_1[10];
    uint8_t attributes, type;
    uint8_t checksum; /* of the short name */
    uint8_t units_2[12];
    uint8_t cluster[2];
    uint8_t units_3[4];
};

_Static_assert(sizeof(struct fat_boot) == 90, "boot sector");
_Static_assert(sizeof(struct fat_slot) == FAT_SLOT && sizeof(struct fat_long_slot) == FAT_SLOT, "slots");

#endif
