/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dir.c - all entries of a directory, in the order of the disk. Small ones are in the inode; of the others only the
 * data blocks are read, which lie in front of XFS_DIR_LEAF_OFFSET: the leaves behind it know nothing more.
 *
 * No block is there twice, which version 5 would notice at the block and version 4 would not: so there are no more
 * entries than the disk has room for.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../error.h"
#include "xfs.h"

static uint32_t type_of(uint8_t ftype) {
    static const uint32_t types[] = {0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK};
    return ftype < sizeof(types) / sizeof(types[0]) ? types[ftype] : 0;
}

static int emit(uint64_t dir, const char *name, uint8_t length, uint64_t ino, uint32_t type, fs_entry_call call,
                void *opaque, struct img_error *err) {
    char copy[256];
    if (length == 0 || memchr(name, '/', length) || memchr(name, 0, length))
        return fail(err, -EUCLEAN,
                    "The directory %" PRIu64 " has an entry for inode %" PRIu64 " whose name, of %u "
                    "bytes, cannot be one",
                    dir, ino, length);
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
        return 0;
    memcpy(copy, name, length);
    copy[length] = 0;
    struct fs_entry entry = {.name = copy, .length = length, .ino = ino, .type = type};
    return call(opaque, &entry);
}

/* ---- in the inode ---- */

int xfs_dir_short(const struct xfs *xfs, const struct xfs_inode *inode, fs_entry_call call, void *opaque,
                  struct img_error *err) {
    const uint8_t *at = inode->data.bytes;
    size_t left = inode->size < inode->data.length ? inode->size : inode->data.length;
    const struct xfs_disk_dir_short *head = (const struct xfs_disk_dir_short *)at;
    size_t number = left >= sizeof(*head) && head->wide ? sizeof(be64) : sizeof(be32), skip = sizeof(*head) + number;
    for (unsigned i = 0; left >= skip && i < head->count; i++) {
        at += skip;
        left -= skip;
        const struct xfs_disk_dir_short_entry *entry = (const struct xfs_disk_dir_short_entry *)at;
        size_t behind = left >= sizeof(*entry) ? sizeof(*entry) + entry->length : left;
        skip = behind + xfs->geo.ftype + number;
        if (skip > left)
            return fail(err, -EUCLEAN, "Entry %u of directory %" PRIu64 " is cut off", i, inode->ino);
        const uint8_t *ino = at + behind + xfs->geo.ftype;
        uint64_t found = head->wide ? get64(*(const be64 *)ino) : get32(*(const be32 *)ino);
        int ret = emit(inode->ino, entry->name, entry->length, found, xfs->geo.ftype ? type_of(at[behind]) : 0, call,
                       opaque, err);
        if (ret)
            return ret;
    }
    return 0;
}

/* ---- in blocks ---- */

int xfs_dir_data_end(const struct xfs *xfs, const struct xfs_block *block, uint32_t *end, struct img_error *err) {
    *end = block->length;
    if (block->shape->magic != XFS_DIR_BLOCK_MAGIC && block->shape->magic != XFS_DIR_BLOCK_V5_MAGIC)
        return 0;
    const struct xfs_disk_dir_tail *tail =
        (const struct xfs_disk_dir_tail *)(block->bytes + block->length - sizeof(*tail));
    size_t room = block->length - sizeof(*tail) - block->shape->header;
    uint32_t count = get32(tail->count);
    (void)xfs;
    if (count > room / sizeof(struct xfs_disk_dir_leaf_entry))
        return fail(err, -EUCLEAN, "The directory block at byte %" PRIu64 " has %u entries", block->address, count);
    *end -= (uint32_t)(sizeof(*tail) + count * sizeof(struct xfs_disk_dir_leaf_entry));
    return 0;
}

static int bad_entry(const struct xfs_block *block, uint32_t offset, struct img_error *err) {
    return fail(err, -EUCLEAN, "The directory block at byte %" PRIu64 " has no entry at byte %u of it", block->address,
                offset);
}

int xfs_dir_entry_at(const struct xfs *xfs, const struct xfs_block *block, uint32_t offset, uint32_t end,
                     const struct xfs_disk_dir_entry **entry, uint32_t *size, struct img_error *err) {
    if (offset % XFS_DIR_ALIGN || offset < block->shape->header || offset >= end || end - offset < 2 * XFS_DIR_ALIGN)
        return bad_entry(block, offset, err);
    const struct xfs_disk_dir_unused *unused = (const struct xfs_disk_dir_unused *)(block->bytes + offset);
    *entry = NULL;
    if (get16(unused->tag) == XFS_DIR_FREE_TAG) {
        *size = get16(unused->length);
        return *size == 0 || *size % XFS_DIR_ALIGN || *size > end - offset ? bad_entry(block, offset, err) : 0;
    }
    *entry = (const struct xfs_disk_dir_entry *)unused;
    uint32_t used = (uint32_t)sizeof(**entry) + (*entry)->length + xfs->geo.ftype + sizeof(be16);
    *size = (used + XFS_DIR_ALIGN - 1) / XFS_DIR_ALIGN * XFS_DIR_ALIGN;
    if (*size > end - offset)
        return bad_entry(block, offset, err);
    be16 tag = *(const be16 *)(block->bytes + offset + *size - sizeof(be16));
    return get16(tag) == offset ? 0 : bad_entry(block, offset, err);
}

