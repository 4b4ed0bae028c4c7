// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_xfs.c - a small XFS, walked to its end: every directory listed, every name looked up, files, links and
 * attributes read, and before that what its log holds replayed.
 *
 * An input is a list of the sectors that are not zero: the number of sectors of the device (4 bytes, little endian),
 * then for each sector its number and its 512 bytes. The mutator changes something in one sector and then makes every
 * checksum right again, so that what it changed is seen.
 *
 * Held: nothing is written; an error says what it is; names and sizes are what vfs.h promises.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

#include "../fs/vfs.h"
#include "../fs/xfs/log_format.h"
#include "../fs/xfs/xfs.h"

enum { SECTOR = 512, HEAD = 4, RECORD = 4 + SECTOR, MOST_SECTORS = 1 << 20, MOST_INODES = 300, MOST_NAMES = 2000 };

extern const struct fs_driver xfs_driver;

/* ---- the device ---- */

struct sparse {
    struct device device;
    const uint8_t *data;
    size_t count;
};

static uint32_t number_at(const uint8_t *p) {
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static const uint8_t *find_sector(const uint8_t *data, size_t count, uint32_t number) {
    size_t low = 0, high = count; /* the corpus is in order; what a mutation moved is not found, which is as good */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const uint8_t *record = data + HEAD + middle * RECORD;
        if (number_at(record) == number)
            return record + 4;
        if (number_at(record) < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int sparse_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    const struct sparse *sparse = (const struct sparse *)device;
    (void)err;
    for (size_t done = 0, part; done < count; done += part) {
        size_t inside = (offset + done) % SECTOR;
        part = SECTOR - inside < count - done ? SECTOR - inside : count - done;
        const uint8_t *sector = find_sector(sparse->data, sparse->count, (uint32_t)((offset + done) / SECTOR));
        if (sector)
            memcpy((uint8_t *)buffer + done, sector + inside, part);
        else
            memset((uint8_t *)buffer + done, 0, part);
    }
    return 0;
}

static const struct device_ops sparse_ops = {.read = sparse_read};

/* ---- the walk ---- */

struct found {
    uint64_t dir, inodes[MOST_INODES];
    size_t count, names;
    struct fs *fs;
};

static void check(int ret, const struct img_error *err, const char *what) {
    if (ret < 0 && ret != -ENXIO && (err->code != ret || !err->text[0]))
        fuzz_fail("%s fails with %d but says %d '%s'", what, ret, err->code, err->text);
}

static int take_name(void *opaque, const struct fs_entry *entry) {
    struct found *found = opaque;
    struct img_error err = {0};
    uint64_t ino;
    if (entry->length == 0 || entry->length > FS_NAME_MAX || strlen(entry->name) != entry->length ||
        strchr(entry->name, '/'))
        fuzz_fail("a name of %zu bytes: '%s'", entry->length, entry->name);
    check(found->fs->ops->lookup(found->fs, found->dir, entry->name, entry->length, &ino, &err), &err, "lookup");
    size_t i = 0;
    while (i < found->count && found->inodes[i] != entry->ino)
        i++;
    if (i == found->count && i < MOST_INODES)
        found->inodes[found->count++] = entry->ino;
    return ++found->names > MOST_NAMES;
}

static int take_attribute(void *opaque, const char *name, const void *value, size_t length) {
    unsigned *count = opaque;
    uint8_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum ^= ((const uint8_t *)value)[i];
    if (strlen(name) < 6 || length > 65536 || (length == 0 && sum))
        fuzz_fail("an attribute '%s' of %zu bytes", name, length);
    return ++*count > MOST_NAMES;
}

static void read_file(struct fs *fs, const struct fs_stat *stat) {
    static uint8_t buffer[70000];
    uint64_t at = 0, start, length;
    struct img_error err = {0};
    size_t got;
    int ret = 0;
    for (unsigned i = 0; i < 30; i++, at += stat->size / 29 + 1) {
        ret = fs->ops->read(fs, stat->ino, buffer, sizeof(buffer), at, &got, &err);
        check(ret, &err, "read");
        if (ret < 0)
            break;
        if (got > sizeof(buffer) || (got < sizeof(buffer) && at + got < stat->size))
            fuzz_fail("%zu bytes at %llu of %llu", got, (unsigned long long)at, (unsigned long long)stat->size);
    }
    at = 0;
    for (unsigned i = 0; i < 50 && ret == 0; i++, at = start + length) {
        ret = fs->ops->next_data(fs, stat->ino, at, &start, &length, &err);
        check(ret, &err, "next_data");
        if (ret == 0 && (start < at || length == 0 || start + length > stat->size))
            fuzz_fail("data %llu+%llu", (unsigned long long)start, (unsigned long long)length);
    }
}

static void look(struct found *found, uint64_t ino) {
    struct fs *fs = found->fs;
    struct img_error err = {0};
    struct fs_stat stat;
    unsigned attributes = 0;
    int ret = fs->ops->stat(fs, ino, &stat, &err);
    check(ret, &err, "stat");
    if (ret < 0)
        return;
    check(fs->ops->xattrs(fs, ino, take_attribute, &attributes, &err), &err, "xattrs");
    found->dir = ino;
    if (S_ISDIR(stat.mode)) {
        check(fs->ops->list(fs, ino, take_name, found, &err), &err, "list");
    } else if (S_ISREG(stat.mode)) {
        read_file(fs, &stat);
    } else if (S_ISLNK(stat.mode)) {
        char target[100];
        size_t length;
        check(fs->ops->readlink(fs, ino, target, sizeof(target), &length, &err), &err, "readlink");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEAD + RECORD || number_at(data) > MOST_SECTORS)
        return 0;
    struct sparse sparse = {
        .device = {.ops = &sparse_ops, .size = (uint64_t)number_at(data) * SECTOR, .sector_size = SECTOR},
        .data = data,
        .count = (size - HEAD) / RECORD};
    static const struct fs_open_options options;
    struct probe probe = {0};
    struct img_error err = {0};
    static struct found found;
    struct fs_space space;
    struct fs *fs;
    if (xfs_driver.probe(&sparse.device, &probe) < 0)
        return 0;
    int ret = xfs_driver.open(&sparse.device, &probe, &options, &fs, &err);
    check(ret, &err, "open");
    if (ret < 0)
        return 0;
    check(fs->ops->space(fs, &space, &err), &err, "space");
    found.fs = fs;
    found.count = 1;
    found.names = 0;
    found.inodes[0] = fs->root;
    for (size_t i = 0; i < found.count; i++)
        look(&found, found.inodes[i]);
    fs->ops->close(fs);
    return 0;
}

/* ---- the mutator ---- */

/* Of the block of `length` bytes that begins in a sector: its checksum as it must be. The sectors of a block follow
 * each other in the list, but for those that are zero. */
static void mend_block(uint8_t *data, size_t count, size_t index, size_t length, size_t crc) {
    uint8_t block[1 << XFS_MAX_BLOCK_LOG] = {0};
    uint8_t *first = data + HEAD + index * RECORD;
    uint32_t number = number_at(first);
    for (size_t i = index; i < count; i++) {
        const uint8_t *record = data + HEAD + i * RECORD;
        uint64_t at = (uint64_t)(number_at(record) - number) * SECTOR;
        if (number_at(record) < number || at >= length)
            break;
        memcpy(block + at, record + 4, SECTOR);
    }
    xfs_crc_set(block, length, crc);
    memcpy(first + 4 + crc, block + crc, 4);
}

static void mend(uint8_t *data, size_t size) {
    size_t count = (size - HEAD) / RECORD;
    const struct xfs_disk_sb *sb = (const struct xfs_disk_sb *)(data + HEAD + 4);
    size_t block = get32(sb->block_size), inode = get16(sb->inode_size), dir;
    if (number_at(data + HEAD) != 0 || (get16(sb->version) & XFS_SB_VERSION) != 5)
        return;
    if (block < SECTOR || block > 1 << XFS_MAX_BLOCK_LOG || inode < 256 || inode > XFS_MAX_INODE_SIZE)
        return;
    dir = sb->dir_block_log < 8 && block << sb->dir_block_log <= 1 << XFS_MAX_BLOCK_LOG ? block << sb->dir_block_log
                                                                                        : block;
    for (size_t i = 0; i < count; i++) {
        uint8_t *sector = data + HEAD + i * RECORD + 4;
        const struct xfs_shape *shape = xfs_shape_of(sector, SECTOR);
        struct xlog_disk_record *record = (struct xlog_disk_record *)sector;
        if (get32(record->magic) == XLOG_MAGIC) {
            record->crc = put_le32(0);
        } else if (get16(*(be16 *)sector) == XFS_INODE_MAGIC) {
            if (inode >= SECTOR)
                mend_block(data, count, i, inode, offsetof(struct xfs_disk_inode, crc));
        } else if (shape && shape->v5) {
            bool group = shape->magic == XFS_SB_MAGIC || shape->magic == XFS_AGF_MAGIC ||
                         shape->magic == XFS_AGI_MAGIC || shape->magic == XFS_AGFL_MAGIC;
            bool names = shape->kind & (XFS_KIND_DIR_DATA | XFS_KIND_DIR_LEAF);
            mend_block(data, count, i, group ? SECTOR : names ? dir : block, shape->crc);
        }
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    if (size < HEAD + RECORD)
        return LLVMFuzzerMutate(data, size, max_size);
    size_t count = (size - HEAD) / RECORD, index = (seed * 2654435761u >> 8) % count;
    uint8_t *sector = data + HEAD + index * RECORD + 4;
    size_t from = (seed >> 3) % SECTOR / 8 * 8, length = seed % 4 ? 8 : 64;
    if (from + length > SECTOR)
        from = SECTOR - length;
    if (seed % 13 == 0) { /* another sector's bytes */
        memmove(sector, data + HEAD + (seed >> 5) % count * RECORD + 4, SECTOR);
    } else if (seed % 7 == 0) { /* a number that is likely to matter */
        static const uint8_t numbers[][8] = {
            {0}, {0, 0, 0, 0, 0, 0, 0, 1}, {255, 255, 255, 255, 255, 255, 255, 255}, {127, 255}, {128}};
        memcpy(sector + from, numbers[(seed >> 4) % 5], 1u << (seed >> 7) % 4);
    } else {
        LLVMFuzzerMutate(sector + from, length, length);
    }
    mend(data, size);
    return size;
}
