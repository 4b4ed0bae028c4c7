/* SPDX-License-Identifier: GPL-3.0-or-later */
/* journal.c - the journal's superblock, checked, and its blocks, found through the journal's inode. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "journal.h"

#define KNOWN                                                                                                          \
    (JBD_INCOMPAT_REVOKE | JBD_INCOMPAT_64BIT | JBD_INCOMPAT_ASYNC_COMMIT | JBD_INCOMPAT_CSUM_V2 |                     \
     JBD_INCOMPAT_CSUM_V3 | JBD_INCOMPAT_FAST_COMMIT)
#define FAST_DEFAULT 256 /* blocks, where the superblock does not say */
#define LOG_MIN 1024     /* blocks that must remain for the log beside fast commits */

static int damaged(struct img_error *err, const char *field, uint64_t value) {
    return fail(err, -EUCLEAN, "The journal's %s cannot be %" PRIu64, field, value);
}

int journal_place(struct journal *journal, uint32_t block, uint64_t *place, struct img_error *err) {
    struct run run;
    int ret = map_find(journal->ext, journal->node, block, &run, err);
    if (ret < 0)
        return ret;
    if (!run.physical)
        return damaged(err, "block that is a hole", block);
    *place = run.physical << journal->ext->block_bits;
    return 0;
}

int journal_read(struct journal *journal, uint32_t block, void *buffer, struct img_error *err) {
    uint64_t place = 0;
    int ret = journal_place(journal, block, &place, err);
    return ret < 0 ? ret : ext_io_read(journal->ext->io, buffer, journal->block_size, place, err);
}

static int check_features(struct journal *journal, const struct jbd_super *super, struct img_error *err) {
    bool v2 = journal->incompatible & JBD_INCOMPAT_CSUM_V2, v3 = journal->incompatible & JBD_INCOMPAT_CSUM_V3;
    struct jbd_super copy = *super;
    if (journal->incompatible & ~(uint32_t)KNOWN)
        return fail(err, -ENOTSUP, "The journal has features that are not known here (0x%" PRIx32 ")",
                    journal->incompatible & ~(uint32_t)KNOWN);
    if ((v2 && v3) || ((v2 || v3) && journal->compatible & JBD_COMPAT_CHECKSUM))
        return damaged(err, "set of features", journal->incompatible);
    journal->checksums = v2 || v3;
    journal->tag = v3 ? 16 : 8u + (v2 ? 2 : 0) + (journal->incompatible & JBD_INCOMPAT_64BIT ? 4 : 0);
    if (!journal->checksums)
        return 0;
    copy.checksum = 0;
    if (ext2fs_crc32c_le(~0u, (const unsigned char *)&copy, sizeof(copy)) != be32toh(super->checksum))
        return fail(err, -EUCLEAN, "The checksum of the journal's superblock is wrong");
    journal->seed = ext2fs_crc32c_le(~0u, super->uuid, sizeof(super->uuid));
    return 0;
}

static int check_geometry(struct journal *journal, const struct jbd_super *super, struct img_error *err) {
    uint64_t blocks = journal->node->size / journal->block_size;
    uint32_t length = be32toh(super->length), fast = be32toh(super->fast_blocks);
    journal->first = be32toh(super->first);
    journal->last = length;
    journal->start = be32toh(super->start);
    journal->sequence = be32toh(super->sequence);
    journal->error = (int32_t)be32toh(super->error);
    if (be32toh(super->block_size) != journal->block_size)
        return damaged(err, "block size", be32toh(super->block_size));
    if (length > blocks || length < 2)
        return damaged(err, "length", length);
    if (journal->first == 0 || journal->first >= length)
        return damaged(err, "first block", journal->first);
    if (journal->incompatible & JBD_INCOMPAT_FAST_COMMIT) {
        fast = fast ? fast : FAST_DEFAULT;
        if (fast < length && length - fast >= LOG_MIN && length - fast > journal->first) {
            journal->last = length - fast;
            journal->fast_first = journal->last + 1;
            journal->fast_count = fast - 1;
        }
    }
    if (journal->start != 0 && (journal->start < journal->first || journal->start >= journal->last))
        return damaged(err, "start", journal->start);
    return 0;
}

static int read_super(struct journal *journal, struct img_error *err) {
    struct jbd_super super;
    size_t got;
    if (!S_ISREG(journal->node->inode->i_mode) || node_has(journal->node, EXT4_INLINE_DATA_FL))
        return damaged(err, "mode", journal->node->inode->i_mode);
    int ret = node_read(journal->ext, journal->node, &super, sizeof(super), 0, &got, err);
    if (ret < 0)
        return ret;
    uint32_t type = be32toh(super.header.type);
    if (got < sizeof(super) || be32toh(super.header.magic) != JBD_MAGIC ||
        (type != JBD_SUPER_V1 && type != JBD_SUPER_V2))
        return fail(err, -EUCLEAN, "The journal has no superblock");
    if (type == JBD_SUPER_V2) {
        journal->compatible = be32toh(super.compatible);
        journal->incompatible = be32toh(super.incompatible);
    }
    ret = check_features(journal, &super, err);
    return ret < 0 ? ret : check_geometry(journal, &super, err);
}

/* A log must have the length that it says, not one block again and again. */
static int check_blocks(struct journal *journal, struct img_error *err) {
    struct run *runs;
    size_t count;
    int ret =
        map_gather(journal->ext, journal->node, (uint64_t)journal->last + journal->fast_count, &runs, &count, err);
    free(runs);
    return ret;
}

int journal_open(struct ext *ext, struct journal *journal, struct img_error *err) {
    *journal = (struct journal){.ext = ext, .block_size = ext->block_size};
    int ret = node_get(ext, super_of(ext)->s_journal_inum, &journal->node, err);
    if (ret < 0)
        return ret == -ENOENT ? fail(err, -EUCLEAN, "The journal's inode is not in use") : ret;
    ret = read_super(journal, err);
    if (ret == 0)
        ret = check_blocks(journal, err);
    if (ret < 0)
        journal_close(journal);
    return ret;
}

void journal_close(struct journal *journal) {
    node_put(journal->ext, journal->node);
}
