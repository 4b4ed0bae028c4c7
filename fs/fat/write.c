/* SPDX-License-Identifier: GPL-3.0-or-later */
/* write.c - how a FAT volume is changed (vfs_write.h): the operations, and the commit with its order (write.h).
 *
 * A file that takes another one's name takes its slot, so that the change is one sector. FAT keeps no owners, no links
 * and of the permissions only whether a file may be written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "../error.h"
#include "write.h"

#define ARCHIVE 0x20u /* every file that was written has it */

static struct fat *fat_of(struct fs *fs) {
    return (struct fat *)fs;
}

static void put(uint8_t *p, unsigned bytes, uint32_t n) {
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(n >> 8 * i);
}

static int check_writer(const struct fat *fat, struct img_error *err) {
    return fat->writer->broken ? fail(err, -EIO, "An earlier change failed: the filesystem must be opened anew") : 0;
}

/* ---- fields of a slot ---- */

static void put_cluster(struct fat_slot *slot, uint32_t cluster) {
    put(slot->cluster_low, 2, cluster);
    put(slot->cluster_high, 2, cluster >> 16);
}

/* As near as FAT can have it: 1980 to 2107, two seconds. */
static void put_time(struct fs_time when, uint8_t date[2], uint8_t time[2]) {
    static const time_t first = 315532800, last = 4354819198;
    time_t seconds = when.seconds < first ? first : when.seconds > last ? last : (time_t)when.seconds;
    struct tm t;
    gmtime_r(&seconds, &t);
    put(date, 2, (unsigned)(t.tm_year - 80) << 9 | (unsigned)(t.tm_mon + 1) << 5 | (unsigned)t.tm_mday);
    if (time)
        put(time, 2, (unsigned)t.tm_hour << 11 | (unsigned)t.tm_min << 5 | (unsigned)t.tm_sec / 2);
}

static void put_mode(struct fat_slot *slot, uint32_t mode) {
    if (!fat_is_directory(slot))
        slot->attributes = (uint8_t)((slot->attributes & ~FAT_READ_ONLY) | (mode & 0222 ? 0 : FAT_READ_ONLY));
}

static void put_new(struct fat_slot *slot, const struct fs_new *file) {
    slot->attributes = S_ISDIR(file->mode) ? FAT_DIRECTORY : ARCHIVE;
    put_mode(slot, file->mode);
    put_time(file->mtime, slot->date, slot->time);
    put_time(file->mtime, slot->created_date, slot->created_time);
    put_time(file->atime, slot->access_date, NULL);
    slot->created_hundreds = 0;
    put_cluster(slot, 0);
    put(slot->size, 4, 0);
}

/* ---- directories ---- */

/* The first cluster of a directory as ".." has it: 0 for the root. */
static int cluster_of(struct fat *fat, uint64_t dir, uint32_t *cluster, struct img_error *err) {
    struct fat_slot slot;
    *cluster = 0;
    if (dir == FAT_ROOT)
        return 0;
    int ret = fat_find_slot(fat, dir, &slot, err);
    if (ret == 0)
        *cluster = fat_first_cluster(fat, &slot);
    return ret;
}

/* Its first cluster is written at once: nothing on the disk names it yet. */
static int begin_directory(struct fat *fat, uint64_t parent, struct fat_slot *slot, struct img_error *err) {
    uint32_t above, cluster = 0, size = fat->geometry.cluster_size;
    uint64_t at = 0;
    int ret = cluster_of(fat, parent, &above, err);
    if (ret == 0)
        ret = fat_take(fat, 0, &cluster, err);
    if (ret == 0)
        ret = fat_cluster_at(fat, cluster, &at, err);
    if (ret < 0)
        return ret;
    struct fat_slot *dots = calloc(1, size);
    if (!dots)
        return fail_no_memory(err);
    put_cluster(slot, cluster);
    dots[0] = dots[1] = *slot;
    memcpy(dots[0].name, ".          ", FAT_SHORT);
    memcpy(dots[1].name, "..         ", FAT_SHORT);
    put_cluster(&dots[1], above);
    ret = device_write(fat->fs.device, dots, size, at, err);
    free(dots);
    return ret;
}

