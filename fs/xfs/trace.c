/* SPDX-License-Identifier: GPL-3.0-or-later */
/* trace.c - which bytes of the device a file rests on, for those who know which bytes differ from another state. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../error.h"
#include "xfs.h"

static int trace_record(struct xfs *xfs, uint64_t ino, fs_range_call call, void *opaque, struct img_error *err) {
    struct xfs_piece place;
    int ret = xfs_inode_place(&xfs->geo, ino, &place, err);
    return ret < 0 ? ret : call(opaque, place.address, place.length);
}

/* All blocks of a fork. */
static int trace_fork(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, fs_range_call call,
                      void *opaque, struct img_error *err) {
    const struct xfs_geometry *geo = &xfs->geo;
    struct xfs_extent extent = {0};
    int ret = 0;
    if (fork->format != XFS_FORMAT_EXTENTS && fork->format != XFS_FORMAT_BTREE)
        return trace_record(xfs, inode->ino, call, opaque, err);
    if (fork->format == XFS_FORMAT_BTREE || (inode->realtime && !fork->attr))
        return fail(err, -ENOTSUP, "The map of inode %" PRIu64 " is not in the inode", inode->ino);
    for (uint64_t block = 0; block < UINT64_MAX && ret == 0; block = extent.start + extent.count) {
        ret = xfs_map(xfs, inode, fork, block, &extent, err);
        if (ret == 0 && !extent.hole && !extent.unwritten)
            ret = call(opaque, xfs_fsblock_address(geo, extent.fsblock), extent.count << geo->block_log);
    }
    return ret;
}

int xfs_trace(struct fs *fs, uint64_t ino, enum fs_part part, fs_range_call call, void *opaque, struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    struct xfs_inode inode = {0};
    if (part == FS_RECORD)
        return trace_record(xfs, ino, call, opaque, err);
    int ret = xfs_inode_get(xfs, ino, &inode, err);
    return ret < 0 ? ret : trace_fork(xfs, &inode, part == FS_XATTRS ? &inode.attr : &inode.data, call, opaque, err);
}

bool xfs_alike(struct fs *a, struct fs *b) {
    const struct xfs *left = (const struct xfs *)a, *right = (const struct xfs *)b;
    const struct xfs_geometry *x = &left->geo, *y = &right->geo;
    return !left->owners_vary && !right->owners_vary && x->v5 == y->v5 && x->ftype == y->ftype &&
           x->block_size == y->block_size && x->blocks == y->blocks && x->ag_blocks == y->ag_blocks &&
           x->ag_block_log == y->ag_block_log && x->inode_size == y->inode_size && x->dir_size == y->dir_size &&
           memcmp(&x->uuid, &y->uuid, sizeof(x->uuid)) == 0;
}
