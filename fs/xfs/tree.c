/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tree.c - the hashed trees in which directories and attributes are found by name: nodes of (highest hash, block), and
 * leaves that are chained in the order of their hashes.
 *
 * A descent ends because each node must be one level below the one before it. A walk along the leaves ends because each
 * must point back at the one that it was reached from, and the first at none: in a circle one of them would have two
 * predecessors.
 */
#include <errno.h>
#include <inttypes.h>

#include "../error.h"
#include "xfs.h"

size_t xfs_da_header(const struct xfs *xfs, size_t counts) {
    return xfs->geo.v5 ? sizeof(struct xfs_disk_da_info) + counts + 4 : XFS_DA_V4_INFO + counts;
}

static int bad(const struct xfs_inode *inode, uint32_t block, const char *what, unsigned value, struct img_error *err) {
    return fail(err, -EUCLEAN, "The tree of names of inode %" PRIu64 " has, in block %u, %s %u", inode->ino, block,
                what, value);
}

/* The child of a node in which `hash` is, or would be. *level: that of the node, 0 before the first. */
static int pick_child(const struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_block *node,
                      uint32_t block, uint32_t hash, unsigned *level, uint32_t *child, struct img_error *err) {
    const struct xfs_disk_da_node *head = (const struct xfs_disk_da_node *)(node->bytes + node->shape->header);
    size_t header = xfs_da_header(xfs, sizeof(*head));
    const struct xfs_disk_da_entry *entries = (const struct xfs_disk_da_entry *)(node->bytes + header);
    unsigned count = get16(head->count), its_level = get16(head->level);
    if (its_level == 0 || its_level > XFS_DA_MAX_LEVEL || (*level && its_level != *level - 1))
        return bad(inode, block, "the level", its_level, err);
    if (count == 0 || count > (node->length - header) / sizeof(*entries))
        return bad(inode, block, "a count of entries of", count, err);
    size_t low = 0, high = count - 1; /* the last takes what lies behind all hashes */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (get32(entries[middle].hash) < hash)
            low = middle + 1;
        else
            high = middle;
    }
    *level = its_level;
    *child = get32(entries[low].block);
    return 0;
}

int xfs_da_descend(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t block,
                   uint32_t bytes, uint32_t hash, unsigned leaf_kind, struct xfs_block **leaf, uint32_t *leaf_block,
                   struct img_error *err) {
    unsigned level = 0;
    if (block > UINT32_MAX)
        return fail(err, -EUCLEAN, "The tree of names of inode %" PRIu64 " is too far from its front", inode->ino);
    for (uint32_t at = (uint32_t)block;;) {
        struct xfs_block *found = NULL;
        unsigned kinds = level == 1 ? leaf_kind : level ? XFS_KIND_NODE : leaf_kind | XFS_KIND_NODE;
        int ret = xfs_fork_block(xfs, inode, fork, at, bytes, kinds, &found, err);
        if (ret < 0)
            return ret;
        if (found->shape->kind == leaf_kind) {
            *leaf = found;
            *leaf_block = at;
            return 0;
        }
        ret = pick_child(xfs, inode, found, at, hash, &level, &at, err);
        xfs_block_put(xfs, found);
        if (ret < 0)
            return ret;
    }
}

int xfs_da_next(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint32_t bytes,
                unsigned leaf_kind, struct xfs_block **leaf, uint32_t *leaf_block, struct img_error *err) {
    uint32_t next = get32(((const struct xfs_disk_da_info *)(*leaf)->bytes)->forward), from = *leaf_block;
    xfs_block_put(xfs, *leaf);
    *leaf = NULL;
    if (next == 0)
        return 0;
    struct xfs_block *found = NULL;
    int ret = xfs_fork_block(xfs, inode, fork, next, bytes, leaf_kind, &found, err);
    if (ret < 0)
        return ret;
    uint32_t back = get32(((const struct xfs_disk_da_info *)found->bytes)->back);
    if (back != from) {
        xfs_block_put(xfs, found);
        return bad(inode, next, "a link back to block", back, err);
    }
    *leaf = found;
    *leaf_block = next;
    return 0;
}

static uint32_t rotate(uint32_t value, unsigned bits) {
    return value << bits | value >> (32 - bits);
}

/* Each byte moves what is there by seven bits; four at a time come to the same. */
uint32_t xfs_name_hash(const char *name, size_t length) {
    uint32_t hash = 0;
    for (size_t i = 0; i < length; i++)
        hash = rotate(hash, 7) ^ (uint8_t)name[i];
    return hash;
}