static int list_block(const struct xfs *xfs, uint64_t dir, const struct xfs_block *block, fs_entry_call call,
                      void *opaque, struct img_error *err) {
    uint32_t end = 0, size = 0;
    int ret = xfs_dir_data_end(xfs, block, &end, err);
    for (uint32_t offset = block->shape->header; ret == 0 && offset < end; offset += size) {
        const struct xfs_disk_dir_entry *entry = NULL;
        if (end - offset == XFS_DIR_ALIGN &&
            get16(*(const be16 *)(block->bytes + offset)) == XFS_DIR_FREE_TAG) /* free space too small for an entry */
            break;
        if ((ret = xfs_dir_entry_at(xfs, block, offset, end, &entry, &size, err)) < 0)
            return ret;
        if (!entry)
            continue;
        uint32_t type = xfs->geo.ftype ? type_of((uint8_t)entry->name[entry->length]) : 0;
        ret = emit(dir, entry->name, entry->length, get64(entry->ino), type, call, opaque, err);
    }
    return ret;
}

static uint64_t data_blocks(const struct xfs *xfs, const struct xfs_inode *inode) {
    uint64_t size = inode->size < XFS_DIR_LEAF_OFFSET ? inode->size : XFS_DIR_LEAF_OFFSET;
    return (size + xfs->geo.block_size - 1) >> xfs->geo.block_log;
}

static int by_place(const void *a, const void *b) {
    uint64_t x = ((const struct xfs_extent *)a)->fsblock, y = ((const struct xfs_extent *)b)->fsblock;
    return (x > y) - (x < y);
}

/* The extents of the first `blocks` blocks; the caller frees. There are as many as the disk really has records. */
static int gather(struct xfs *xfs, const struct xfs_inode *inode, uint64_t blocks, struct xfs_extent **list,
                  size_t *count, struct img_error *err) {
    struct xfs_extent extent = {0};
    size_t room = 0;
    for (uint64_t at = 0; at < blocks; at = extent.start + extent.count) {
        int ret = xfs_map(xfs, inode, &inode->data, at, &extent, err);
        if (ret < 0)
            return ret;
        if (extent.hole)
            continue;
        if (*count == room) {
            room = room ? 2 * room : 16;
            struct xfs_extent *longer = realloc(*list, room * sizeof(*longer));
            if (!longer)
                return fail_no_memory(err);
            *list = longer;
        }
        (*list)[(*count)++] = extent;
    }
    return 0;
}

int xfs_dir_check_map(struct xfs *xfs, const struct xfs_inode *inode, struct img_error *err) {
    struct xfs_extent *list = NULL;
    size_t count = 0;
    int ret = gather(xfs, inode, data_blocks(xfs, inode), &list, &count, err);
    if (ret == 0 && count > 1)
        qsort(list, count, sizeof(list[0]), by_place);
    for (size_t i = 1; ret == 0 && i < count; i++)
        if (list[i].fsblock - list[i - 1].fsblock < list[i - 1].count)
            ret = fail(err, -EUCLEAN, "The directory %" PRIu64 " has block 0x%" PRIx64 " twice", inode->ino,
                       list[i].fsblock);
    free(list);
    return ret;
}

static int list_blocks(struct xfs *xfs, const struct xfs_inode *inode, fs_entry_call call, void *opaque,
                       struct img_error *err) {
    uint64_t step = xfs->geo.dir_size >> xfs->geo.block_log, blocks = data_blocks(xfs, inode);
    int ret = xfs_dir_check_map(xfs, inode, err);
    if (ret < 0)
        return ret;
    for (uint64_t at = 0; at < blocks;) {
        struct xfs_extent extent = {0};
        struct xfs_block *block = NULL;
        ret = xfs_map(xfs, inode, &inode->data, at, &extent, err);
        if (ret < 0)
            return ret;
        uint64_t behind = extent.start + extent.count;
        if (extent.hole) {
            at = behind > UINT64_MAX - step ? behind : (behind + step - 1) / step * step;
            continue;
        }
        ret = xfs_fork_block(xfs, inode, &inode->data, at, xfs->geo.dir_size, XFS_KIND_DIR_DATA, &block, err);
        if (ret < 0)
            return ret;
        ret = list_block(xfs, inode->ino, block, call, opaque, err);
        xfs_block_put(xfs, block);
        if (ret)
            return ret;
        at += step;
    }
    return 0;
}

int xfs_list(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    struct xfs_inode inode = {0};
    int ret = xfs_inode_get(xfs, dir, &inode, err);
    if (ret < 0)
        return ret;
    if (!S_ISDIR(inode.mode))
        return fail(err, -ENOTDIR, "Inode %" PRIu64 " is not a directory", dir);
    if (inode.data.format == XFS_FORMAT_LOCAL)
        return xfs_dir_short(xfs, &inode, call, opaque, err);
    return list_blocks(xfs, &inode, call, opaque, err);
}
