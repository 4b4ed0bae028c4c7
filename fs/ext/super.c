/* SPDX-License-Identifier: GPL-3.0-or-later */
/* super.c - the superblock: is there one, which of the ext filesystems is it, is what it claims possible, how much room
 * is there.
 *
 * libext2fs sizes tables and divides by what the superblock says, so all of that is checked here before the library
 * sees it. A filesystem that is larger than its device is refused, as the kernel does.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../ondisk.h"
#include "ext.h"

#define SUPER_AT 1024

/* What ext2 and ext3 know; a filesystem with more is ext4. As blkid has it. */
#define EXT2_COMPATIBLE_READ                                                                                           \
    (EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE | EXT2_FEATURE_RO_COMPAT_BTREE_DIR)
#define EXT2_INCOMPATIBLE (EXT2_FEATURE_INCOMPAT_FILETYPE | EXT2_FEATURE_INCOMPAT_META_BG)
#define EXT3_INCOMPATIBLE (EXT2_INCOMPATIBLE | EXT3_FEATURE_INCOMPAT_RECOVER)
#define EXT2_FEATURE_RO_COMPAT_BTREE_DIR 0x0004

/* Features that change where things are and that are read here. */
#define READ_HERE                                                                                                      \
    (EXT3_INCOMPATIBLE | EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_MMP |     \
     EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_CSUM_SEED |                \
     EXT4_FEATURE_INCOMPAT_LARGEDIR | EXT4_FEATURE_INCOMPAT_INLINE_DATA | EXT4_FEATURE_INCOMPAT_ENCRYPT |              \
     EXT4_FEATURE_INCOMPAT_CASEFOLD)

/* Group descriptors are kept in memory: those of 512 TiB with blocks of 4 KiB. */
#define DESCRIPTORS_MAX (256ull << 20)
#define ORPHANS_MAX 65536 /* a chain of them may be a ring */

int ext_read_super(struct device *device, struct ext2_super_block *super, struct img_error *err) {
    if (device->size < SUPER_AT + sizeof(*super))
        return fail(err, -EUCLEAN, "%" PRIu64 " bytes are too few for an ext filesystem", device->size);
    return device_read(device, super, sizeof(*super), SUPER_AT, err);
}

static const char *type_of(const struct ext2_super_block *super) {
    uint32_t incompatible = super->s_feature_incompat, read_only = super->s_feature_ro_compat;
    bool journal = super->s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL;
    if (incompatible & EXT3_FEATURE_INCOMPAT_JOURNAL_DEV)
        return "jbd";
    if (read_only & ~(uint32_t)EXT2_COMPATIBLE_READ || incompatible & ~(uint32_t)EXT3_INCOMPATIBLE)
        return "ext4";
    if (journal)
        return "ext3";
    return incompatible & EXT3_FEATURE_INCOMPAT_RECOVER ? "ext4" : "ext2";
}

int ext_probe(struct device *device, struct probe *probe) {
    struct ext2_super_block super = {0};
    if (ext_read_super(device, &super, NULL) < 0 || super.s_magic != EXT2_SUPER_MAGIC)
        return -ENOENT;
    probe->kind = PROBE_FILESYSTEM;
    probe->type = type_of(&super);
    memcpy(probe->label, super.s_volume_name, sizeof(super.s_volume_name));
    probe->label[sizeof(super.s_volume_name)] = '\0';
    static const uint8_t none[16];
    if (memcmp(super.s_uuid, none, sizeof(none)) != 0)
        uuid_text(super.s_uuid, probe->uuid);
    return 0;
}

/* ---- is it possible? ---- */

static int claim(struct img_error *err, const char *field, uint64_t value) {
    return fail(err, -EUCLEAN, "The superblock's %s cannot be %" PRIu64, field, value);
}

static int check_features(const struct ext2_super_block *super, struct img_error *err) {
    uint32_t unknown = super->s_feature_incompat & ~(uint32_t)READ_HERE;
    if (super->s_rev_level > EXT2_DYNAMIC_REV)
        return fail(err, -ENOTSUP, "The filesystem's revision is %" PRIu32 ", which is not read here",
                    super->s_rev_level);
    if (super->s_feature_incompat & EXT3_FEATURE_INCOMPAT_JOURNAL_DEV)
        return fail(err, -ENOTSUP, "This is the journal of an ext filesystem that lies on another device");
    if (unknown)
        return fail(err, -ENOTSUP, "The filesystem has features that are not read here (incompatible: 0x%" PRIx32 ")",
                    unknown);
    if (super->s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) {
        if (super->s_checksum_type != EXT2_CRC32C_CHKSUM)
            return claim(err, "type of checksum", super->s_checksum_type);
        if (ext2fs_crc32c_le(~0u, (const unsigned char *)super, offsetof(struct ext2_super_block, s_checksum)) !=
            super->s_checksum)
            return fail(err, -EUCLEAN, "The superblock's checksum is wrong");
    }
    return 0;
}

