/* SPDX-License-Identifier: GPL-3.0-or-later */
/* inode.c - one inode: found by its number, which is its place on the disk, checked, and taken apart.
 *
 * After xfs_inode_get each fork lies inside the inode, its format is one that the kind of file may have, and what the
 * format keeps in the inode (all of a local fork, all records of an extent list) lies inside the fork.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "../error.h"
#include "xfs.h"

enum { WINDOW = 16 << 10 }; /* bytes of inodes that are read at once: they are used one after the other */

static int find_place(const struct xfs_geometry *geo, uint64_t ino, struct xfs_piece *window, uint32_t *offset,
                      struct img_error *err) {
    uint64_t fsblock = ino >> geo->inodes_per_block_log;
    if (!xfs_fsblock_ok(geo, fsblock, 1))
        return fail(err, -EUCLEAN, "There is no place for an inode with the number %" PRIu64, ino);
    uint32_t group = (uint32_t)(fsblock >> geo->ag_block_log);
    uint32_t block = (uint32_t)(fsblock & ((1ull << geo->ag_block_log) - 1));
    uint32_t blocks = geo->block_size < WINDOW ? WINDOW >> geo->block_log : 1;
    uint32_t first = block - block % blocks, left = xfs_ag_size(geo, group) - first;
    window->address = ((uint64_t)group * geo->ag_blocks + first) << geo->block_log;
    window->length = (left < blocks ? left : blocks) << geo->block_log;
    *offset = ((block - first) << geo->block_log) +
              ((uint32_t)(ino & ((1u << geo->inodes_per_block_log) - 1)) << geo->inode_log);
    return 0;
}

int xfs_inode_place(const struct xfs_geometry *geo, uint64_t ino, struct xfs_piece *place, struct img_error *err) {
    uint32_t offset = 0;
    int ret = find_place(geo, ino, place, &offset, err);
    if (ret == 0)
        *place = (struct xfs_piece){place->address + offset, geo->inode_size};
    return ret;
}

static int check_identity(const struct xfs *xfs, uint64_t ino, const uint8_t *bytes, struct img_error *err) {
    const struct xfs_geometry *geo = &xfs->geo;
    const struct xfs_disk_inode *disk = (const struct xfs_disk_inode *)bytes;
    if (get16(disk->magic) != XFS_INODE_MAGIC)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has the magic number 0x%04x", ino, get16(disk->magic));
    if (geo->v5 ? disk->version != 3 : disk->version != 1 && disk->version != 2)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has version %u", ino, disk->version);
    if (!geo->v5)
        return 0;
    if (!xfs_crc_ok(bytes, geo->inode_size, offsetof(struct xfs_disk_inode, crc)))
        return fail(err, -EUCLEAN, "The checksum of inode %" PRIu64 " is wrong", ino);
    if (get64(disk->ino) != ino)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " says that it is inode %" PRIu64, ino, get64(disk->ino));
    if (memcmp(&disk->uuid, &geo->uuid, sizeof(geo->uuid)) != 0)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has another filesystem's UUID", ino);
    return 0;
}

static struct fs_time get_time(be64 field, bool bigtime) {
    uint64_t value = get64(field);
    if (bigtime)
        return (struct fs_time){(int64_t)(value / 1000000000) + XFS_BIGTIME_EPOCH, (uint32_t)(value % 1000000000)};
    return (struct fs_time){(int32_t)(value >> 32), (uint32_t)value};
}

static void take_core(const struct xfs *xfs, const struct xfs_disk_inode *disk, struct xfs_inode *inode) {
    bool bigtime = xfs->geo.v5 && (get64(disk->flags2) & XFS_INODE2_BIGTIME);
    inode->mode = get16(disk->mode);
    inode->nlink = disk->version == 1 ? get16(disk->nlink_v1) : get32(disk->nlink);
    inode->uid = get32(disk->uid);
    inode->gid = get32(disk->gid);
    inode->size = get64(disk->size);
    inode->blocks = get64(disk->blocks);
    inode->realtime = get16(disk->flags) & XFS_INODE_REALTIME;
    inode->atime = get_time(disk->atime, bigtime);
    inode->mtime = get_time(disk->mtime, bigtime);
    inode->ctime = get_time(disk->ctime, bigtime);
    if (xfs->geo.v5)
        inode->btime = get_time(disk->crtime, bigtime);
}

/* Is what the fork keeps in the inode inside it? */
static int check_fork(const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t local_size,
                      struct img_error *err) {
    const char *name = fork->attr ? "attribute" : "data";
    if (fork->format == XFS_FORMAT_LOCAL && local_size > fork->length)
        return fail(err, -EUCLEAN, "The %s fork of inode %" PRIu64 " has room for %u bytes, not for %" PRIu64, name,
                    inode->ino, fork->length, local_size);
    if (fork->format == XFS_FORMAT_EXTENTS && fork->extents > fork->length / sizeof(struct xfs_disk_extent))
        return fail(err, -EUCLEAN, "The %s fork of inode %" PRIu64 " has no room for %" PRIu64 " extents", name,
                    inode->ino, fork->extents);
    if (fork->format == XFS_FORMAT_BTREE && fork->length < sizeof(struct xfs_disk_bmbt_root) + 2 * sizeof(be64))
        return fail(err, -EUCLEAN, "The %s fork of inode %" PRIu64 " has no room for a tree", name, inode->ino);
    return 0;
}

