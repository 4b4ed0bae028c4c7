// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_ext.c - bytes as an ext filesystem, journal and fast commits included, of which everything is read.
 *
 * A filesystem with a journal has a MiB at least, most of it zeroes. So an input is a list of blocks: two bytes of a
 * number, then 1024 bytes that lie there. The mutator changes blocks where they stand and then writes the checksums of
 * superblock, journal, descriptors and inodes anew, else nothing behind them would ever be reached.
 *
 * Held: an error says what it is, a file gives no more than its size, and everything ends in time and small memory.
 */
#include "fuzz.h"

#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../fs/vfs.h"

#define BLOCK 1024u
#define RECORD (2 + BLOCK)
#define BLOCKS 8192u /* of the device */

extern const struct fs_driver ext_driver;

/* ---- a device ---- */

static uint8_t disk[BLOCKS * BLOCK];

/* Clears what the last run had there. */
static void load(const uint8_t *data, size_t size) {
    static uint16_t used[BLOCKS];
    static unsigned count;
    while (count > 0)
        memset(disk + used[--count] * BLOCK, 0, BLOCK);
    for (; size >= RECORD && count < BLOCKS; data += RECORD, size -= RECORD) {
        used[count] = (uint16_t)((data[0] | data[1] << 8) % BLOCKS);
        memcpy(disk + used[count++] * BLOCK, data + 2, BLOCK);
    }
}

static int read_disk(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    (void)device, (void)err;
    memcpy(buffer, disk + offset, count);
    return 0;
}

static void close_disk(struct device *device) {
    (void)device;
}

static const struct device_ops disk_ops = {.read = read_disk, .close = close_disk};

/* ---- reading everything ---- */

struct tour {
    struct fs *fs;
    unsigned entries, depth; /* left */
    uint64_t bytes;          /* left to read */
};

static void check_result(int ret, const struct img_error *err) {
    if (ret > 0 || (ret < 0 && (err->code != ret || !err->text[0])))
        fuzz_fail("a call gives %d and says %d '%s'", ret, err->code, err->text);
}

static int look_at_attribute(void *opaque, const char *name, const void *value, size_t length) {
    (void)opaque;
    if (!strchr(name, '.') || length > 65536 + 8 || (length && !value))
        fuzz_fail("the attribute %s of %zu bytes", name, length);
    return 0;
}

static void read_at(struct tour *tour, const struct fs_stat *stat, uint64_t offset) {
    static uint8_t buffer[65536];
    struct img_error err = {0};
    size_t got = 0;
    int ret = tour->fs->ops->read(tour->fs, stat->ino, buffer, sizeof(buffer), offset, &got, &err);
    check_result(ret, &err);
    if (ret == 0 && (got > sizeof(buffer) || (got > 0 && offset + got > stat->size)))
        fuzz_fail("%zu bytes at %lu of a file of %lu", got, (unsigned long)offset, (unsigned long)stat->size);
    tour->bytes -= tour->bytes < sizeof(buffer) ? tour->bytes : sizeof(buffer);
}

static void look_at_file(struct tour *tour, const struct fs_stat *stat) {
    struct img_error err = {0};
    uint64_t start, length, at = 0;
    for (unsigned i = 0; i < 20 && tour->bytes; i++) {
        int ret = tour->fs->ops->next_data(tour->fs, stat->ino, at, &start, &length, &err);
        check_result(ret, &err);
        if (ret < 0)
            break;
        if (start < at || length == 0 || start + length > stat->size)
            fuzz_fail("data of %lu bytes at %lu in a file of %lu", (unsigned long)length, (unsigned long)start,
                      (unsigned long)stat->size);
        read_at(tour, stat, start);
        at = start + length;
    }
    if (tour->bytes)
        read_at(tour, stat, stat->size / 2);
    read_at(tour, stat, stat->size);
}

static int look_at_entry(void *opaque, const struct fs_entry *entry);

static void look_at_inode(struct tour *tour, uint64_t ino) {
    struct fs *fs = tour->fs;
    struct img_error err = {0};
    struct fs_stat stat;
    char target[100];
    size_t length;
    int ret = fs->ops->stat(fs, ino, &stat, &err);
    check_result(ret, &err);
    if (ret < 0)
        return;
    ret = fs->ops->readlink(fs, ino, target, sizeof(target), &length, &err);
    check_result(ret, &err);
    ret = fs->ops->xattrs(fs, ino, look_at_attribute, NULL, &err);
    check_result(ret, &err);
    if (S_ISREG(stat.mode) && tour->bytes)
        look_at_file(tour, &stat);
    if (tour->depth == 0)
        return;
    tour->depth--;
    ret = fs->ops->list(fs, ino, look_at_entry, tour, &err);
    if (ret != 1)
        check_result(ret, &err);
    tour->depth++;
}

