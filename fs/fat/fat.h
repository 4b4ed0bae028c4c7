/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fat.h - what the files of the FAT driver share.
 *
 *   boot.c   the boot sector, read once and checked once    table.c  the table: chains of clusters, what is free
 *   dir.c    directories: slots, and the files that they make   name.c   names: code page 437, UTF-16, letters
 *   fat.c    the driver: what the others know, as vfs.h wants it      write.h   what changes a volume
 *
 * FAT has no inodes: a file is its slot in a directory, and its number here is where that slot lies on the device, in
 * units of slots. The root directory has none and is 1. What a file shows (owner, permissions, times, links, blocks) is
 * what Linux shows root of a volume that it mounted without options.
 */
#ifndef FS_FAT_H
#define FS_FAT_H

#include "../vfs.h"
#include "format.h"

#define FAT_ROOT 1u

/* Bytes of the device, unless a name says another unit. Checked: the table and a root directory outside of clusters lie
 * inside the device. */
struct fat_geometry {
    unsigned bits; /* of a table entry: 12, 16, 32 */
    unsigned sector_size, cluster_size;
    uint64_t table, table_size; /* the copy that counts */
    unsigned copies;            /* of it that are kept alike, from `table` on */
    uint64_t copy_distance;
    uint64_t root, root_size; /* FAT12 and 16 */
    uint32_t root_cluster;    /* FAT32 */
    uint64_t data;            /* where cluster FAT_FIRST begins */
    uint32_t clusters;        /* they are numbered up to clusters + 1 */
    uint64_t size;
};

/* A place in a chain of clusters. */
struct fat_chain {
    uint32_t first;   /* of the file */
    uint32_t index;   /* how many lie before this one */
    uint32_t cluster; /* this one */
    uint32_t mark;    /* a cluster passed on the way; when it comes again the chain is a ring */
};

/* A part of the table in memory. */
struct fat_window {
    uint8_t *bytes; /* NULL: empty */
    uint64_t at;    /* in the table */
    size_t count;
};
#define FAT_WINDOW (64u << 10) /* more than all of a FAT12 table, so no entry lies in two windows */
#define FAT_WINDOWS 4

#define FAT_PLACES 8 /* remembered places in chains */

struct fat {
    struct fs fs;
    struct fat_geometry geometry;
    struct fat_window windows[FAT_WINDOWS];
    struct fat_chain places[FAT_PLACES]; /* first 0: none */
    unsigned next_place;                 /* to be replaced */
    uint8_t block[4096];                 /* around the slot that was looked at last */
    uint64_t block_at;
    size_t block_count;
    struct fat_writer *writer; /* write.h; NULL: opened for reading */
};

/* ---- boot.c ---- */

/* -EUCLEAN: what lies there is not FAT, or nobody could read it; the sentence names the field. */
int fat_read_geometry(struct device *device, struct fat_geometry *geometry, struct img_error *err);
int fat_probe(struct device *device, struct probe *probe);

/* ---- table.c ---- */

bool fat_is_cluster(const struct fat *fat, uint32_t cluster);
/* The window with a byte of the table; the entry of a cluster. */
int fat_load_window(struct fat *fat, uint64_t at, struct fat_window **found, struct img_error *err);
int fat_read_entry(struct fat *fat, uint32_t cluster, uint32_t *value, struct img_error *err);
/* Where a cluster's bytes are; -EUCLEAN: outside of the volume or of the device. */
int fat_cluster_at(const struct fat *fat, uint32_t cluster, uint64_t *at, struct img_error *err);
/* The first cluster of a chain. */
int fat_chain_start(const struct fat *fat, uint32_t first, struct fat_chain *chain, struct img_error *err);
/* The next one: 1, or 0 at the end of the chain. */
int fat_chain_step(struct fat *fat, struct fat_chain *chain, struct img_error *err);
/* The cluster with `index` others before it; -EUCLEAN: the chain ends before it. */
int fat_chain_at(struct fat *fat, uint32_t first, uint32_t index, struct fat_chain *chain, struct img_error *err);
/* So that the next fat_chain_at begins here. */
void fat_chain_remember(struct fat *fat, const struct fat_chain *chain);
int fat_count_free(struct fat *fat, uint64_t *clusters, struct img_error *err);