static bool format_fits(const struct xfs_inode *inode) {
    uint8_t format = inode->data.format;
    bool mapped = format == XFS_FORMAT_EXTENTS || format == XFS_FORMAT_BTREE;
    if (S_ISREG(inode->mode))
        return mapped;
    if (S_ISDIR(inode->mode) || S_ISLNK(inode->mode))
        return mapped || format == XFS_FORMAT_LOCAL;
    if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode) || S_ISFIFO(inode->mode) || S_ISSOCK(inode->mode))
        return format == XFS_FORMAT_DEVICE;
    return false;
}

static int take_forks(const struct xfs *xfs, const struct xfs_disk_inode *disk, struct xfs_inode *inode,
                      struct img_error *err) {
    uint32_t start = xfs->geo.v5 ? sizeof(struct xfs_disk_inode) : XFS_INODE_V2_SIZE;
    uint32_t room = xfs->geo.inode_size - start, fork_offset = 8u * disk->fork_offset;
    bool large = xfs->geo.v5 && (get64(disk->flags2) & XFS_INODE2_LARGE_EXTENT_COUNTS);
    int ret;
    if (fork_offset >= room)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has its attributes at byte %u of %u", inode->ino, fork_offset,
                    room);
    inode->data = (struct xfs_fork){.format = disk->format,
                                    .extents = large ? get64(disk->extents64) : get32(disk->extents),
                                    .bytes = inode->bytes + start,
                                    .length = fork_offset ? fork_offset : room};
    if (!format_fits(inode))
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has the mode 0%o and the format %u", inode->ino, inode->mode,
                    disk->format);
    if ((ret = check_fork(inode, &inode->data, inode->size, err)) < 0)
        return ret;
    if (disk->format == XFS_FORMAT_DEVICE && inode->data.length >= sizeof(be32))
        inode->device = get32(*(const be32 *)inode->data.bytes);
    if (!fork_offset)
        return 0;
    inode->attr = (struct xfs_fork){.attr = true,
                                    .format = disk->attr_format,
                                    .extents = large ? get32(disk->extents) : get16(disk->attr_extents),
                                    .bytes = inode->bytes + start + fork_offset,
                                    .length = room - fork_offset};
    if (disk->attr_format < XFS_FORMAT_LOCAL || disk->attr_format > XFS_FORMAT_BTREE)
        return fail(err, -EUCLEAN, "The attributes of inode %" PRIu64 " have the format %u", inode->ino,
                    disk->attr_format);
    return check_fork(inode, &inode->attr, sizeof(struct xfs_disk_attr_short), err);
}

int xfs_inode_get(struct xfs *xfs, uint64_t ino, struct xfs_inode *inode, struct img_error *err) {
    const struct xfs_disk_inode *disk = (const struct xfs_disk_inode *)inode->bytes;
    struct xfs_block *block = NULL;
    struct xfs_piece window = {0};
    uint32_t offset = 0;
    int ret = find_place(&xfs->geo, ino, &window, &offset, err);
    if (ret == 0)
        ret = xfs_block_get(xfs, &window, 1, XFS_KIND_RAW, 0, &block, err);
    if (ret < 0)
        return ret;
    inode->ino = ino;
    inode->device = 0;
    inode->btime = (struct fs_time){0};
    inode->attr = (struct xfs_fork){.attr = true};
    memcpy(inode->bytes, block->bytes + offset, xfs->geo.inode_size);
    xfs_block_put(xfs, block);
    if ((ret = check_identity(xfs, ino, inode->bytes, err)) < 0)
        return ret;
    if (get16(disk->mode) == 0)
        return fail(err, -ENOENT, "Inode %" PRIu64 " is not in use", ino);
    take_core(xfs, disk, inode);
    if (inode->size > INT64_MAX)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has a size of %" PRIu64 " bytes", ino, inode->size);
    return take_forks(xfs, disk, inode, err);
}

int xfs_stat(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    struct xfs_inode inode = {0};
    int ret = xfs_inode_get(xfs, ino, &inode, err);
    if (ret < 0)
        return ret;
    *stat = (struct fs_stat){.ino = ino,
                             .mode = inode.mode,
                             .nlink = inode.nlink,
                             .uid = inode.uid,
                             .gid = inode.gid,
                             .size = inode.size,
                             .blocks = inode.blocks << (xfs->geo.block_log - XFS_DADDR_SHIFT),
                             .atime = inode.atime,
                             .mtime = inode.mtime,
                             .ctime = inode.ctime,
                             .btime = inode.btime};
    if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
        stat->rdev_major = inode.device >> 18;
        stat->rdev_minor = inode.device & 0x3ffff;
    }
    return 0;
}
