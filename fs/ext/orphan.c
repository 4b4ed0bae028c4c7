/* SPDX-License-Identifier: GPL-3.0-or-later */
/* orphan.c - files that had no name any more but were open, or were being cut, when the guest stopped: removed or cut
 * for good before anything is written, as the kernel does when it mounts.
 *
 * They are in a list, which begins in the superblock and goes on in the deletion times of the inodes, or in a file that
 * the superblock names, which has their numbers. One is taken out of there in the same transaction that ends it. So
 * a cut leaves it where it is, or done.
 *
 * A list that leads in a circle ends: an inode that is met again is free already, or the last one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "write.h"

#define BLOCK_MAGIC 0x0b10ca04u /* at the end of each block of the file */

/* ---- one of them ---- */

static int read_orphan(struct ext *ext, uint32_t ino, struct ext2_inode_large **inode, struct img_error *err) {
    if (ino < EXT2_FIRST_INO(super_of(ext)) || ino > super_of(ext)->s_inodes_count ||
        !ext2fs_test_inode_bitmap2(ext->lib->inode_map, ino))
        return fail(err, -EUCLEAN, "Inode %" PRIu32 " is said to be an orphan, but it cannot be; run e2fsck", ino);
    return inode_read(ext, ino, inode, err);
}

/* What lies behind the end in the last block would be seen when the file grows. */
static int clear_tail(struct ext *ext, uint32_t ino, struct img_error *err) {
    struct node *node;
    struct run run = {0};
    unsigned char *bytes = malloc(ext->block_size);
    int ret = bytes ? node_get(ext, ino, &node, err) : fail_no_memory(err);
    if (ret < 0) {
        free(bytes);
        return ret;
    }
    size_t inside = node->size & (ext->block_size - 1);
    if (inside > 0)
        ret = map_find(ext, node, node->size >> ext->block_bits, &run, err);
    node_put(ext, node);
    if (ret == 0 && run.physical)
        ret = ext_read_block(ext, ino, run.physical, bytes, err);
    if (ret == 0 && run.physical) {
        memset(bytes + inside, 0, ext->block_size - inside);
        errcode_t code = io_channel_write_blk64(ext->lib->io, run.physical, 1, bytes);
        ret = code ? change_failed(ext, code, "A file cannot be cut", err) : 0;
    }
    free(bytes);
    return ret;
}

/* A file with a name: what it has behind its end goes. */
static int cut(struct ext *ext, uint32_t ino, uint64_t size, uint64_t end, struct img_error *err) {
    uint64_t keep = (size + ext->block_size - 1) >> ext->block_bits;
    if (end > keep && end - keep > INT32_MAX)
        return fail(err, -EFBIG, "The orphan inode %" PRIu32 " has too much behind its end; run e2fsck", ino);
    errcode_t code = end > keep ? ext2fs_punch(ext->lib, ino, NULL, NULL, keep, end - 1) : 0;
    forget_nodes(ext);
    return code ? change_failed(ext, code, "A file cannot be cut", err) : clear_tail(ext, ino, err);
}

static int release(struct ext *ext, uint32_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    bool blocks = ext2fs_inode_has_valid_blocks2(ext->lib, (struct ext2_inode *)inode);
    uint64_t end = 0;
    inode->i_dtime = 0; /* no longer the next one's number */
    int ret = inode_write(ext, ino, inode, err);
    if (ret == 0 && blocks && inode->i_mode)
        ret = alloc_check(ext, ino, &end, err);
    if (ret < 0)
        return ret;
    if (inode->i_links_count > 0)
        return S_ISREG(inode->i_mode) && blocks ? cut(ext, ino, EXT2_I_SIZE(inode), end, err) : 0;
    ret = free_content(ext, ino, inode, err);
    return ret < 0 ? ret : free_empty_inode(ext, ino, inode, err);
}

/* ---- where they are ---- */