static int check_empty(struct fat *fat, const struct fat_entry *entry, struct img_error *err) {
    struct fat_dir *dir;
    struct fat_entry *inner = malloc(sizeof(*inner));
    if (!inner)
        return fail_no_memory(err);
    int ret = fat_dir_open(fat, entry->at / FAT_SLOT, &dir, err);
    if (ret == 0)
        ret = fat_dir_next(dir, inner, err);
    free(dir);
    free(inner);
    return ret > 0 ? fail(err, -ENOTEMPTY, "The directory is not empty") : ret;
}

/* Goes up from `dir` to the root: does it meet the directory that begins with `cluster`? */
static int check_not_above(struct fat *fat, uint64_t dir, uint32_t cluster, struct img_error *err) {
    uint32_t at;
    int ret = cluster_of(fat, dir, &at, err);
    for (unsigned depth = 0; ret == 0 && at; depth++) {
        struct fat_slot dotdot;
        uint64_t place;
        if (at == cluster)
            return fail(err, -EINVAL, "A directory cannot be moved into itself");
        if (depth == 1000)
            return fail(err, -EUCLEAN, "FAT%u: directories go round in a circle", fat->geometry.bits);
        ret = fat_cluster_at(fat, at, &place, err);
        if (ret == 0)
            ret = fat_find_slot(fat, place / FAT_SLOT + 1, &dotdot, err);
        if (ret == 0)
            at = fat_first_cluster(fat, &dotdot);
    }
    return ret;
}

/* ---- names ---- */

static int fat_create(struct fs *fs, uint64_t dir, const char *name, size_t length, const struct fs_new *file,
                      uint64_t *ino, struct img_error *err) {
    struct fat *fat = fat_of(fs);
    int ret = check_writer(fat, err);
    if (ret == 0 && !S_ISREG(file->mode) && !S_ISDIR(file->mode))
        ret = fail(err, -EPERM, "FAT has only files and directories");
    struct fat_entry *there = ret == 0 ? malloc(sizeof(*there)) : NULL;
    if (!there)
        return ret < 0 ? ret : fail_no_memory(err);
    ret = fat_find_entry(fat, dir, name, length, there, NULL);
    if (ret == 0 && (!file->replace || fat_is_directory(&there->slot) || S_ISDIR(file->mode))) {
        ret = fail(err, -EEXIST, "There is such a file already");
    } else if (ret == 0) {
        struct fat_slot slot = there->slot;
        put_new(&slot, file);
        *ino = there->at / FAT_SLOT;
        ret = fat_give_back(fat, fat_first_cluster(fat, &there->slot), err);
        if (ret == 0)
            ret = fat_put_slot(fat, there->at, &slot, FAT_PUT, err);
    } else if (ret == -ENOENT) {
        struct fat_slot slot = {.attributes = 0};
        put_new(&slot, file);
        ret = S_ISDIR(file->mode) ? begin_directory(fat, dir, &slot, err) : 0;
        if (ret == 0)
            ret = fat_add_entry(fat, dir, name, length, &slot, ino, err);
        if (ret < 0)
            fat_give_back(fat, fat_first_cluster(fat, &slot), NULL);
    } else {
        ret = fail(err, ret, "FAT%u: the directory cannot be read", fat->geometry.bits);
    }
    free(there);
    return ret;
}

static int fat_link(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err) {
    (void)fs, (void)dir, (void)name, (void)length, (void)ino;
    return fail(err, -EPERM, "FAT has no hard links");
}

