/* SPDX-License-Identifier: GPL-3.0-or-later */
/* put.c - contents and attributes of inodes, changed (write.h).
 *
 * A file is written once, from the front: its blocks are taken in runs and entered behind the last extent, and the data
 * go to the disk at once. So nothing is ever mapped anew, which libext2fs 1.47.0 does not always do right.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "write.h"

#define EXTENT_MAX 32768u /* blocks of one extent */
#define EPOCH_BITS 2

/* ---- whole inodes ---- */

int inode_read(struct ext *ext, uint64_t ino, struct ext2_inode_large **inode, struct img_error *err) {
    size_t size = ext->inode_size > sizeof(**inode) ? ext->inode_size : sizeof(**inode);
    if (!(*inode = calloc(1, size)))
        return fail_no_memory(err);
    errcode_t code =
        ext2fs_read_inode_full(ext->lib, (ext2_ino_t)ino, (struct ext2_inode *)*inode, (int)ext->inode_size);
    if (!code)
        return 0;
    free(*inode);
    int ret = ext_io_fail(ext->io, err, code, "An inode cannot be read");
    return ret < 0 ? ret : -EIO;
}

int inode_write(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    errcode_t code =
        ext2fs_write_inode_full(ext->lib, (ext2_ino_t)ino, (struct ext2_inode *)inode, (int)ext->inode_size);
    forget_nodes(ext);
    return code ? change_failed(ext, code, "An inode cannot be written", err) : 0;
}

struct fs_time time_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (struct fs_time){.seconds = now.tv_sec, .nanoseconds = (uint32_t)now.tv_nsec};
}

static uint32_t extra_word(const struct fs_time *time) {
    uint32_t epoch = (uint32_t)((uint64_t)(time->seconds - (int32_t)time->seconds) >> 32) & ((1u << EPOCH_BITS) - 1);
    return epoch | time->nanoseconds << EPOCH_BITS;
}

/* Has the inode room for the field behind the first 128 bytes? */
#define HAS(ext, inode, field)                                                                                         \
    ((ext)->inode_size > EXT2_GOOD_OLD_INODE_SIZE &&                                                                   \
     offsetof(struct ext2_inode_large, field) + sizeof((inode)->field) <=                                              \
         (size_t)EXT2_GOOD_OLD_INODE_SIZE + (inode)->i_extra_isize)

/* One time: without its second word it ends in 2038, as the kernel writes it then. */
static uint32_t first_word(const struct fs_time *time, bool second_word) {
    if (second_word)
        return (uint32_t)time->seconds;
    return (uint32_t)(time->seconds > INT32_MAX ? INT32_MAX : time->seconds < INT32_MIN ? INT32_MIN : time->seconds);
}

void inode_set_times(const struct ext *ext, struct ext2_inode_large *inode, const struct fs_time *atime,
                     const struct fs_time *mtime, const struct fs_time *ctime) {
    if (atime) {
        inode->i_atime = first_word(atime, HAS(ext, inode, i_atime_extra));
        if (HAS(ext, inode, i_atime_extra))
            inode->i_atime_extra = extra_word(atime);
    }
    if (mtime) {
        inode->i_mtime = first_word(mtime, HAS(ext, inode, i_mtime_extra));
        if (HAS(ext, inode, i_mtime_extra))
            inode->i_mtime_extra = extra_word(mtime);
    }
    inode->i_ctime = first_word(ctime, HAS(ext, inode, i_ctime_extra));
    if (HAS(ext, inode, i_ctime_extra))
        inode->i_ctime_extra = extra_word(ctime);
}

/* ---- data ---- */