static int release_list(struct ext *ext, struct img_error *err) {
    struct ext2_super_block *super = super_of(ext);
    int ret = 0;
    while (super->s_last_orphan != 0 && ret == 0) {
        struct ext2_inode_large *inode;
        uint32_t ino = super->s_last_orphan;
        ret = change_begin(ext, err);
        if (ret == 0)
            ret = read_orphan(ext, ino, &inode, err);
        if (ret < 0)
            break;
        super->s_last_orphan = inode->i_dtime;
        ext2fs_mark_super_dirty(ext->lib);
        ret = release(ext, ino, inode, err);
        free(inode);
    }
    return ret;
}

struct orphan_block {
    uint64_t logical, physical;
    uint32_t file; /* the inode it belongs to */
    uint32_t *numbers;
    size_t count; /* of numbers */
};

static int read_block(struct ext *ext, struct node *file, struct orphan_block *block, struct img_error *err) {
    struct run run;
    int ret = map_find(ext, file, block->logical, &run, err);
    if (ret < 0 || (ret = ext_read_block(ext, file->ino, run.physical, block->numbers, err)) < 0)
        return ret;
    block->physical = run.physical;
    const struct ext4_orphan_block_tail *tail = (const void *)(block->numbers + block->count);
    if (le32toh(tail->ob_magic) != BLOCK_MAGIC ||
        !ext2fs_orphan_file_block_csum_verify(ext->lib, block->file, block->physical, (char *)block->numbers))
        return fail(err, -EUCLEAN, "Block %" PRIu64 " of the file of orphans is damaged; run e2fsck", block->logical);
    return 0;
}

static int take_out(struct ext *ext, struct orphan_block *block, size_t i, struct img_error *err) {
    block->numbers[i] = 0;
    errcode_t code = ext2fs_orphan_file_block_csum_set(ext->lib, block->file, block->physical, (char *)block->numbers);
    if (!code)
        code = io_channel_write_blk64(ext->lib->io, block->physical, 1, block->numbers);
    return code ? change_failed(ext, code, "The file of orphans cannot be written", err) : 0;
}

static int release_block(struct ext *ext, struct orphan_block *block, struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < block->count && ret == 0; i++) {
        struct ext2_inode_large *inode = NULL;
        uint32_t ino = le32toh(block->numbers[i]);
        if (ino == 0)
            continue;
        ret = change_begin(ext, err);
        if (ret < 0 || (ret = read_orphan(ext, ino, &inode, err)) < 0)
            break;
        ret = take_out(ext, block, i, err);
        if (ret == 0)
            ret = release(ext, ino, inode, err);
        free(inode);
    }
    return ret;
}

static int release_file(struct ext *ext, struct img_error *err) {
    struct orphan_block block = {.file = super_of(ext)->s_orphan_file_inum,
                                 .count = (ext->block_size - sizeof(struct ext4_orphan_block_tail)) / sizeof(uint32_t)};
    struct node *file;
    int ret = node_get(ext, block.file, &file, err);
    if (ret < 0)
        return ret;
    block.numbers = malloc(ext->block_size);
    ret = block.numbers ? 0 : fail_no_memory(err);
    for (; block.logical < file->size >> ext->block_bits && ret == 0; block.logical++) {
        ret = read_block(ext, file, &block, err);
        if (ret == 0)
            ret = release_block(ext, &block, err);
    }
    free(block.numbers);
    node_put(ext, file);
    return ret;
}

int orphans_release(struct ext *ext, struct img_error *err) {
    struct ext2_super_block *super = super_of(ext);
    if (!super->s_last_orphan && !ext2fs_has_feature_orphan_present(super))
        return 0;
    int ret = release_list(ext, err);
    if (ret == 0 && ext2fs_has_feature_orphan_present(super)) {
        ret = release_file(ext, err);
        ext2fs_clear_feature_orphan_present(super);
        ext2fs_mark_super_dirty(ext->lib);
    }
    return ret < 0 ? ret : ext_commit(&ext->fs, err);
}
