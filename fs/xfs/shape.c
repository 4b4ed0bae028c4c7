/* SPDX-License-Identifier: GPL-3.0-or-later */
/* shape.c - how metadata blocks describe themselves: a magic number and, in v5, a checksum, the place where the block
 * belongs, the filesystem's UUID, the inode that owns it and the log's sequence number (LSN) of its last change. The
 * readers check all of it; the replay of the log asks for the LSN and makes the checksum anew.
 */
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "../error.h"
#include "xfs.h"

#define AT(type, field) offsetof(struct type, field)
#define LONG_TREE                                                                                                      \
    .crc = AT(xfs_disk_long_btree, crc), .daddr = AT(xfs_disk_long_btree, daddr), .lsn = AT(xfs_disk_long_btree, lsn), \
    .uuid = AT(xfs_disk_long_btree, uuid), .owner = AT(xfs_disk_long_btree, owner)
#define SHORT_TREE                                                                                                     \
    .crc = AT(xfs_disk_short_btree, crc), .daddr = AT(xfs_disk_short_btree, daddr),                                    \
    .lsn = AT(xfs_disk_short_btree, lsn), .uuid = AT(xfs_disk_short_btree, uuid)
#define DIRECTORY                                                                                                      \
    .crc = AT(xfs_disk_dir_v5, crc), .daddr = AT(xfs_disk_dir_v5, daddr), .lsn = AT(xfs_disk_dir_v5, lsn),             \
    .uuid = AT(xfs_disk_dir_v5, uuid), .owner = AT(xfs_disk_dir_v5, owner)
#define HASHED                                                                                                         \
    .crc = AT(xfs_disk_da_info, crc), .daddr = AT(xfs_disk_da_info, daddr), .lsn = AT(xfs_disk_da_info, lsn),          \
    .uuid = AT(xfs_disk_da_info, uuid), .owner = AT(xfs_disk_da_info, owner)
#define REMOTE                                                                                                         \
    .crc = AT(xfs_disk_remote, crc), .daddr = AT(xfs_disk_remote, daddr), .lsn = AT(xfs_disk_remote, lsn),             \
    .uuid = AT(xfs_disk_remote, uuid), .owner = AT(xfs_disk_remote, owner)

static const struct xfs_shape shapes[] = {
    {XFS_BMBT_MAGIC, XFS_KIND_BMBT, true, false, XFS_BTREE_V4_HEADER, .name = "extent tree"},
    {XFS_BMBT_V5_MAGIC, XFS_KIND_BMBT, true, true, sizeof(struct xfs_disk_long_btree), LONG_TREE,
     .name = "extent tree"},
    {XFS_DIR_BLOCK_MAGIC, XFS_KIND_DIR_DATA, true, false, XFS_DIR_DATA_V4_HEADER, .name = "directory"},
    {XFS_DIR_DATA_MAGIC, XFS_KIND_DIR_DATA, true, false, XFS_DIR_DATA_V4_HEADER, .name = "directory"},
    {XFS_DIR_BLOCK_V5_MAGIC, XFS_KIND_DIR_DATA, true, true, XFS_DIR_DATA_V5_HEADER, DIRECTORY, .name = "directory"},
    {XFS_DIR_DATA_V5_MAGIC, XFS_KIND_DIR_DATA, true, true, XFS_DIR_DATA_V5_HEADER, DIRECTORY, .name = "directory"},
    {XFS_DIR_FREE_V5_MAGIC, XFS_KIND_OTHER, true, true, XFS_DIR_DATA_V5_HEADER, DIRECTORY, .name = "free index"},
    {XFS_DIR_LEAF1_MAGIC, XFS_KIND_DIR_LEAF, false, false, XFS_DA_V4_INFO, .name = "directory leaf"},
    {XFS_DIR_LEAFN_MAGIC, XFS_KIND_DIR_LEAF, false, false, XFS_DA_V4_INFO, .name = "directory leaf"},
    {XFS_DIR_LEAF1_V5_MAGIC, XFS_KIND_DIR_LEAF, false, true, sizeof(struct xfs_disk_da_info), HASHED,
     .name = "directory leaf"},
    {XFS_DIR_LEAFN_V5_MAGIC, XFS_KIND_DIR_LEAF, false, true, sizeof(struct xfs_disk_da_info), HASHED,
     .name = "directory leaf"},
    {XFS_DA_NODE_MAGIC, XFS_KIND_NODE, false, false, XFS_DA_V4_INFO, .name = "node"},
    {XFS_DA_NODE_V5_MAGIC, XFS_KIND_NODE, false, true, sizeof(struct xfs_disk_da_info), HASHED, .name = "node"},
    {XFS_ATTR_LEAF_MAGIC, XFS_KIND_ATTR_LEAF, false, false, XFS_DA_V4_INFO, .name = "attribute leaf"},
    {XFS_ATTR_LEAF_V5_MAGIC, XFS_KIND_ATTR_LEAF, false, true, sizeof(struct xfs_disk_da_info), HASHED,
     .name = "attribute leaf"},
    {XFS_SYMLINK_MAGIC, XFS_KIND_SYMLINK, true, true, sizeof(struct xfs_disk_remote), REMOTE, .name = "symbolic link"},
    {XFS_ATTR_REMOTE_MAGIC, XFS_KIND_ATTR_REMOTE, true, true, sizeof(struct xfs_disk_remote), REMOTE,
     .name = "attribute value"},
    {XFS_BNOBT_V5_MAGIC, XFS_KIND_OTHER, true, true, 0, SHORT_TREE, .name = "free space tree"},
    {XFS_CNTBT_V5_MAGIC, XFS_KIND_OTHER, true, true, 0, SHORT_TREE, .name = "free space tree"},
    {XFS_INOBT_V5_MAGIC, XFS_KIND_OTHER, true, true, 0, SHORT_TREE, .name = "inode tree"},
    {XFS_FINOBT_V5_MAGIC, XFS_KIND_OTHER, true, true, 0, SHORT_TREE, .name = "free inode tree"},
    {XFS_RMAPBT_MAGIC, XFS_KIND_OTHER, true, true, 0, SHORT_TREE, .name = "reverse map"},
    {XFS_REFCBT_MAGIC, XFS_KIND_OTHER, true, true, 0, SHORT_TREE, .name = "reference count tree"},
    {XFS_AGF_MAGIC, XFS_KIND_OTHER, true, true, 0, .crc = AT(xfs_disk_agf, crc), .lsn = AT(xfs_disk_agf, lsn),
     .uuid = AT(xfs_disk_agf, uuid), .name = "group header"},
    {XFS_AGI_MAGIC, XFS_KIND_OTHER, true, true, 0, .crc = AT(xfs_disk_agi, crc), .lsn = AT(xfs_disk_agi, lsn),
     .uuid = AT(xfs_disk_agi, uuid), .name = "inode header"},
    {XFS_AGFL_MAGIC, XFS_KIND_OTHER, true, true, 0, .crc = AT(xfs_disk_agfl, crc), .lsn = AT(xfs_disk_agfl, lsn),
     .uuid = AT(xfs_disk_agfl, uuid), .name = "free list"},
    {XFS_SB_MAGIC, XFS_KIND_OTHER, true, true, 0, .crc = AT(xfs_disk_sb, crc), .lsn = AT(xfs_disk_sb, lsn),
     .uuid = AT(xfs_disk_sb, uuid), .name = "superblock"},
};

