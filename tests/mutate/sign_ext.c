// SPDX-License-Identifier: GPL-3.0-or-later
/* sign_ext.c - the checksums of ext4 and of journals.
 *
 * With metadata_csum each structure has a sum whose seed is the filesystem's, and
 * mostly its owner's inode number and generation as well; those of journals have a seed of their own. Copies of blocks
 * in the journal are signed as what they are copies of, then their tags.
 */
#include "ext.h"

#include <endian.h>
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAST_TAIL 8

/* Of the base that is being signed. */
static struct disk *disk;
static struct items *items;

/* ---- sums ---- */

static uint32_t crc(uint32_t seed, const void *bytes, size_t count) {
    return ext2fs_crc32c_le(seed, bytes, count);
}

static uint32_t seed_of_all(void) {
    const struct ext2_super_block *super = (const struct ext2_super_block *)(disk->bytes + 1024);
    if (super->s_feature_incompat & EXT4_FEATURE_INCOMPAT_CSUM_SEED)
        return super->s_checksum_seed;
    return crc(~0u, super->s_uuid, sizeof(super->s_uuid));
}

/* Where a byte of the disk will come from once the journal is replayed. */
static uint64_t newest(uint64_t at) {
    uint64_t place = at;
    for (size_t i = 0; i < items->count; i++)
        if (items->list[i].kind == COPY && items->list[i].extra == at / items->block_size)
            place = items->list[i].at + at % items->block_size;
    return place;
}

static uint32_t seed_of_inode(const struct item *item) {
    const struct ext2_inode *inode = (const struct ext2_inode *)(disk->bytes + newest(item->place));
    return crc(crc(seed_of_all(), &item->number, 4), &inode->i_generation, 4);
}

