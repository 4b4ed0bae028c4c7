// SPDX-License-Identifier: GPL-3.0-or-later
/* sign_xfs.c - the checksums of XFS version 5: of all that is right in the base, blocks that say by their magic number
 * what they are, inodes, and records of the log. Each covers the bytes that it covers there. */
#include "mutate.h"

#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <string.h>

#include "fs/xfs/log_format.h"
#include "fs/xfs/xfs.h"

#define SECTOR 512u

struct sign {
    uint64_t at;
    uint32_t length;
    uint32_t crc;     /* its place */
    uint32_t headers; /* of a record in the log; 0: it is none */
};

struct signs {
    size_t count;
    struct sign list[8192];
};

static uint32_t record_sum(const uint8_t *bytes, const struct sign *sign) {
    struct xlog_disk_record head;
    memcpy(&head, bytes, sizeof(head));
    head.crc = put_le32(0);
    uint32_t sum = ext2fs_crc32c_le(~0u, (const uint8_t *)&head, XLOG_CRC_BYTES);
    for (uint32_t i = 1; i < sign->headers; i++)
        sum = ext2fs_crc32c_le(sum, bytes + (size_t)i * SECTOR, XLOG_MORE_CRC_BYTES);
    return ~ext2fs_crc32c_le(sum, bytes + (size_t)sign->headers * SECTOR, sign->length);
}

static void sign_one(struct disk *disk, const struct sign *sign) {
    static uint8_t block[1 << 16];
    const uint8_t *bytes = disk->bytes + sign->at;
    le32 sum;
    if (sign->headers) {
        sum = put_le32(record_sum(bytes, sign));
    } else {
        memcpy(block, bytes, sign->length);
        xfs_crc_set(block, sign->length, sign->crc);
        memcpy(&sum, block + sign->crc, sizeof(sum));
    }
    disk_put(disk, sign->at + sign->crc, &sum, sizeof(sum));
}

static void sign_xfs(struct base *base) {
    const struct signs *signs = base->signs;
    for (size_t i = 0; i < signs->count; i++)
        sign_one(&base->disks[0], &signs->list[i]);
}

/* Notes it if its sum is right, so that nothing is taken for what it is not. */
static void consider(struct signs *signs, const struct disk *disk, struct sign sign) {
    const uint8_t *bytes = disk->base + sign.at;
    if (signs->count == sizeof(signs->list) / sizeof(signs->list[0]) || sign.length > 1 << 16 ||
        sign.at + sign.length > disk->size || !xfs_crc_ok(bytes, sign.length, sign.crc))
        return;
    signs->list[signs->count++] = sign;
}

static void consider_record(struct signs *signs, const struct disk *disk, uint64_t at, uint64_t log_end) {
    const struct xlog_disk_record *record = (const struct xlog_disk_record *)(disk->base + at);
    uint32_t size = get32(record->size), length = get32(record->length);
    struct sign sign = {at, length, offsetof(struct xlog_disk_record, crc), size > 32768 ? (size + 32767) / 32768 : 1};
    if (sign.headers > 8 || length > 256 << 10 || at + (uint64_t)sign.headers * SECTOR + length > log_end ||
        get_le32(record->crc) != record_sum(disk->base + at, &sign) ||
        signs->count == sizeof(signs->list) / sizeof(signs->list[0]))
        return;
    signs->list[signs->count++] = sign;
}

static void consider_sector(struct signs *signs, const struct disk *disk, uint64_t at, const struct xfs_disk_sb *sb) {
    const uint8_t *sector = disk->base + at;
    uint32_t block = get32(sb->block_size);
    const struct xfs_shape *shape = xfs_shape_of(sector, SECTOR);
    if (get16(*(const be16 *)sector) == XFS_INODE_MAGIC)
        consider(signs, disk, (struct sign){at, get16(sb->inode_size), offsetof(struct xfs_disk_inode, crc), 0});
    if (!shape || !shape->v5)
        return;
    bool group = shape->magic == XFS_SB_MAGIC || shape->magic == XFS_AGF_MAGIC || shape->magic == XFS_AGI_MAGIC ||
                 shape->magic == XFS_AGFL_MAGIC;
    bool names = shape->kind & (XFS_KIND_DIR_DATA | XFS_KIND_DIR_LEAF);
    consider(signs, disk,
             (struct sign){at,
                           group   ? SECTOR
                           : names ? block << sb->dir_block_log
                                   : block,
                           shape->crc, 0});
}

void xfs_prepare(struct base *base, const char *path) {
    struct disk *disk = &base->disks[0];
    const struct xfs_disk_sb *sb = (const struct xfs_disk_sb *)disk->base;
    uint64_t block = get32(sb->block_size), log = get64(sb->log_start) * block,
             log_end = log + get32(sb->log_blocks) * block;
    (void)path;
    if ((get16(sb->version) & XFS_SB_VERSION) != 5)
        return;
    struct signs *signs = calloc(1, sizeof(*signs));
    if (!signs)
        abort();
    for (uint64_t at = 0; at + SECTOR <= disk->size; at += SECTOR) {
        bool in_log = at >= log && at < log_end;
        if (!in_log)
            consider_sector(signs, disk, at, sb);
        else if (get32(*(const be32 *)(disk->base + at)) == XLOG_MAGIC)
            consider_record(signs, disk, at, log_end);
    }
    base->signs = signs;
    base->sign = sign_xfs;
}
