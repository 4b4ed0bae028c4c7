/* SPDX-License-Identifier: GPL-3.0-or-later */
/* map.c - where the blocks of a fork are: a list of extents in the inode, or a tree whose root is there.
 *
 * The tree is not trusted: a child must be exactly one level below its parent, so that a descent ends, and the answer
 * for a block always reaches behind it. Where a leaf ends, the hole goes to the next key that was seen on the way down;
 * so no neighbour is asked, and a walk over a fork takes no more steps than there are different numbers in its tree.
 */
#include <errno.h>
#include <inttypes.h>

#include "../error.h"
#include "xfs.h"

static void decode(const struct xfs_disk_extent *disk, struct xfs_extent *extent) {
    uint64_t high = get64(disk->high), low = get64(disk->low);
    *extent = (struct xfs_extent){.start = high >> 9 & ((1ull << 54) - 1),
                                  .fsblock = (high & 0x1ff) << 43 | low >> 21,
                                  .count = low & ((1u << 21) - 1),
                                  .unwritten = high >> 63};
}

/* Finds `block` among sorted records; without one there the hole goes to the next record, or to `end`. */
static int find_record(const struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_disk_extent *records,
                       size_t count, uint64_t block, uint64_t end, struct xfs_extent *extent, struct img_error *err) {
    size_t low = 0, high = count; /* the first that begins behind `block` is in [low, high] */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        decode(&records[middle], extent);
        if (extent->start <= block)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0) {
        decode(&records[low - 1], extent);
        if (extent->count > 0 && block - extent->start < extent->count && extent->start <= block) {
            if (xfs_fsblock_ok(&xfs->geo, extent->fsblock, extent->count))
                return 0;
            return fail(err, -EUCLEAN, "Inode %" PRIu64 " has an extent of %" PRIu64 " blocks at block 0x%" PRIx64,
                        inode->ino, extent->count, extent->fsblock);
        }
    }
    if (low < count) {
        decode(&records[low], extent);
        end = extent->start;
    }
    if (end <= block)
        return fail(err, -EUCLEAN, "The extents of inode %" PRIu64 " are not in order behind block %" PRIu64,
                    inode->ino, block);
    *extent = (struct xfs_extent){.start = block, .count = end - block, .hole = true};
    return 0;
}

/* Of `count` sorted keys: the last that is <= block, or the first. The one behind it narrows *end. */
static size_t pick_child(const be64 *keys, size_t count, uint64_t block, uint64_t *end) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (get64(keys[middle]) <= block)
            low = middle + 1;
        else
            high = middle;
    }
    size_t child = low > 0 ? low - 1 : 0;
    if (child + 1 < count && get64(keys[child + 1]) < *end)
        *end = get64(keys[child + 1]);
    return child;
}

static int bad_tree(const struct xfs_inode *inode, uint64_t fsblock, const char *what, uint64_t value,
                    struct img_error *err) {
    return fail(err, -EUCLEAN, "The extent tree of inode %" PRIu64 " has, in block 0x%" PRIx64 ", %s %" PRIu64,
                inode->ino, fsblock, what, value);
}

/* The block of the tree at `fsblock`, which must be at `level`. */
static int get_node(struct xfs *xfs, const struct xfs_inode *inode, uint64_t fsblock, unsigned level,
                    struct xfs_block **block, struct img_error *err) {
    const struct xfs_geometry *geo = &xfs->geo;
    if (!xfs_fsblock_ok(geo, fsblock, 1))
        return bad_tree(inode, fsblock, "a place outside of the filesystem, from level", level + 1, err);
    struct xfs_piece piece = {xfs_fsblock_address(geo, fsblock), geo->block_size};
    int ret = xfs_block_get(xfs, &piece, 1, XFS_KIND_BMBT, inode->ino, block, err);
    if (ret < 0)
        return ret;
    const struct xfs_disk_long_btree *head = (const struct xfs_disk_long_btree *)(*block)->bytes;
    unsigned count = get16(head->records), most = (geo->block_size - (*block)->shape->header) / 16;
    if (get16(head->level) != level)
        ret = bad_tree(inode, fsblock, "the level", get16(head->level), err);
    else if (count == 0 || count > most)
        ret = bad_tree(inode, fsblock, "a count of records of", count, err);
    if (ret < 0)
        xfs_block_put(xfs, *block);
    return ret;
}