static int look_at_entry(void *opaque, const struct fs_entry *entry) {
    struct tour *tour = opaque;
    uint64_t found;
    struct img_error err = {0};
    if (entry->length == 0 || strlen(entry->name) != entry->length || strchr(entry->name, '/'))
        fuzz_fail("a name of %zu bytes", entry->length);
    if (tour->entries == 0)
        return 1;
    tour->entries--;
    check_result(tour->fs->ops->lookup(tour->fs, tour->fs->root, entry->name, entry->length, &found, &err), &err);
    look_at_inode(tour, entry->ino);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct device device = {.ops = &disk_ops, .size = sizeof(disk), .sector_size = 512};
    static const struct fs_open_options options = {0};
    struct img_error err = {0};
    struct probe probe = {0};
    struct fs_space space;
    struct tour tour = {.entries = 300, .depth = 8, .bytes = 4 << 20};
    load(data, size);
    if (ext_driver.probe(&device, &probe) < 0)
        return 0;
    int ret = ext_driver.open(&device, &probe, &options, &tour.fs, &err);
    check_result(ret, &err);
    if (ret < 0)
        return 0;
    check_result(tour.fs->ops->space(tour.fs, &space, &err), &err);
    look_at_inode(&tour, tour.fs->root);
    for (uint64_t ino = 1; ino < 40 && tour.bytes; ino++)
        look_at_inode(&tour, ino);
    tour.fs->ops->close(tour.fs);
    return 0;
}

/* ---- the mutator ---- */

static uint32_t crc(uint32_t seed, const void *bytes, size_t count) {
    return ext2fs_crc32c_le(seed, bytes, count);
}

/* The bytes of a disk's block in the input; NULL: it is zeroes. The last one counts. */
static uint8_t *record(uint8_t *data, size_t size, uint64_t block) {
    for (size_t at = size / RECORD; at > 0; at--)
        if ((data[(at - 1) * RECORD] | data[(at - 1) * RECORD + 1] << 8) % BLOCKS == block)
            return data + (at - 1) * RECORD + 2;
    return NULL;
}

static void sign_inodes(uint8_t *block, uint32_t seed, unsigned inode_size, uint32_t first) {
    for (unsigned at = 0; at + inode_size <= BLOCK; at += inode_size, first++) {
        struct ext2_inode_large *inode = (struct ext2_inode_large *)(block + at);
        uint32_t sum = crc(crc(seed, &first, 4), &inode->i_generation, 4);
        bool wide = inode_size > EXT2_GOOD_OLD_INODE_SIZE && inode->i_extra_isize >= 4;
        inode->i_checksum_lo = 0;
        if (wide)
            inode->i_checksum_hi = 0;
        sum = crc(sum, inode, inode_size);
        inode->i_checksum_lo = (uint16_t)sum;
        if (wide)
            inode->i_checksum_hi = (uint16_t)(sum >> 16);
    }
}

static void sign_group(uint8_t *data, size_t size, uint32_t seed, const struct ext2_super_block *super) {
    struct ext4_group_desc *group = (struct ext4_group_desc *)record(data, size, super->s_first_data_block + 1);
    unsigned length = super->s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT ? super->s_desc_size : 32;
    unsigned inode_size = super->s_inode_size;
    uint32_t number = 0;
    if (!group || length > BLOCK || inode_size < 128 || inode_size > BLOCK)
        return;
    group->bg_checksum = 0;
    group->bg_checksum = (uint16_t)crc(crc(seed, &number, 4), group, length);
    for (unsigned i = 0; i < 64; i++) {
        uint8_t *block = record(data, size, (uint64_t)group->bg_inode_table + i);
        if (block)
            sign_inodes(block, seed, inode_size, 1 + i * (BLOCK / inode_size));
    }
}

static void sign_journal(uint8_t *block) {
    uint32_t incompatible, sum = 0;
    memcpy(&incompatible, block + 0x28, 4);
    if (memcmp(block, "\xc0\x3b\x39\x98\0\0\0\4", 8) != 0 || !(be32toh(incompatible) & 0x18))
        return;
    memcpy(block + 0xfc, &sum, 4);
    sum = htobe32(crc(~0u, block, BLOCK));
    memcpy(block + 0xfc, &sum, 4);
}

static void sign(uint8_t *data, size_t size) {
    struct ext2_super_block *super = (struct ext2_super_block *)record(data, size, 1);
    for (size_t at = 0; at + RECORD <= size; at += RECORD)
        sign_journal(data + at + 2);
    if (!super || !(super->s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM))
        return;
    super->s_checksum_type = 1;
    uint32_t seed = super->s_feature_incompat & EXT4_FEATURE_INCOMPAT_CSUM_SEED ? super->s_checksum_seed
                                                                                : crc(~0u, super->s_uuid, 16);
    super->s_checksum = crc(~0u, super, offsetof(struct ext2_super_block, s_checksum));
    sign_group(data, size, seed, super);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    size_t records = size / RECORD;
    srand(seed);
    if (records == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    for (int changes = 1 + rand() % 4; changes > 0; changes--) {
        uint8_t *block = data + (size_t)rand() % records * RECORD, *other = data + (size_t)rand() % records * RECORD;
        size_t at = 2 + (size_t)rand() % BLOCK, left = RECORD - at, length = 1 + (size_t)rand() % 16;
        length = length < left ? length : left;
        switch (rand() % 12) {
        case 0: /* another place */
            block[0] = (uint8_t)rand();
            break;
        case 1: /* bytes of another block */
            memmove(block + at, other + at, length);
            break;
        case 2: /* from another place of it */
            memmove(block + at, other + 2 + rand() % (BLOCK - 16), length);
            break;
        case 3:
            records--;
            memmove(block, data + records * RECORD, RECORD);
            size = records * RECORD;
            if (records == 0)
                return 0;
            break;
        case 4: /* a number that lies near */
            block[at] = (uint8_t)(block[at] + rand() % 5 - 2);
            break;
        default: /* what libFuzzer knows, its length kept */
            LLVMFuzzerMutate(block + at, length, length);
        }
    }
    sign(data, size);
    return size;
}