/* Sizes of things, from which all places are computed. */
static int check_sizes(const struct ext2_super_block *super, struct img_error *err) {
    bool dynamic = super->s_rev_level >= EXT2_DYNAMIC_REV,
         wide = super->s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT;
    unsigned inode_size = dynamic ? super->s_inode_size : EXT2_GOOD_OLD_INODE_SIZE;
    if (super->s_log_block_size > EXT2_MAX_BLOCK_LOG_SIZE - EXT2_MIN_BLOCK_LOG_SIZE)
        return claim(err, "logarithm of the block size", super->s_log_block_size);
    if (super->s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC
            ? super->s_log_cluster_size < super->s_log_block_size || super->s_log_cluster_size > 20
            : super->s_log_cluster_size > EXT2_MAX_BLOCK_LOG_SIZE - EXT2_MIN_BLOCK_LOG_SIZE)
        return claim(err, "logarithm of the cluster size", super->s_log_cluster_size);
    if (inode_size < EXT2_GOOD_OLD_INODE_SIZE || inode_size > 1024u << super->s_log_block_size ||
        inode_size & (inode_size - 1))
        return claim(err, "inode size", inode_size);
    if (wide && (super->s_desc_size < EXT2_MIN_DESC_SIZE_64BIT || super->s_desc_size > 1024 ||
                 super->s_desc_size & (super->s_desc_size - 1)))
        return claim(err, "descriptor size", super->s_desc_size);
    return 0;
}

/* Groups: how many, and what each of them has. */
static int check_groups(const struct ext2_super_block *super, uint64_t blocks, struct img_error *err) {
    uint64_t block_size = 1024ull << super->s_log_block_size;
    unsigned inode_size = super->s_rev_level >= EXT2_DYNAMIC_REV ? super->s_inode_size : EXT2_GOOD_OLD_INODE_SIZE;
    unsigned descriptor =
        super->s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT ? super->s_desc_size : EXT2_MIN_DESC_SIZE;
    bool clusters = super->s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC;
    uint64_t ratio = clusters ? 1ull << (super->s_log_cluster_size - super->s_log_block_size) : 1;
    uint64_t per_group = super->s_blocks_per_group, inodes = super->s_inodes_per_group;
    if (per_group < 8 || per_group % 8 != 0 || per_group % ratio != 0 || per_group / ratio > 8 * block_size)
        return claim(err, "number of blocks per group", per_group);
    if (clusters && super->s_clusters_per_group != per_group / ratio)
        return claim(err, "number of clusters per group", super->s_clusters_per_group);
    if (inodes < block_size / inode_size || inodes > 8 * block_size)
        return claim(err, "number of inodes per group", inodes);
    uint64_t groups = (blocks - super->s_first_data_block + per_group - 1) / per_group;
    if (groups * descriptor > DESCRIPTORS_MAX)
        return fail(err, -EFBIG, "%" PRIu64 " groups of blocks are more than are read here", groups);
    if (super->s_inodes_count < EXT2_ROOT_INO || super->s_inodes_count > groups * inodes)
        return claim(err, "number of inodes", super->s_inodes_count);
    if (super->s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG && super->s_first_meta_bg > groups)
        return claim(err, "first meta group", super->s_first_meta_bg);
    return 0;
}

int ext_check_super(struct device *device, struct ext2_super_block *super, struct img_error *err) {
    int ret = check_features(super, err);
    if (ret < 0 || (ret = check_sizes(super, err)) < 0)
        return ret;
    uint64_t blocks = ext2fs_blocks_count(super), on_device = device->size >> (10 + super->s_log_block_size);
    if (super->s_first_data_block !=
        (super->s_log_block_size == 0 && !(super->s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC)))
        return claim(err, "first block", super->s_first_data_block);
    if (blocks <= (uint64_t)super->s_first_data_block + 1)
        return claim(err, "number of blocks", blocks);
    if (blocks > on_device)
        return fail(err, -EUCLEAN, "The filesystem has %" PRIu64 " blocks, its device only %" PRIu64, blocks,
                    on_device);
    return check_groups(super, blocks, err);
}

/* ---- how much room is there? ---- */

/* Blocks of group descriptors in this group. */
static uint64_t descriptor_blocks(const struct ext *ext, dgrp_t group) {
    struct ext2_super_block *super = super_of(ext);
    bool meta = ext2fs_has_feature_meta_bg(super);
    unsigned per_block = EXT2_DESC_PER_BLOCK(super);
    if (meta && group / per_block >= super->s_first_meta_bg) {
        unsigned nth = group % per_block;
        return nth == 0 || nth == 1 || nth == per_block - 1;
    }
    if (!ext2fs_bg_has_super(ext->lib, group))
        return 0;
    return (meta ? super->s_first_meta_bg : ext->lib->desc_blocks) + super->s_reserved_gdt_blocks;
}