static int fat_unlink(struct fs *fs, uint64_t dir, const char *name, size_t length, struct img_error *err) {
    struct fat *fat = fat_of(fs);
    int ret = check_writer(fat, err);
    struct fat_entry *entry = ret == 0 ? malloc(sizeof(*entry)) : NULL;
    if (!entry)
        return ret < 0 ? ret : fail_no_memory(err);
    ret = fat_find_entry(fat, dir, name, length, entry, err);
    if (ret == 0 && fat_is_directory(&entry->slot))
        ret = check_empty(fat, entry, err);
    if (ret == 0)
        ret = fat_remove_entry(fat, entry, FAT_REMOVED, err);
    if (ret == 0)
        ret = fat_give_back(fat, fat_first_cluster(fat, &entry->slot), err);
    free(entry);
    return ret;
}

/* The file of one entry gets the slot of another one, whose file goes. */
static int take_over(struct fat *fat, const struct fat_entry *from, const struct fat_entry *to, struct img_error *err) {
    struct fat_slot slot = from->slot;
    int ret = 0;
    if (fat_is_directory(&to->slot) && !fat_is_directory(&from->slot))
        return fail(err, -EISDIR, "What has the new name is a directory");
    if (!fat_is_directory(&to->slot) && fat_is_directory(&from->slot))
        return fail(err, -ENOTDIR, "What has the new name is not a directory");
    if (fat_is_directory(&to->slot))
        ret = check_empty(fat, to, err);
    memcpy(slot.name, to->slot.name, FAT_SHORT);
    slot.lower = to->slot.lower;
    if (ret == 0)
        ret = fat_put_slot(fat, to->at, &slot, FAT_PUT, err);
    if (ret == 0)
        ret = fat_remove_entry(fat, from, FAT_REPLACED, err);
    return ret == 0 ? fat_give_back(fat, fat_first_cluster(fat, &to->slot), err) : ret;
}

/* A directory knows the one above it. */
static int name_parent(struct fat *fat, const struct fat_entry *entry, uint64_t parent, struct img_error *err) {
    struct fat_slot dotdot;
    uint32_t above;
    uint64_t at = 0;
    int ret = cluster_of(fat, parent, &above, err);
    if (ret == 0)
        ret = fat_cluster_at(fat, fat_first_cluster(fat, &entry->slot), &at, err);
    if (ret == 0)
        ret = fat_find_slot(fat, at / FAT_SLOT + 1, &dotdot, err);
    if (ret < 0 || memcmp(dotdot.name, "..", 2) != 0)
        return ret;
    put_cluster(&dotdot, above);
    return fat_put_slot(fat, at + FAT_SLOT, &dotdot, FAT_PUT, err);
}

static int move(struct fat *fat, const struct fat_entry *from, uint64_t dir, const char *name, size_t length,
                struct fat_entry *to, struct img_error *err) {
    uint64_t ino;
    int ret = fat_find_entry(fat, dir, name, length, to, NULL);
    if (ret == 0 && to->at != from->at)
        return take_over(fat, from, to, err);
    if (ret < 0 && ret != -ENOENT)
        return fail(err, ret, "FAT%u: the directory cannot be read", fat->geometry.bits);
    if (ret == 0 && length == from->length && memcmp(name, from->name, length) == 0)
        return 0;
    ret = fat_add_entry(fat, dir, name, length, &from->slot, &ino, err);
    return ret == 0 ? fat_remove_entry(fat, from, FAT_REMOVED, err) : ret;
}

static int fat_rename(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t new_dir,
                      const char *new_name, size_t new_length, struct img_error *err) {
    struct fat *fat = fat_of(fs);
    int ret = check_writer(fat, err);
    struct fat_entry *entries = ret == 0 ? calloc(2, sizeof(*entries)) : NULL;
    if (!entries)
        return ret < 0 ? ret : fail_no_memory(err);
    ret = fat_find_entry(fat, dir, name, length, &entries[0], err);
    bool moves = ret == 0 && fat_is_directory(&entries[0].slot) && dir != new_dir;
    if (moves)
        ret = check_not_above(fat, new_dir, fat_first_cluster(fat, &entries[0].slot), err);
    if (ret == 0)
        ret = move(fat, &entries[0], new_dir, new_name, new_length, &entries[1], err);
    if (ret == 0 && moves)
        ret = name_parent(fat, &entries[0], new_dir, err);
    free(entries);
    return ret;
}