/* How long a file may be: what its map and its count of blocks can say, as the kernel has it. */
static uint64_t longest(const struct ext *ext, const struct node *node) {
    uint64_t numbers = ext->block_size / sizeof(uint32_t), blocks = UINT32_MAX, counted = UINT32_MAX;
    if (!node_has(node, EXT4_EXTENTS_FL))
        blocks = EXT2_NDIR_BLOCKS + numbers + numbers * numbers + numbers * numbers * numbers;
    if (!ext2fs_has_feature_huge_file(super_of(ext)))
        counted >>= ext->block_bits - 9;
    if (blocks > UINT32_MAX)
        blocks = UINT32_MAX;
    return (blocks < counted ? blocks : counted) << ext->block_bits;
}

static int check_length(const struct ext *ext, const struct node *node, uint64_t length, struct img_error *err) {
    uint64_t most = longest(ext, node);
    return length <= most
               ? 0
               : fail(err, -EFBIG,
                      "A file of %" PRIu64 " bytes is longer than the %" PRIu64 " that the filesystem allows", length,
                      most);
}

static int add_extent(struct ext *ext, ext2_extent_handle_t handle, uint64_t logical, uint64_t physical,
                      uint64_t length, struct img_error *err) {
    struct ext2fs_extent last, extent = {.e_lblk = logical, .e_pblk = physical, .e_len = (uint32_t)length};
    errcode_t code = ext2fs_extent_get(handle, EXT2_EXTENT_ROOT, &last);
    if (!code)
        code = ext2fs_extent_get(handle, EXT2_EXTENT_LAST_LEAF, &last);
    if (code == EXT2_ET_NO_CURRENT_NODE || code == EXT2_ET_EXTENT_NO_NEXT)
        code = ext2fs_extent_insert(handle, 0, &extent);
    else if (!code && last.e_lblk + last.e_len == logical && last.e_pblk + last.e_len == physical &&
             !(last.e_flags & EXT2_EXTENT_FLAGS_UNINIT) && last.e_len + length <= EXTENT_MAX) {
        last.e_len += (uint32_t)length;
        code = ext2fs_extent_replace(handle, 0, &last);
    } else if (!code)
        code = ext2fs_extent_insert(handle, EXT2_EXTENT_INSERT_AFTER, &extent);
    return code ? change_failed(ext, code, "A file's extents cannot be changed", err) : 0;
}

static int map_extent(struct ext *ext, uint64_t ino, uint64_t logical, uint64_t physical, uint64_t length,
                      struct img_error *err) {
    ext2_extent_handle_t handle;
    errcode_t code = ext2fs_extent_open2(ext->lib, (ext2_ino_t)ino, NULL, &handle);
    if (code)
        return change_failed(ext, code, "A file's extents cannot be read", err);
    int ret = add_extent(ext, handle, logical, physical, length, err);
    ext2fs_extent_free(handle);
    return ret;
}

static int map_numbers(struct ext *ext, uint64_t ino, uint64_t logical, uint64_t physical, uint64_t length,
                       struct img_error *err) {
    for (uint64_t i = 0; i < length; i++) {
        blk64_t block = physical + i;
        errcode_t code =
            ext2fs_bmap2(ext->lib, (ext2_ino_t)ino, NULL, NULL, BMAP_SET | BMAP_ALLOC, logical + i, NULL, &block);
        if (code)
            return change_failed(ext, code, "A file's blocks cannot be entered", err);
    }
    return 0;
}

int map_blocks(struct ext *ext, uint64_t ino, bool extents, const struct run *run, struct img_error *err) {
    return extents ? map_extent(ext, ino, run->logical, run->physical, run->length, err)
                   : map_numbers(ext, ino, run->logical, run->physical, run->length, err);
}