static int find_in_tree(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t block,
                        struct xfs_extent *extent, struct img_error *err) {
    const struct xfs_disk_bmbt_root *root = (const struct xfs_disk_bmbt_root *)fork->bytes;
    unsigned level = get16(root->level), count = get16(root->records);
    size_t most = (fork->length - sizeof(*root)) / 16;
    uint64_t end = UINT64_MAX;
    struct xfs_block *node = NULL;
    if (level == 0 || level > XFS_BMBT_MAX_LEVEL)
        return bad_tree(inode, 0, "the level", level, err);
    if (count == 0 || count > most)
        return bad_tree(inode, 0, "a count of records of", count, err);
    const be64 *keys = (const be64 *)(fork->bytes + sizeof(*root));
    uint64_t next = get64(keys[most + pick_child(keys, count, block, &end)]);
    for (;;) {
        int ret = get_node(xfs, inode, next, --level, &node, err);
        if (ret < 0)
            return ret;
        const uint8_t *records = node->bytes + node->shape->header;
        count = get16(((const struct xfs_disk_long_btree *)node->bytes)->records);
        if (level == 0) {
            ret = find_record(xfs, inode, (const struct xfs_disk_extent *)records, count, block, end, extent, err);
            xfs_block_put(xfs, node);
            return ret;
        }
        keys = (const be64 *)records;
        most = (xfs->geo.block_size - node->shape->header) / 16;
        next = get64(keys[most + pick_child(keys, count, block, &end)]);
        xfs_block_put(xfs, node);
    }
}

int xfs_map(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t block,
            struct xfs_extent *extent, struct img_error *err) {
    int ret;
    if (fork->format == XFS_FORMAT_BTREE)
        ret = find_in_tree(xfs, inode, fork, block, extent, err);
    else if (fork->format == XFS_FORMAT_EXTENTS)
        ret = find_record(xfs, inode, (const struct xfs_disk_extent *)fork->bytes, fork->extents, block, UINT64_MAX,
                          extent, err);
    else
        ret = fail(err, -EUCLEAN, "Inode %" PRIu64 " has no map of blocks but the format %u", inode->ino, fork->format);
    if (ret == 0)
        xfs_remap(xfs, inode->ino, fork->attr, block, extent);
    return ret;
}

int xfs_fork_block(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t block,
                   uint32_t bytes, unsigned kinds, struct xfs_block **result, struct img_error *err) {
    enum { MOST = 1 << (XFS_MAX_BLOCK_LOG - XFS_MIN_BLOCK_LOG) };
    struct xfs_piece pieces[MOST];
    uint32_t blocks = bytes >> xfs->geo.block_log;
    size_t count = 0;
    while (blocks > 0) {
        struct xfs_extent extent = {0};
        int ret = xfs_map(xfs, inode, fork, block, &extent, err);
        if (ret < 0)
            return ret;
        if (extent.hole || extent.unwritten)
            return fail(err, -EUCLEAN, "Block %" PRIu64 " of the %s of inode %" PRIu64 " is missing", block,
                        fork->attr ? "attributes" : "directory", inode->ino);
        uint64_t skipped = block - extent.start, there = extent.count - skipped;
        uint32_t part = there < blocks ? (uint32_t)there : blocks;
        pieces[count++] =
            (struct xfs_piece){xfs_fsblock_address(&xfs->geo, extent.fsblock + skipped), part << xfs->geo.block_log};
        blocks -= part;
        block += part;
    }
    return xfs_block_get(xfs, pieces, count, kinds, inode->ino, result, err);
}