/* ---- contents ---- */

static int find_file(struct fat *fat, uint64_t ino, struct fat_slot *slot, struct img_error *err) {
    *slot = (struct fat_slot){.attributes = FAT_DIRECTORY};
    int ret = check_writer(fat, err);
    if (ret == 0 && ino == FAT_ROOT)
        ret = fail(err, -EISDIR, "FAT%u: the root is a directory", fat->geometry.bits);
    return ret == 0 ? fat_find_slot(fat, ino, slot, err) : ret;
}

/* The cluster behind the chain's place, taken if there is none. */
static int next_cluster(struct fat *fat, struct fat_chain *chain, struct img_error *err) {
    uint32_t before = chain->cluster, cluster = 0;
    int ret = before ? fat_chain_step(fat, chain, err) : 0;
    if (ret != 0)
        return ret < 0 ? ret : 0;
    ret = fat_take(fat, before, &cluster, err);
    if (ret < 0)
        return ret;
    if (before) {
        chain->cluster = cluster;
        chain->index++;
        return 0;
    }
    return fat_chain_start(fat, cluster, chain, err);
}

/* Lengthens a file by `count` bytes (NULL: zeroes, at most a cluster) and says in the slot how far it came. */
static int lengthen(struct fat *fat, struct fat_slot *slot, const uint8_t *bytes, size_t count, struct img_error *err) {
    uint32_t cluster_size = fat->geometry.cluster_size, size = fat_get32(slot->size);
    struct fat_chain chain = {0};
    uint32_t first = fat_first_cluster(fat, slot);
    bool there = size % cluster_size != 0; /* the chain is at the cluster for the next byte */
    int ret = size ? fat_chain_at(fat, first, (size - 1) / cluster_size, &chain, err) : 0;
    while (ret == 0 && count) {
        uint64_t at = 0, within = size % cluster_size, run = cluster_size - within;
        if (!there)
            ret = next_cluster(fat, &chain, err);
        if (ret == 0)
            ret = fat_cluster_at(fat, chain.cluster, &at, err);
        if (ret < 0)
            break;
        if (!size)
            put_cluster(slot, chain.cluster);
        for (there = false; run < count && ret == 0 && !there;) {
            uint32_t before = chain.cluster;
            ret = next_cluster(fat, &chain, err);
            if (ret == 0 && chain.cluster == before + 1)
                run += cluster_size;
            else
                there = ret == 0;
        }
        if (run > count)
            run = count;
        int written = device_write(fat->fs.device, bytes, run, at + within, err);
        if (written < 0)
            return written;
        bytes += run;
        size += (uint32_t)run;
        count -= run;
    }
    put(slot->size, 4, size);
    if (chain.cluster && size)
        fat_chain_remember(fat, &chain);
    return ret;
}

static int fill_gap(struct fat *fat, struct fat_slot *slot, uint64_t end, struct img_error *err) {
    enum { PIECE = 1 << 16 };
    uint8_t *zeroes = fat_get32(slot->size) < end ? calloc(1, PIECE) : NULL;
    int ret = 0;
    if (!zeroes)
        return fat_get32(slot->size) < end ? fail_no_memory(err) : 0;
    while (ret == 0 && fat_get32(slot->size) < end) {
        uint64_t left = end - fat_get32(slot->size);
        ret = lengthen(fat, slot, zeroes, left < PIECE ? (size_t)left : PIECE, err);
    }
    free(zeroes);
    return ret;
}