/* Takes blocks for the file's blocks from `logical` on, as many as there are in one place. */
static int add_blocks(struct ext *ext, uint64_t ino, uint64_t logical, uint64_t want, struct run *run,
                      struct img_error *err) {
    struct ext2_inode_large *inode;
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    bool extents = inode->i_flags & EXT4_EXTENTS_FL;
    uint64_t goal = ext2fs_find_inode_goal(ext->lib, (ext2_ino_t)ino, (struct ext2_inode *)inode, logical);
    free(inode);
    *run = (struct run){.logical = logical};
    ret = alloc_run(ext, goal, want < EXTENT_MAX ? want : EXTENT_MAX, &run->physical, &run->length, err);
    if (ret < 0)
        return ret;
    ext2fs_block_alloc_stats_range(ext->lib, run->physical, (blk_t)run->length, +1);
    ret = map_blocks(ext, ino, extents, run, err);
    if (ret == 0)
        ret = inode_read(ext, ino, &inode, err);
    if (ret != 0)
        return ret;
    ext2fs_iblk_add_blocks(ext->lib, (struct ext2_inode *)inode, run->length);
    ret = inode_write(ext, ino, inode, err);
    free(inode);
    return ret;
}

/* Writes to blocks that the file has got in this transaction; the last one is filled up with zeroes. */
static int write_data(struct ext *ext, const unsigned char *bytes, size_t count, uint64_t at, struct img_error *err) {
    size_t whole = count & ~(size_t)(ext->block_size - 1), rest = count - whole;
    int ret = whole ? device_write(ext->fs.device, bytes, whole, at, err) : 0;
    if (ret == 0 && rest > 0) {
        unsigned char *last = calloc(1, ext->block_size);
        if (!last)
            return fail_no_memory(err);
        memcpy(last, bytes + whole, rest);
        ret = device_write(ext->fs.device, last, ext->block_size, at + whole, err);
        free(last);
    }
    ext_io_forget(ext->io, at, count + ext->block_size);
    return ret;
}

/* The block that the file's end lies in goes on: what fits into it. */
static int fill_last(struct ext *ext, struct node *node, const unsigned char *bytes, size_t count, uint64_t offset,
                     size_t *done, struct img_error *err) {
    size_t inside = offset % ext->block_size, room = ext->block_size - inside;
    struct run run;
    *done = count < room ? count : room;
    int ret = map_find(ext, node, offset >> ext->block_bits, &run, err);
    if (ret == 0 && !run.physical)
        ret = fail(err, -EINVAL, "Data in the middle of a hole");
    if (ret == 0)
        ret = device_write(ext->fs.device, bytes, *done, (run.physical << ext->block_bits) + inside, err);
    if (ret == 0)
        ext_io_forget(ext->io, run.physical << ext->block_bits, ext->block_size);
    return ret;
}

static int set_inode_size(struct ext *ext, uint64_t ino, uint64_t size, struct img_error *err) {
    struct ext2_inode_large *inode;
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    errcode_t code = ext2fs_inode_size_set(ext->lib, (struct ext2_inode *)inode, (ext2_off64_t)size);
    ret = code ? change_failed(ext, code, "A file's size cannot be changed", err) : inode_write(ext, ino, inode, err);
    free(inode);
    return ret;
}

int ext_append(struct fs *fs, uint64_t ino, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    const unsigned char *bytes = buffer;
    struct node *node;
    size_t done = 0;
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    uint64_t old = node->size, end;
    if (__builtin_add_overflow(offset, (uint64_t)count, &end))
        end = UINT64_MAX;
    ret = check_length(ext, node, end, err);
    if (ret < 0) {
        node_put(ext, node);
        return ret;
    }
    if (!(S_ISREG(node->inode->i_mode) || (S_ISLNK(node->inode->i_mode) && old == 0)) || offset < old)
        ret = fail(err, -EINVAL, "Inode %" PRIu64 " is not written from its end of %" PRIu64, ino, old);
    else if (offset % ext->block_size != 0 && (offset >> ext->block_bits) == (old - 1) >> ext->block_bits && old > 0)
        ret = fill_last(ext, node, bytes, count, offset, &done, err);
    node_put(ext, node);
    size_t lead = done == 0 ? offset % ext->block_size : 0; /* zeroes before the data in a block of its own */
    while (ret == 0 && done < count) {
        struct run run;
        uint64_t logical = (offset + done) >> ext->block_bits;
        uint64_t want = ((uint64_t)lead + count - done + ext->block_size - 1) >> ext->block_bits;
        ret = add_blocks(ext, ino, logical, want, &run, err);
        if (ret < 0)
            break;
        size_t room = (size_t)(run.length << ext->block_bits) - lead, part = count - done < room ? count - done : room;
        uint64_t at = (run.physical << ext->block_bits);
        if (lead > 0) {
            unsigned char *first = calloc(1, lead + part);
            ret = first ? 0 : fail_no_memory(err);
            if (first)
                memcpy(first + lead, bytes + done, part);
            if (first)
                ret = write_data(ext, first, lead + part, at, err);
            free(first);
        } else
            ret = write_data(ext, bytes + done, part, at, err);
        lead = 0;
        done += part;
    }
    if (ret == 0)
        ret = set_inode_size(ext, ino, end, err);
    if (ret < 0 && ret != -EINVAL)
        writer_of(ext)->broken = true;
    return ret;
}