static uint32_t read32(const uint8_t *p) {
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static void put_sum(uint64_t at, uint32_t sum) {
    disk_put(disk, at, &sum, sizeof(sum));
}

static void sign_inode(const struct item *item) {
    uint8_t bytes[4096];
    struct ext2_inode_large *inode = (struct ext2_inode_large *)bytes;
    memcpy(bytes, disk->bytes + item->at, item->length);
    bool wide = item->length > EXT2_GOOD_OLD_INODE_SIZE && inode->i_extra_isize >= 4;
    inode->i_checksum_lo = 0;
    if (wide)
        inode->i_checksum_hi = 0;
    uint32_t sum = crc(crc(seed_of_all(), &item->number, 4), &inode->i_generation, 4);
    sum = crc(sum, bytes, item->length);
    inode->i_checksum_lo = (uint16_t)sum;
    if (wide)
        inode->i_checksum_hi = (uint16_t)(sum >> 16);
    disk_put(disk, item->at, bytes, item->length);
}

static void sign_extents(const struct item *item) {
    const struct ext3_extent_header *header = (const struct ext3_extent_header *)(disk->bytes + item->at);
    uint32_t tail = 12 + 12 * (uint32_t)header->eh_max;
    if (tail + 4 <= item->length)
        put_sum(item->at + tail, crc(seed_of_inode(item), disk->bytes + item->at, tail));
}

static void sign_names(const struct item *item) {
    uint32_t tail = item->length - sizeof(struct ext2_dir_entry_tail);
    put_sum(item->at + item->length - 4, crc(seed_of_inode(item), disk->bytes + item->at, tail));
}

static void sign_hashed(const struct item *item) {
    static const uint8_t zero[4];
    const uint8_t *block = disk->bytes + item->at;
    const struct ext2_dx_countlimit *counts = (const struct ext2_dx_countlimit *)(block + item->extra);
    uint32_t tail = item->extra + 8u * counts->limit, used = item->extra + 8u * counts->count;
    if (tail + 8 > item->length || used > item->length)
        return;
    uint32_t sum = crc(seed_of_inode(item), block, used);
    sum = crc(crc(sum, block + tail, 4), zero, 4);
    put_sum(item->at + tail + 4, sum);
}

static void sign_attributes(const struct item *item) {
    static const uint8_t zero[4];
    const uint8_t *block = disk->bytes + item->at;
    uint64_t number = item->home / items->block_size;
    uint32_t sum = crc(crc(seed_of_all(), &number, sizeof(number)), block, 16);
    sum = crc(crc(sum, zero, 4), block + 20, item->length - 20);
    put_sum(item->at + 16, sum);
}

static void sign_group(const struct item *item) {
    uint8_t group[64];
    memcpy(group, disk->bytes + item->at, item->length);
    memset(group + offsetof(struct ext2_group_desc, bg_checksum), 0, 2);
    uint16_t sum = (uint16_t)crc(crc(seed_of_all(), &item->number, 4), group, item->length);
    disk_put(disk, item->at + offsetof(struct ext2_group_desc, bg_checksum), &sum, 2);
}

static void sign_super(const struct item *item) {
    size_t at = offsetof(struct ext2_super_block, s_checksum);
    put_sum(item->at + at, crc(~0u, disk->bytes + item->at, at));
}

/* ---- the journal ---- */

static uint32_t log_seed(void) {
    return crc(~0u, disk->bytes + items->log_super + 0x30, 16);
}

/* A block with one sum of itself, at `at` of it. */
static void sign_log(const struct item *item, uint32_t seed, uint32_t at) {
    static const uint8_t zero[4];
    const uint8_t *block = disk->bytes + item->at;
    uint32_t sum = crc(crc(seed, block, at), zero, 4);
    put_sum(item->at + at, htobe32(crc(sum, block + at + 4, item->length - at - 4)));
}

static void sign_log_super(const struct item *item) {
    sign_log(item, ~0u, 0xfc);
}

static void sign_tail(const struct item *item) {
    sign_log(item, log_seed(), item->length - 4);
}

static void sign_commit(const struct item *item) {
    sign_log(item, log_seed(), 16);
}

/* Of a block's copy, the tag that tells its sum. */
static void sign_copy(const struct item *item) {
    uint32_t sequence = htobe32(item->number);
    put_sum(item->place, htobe32(crc(crc(log_seed(), &sequence, 4), disk->bytes + item->at, item->length)));
}

/* Notes follow each other, from block to block; each run of them ends in one with their sum. */
static void sign_fast(const struct item *item) {
    const uint8_t *block = disk->bytes + item->at;
    static uint32_t sum;
    if (item->number == 0)
        sum = 0;
    for (uint32_t at = 0; at + 4 <= item->length;) {
        uint32_t head = read32(block + at), tag = head & 0xffff, length = head >> 16;
        if (tag == 0 || length > item->length - at - 4)
            break;
        sum = crc(sum, block + at, 4 + (tag == FAST_TAIL ? 4 : length));
        if (tag == FAST_TAIL && length >= 8) {
            put_sum(item->at + at + 8, sum);
            sum = 0;
        }
        at += 4 + length;
    }
}

static void sign_item(const struct item *item) {
    static void (*const calls[])(const struct item *) = {
        [INODE] = sign_inode,           [EXTENTS] = sign_extents, [NAMES] = sign_names,       [HASHED] = sign_hashed,
        [ATTRIBUTES] = sign_attributes, [GROUP] = sign_group,     [SUPER] = sign_super,       [COPY] = sign_copy,
        [LOG_SUPER] = sign_log_super,   [LOG_TAIL] = sign_tail,   [LOG_COMMIT] = sign_commit, [FAST] = sign_fast};
    if (calls[item->kind] && (item->kind < COPY ? items->sums : item->kind == FAST || items->log_sums))
        calls[item->kind](item);
}

void ext_sign_item(struct base *base, const struct item *item) {
    disk = &base->disks[0];
    items = base->signs;
    sign_item(item);
}

void ext_sign(struct base *base) {
    disk = &base->disks[0];
    items = base->signs;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < items->count; i++)
            if ((int)items->list[i].kind == kind)
                sign_item(&items->list[i]);
}