static int fat_append(struct fs *fs, uint64_t ino, const void *buffer, size_t count, uint64_t offset,
                      struct img_error *err) {
    struct fat *fat = fat_of(fs);
    struct fat_slot slot;
    uint64_t end;
    int ret = find_file(fat, ino, &slot, err);
    if (ret < 0)
        return ret;
    if (fat_is_directory(&slot) || offset < fat_get32(slot.size))
        return fail(err, -EINVAL, "FAT%u: only what lies behind the end of a file can be written", fat->geometry.bits);
    if (__builtin_add_overflow(offset, (uint64_t)count, &end) || end > UINT32_MAX)
        return fail(err, -EFBIG, "A file on FAT has less than 4 GiB");
    if (!fat_get32(slot.size)) { /* an empty file may have clusters all the same */
        ret = fat_give_back(fat, fat_first_cluster(fat, &slot), err);
        put_cluster(&slot, 0);
    }
    if (ret == 0 && count)
        ret = fill_gap(fat, &slot, offset, err);
    if (ret == 0)
        ret = lengthen(fat, &slot, buffer, count, err);
    int put_ret = fat_put_slot(fat, ino * FAT_SLOT, &slot, FAT_PUT, err);
    return ret < 0 ? ret : put_ret;
}

static int fat_set_size(struct fs *fs, uint64_t ino, uint64_t size, struct img_error *err) {
    struct fat *fat = fat_of(fs);
    struct fat_slot slot;
    int ret = find_file(fat, ino, &slot, err);
    if (ret < 0)
        return ret;
    if (fat_is_directory(&slot) || (size && size < fat_get32(slot.size)))
        return fail(err, -EINVAL, "FAT%u: only a file can be made longer or empty", fat->geometry.bits);
    if (size > UINT32_MAX)
        return fail(err, -EFBIG, "A file on FAT has less than 4 GiB");
    if (size) {
        ret = fill_gap(fat, &slot, size, err);
    } else {
        ret = fat_give_back(fat, fat_first_cluster(fat, &slot), err);
        put_cluster(&slot, 0);
        put(slot.size, 4, 0);
    }
    int put_ret = fat_put_slot(fat, ino * FAT_SLOT, &slot, FAT_PUT, err);
    return ret < 0 ? ret : put_ret;
}

static int fat_set_attributes(struct fs *fs, uint64_t ino, const struct fs_attributes *attributes,
                              struct img_error *err) {
    struct fat *fat = fat_of(fs);
    struct fat_slot slot;
    int ret = check_writer(fat, err);
    if (ret < 0 || ino == FAT_ROOT)
        return ret;
    ret = fat_find_slot(fat, ino, &slot, err);
    if (ret < 0)
        return ret;
    if (attributes->set & FS_SET_MODE)
        put_mode(&slot, attributes->mode);
    if (attributes->set & FS_SET_MTIME)
        put_time(attributes->mtime, slot.date, slot.time);
    if (attributes->set & FS_SET_ATIME)
        put_time(attributes->atime, slot.access_date, NULL);
    return fat_put_slot(fat, ino * FAT_SLOT, &slot, FAT_PUT, err);
}

static int fat_set_xattr(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t length,
                         struct img_error *err) {
    (void)fs, (void)ino, (void)name, (void)value, (void)length;
    return fail(err, -ENOTSUP, "FAT has no extended attributes");
}

/* ---- the commit ---- */

/* FAT32 keeps the number of free clusters, as a hint. */
static int write_hint(struct fat *fat, struct img_error *err) {
    uint8_t sector[512];
    uint64_t at = (uint64_t)fat->writer->info_sector * fat->geometry.sector_size;
    if (!fat->writer->info_sector || at + sizeof(sector) > fat->geometry.table)
        return 0;
    int ret = device_read(fat->fs.device, sector, sizeof(sector), at, err);
    if (ret < 0 || fat_get32(sector) != 0x41615252 || fat_get32(sector + 484) != 0x61417272)
        return ret;
    put(sector + 488, 4, (uint32_t)fat->writer->free);
    put(sector + 492, 4, fat->writer->next_free);
    return device_write(fat->fs.device, sector, sizeof(sector), at, err);
}

