/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file.c - the contents of regular files and the targets of symbolic links. Holes and unwritten extents are zeroes. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "../error.h"
#include "xfs.h"

static int get_regular(struct xfs *xfs, uint64_t ino, struct xfs_inode *inode, struct img_error *err) {
    int ret = xfs_inode_get(xfs, ino, inode, err);
    if (ret < 0)
        return ret;
    if (S_ISDIR(inode->mode))
        return fail(err, -EISDIR, "Inode %" PRIu64 " is a directory", ino);
    if (!S_ISREG(inode->mode))
        return fail(err, -EINVAL, "Inode %" PRIu64 " is not a regular file", ino);
    if (inode->realtime)
        return fail(err, -ENOTSUP, "The data of inode %" PRIu64 " are on the XFS's realtime device, which is not read",
                    ino);
    return 0;
}

int xfs_read(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
             struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    struct xfs_inode inode = {0};
    int ret = get_regular(xfs, ino, &inode, err);
    if (ret < 0)
        return ret;
    *got = 0;
    if (offset >= inode.size)
        return 0;
    if (count > inode.size - offset)
        count = inode.size - offset;
    uint8_t *to = buffer;
    for (size_t left = count; left > 0;) {
        struct xfs_extent extent = {0};
        uint64_t block = offset >> xfs->geo.block_log, inside = offset & (xfs->geo.block_size - 1);
        if ((ret = xfs_map(xfs, &inode, &inode.data, block, &extent, err)) < 0)
            return ret;
        uint64_t skipped = block - extent.start, blocks = extent.count - skipped;
        size_t part = left;
        if (blocks <= (left + inside) >> xfs->geo.block_log) /* else all that is left is inside */
            part = (blocks << xfs->geo.block_log) - inside;
        if (extent.hole || extent.unwritten)
            memset(to, 0, part);
        else if ((ret = device_read(xfs->device, to, part,
                                    xfs_fsblock_address(&xfs->geo, extent.fsblock + skipped) + inside, err)) < 0)
            return ret;
        to += part;
        left -= part;
        offset += part;
    }
    *got = count;
    return 0;
}

int xfs_next_data(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t *start, uint64_t *length,
                  struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    unsigned shift = xfs->geo.block_log;
    struct xfs_inode inode = {0};
    int ret = get_regular(xfs, ino, &inode, err);
    if (ret < 0)
        return ret;
    uint64_t end = (inode.size + xfs->geo.block_size - 1) >> shift; /* blocks */
    for (uint64_t block = offset >> shift; offset < inode.size && block < end;) {
        struct xfs_extent extent = {0};
        if ((ret = xfs_map(xfs, &inode, &inode.data, block, &extent, err)) < 0)
            return ret;
        uint64_t next = extent.start + extent.count;
        if (!extent.hole && !extent.unwritten) {
            uint64_t behind = next < end ? next << shift : inode.size;
            *start = block << shift > offset ? block << shift : offset;
            *length = behind - *start;
            return 0;
        }
        block = next;
    }
    return -ENXIO;
}

/* A target in blocks of its own: up to three extents, in v5 with a header in each. */
static int read_target(struct xfs *xfs, const struct xfs_inode *inode, char *target, struct img_error *err) {
    uint64_t done = 0, block = 0;
    while (done < inode->size) {
        struct xfs_extent extent = {0};
        struct xfs_block *found = NULL;
        int ret = xfs_map(xfs, inode, &inode->data, block, &extent, err);
        if (ret < 0)
            return ret;
        uint64_t bytes = (extent.count - (block - extent.start)) << xfs->geo.block_log;
        if (extent.hole || extent.unwritten || bytes > 2 * XFS_SYMLINK_MAX + (1u << XFS_MAX_BLOCK_LOG))
            return fail(err, -EUCLEAN, "The target of symbolic link %" PRIu64 " is missing from byte %" PRIu64,
                        inode->ino, done);
        struct xfs_piece piece = {xfs_fsblock_address(&xfs->geo, extent.fsblock + (block - extent.start)),
                                  (uint32_t)bytes};
        unsigned kind = xfs->geo.v5 ? XFS_KIND_SYMLINK : XFS_KIND_RAW;
        if ((ret = xfs_block_get(xfs, &piece, 1, kind, inode->ino, &found, err)) < 0)
            return ret;
        uint32_t head = xfs->geo.v5 ? sizeof(struct xfs_disk_remote) : 0;
        uint64_t part = bytes - head < inode->size - done ? bytes - head : inode->size - done;
        memcpy(target + done, found->bytes + head, part);
        xfs_block_put(xfs, found);
        done += part;
        block = extent.start + extent.count;
    }
    return 0;
}

int xfs_readlink(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    char whole[XFS_SYMLINK_MAX];
    const char *from = whole;
    struct xfs_inode inode = {0};
    int ret = xfs_inode_get(xfs, ino, &inode, err);
    if (ret < 0)
        return ret;
    if (!S_ISLNK(inode.mode))
        return fail(err, -EINVAL, "Inode %" PRIu64 " is not a symbolic link", ino);
    if (inode.size == 0 || inode.size > XFS_SYMLINK_MAX)
        return fail(err, -EUCLEAN, "The symbolic link %" PRIu64 " has a target of %" PRIu64 " bytes", ino, inode.size);
    if (inode.data.format == XFS_FORMAT_LOCAL)
        from = (const char *)inode.data.bytes;
    else if ((ret = read_target(xfs, &inode, whole, err)) < 0)
        return ret;
    *length = inode.size;
    memcpy(target, from, inode.size < size ? inode.size : size);
    return 0;
}