static int journal_blocks(struct ext *ext, uint64_t *count, struct img_error *err) {
    struct node *node;
    uint32_t head[5]; /* of the journal's superblock, up to its length */
    size_t got;
    *count = 0;
    if (!ext2fs_has_feature_journal(super_of(ext)) || super_of(ext)->s_journal_inum == 0)
        return 0;
    int ret = node_get(ext, super_of(ext)->s_journal_inum, &node, err);
    if (ret < 0)
        return ret;
    *count = node->size >> ext->block_bits;
    ret = node_read(ext, node, head, sizeof(head), 0, &got, err);
    if (ret == 0 && got == sizeof(head) && be32toh(head[4]) < *count)
        *count = be32toh(head[4]);
    node_put(ext, node);
    return ret;
}

/* Clusters that hold the filesystem's own structures, as the kernel counts them at a mount. */
static int overhead(struct ext *ext, uint64_t *clusters, struct img_error *err) {
    struct ext2_super_block *super = super_of(ext);
    unsigned ratio_bits = ext2fs_has_feature_bigalloc(super) ? super->s_log_cluster_size - super->s_log_block_size : 0;
    uint64_t journal, sum = super->s_first_data_block >> ratio_bits;
    if (ratio_bits && super->s_overhead_clusters && super->s_overhead_clusters <= ext->blocks) {
        *clusters = super->s_overhead_clusters;
        return 0;
    }
    int ret = journal_blocks(ext, &journal, err);
    for (dgrp_t group = 0; group < ext->lib->group_desc_count; group++)
        sum += (unsigned)ext2fs_bg_has_super(ext->lib, group) + descriptor_blocks(ext, group) +
               ext->lib->inode_blocks_per_group + 2;
    /* With clusters this is too much by parts of some; mke2fs has written the exact number in all that it made. */
    *clusters = ((sum + (1u << ratio_bits) - 1) >> ratio_bits) + ((journal + (1u << ratio_bits) - 1) >> ratio_bits);
    return ret;
}

/* What a mount holds back so that delayed allocation cannot fail: 2 %, at most 4096 clusters. */
static uint64_t held_back(const struct ext *ext, unsigned ratio_bits) {
    uint64_t clusters = (ext->blocks >> ratio_bits) / 50;
    if (!ext2fs_has_feature_extents(super_of(ext)))
        return 0;
    return (clusters < 4096 ? clusters : 4096) << ratio_bits;
}

/* Files that had lost their last name and were still open: a mount gives their blocks back. In a chain from the
 * superblock, each with the number of the next one where the time of its deletion would be. */
static int count_orphans(struct ext *ext, struct fs_space *space, struct img_error *err) {
    struct ext2_inode_large *inode = calloc(1, ext->inode_size + sizeof(*inode));
    uint32_t ino = super_of(ext)->s_last_orphan;
    if (!inode)
        return fail_no_memory(err);
    for (unsigned i = 0; i < ORPHANS_MAX && ino != 0; i++, ino = inode->i_dtime) {
        if (ext2fs_read_inode_full(ext->lib, ino, (struct ext2_inode *)inode, (int)ext->inode_size))
            break;
        if (inode->i_links_count > 0)
            continue;
        space->inodes_free++;
        space->blocks_free += inode->i_blocks >> (ext->block_bits - 9);
    }
    free(inode);
    return 0;
}

int ext_space(struct fs *fs, struct fs_space *space, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct ext2_super_block *super = super_of(ext);
    unsigned ratio_bits = ext2fs_has_feature_bigalloc(super) ? super->s_log_cluster_size - super->s_log_block_size : 0;
    uint64_t own, reserved = ext2fs_r_blocks_count(super) + held_back(ext, ratio_bits);
    int ret = overhead(ext, &own, err);
    if (ret < 0)
        return ret;
    *space = (struct fs_space){.block_size = ext->block_size, .inodes = super->s_inodes_count};
    for (dgrp_t group = 0; group < ext->lib->group_desc_count; group++) {
        space->blocks_free += ext2fs_bg_free_blocks_count(ext->lib, group);
        space->inodes_free += ext2fs_bg_free_inodes_count(ext->lib, group);
    }
    space->blocks_free <<= ratio_bits;
    ret = count_orphans(ext, space, err);
    own <<= ratio_bits;
    space->blocks = own < ext->blocks ? ext->blocks - own : 0;
    space->blocks_available = space->blocks_free > reserved ? space->blocks_free - reserved : 0;
    return ret;
}