int ext_set_size(struct fs *fs, uint64_t ino, uint64_t size, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct node *node;
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    if (!S_ISREG(node->inode->i_mode) || size < node->size)
        ret = fail(err, -EINVAL, "Inode %" PRIu64 " of %" PRIu64 " bytes cannot be cut to %" PRIu64, ino, node->size,
                   size);
    else
        ret = check_length(ext, node, size, err);
    node_put(ext, node);
    return ret < 0 ? ret : set_inode_size(ext, ino, size, err);
}

/* ---- attributes ---- */

int ext_set_attributes(struct fs *fs, uint64_t ino, const struct fs_attributes *a, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct ext2_inode_large *inode;
    struct fs_time now = time_now();
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    if (a->set & FS_SET_MODE)
        inode->i_mode = (uint16_t)((inode->i_mode & S_IFMT) | (a->mode & 07777));
    if (a->set & FS_SET_OWNER) {
        inode->i_uid = (uint16_t)a->uid;
        inode->i_uid_high = (uint16_t)(a->uid >> 16);
        inode->i_gid = (uint16_t)a->gid;
        inode->i_gid_high = (uint16_t)(a->gid >> 16);
    }
    inode_set_times(ext, inode, a->set & FS_SET_ATIME ? &a->atime : NULL, a->set & FS_SET_MTIME ? &a->mtime : NULL,
                    &now);
    ret = inode_write(ext, ino, inode, err);
    free(inode);
    return ret;
}

int ext_set_xattr(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t length,
                  struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct ext2_xattr_handle *handle;
    static const char *const known[] = {"user.", "trusted.", "security.", "system.posix_acl_"};
    size_t i = 0;
    while (i < sizeof(known) / sizeof(known[0]) && strncmp(name, known[i], strlen(known[i])) != 0)
        i++;
    if (i == sizeof(known) / sizeof(known[0]) || !ext2fs_has_feature_xattr(super_of(ext)))
        return fail(err, -ENOTSUP, "The attribute %s cannot be kept here", name);
    errcode_t code = ext2fs_xattrs_open(ext->lib, (ext2_ino_t)ino, &handle);
    if (code)
        return change_failed(ext, code, "Attributes cannot be changed", err);
    code = ext2fs_xattrs_read(handle);
    if (!code)
        code = value ? ext2fs_xattr_set(handle, name, value, length) : ext2fs_xattr_remove(handle, name);
    ext2fs_xattrs_close(&handle);
    forget_nodes(ext);
    if (code == EXT2_ET_EA_KEY_NOT_FOUND)
        return fail(err, -ENODATA, "There is no attribute %s", name);
    if (code == EXT2_ET_EA_NO_SPACE && !ext2fs_has_feature_ea_inode(super_of(ext))) /* nothing has changed */
        return fail(err, -E2BIG, "The attribute %s of %zu bytes is too long for it", name, length);
    return code ? change_failed(ext, code, "Attributes cannot be changed", err) : 0;
}
