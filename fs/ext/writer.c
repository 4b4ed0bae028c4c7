/* SPDX-License-Identifier: GPL-3.0-or-later */
/* writer.c - whether a filesystem can be changed, and the frame of a change (write.h). */
#include <errno.h>
#include <stdlib.h>

#include "../overlay.h"
#include "write.h"

/* Memory for a transaction's blocks. */
#define DIRTY_MAX (64u << 20)

static const struct fs_write_ops ext_write_ops = {.create = ext_create,
                                                  .link = ext_link,
                                                  .unlink = ext_unlink,
                                                  .rename = ext_rename,
                                                  .append = ext_append,
                                                  .set_size = ext_set_size,
                                                  .set_attributes = ext_set_attributes,
                                                  .set_xattr = ext_set_xattr,
                                                  .commit = ext_commit};

/* What would be damaged, or left wrong, by changes that know nothing of it. */
static int check_features(struct ext *ext, struct img_error *err) {
    struct ext2_super_block *super = super_of(ext);
    const char *why = NULL;
    if (super->s_state & EXT2_ERROR_FS)
        why = "has errors; e2fsck has to mend them first";
    else if (!(super->s_state & EXT2_VALID_FS) && !ext2fs_has_feature_journal(super))
        why = "was not unmounted cleanly; e2fsck has to look at it first";
    else if ((super->s_last_orphan || ext2fs_has_feature_orphan_present(super)) && !ext2fs_has_feature_journal(super))
        why = "has files that were open when it was cut off; e2fsck has to remove them first";
    else if (ext2fs_has_feature_bigalloc(super))
        why = "has clusters (bigalloc), which are not changed here";
    else if (ext2fs_has_feature_quota(super) || ext2fs_has_feature_project(super))
        why = "has quotas, which are not kept up here";
    else if (ext2fs_has_feature_mmp(super))
        why = "has multi-mount protection, which is not honoured here";
    else if (ext2fs_has_feature_shared_blocks(super))
        why = "has shared blocks, and is for reading only";
    return why ? fail(err, -EROFS, "The filesystem cannot be written: it %s", why) : 0;
}

/* Can what the journal holds be put to its places as it is? */
static int check_journal(struct ext *ext, struct img_error *err) {
    if (ext->fs.warning)
        return fail(err, -EROFS, "The filesystem cannot be written: %s", ext->fs.warning);
    return 0;
}

/* The log is replayed for real; what fast commits have changed is taken along. A power cut before the log is empty
 * leaves all to be replayed again. */
static int settle(struct ext *ext, struct pending **pending, struct img_error *err) {
    struct device *device = ext->fs.device;
    int ret = check_journal(ext, err);
    if (ret == 0 && ext->changes)
        ret = pending_take(ext, pending, err);
    if (ret < 0 || (!ext->overlay && !ext->noted))
        return ret;
    if (ext->overlay)
        ret = overlay_settle(ext->overlay, err);
    if (ret == 0)
        ret = device_flush(device, err);
    ext_close_library(ext);
    device_close(ext->noted);
    device_close(ext->overlay);
    ext->overlay = ext->noted = NULL;
    ext->fs.replayed = false;
    return ret < 0 ? ret : ext_open_library(ext, device, err);
}

static int open_parts(struct ext *ext, bool recovery, bool pending, struct img_error *err) {
    int ret = dirty_new(ext->block_size, &ext->writer->dirty, err);
    if (ret == 0)
        ret = log_open(ext, err);
    if (ret == 0 && pending)
        ret = log_park(ext, ext->journal_end, err);
    else if (ret == 0 && recovery && ext->writer->journal)
        ret = log_empty(ext, ext->journal_end ? ext->journal_end + 1 : ext->writer->journal->sequence, err);
    return ret < 0 ? ret : alloc_open(ext, err);
}

/* The superblock's own counts are written at an unmount only; the groups' are in every transaction. */
static void count_free(struct ext *ext) {
    blk64_t blocks = 0;
    ext2_ino_t inodes = 0;
    for (dgrp_t group = 0; group < ext->lib->group_desc_count; group++) {
        blocks += ext2fs_bg_free_blocks_count(ext->lib, group);
        inodes += ext2fs_bg_free_inodes_count(ext->lib, group);
    }
    ext2fs_free_blocks_count_set(super_of(ext), blocks);
    super_of(ext)->s_free_inodes_count = inodes;
}

static int open_writer(struct ext *ext, bool recovery, bool pending, struct img_error *err) {
    if (!(ext->writer = calloc(1, sizeof(*ext->writer))))
        return fail_no_memory(err);
    int ret = open_parts(ext, recovery, pending, err);
    if (ret < 0)
        return ret;
    ext2fs_clear_feature_journal_needs_recovery(super_of(ext));
    count_free(ext);
    ext_io_take_writes(ext->io, ext->writer->dirty, ext->block_size);
    ext->lib->flags |= EXT2_FLAG_RW | EXT2_FLAG_MASTER_SB_ONLY;
    ext->writer->ops = ext_write_ops;
    ext->writer->ops.whole = ext->writer->journal != NULL;
    ext->fs.write_ops = &ext->writer->ops;
    return 0;
}

int writer_open(struct ext *ext, const struct fs_open_options *options, struct img_error *err) {
    bool recovery = ext2fs_has_feature_journal_needs_recovery(super_of(ext));
    struct pending *pending = NULL;
    if (!ext->fs.device->writable)
        return fail(err, -EROFS, "The disk is open for reading only");
    int ret = check_features(ext, err);
    if (ret == 0 && recovery)
        ret = options->dry_run ? check_journal(ext, err) : settle(ext, &pending, err);
    if (ret == 0)
        ret = open_writer(ext, recovery, pending, err);
    if (ret == 0 && pending)
        ret = pending_apply(ext, pending, err);
    pending_free(pending);
    return ret < 0 || options->dry_run ? ret : orphans_release(ext, err);
}

void writer_close(struct ext *ext) {
    if (!ext->writer)
        return;
    alloc_close(ext);
    log_close(ext);
    dirty_free(ext->writer->dirty);
    names_free(&ext->writer->names);
    free(ext->writer);
    ext->writer = NULL;
}

/* How many blocks of metadata a transaction may have: half of the journal, so that what one more change needs, and the
 * maps and descriptors that come at the end, still find room. */
static size_t dirty_limit(const struct ext *ext) {
    size_t memory = DIRTY_MAX >> ext->block_bits;
    const struct writer *writer = ext->writer;
    return writer->journal && writer->blocks / 2 < memory ? writer->blocks / 2 : memory;
}

int change_begin(struct ext *ext, struct img_error *err) {
    if (ext->writer->broken)
        return fail(err, -EIO, "A change of the filesystem failed, and nothing more is written to it");
    return dirty_count(ext->writer->dirty) < dirty_limit(ext) ? 0 : ext_commit(&ext->fs, err);
}

int change_failed(struct ext *ext, errcode_t code, const char *what, struct img_error *err) {
    ext->writer->broken = true;
    return ext_io_fail(ext->io, err, code, what);
}

void forget_nodes(struct ext *ext) {
    for (unsigned i = 0; i < NODES; i++)
        if (ext->nodes[i] && ext->nodes[i]->users == 0) {
            ext->nodes[i]->ino = 0;
            ext->nodes[i]->map = (struct map){0};
        }
}
