/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fat.c - FAT12, 16 and 32 as a driver (vfs.h), with the figures that Linux shows root of a volume mounted without
 * options: everybody may read and run everything, root owns it, only a file that is marked so is not to be written;
 * times are taken for UTC, a change of the inode is a change of the data, and the root directory is of 1970. Linux
 * knows no number of inodes here, and counts free clusters in the table: the number kept beside it is a hint.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../error.h"
#include "fat.h"
#include "write.h"

static struct fat *fat_of(struct fs *fs) {
    return (struct fat *)fs;
}

/* ---- what a file shows ---- */

static int64_t days_since_1970(unsigned year, unsigned month, unsigned day) {
    static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool leap = year % 4 == 0 && year != 2100; /* 1980 to 2107 */
    unsigned leap_days = (year - 1969) / 4 - (year > 2100);
    return (int64_t)(year - 1970) * 365 + leap_days + before[month - 1] + (leap && month > 2) + day - 1;
}

/* A date of zeroes is the first day. */
static struct fs_time time_of(const uint8_t date[2], const uint8_t time[2], unsigned hundreds) {
    unsigned d = fat_get16(date), t = fat_get16(time), month = d >> 5 & 0xf, day = d & 0x1f;
    month = month < 1 ? 1 : month > 12 ? 12 : month;
    int64_t days = days_since_1970(1980 + (d >> 9), month, day ? day : 1);
    int64_t seconds = (int64_t)(t >> 11) * 3600 + (t >> 5 & 0x3f) * 60 + (t & 0x1f) * 2;
    return (struct fs_time){days * 86400 + seconds + hundreds / 100, hundreds % 100 * 10000000};
}

static void show_times(const struct fat_slot *slot, struct fs_stat *stat) {
    static const uint8_t midnight[2];
    stat->mtime = stat->ctime = time_of(slot->date, slot->time, 0);
    stat->atime = time_of(slot->access_date, midnight, 0);
    stat->btime = time_of(slot->created_date, slot->created_time, slot->created_hundreds);
}

/* "." and ".." are directories in it too; the root has neither, and is counted as if it had. */
static int count_directories(struct fat *fat, uint64_t ino, uint32_t *count, struct img_error *err) {
    struct fat_dir *dir;
    struct fat_slot slot;
    uint64_t at;
    int ret = fat_dir_open(fat, ino, &dir, err);
    if (ret < 0)
        return ret;
    *count = ino == FAT_ROOT ? 2 : 0;
    while ((ret = fat_dir_slot(dir, &slot, &at, err)) > 0)
        *count += slot.name[0] != FAT_DELETED && !(slot.attributes & FAT_VOLUME) && fat_is_directory(&slot);
    free(dir);
    return ret;
}

static int fat_stat(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err) {
    struct fat *fat = fat_of(fs);
    uint64_t cluster_size = fat->geometry.cluster_size;
    struct fat_slot slot = {.attributes = FAT_DIRECTORY};
    *stat = (struct fs_stat){.ino = ino};
    int ret = ino == FAT_ROOT ? 0 : fat_find_slot(fat, ino, &slot, err);
    if (ret == 0 && fat_is_directory(&slot)) {
        stat->mode = S_IFDIR | 0755;
        ret = fat_dir_size(fat, ino, &stat->size, err);
        if (ret == 0)
            ret = count_directories(fat, ino, &stat->nlink, err);
    } else if (ret == 0) {
        stat->mode = S_IFREG | (slot.attributes & FAT_READ_ONLY ? 0555 : 0755);
        stat->size = fat_get32(slot.size);
        stat->nlink = 1;
    }
    stat->blocks = (stat->size + cluster_size - 1) / cluster_size * cluster_size / 512;
    if (ino != FAT_ROOT)
        show_times(&slot, stat);
    return ret;
}

static int fat_space(struct fs *fs, struct fs_space *space, struct img_error *err) {
    struct fat *fat = fat_of(fs);
    *space = (struct fs_space){.block_size = fat->geometry.cluster_size, .blocks = fat->geometry.clusters};
    int ret = fat_count_free(fat, &space->blocks_free, err);
    space->blocks_available = space->blocks_free;
    return ret;
}

/* ---- directories ---- */

static uint64_t number_of(const struct fat_entry *entry) {
    return entry->at / FAT_SLOT;
}

static int fat_list(struct fs *fs, uint64_t ino, fs_entry_call call, void *opaque, struct img_error *err) {
    struct fat_dir *dir;
    struct fat_entry *entry = malloc(sizeof(*entry));
    if (!entry)
        return fail_no_memory(err);
    int ret = fat_dir_open(fat_of(fs), ino, &dir, err);
    while (ret >= 0 && (ret = fat_dir_next(dir, entry, err)) > 0) {
        struct fs_entry shown = {.name = entry->name,
                                 .length = entry->length,
                                 .ino = number_of(entry),
                                 .type = fat_is_directory(&entry->slot) ? S_IFDIR : S_IFREG};
        ret = call(opaque, &shown);
        if (ret != 0)
            break;
    }
    free(dir);
    free(entry);
    return ret;
}