const struct xfs_shape *xfs_shape_of(const uint8_t *block, size_t length) {
    if (length < 1u << XFS_MIN_BLOCK_LOG)
        return NULL;
    uint32_t wide = get32(*(const be32 *)block);
    uint16_t narrow = get16(((const struct xfs_disk_da_info *)block)->magic);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        if (shapes[i].magic == (shapes[i].wide ? wide : narrow))
            return &shapes[i];
    return NULL;
}

static uint32_t crc_of(const uint8_t *block, size_t length, size_t crc) {
    static const uint8_t zero[4];
    uint32_t sum = ext2fs_crc32c_le(~0u, block, crc);
    sum = ext2fs_crc32c_le(sum, zero, sizeof(zero));
    return ~ext2fs_crc32c_le(sum, block + crc + 4, length - crc - 4);
}

bool xfs_crc_ok(const uint8_t *block, size_t length, size_t crc) {
    return get_le32(*(const le32 *)(block + crc)) == crc_of(block, length, crc);
}

void xfs_crc_set(uint8_t *block, size_t length, size_t crc) {
    *(le32 *)(block + crc) = put_le32(crc_of(block, length, crc));
}

int xfs_owner_check(const struct xfs *xfs, const uint8_t *block, uint64_t address, const struct xfs_shape *shape,
                    uint64_t owner, struct img_error *err) {
    if (!shape->owner || !owner || (xfs->owners_vary && shape->kind == XFS_KIND_BMBT))
        return 0;
    uint64_t said = get64(*(const be64 *)(block + shape->owner));
    if (said == owner)
        return 0;
    return fail(err, -EUCLEAN, "The %s block at byte %" PRIu64 " belongs to inode %" PRIu64 ", not %" PRIu64,
                shape->name, address, said, owner);
}

int xfs_shape_check(const struct xfs *xfs, const uint8_t *block, size_t length, uint64_t address, unsigned kinds,
                    const struct xfs_shape **shape, struct img_error *err) {
    const struct xfs_shape *is = xfs_shape_of(block, length);
    if (!is || !(is->kind & kinds) || is->v5 != xfs->geo.v5)
        return fail(err, -EUCLEAN, "The block at byte %" PRIu64 " has the magic numbers 0x%08x, 0x%04x", address,
                    get32(*(const be32 *)block), get16(((const struct xfs_disk_da_info *)block)->magic));
    *shape = is;
    if (!is->v5)
        return 0;
    if (!xfs_crc_ok(block, length, is->crc))
        return fail(err, -EUCLEAN, "The checksum of the %s block at byte %" PRIu64 " is wrong", is->name, address);
    uint64_t daddr = get64(*(const be64 *)(block + is->daddr));
    if (daddr != address >> XFS_DADDR_SHIFT)
        return fail(err, -EUCLEAN, "The %s block at byte %" PRIu64 " says that its place is sector %" PRIu64, is->name,
                    address, daddr);
    if (memcmp(block + is->uuid, &xfs->geo.uuid, sizeof(xfs_uuid)) != 0)
        return fail(err, -EUCLEAN, "The %s block at byte %" PRIu64 " has another filesystem's UUID", is->name, address);
    return 0;
}