static int write_all(struct fat *fat, struct img_error *err) {
    struct device *device = fat->fs.device;
    bool any = true;
    int ret = device_flush(device, err);
    if (ret == 0)
        ret = fat_write_table(fat, err);
    if (ret == 0)
        ret = device_flush(device, err);
    for (unsigned phase = 0; phase < FAT_PHASES && ret == 0; phase++) {
        ret = fat_write_slots(fat, phase, &any, err);
        if (ret == 0 && any)
            ret = device_flush(device, err);
    }
    if (ret == 0)
        ret = fat_free_chains(fat, err);
    if (ret == 0)
        ret = fat_write_table(fat, err);
    if (ret == 0)
        ret = write_hint(fat, err);
    return ret == 0 ? device_flush(device, err) : ret;
}

static int fat_commit(struct fs *fs, struct img_error *err) {
    struct fat *fat = fat_of(fs);
    int ret = check_writer(fat, err);
    if (ret < 0 || (!fat->writer->change_count && !fat->writer->given_count))
        return ret;
    ret = write_all(fat, err);
    fat->writer->broken = ret < 0;
    if (ret < 0)
        return ret;
    fs->commits++;
    fat_forget(fat);
    fat->writer->change_count = 0;
    fat->block_count = 0;
    fat_unpin(fat);
    return 0;
}

static const struct fs_write_ops write_ops = {.whole = false,
                                              .create = fat_create,
                                              .link = fat_link,
                                              .unlink = fat_unlink,
                                              .rename = fat_rename,
                                              .append = fat_append,
                                              .set_size = fat_set_size,
                                              .set_attributes = fat_set_attributes,
                                              .set_xattr = fat_set_xattr,
                                              .commit = fat_commit};

/* Whoever mounts a volume marks it until the unmount: Linux in the boot sector, Windows in the second entry of the
 * table. As the kernel does, it is written all the same: only free clusters are taken, whatever chains may cross. */
static int warn_if_in_use(struct fat *fat, const struct fat_boot *boot, struct img_error *err) {
    enum { IN_USE = 1 };
    static const uint32_t clean_16 = 0x8000, clean_32 = 0x08000000;
    unsigned bits = fat->geometry.bits;
    uint32_t mark = ~0u;
    int ret = bits == 12 ? 0 : fat_read_entry(fat, 1, &mark, err);
    uint8_t state = bits == 32 ? boot->fat32.tail.state : boot->tail.state;
    if (ret == 0 && ((state & IN_USE) || !(mark & (bits == 32 ? clean_32 : clean_16))))
        fat->fs.warning = "it was not unmounted: fsck.vfat should look at it";
    return ret;
}

int fat_open_writer(struct fat *fat, struct img_error *err) {
    uint8_t sector[512] = {0};
    const struct fat_boot *boot = (const struct fat_boot *)sector;
    if (!fat->fs.device->writable)
        return fail(err, -EROFS, "The disk is open for reading only");
    struct fat_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return fail_no_memory(err);
    w->windows = (size_t)((fat->geometry.table_size + FAT_WINDOW - 1) / FAT_WINDOW);
    w->pinned = calloc(w->windows, sizeof(*w->pinned));
    w->next_free = FAT_FIRST;
    int ret = w->pinned ? fat_count_free(fat, &w->free, err) : fail_no_memory(err);
    if (ret == 0)
        ret = device_read(fat->fs.device, sector, sizeof(sector), 0, err);
    if (ret == 0)
        ret = warn_if_in_use(fat, boot, err);
    if (ret < 0) {
        free(w->pinned);
        free(w);
        return ret;
    }
    w->info_sector = fat->geometry.bits == 32 ? fat_get16(boot->fat32.info_sector) : 0;
    fat->writer = w;
    fat->fs.write_ops = &write_ops;
    return 0;
}

void fat_close_writer(struct fat *fat) {
    if (!fat->writer)
        return;
    fat_unpin(fat);
    fat_forget(fat);
    free(fat->writer->pinned);
    free(fat->writer->changes);
    free(fat->writer->given_back);
    free(fat->writer);
    fat->writer = NULL;
}
