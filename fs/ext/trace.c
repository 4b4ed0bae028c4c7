/* SPDX-License-Identifier: GPL-3.0-or-later */
/* trace.c - which bytes of the device a file rests on, for those who know which bytes differ from another state. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "ext.h"

/* Where the inode lies, in a table of its group's. */
static int trace_record(struct ext *ext, uint64_t ino, fs_range_call call, void *opaque, struct img_error *err) {
    const struct ext2_super_block *super = super_of(ext);
    if (ino == 0 || ino > super->s_inodes_count)
        return fail(err, -EUCLEAN, "There is no inode %" PRIu64, ino);
    uint64_t group = (ino - 1) / super->s_inodes_per_group, index = (ino - 1) % super->s_inodes_per_group;
    uint64_t table = ext2fs_inode_table_loc(ext->lib, (dgrp_t)group), inside = index * ext->inode_size;
    if (table <= ext->first_block || table >= ext->blocks)
        return fail(err, -EUCLEAN, "The inodes of group %" PRIu64 " lie in block %" PRIu64, group, table);
    return call(opaque, (table << ext->block_bits) + inside, ext->inode_size);
}

static int trace_attributes(struct ext *ext, struct node *node, fs_range_call call, void *opaque,
                            struct img_error *err) {
    uint64_t block = ext2fs_file_acl_block(ext->lib, (struct ext2_inode *)node->inode);
    int ret = trace_record(ext, node->ino, call, opaque, err);
    if (ret < 0)
        return ret;
    if (ext2fs_has_feature_ea_inode(super_of(ext)))
        return fail(err, -ENOTSUP, "Attributes may lie in other inodes");
    if (block >= ext->blocks)
        return fail(err, -EUCLEAN, "The attributes of inode %" PRIu64 " lie in block %" PRIu64, node->ino, block);
    return block ? call(opaque, block << ext->block_bits, ext->block_size) : 0;
}

/* Does something of it lie outside of the inode? */
static bool has_map(const struct node *node) {
    uint16_t mode = node->inode->i_mode;
    if (node_has(node, EXT4_INLINE_DATA_FL))
        return false;
    return S_ISREG(mode) || S_ISDIR(mode) || (S_ISLNK(mode) && node->size >= sizeof(node->inode->i_block));
}

int ext_trace(struct fs *fs, uint64_t ino, enum fs_part part, fs_range_call call, void *opaque, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct node *node;
    if (part == FS_RECORD)
        return trace_record(ext, ino, call, opaque, err);
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    if (part == FS_XATTRS)
        ret = trace_attributes(ext, node, call, opaque, err);
    else if (has_map(node))
        ret = map_trace(ext, node, call, opaque, err);
    else
        ret = trace_record(ext, ino, call, opaque, err);
    node_put(ext, node);
    return ret;
}

/* What of the superblock has a say in how the rest is read; what the kernel sets while it is mounted has none. */
bool ext_alike(struct fs *a, struct fs *b) {
    struct ext *left = ext_of(a), *right = ext_of(b);
    const struct ext2_super_block *x = super_of(left), *y = super_of(right);
    const uint32_t mounted = EXT3_FEATURE_INCOMPAT_RECOVER,
                   meaning = EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
    if (left->changes || right->changes || x->s_rev_level != y->s_rev_level || left->block_size != right->block_size ||
        left->inode_size != right->inode_size || left->blocks != right->blocks ||
        x->s_inodes_count != y->s_inodes_count || x->s_inodes_per_group != y->s_inodes_per_group ||
        left->lib->csum_seed != right->lib->csum_seed ||
        (x->s_feature_incompat & ~mounted) != (y->s_feature_incompat & ~mounted) ||
        (x->s_feature_ro_compat & meaning) != (y->s_feature_ro_compat & meaning) ||
        left->lib->group_desc_count != right->lib->group_desc_count)
        return false;
    for (dgrp_t group = 0; group < left->lib->group_desc_count; group++)
        if (ext2fs_inode_table_loc(left->lib, group) != ext2fs_inode_table_loc(right->lib, group))
            return false;
    return true;
}