/* ---- name.c ---- */

#define FAT_SHORT_TEXT 40 /* bytes of a short name as UTF-8: 11 characters of three bytes, a dot and a NUL */

uint8_t fat_checksum(const uint8_t name[FAT_SHORT]);
/* As UTF-8 with a NUL. Returns its length; 0: it is none that can be shown. */
size_t fat_short_name(const struct fat_slot *slot, char text[FAT_SHORT_TEXT]);
/* The same for up to `count` units of a long name. */
size_t fat_long_name(const uint16_t *units, size_t count, char text[FS_NAME_MAX + 1]);
void fat_label(const uint8_t name[FAT_SHORT], char text[FAT_SHORT_TEXT]);
/* A UTF-8 name as UTF-16; 0: FAT cannot have it. */
size_t fat_units_of(const char *name, size_t length, uint16_t units[255]);
/* The short name for a long one. `number`: of several that would be alike, from 1 on; 0: without one. True: the name is
 * no other than the short one (*exact), or fits it but for its case; false: it must have a number. */
bool fat_alias_of(const uint16_t *units, size_t count, unsigned number, uint8_t alias[FAT_SHORT], bool *exact);
/* As vfat compares: ASCII letters without their case. */
bool fat_same_name(const char *a, size_t a_length, const char *b, size_t b_length);

/* ---- dir.c ---- */

/* A directory being read. */
struct fat_dir {
    struct fat *fat;
    struct fat_chain chain; /* cluster 0: the root of FAT12 and 16, or a directory without clusters */
    uint64_t at, end;       /* the next slot; the end of this cluster */
    uint32_t slots;         /* so far */
    bool whole;             /* what lies behind the last slot in use is wanted too */
    uint8_t buffer[4096];
    uint64_t buffer_at;
    size_t buffer_count;
};

struct fat_entry {
    uint64_t at;         /* of its slot, the one with the short name */
    unsigned long_slots; /* of its long name, which lie before that */
    uint64_t long_at[FAT_LONG_SLOTS];
    struct fat_slot slot;
    char name[FS_NAME_MAX + 1]; /* as it is listed: the long one, where there is one */
    size_t length;
    char alias[FAT_SHORT_TEXT]; /* the short one */
    size_t alias_length;
};

static inline bool fat_is_directory(const struct fat_slot *slot) {
    return slot->attributes & FAT_DIRECTORY;
}

/* The slot of a file that is not the root. -ENOENT: there is no file (any more). */
int fat_find_slot(struct fat *fat, uint64_t ino, struct fat_slot *slot, struct img_error *err);
uint32_t fat_first_cluster(const struct fat *fat, const struct fat_slot *slot);
/* Begins a directory; the caller frees. -ENOTDIR. */
int fat_dir_open(struct fat *fat, uint64_t ino, struct fat_dir **dir, struct img_error *err);
/* The next slot whatever it holds: 1, or 0 behind the last. *at: where it lies. */
int fat_dir_slot(struct fat_dir *dir, struct fat_slot *slot, uint64_t *at, struct img_error *err);
/* The next file, "." and ".." left out: 1, or 0 behind the last. */
int fat_dir_next(struct fat_dir *dir, struct fat_entry *entry, struct img_error *err);
/* Finds an entry by its name. -ENOENT. */
int fat_find_entry(struct fat *fat, uint64_t dir, const char *name, size_t length, struct fat_entry *entry,
                   struct img_error *err);
/* Bytes of all clusters of a directory. */
int fat_dir_size(struct fat *fat, uint64_t ino, uint64_t *size, struct img_error *err);

/* ---- fat.c ---- */

/* fat_close_volume ends it. */
int fat_open_volume(struct device *device, struct fat **fat, struct img_error *err);
void fat_close_volume(struct fat *fat);

#endif