static int fat_lookup(struct fs *fs, uint64_t ino, const char *name, size_t length, uint64_t *found,
                      struct img_error *err) {
    struct fat_entry *entry = malloc(sizeof(*entry));
    if (!entry)
        return fail_no_memory(err);
    int ret = fat_find_entry(fat_of(fs), ino, name, length, entry, err);
    if (ret == 0)
        *found = number_of(entry);
    free(entry);
    return ret;
}

/* ---- contents ---- */

/* How many bytes from the chain's place on lie one after the other, up to `most`. Leaves the chain at what comes behind
 * them, or in their last cluster. */
static int measure_run(struct fat *fat, struct fat_chain *chain, uint64_t most, uint64_t *run, struct img_error *err) {
    while (*run < most) {
        uint32_t before = chain->cluster;
        int ret = fat_chain_step(fat, chain, err);
        if (ret == 0)
            return fail(err, -EUCLEAN, "FAT%u: the chain from cluster %" PRIu32 " ends after %" PRIu32 " clusters",
                        fat->geometry.bits, chain->first, chain->index + 1);
        if (ret < 0)
            return ret;
        if (chain->cluster != before + 1)
            return 0;
        *run += fat->geometry.cluster_size;
    }
    *run = most;
    return 0;
}

static int read_chain(struct fat *fat, uint32_t first, uint8_t *buffer, size_t count, uint64_t offset,
                      struct img_error *err) {
    uint32_t cluster_size = fat->geometry.cluster_size;
    struct fat_chain chain;
    int ret = fat_chain_at(fat, first, (uint32_t)(offset / cluster_size), &chain, err);
    while (ret == 0 && count) {
        uint64_t at, within = offset % cluster_size, run = cluster_size - within;
        ret = fat_cluster_at(fat, chain.cluster, &at, err);
        if (ret == 0)
            ret = measure_run(fat, &chain, count, &run, err);
        if (ret == 0)
            ret = device_read(fat->fs.device, buffer, run, at + within, err);
        if (ret < 0)
            return ret;
        buffer += run;
        offset += run;
        count -= run;
    }
    if (ret == 0)
        fat_chain_remember(fat, &chain);
    return ret;
}

static int fat_read(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
                    struct img_error *err) {
    struct fat *fat = fat_of(fs);
    const struct fat_geometry *g = &fat->geometry;
    struct fat_slot slot = {.attributes = FAT_DIRECTORY};
    *got = 0;
    int ret = ino == FAT_ROOT ? 0 : fat_find_slot(fat, ino, &slot, err);
    if (ret < 0)
        return ret;
    if (fat_is_directory(&slot))
        return fail(err, -EISDIR, "FAT%u: the file with the number %" PRIu64 " is a directory", g->bits, ino);
    uint64_t size = fat_get32(slot.size);
    if (offset >= size || !count)
        return 0;
    if ((size - 1) / g->cluster_size >= g->clusters)
        return fail(err, -EUCLEAN, "FAT%u: a file of %" PRIu64 " bytes in a volume of %" PRIu32 " clusters", g->bits,
                    size, g->clusters);
    if (count > size - offset)
        count = (size_t)(size - offset);
    ret = read_chain(fat, fat_first_cluster(fat, &slot), buffer, count, offset, err);
    if (ret == 0)
        *got = count;
    return ret;
}

static int fat_readlink(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err) {
    (void)target, (void)size;
    *length = 0;
    return fail(err, -EINVAL, "FAT%u: the file with the number %" PRIu64 " is no symbolic link",
                fat_of(fs)->geometry.bits, ino);
}

static int fat_xattrs(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err) {
    (void)fs, (void)ino, (void)call, (void)opaque, (void)err;
    return 0;
}

/* ---- opening ---- */

void fat_close_volume(struct fat *fat) {
    fat_close_writer(fat);
    for (unsigned i = 0; i < FAT_WINDOWS; i++)
        free(fat->windows[i].bytes);
    free(fat);
}

static void fat_close(struct fs *fs) {
    fat_close_volume(fat_of(fs));
}

static const struct fs_ops fat_ops = {.close = fat_close,
                                      .space = fat_space,
                                      .stat = fat_stat,
                                      .lookup = fat_lookup,
                                      .list = fat_list,
                                      .read = fat_read,
                                      .readlink = fat_readlink,
                                      .xattrs = fat_xattrs};

int fat_open_volume(struct device *device, struct fat **fat, struct img_error *err) {
    struct fat_geometry geometry;
    int ret = fat_read_geometry(device, &geometry, err);
    if (ret < 0)
        return ret;
    struct fat *volume = calloc(1, sizeof(*volume));
    if (!volume)
        return fail_no_memory(err);
    volume->fs = (struct fs){.ops = &fat_ops, .type = "vfat", .device = device, .root = FAT_ROOT};
    volume->geometry = geometry;
    *fat = volume;
    return 0;
}

static int fat_open(struct device *device, const struct probe *probe, const struct fs_open_options *options,
                    struct fs **fs, struct img_error *err) {
    struct fat *fat = NULL;
    (void)probe;
    int ret = fat_open_volume(device, &fat, err);
    if (ret == 0 && options->write) {
        ret = fat_open_writer(fat, err);
        if (ret < 0)
            fat_close_volume(fat);
    }
    if (ret == 0)
        *fs = &fat->fs;
    return ret;
}

const struct fs_driver fat_driver = {.name = "fat", .probe = fat_probe, .open = fat_open};
