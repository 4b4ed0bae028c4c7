/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ext.c - ext2, ext3 and ext4 as a driver: opening and closing (ext.h tells of the parts). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "changes.h"
#include "write.h"

void ext_close_library(struct ext *ext) {
    writer_close(ext);
    node_free_all(ext);
    if (ext->lib)
        ext2fs_free(ext->lib);
    ext_io_free(ext->io);
    ext->lib = NULL;
    ext->io = NULL;
}

static void close_ext(struct fs *fs) {
    struct ext *ext = ext_of(fs);
    ext_close_library(ext);
    changes_free(ext->changes);
    ext->changes = NULL;
    device_close(ext->noted);
    device_close(ext->overlay);
    free(ext);
}

static const struct fs_ops ops = {.close = close_ext,
                                  .space = ext_space,
                                  .stat = ext_stat,
                                  .lookup = ext_lookup,
                                  .list = ext_list,
                                  .read = ext_read,
                                  .next_data = ext_next_data,
                                  .readlink = ext_readlink,
                                  .xattrs = ext_xattrs,
                                  .trace = ext_trace,
                                  .alike = ext_alike};

static int check_descriptors(struct ext *ext, struct img_error *err) {
    for (dgrp_t group = 0; group < ext->lib->group_desc_count; group++)
        if (!ext2fs_group_desc_csum_verify(ext->lib, group))
            return fail(err, -EUCLEAN, "The checksum of the descriptor of group %" PRIu32 " is wrong", group);
    return 0;
}

/* The library reads the superblock and the descriptors, of which everything that sizes something was checked. */
int ext_open_library(struct ext *ext, struct device *device, struct img_error *err) {
    struct ext2_super_block super;
    int ret = ext_read_super(device, &super, err);
    if (ret == 0)
        ret = ext_check_super(device, &super, err);
    if (ret == 0)
        ret = ext_io_new(device, &ext->io, err);
    if (ret < 0)
        return ret;
    initialize_ext2_error_table();
    errcode_t code = ext2fs_open2(ext_io_name(ext->io), NULL, EXT2_FLAG_64BITS | EXT2_FLAG_SKIP_MMP, 0, 0,
                                  ext_io_manager(ext->io), &ext->lib);
    if (code)
        return ext_io_fail(ext->io, err, code, "The filesystem cannot be opened");
    ext->block_size = ext->lib->blocksize;
    ext->block_bits = EXT2_BLOCK_SIZE_BITS(super_of(ext));
    ext->inode_size = EXT2_INODE_SIZE(super_of(ext));
    ext->first_block = super_of(ext)->s_first_data_block;
    ext->blocks = ext2fs_blocks_count(super_of(ext));
    ext->checksums = ext2fs_has_feature_metadata_csum(super_of(ext));
    return check_descriptors(ext, err);
}

static int open_ext(struct device *device, const struct probe *probe, const struct fs_open_options *options,
                    struct fs **fs, struct img_error *err) {
    struct ext *ext = calloc(1, sizeof(*ext));
    if (!ext)
        return fail_no_memory(err);
    ext->fs = (struct fs){.ops = &ops, .type = probe->type, .device = device, .shown = device, .root = EXT2_ROOT_INO};
    int ret = ext_open_library(ext, device, err);
    if (ret == 0)
        ret = ext_recover(ext, device, err);
    if (ret == 0 && options->write)
        ret = writer_open(ext, options, err);
    if (ret < 0) {
        close_ext(&ext->fs);
        return ret;
    }
    *fs = &ext->fs;
    return 0;
}

const struct fs_driver ext_driver = {.name = "ext", .probe = ext_probe, .open = open_ext};
