/* SPDX-License-Identifier: GPL-3.0-or-later */
/* commit.c - a transaction becomes durable: into the journal, then to its places (write.h).
 *
 * The order, with a flush of the disk at each |:
 *     file data, the log: descriptors, blocks, commit block
 *   | the journal's superblock names the log; the filesystem's superblock says that it needs recovery
 *   | every block to its place
 *   | the journal is empty again; nothing needs recovery
 *   |
 * Of the two superblocks that change together either may come first: a mount replays only what both say, so a power cut
 * leaves the state before or after. A filesystem without a journal gets its blocks in the order of the disk, and a cut
 * in between leaves what e2fsck has to mend.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jbd2.h"
#include "write.h"

#define SUPER_AT 1024
/* Of a large journal no more is used, so that memory stays bounded. */
#define TRANSACTION_MAX (64u << 20)

/* ---- the journal as a file ---- */

/* Reads or writes a block of it. */
static int journal_block(struct ext *ext, uint64_t number, void *bytes, bool write, struct img_error *err) {
    struct node *node;
    struct run run;
    int ret = node_get(ext, super_of(ext)->s_journal_inum, &node, err);
    if (ret < 0)
        return ret;
    ret = map_find(ext, node, number, &run, err);
    node_put(ext, node);
    if (ret == 0 && !run.physical)
        ret = fail(err, -EUCLEAN, "The journal has no block %" PRIu64, number);
    if (ret < 0)
        return ret;
    uint64_t at = run.physical << ext->block_bits;
    return write ? device_write(ext->fs.device, bytes, ext->block_size, at, err)
                 : device_read(ext->fs.device, bytes, ext->block_size, at, err);
}

static uint32_t checksum(uint32_t seed, const void *bytes, size_t count) {
    return ext2fs_crc32c_le(seed, bytes, count);
}

static struct jbd2_super *journal_super(struct ext *ext) {
    return (struct jbd2_super *)writer_of(ext)->journal.super;
}

static int check_journal(struct ext *ext, struct img_error *err) {
    const struct jbd2_super *super = journal_super(ext);
    uint32_t kind = be32toh(super->header.kind), known = JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_64BIT |
                                                         JBD2_INCOMPAT_ASYNC_COMMIT | JBD2_INCOMPAT_CSUM_V2 |
                                                         JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_FAST_COMMIT;
    if (be32toh(super->header.magic) != JBD2_MAGIC || (kind != JBD2_SUPER_V1 && kind != JBD2_SUPER_V2))
        return fail(err, -EUCLEAN, "The journal has no superblock");
    if (be32toh(super->block_size) != ext->block_size)
        return fail(err, -EUCLEAN, "The journal's block size is %" PRIu32, be32toh(super->block_size));
    if (super->error)
        return fail(err, -EROFS, "The journal was given up after error %" PRId32, (int32_t)be32toh(super->error));
    if (kind == JBD2_SUPER_V2 && (be32toh(super->incompat) & ~known))
        return fail(err, -EROFS, "The journal has unknown features 0x%" PRIx32, be32toh(super->incompat) & ~known);
    return 0;
}

/* How much one transaction may be, and how it is written. */
static int measure_journal(struct ext *ext, struct img_error *err) {
    struct log_area *journal = &writer_of(ext)->journal;
    const struct jbd2_super *super = journal_super(ext);
    bool version2 = be32toh(super->header.kind) == JBD2_SUPER_V2;
    uint32_t features = version2 ? be32toh(super->incompat) : 0;
    uint64_t length = be32toh(super->length),
             fast = version2 && (features & JBD2_INCOMPAT_FAST_COMMIT) ? be32toh(super->fast_commit_blocks) : 0;
    struct node *node;
    int ret = node_get(ext, super_of(ext)->s_journal_inum, &node, err);
    if (ret < 0)
        return ret;
    uint64_t there = node->size >> ext->block_bits;
    node_put(ext, node);
    journal->first = be32toh(super->first);
    if (fast == 0 && (features & JBD2_INCOMPAT_FAST_COMMIT))
        fast = 256;
    if (length > there || journal->first == 0 || length < fast || length - fast < journal->first + 16u)
        return fail(err, -EUCLEAN, "The journal's log is blocks %" PRIu32 " to %" PRIu64 " of %" PRIu64, journal->first,
                    length - fast, there);
    journal->blocks = length - fast - journal->first;
    if (journal->blocks > TRANSACTION_MAX >> ext->block_bits)
        journal->blocks = TRANSACTION_MAX >> ext->block_bits;
    journal->sequence = be32toh(super->sequence);
    journal->wide = features & JBD2_INCOMPAT_64BIT;
    journal->tags3 = features & JBD2_INCOMPAT_CSUM_V3;
    journal->checked = features & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3);
    journal->seed = checksum(~0u, super->uuid, sizeof(super->uuid));
    journal->present = true;
    return 0;
}

int log_open(struct ext *ext, struct img_error *err) {
    struct log_area *journal = &writer_of(ext)->journal;
    if (!ext2fs_has_feature_journal(super_of(ext)))
        return 0;
    if (super_of(ext)->s_journal_inum == 0)
        return fail(err, -EROFS, "The journal is on a device of its own");
    if (!(journal->super = malloc(ext->block_size)))
        return fail_no_memory(err);
    int ret = journal_block(ext, 0, journal->super, false, err);
    if (ret == 0)
        ret = check_journal(ext, err);
    return ret < 0 ? ret : measure_journal(ext, err);
}

void log_close(struct ext *ext) {
    free(writer_of(ext)->journal.super);
}

/* ---- the log ---- */

struct log {
    struct ext *ext;
    struct log_area *journal;
    uint64_t next;             /* block of the journal */
    unsigned char *descriptor; /* that is being filled; of its blocks none is written yet */
    size_t filled;
    unsigned tags;
    unsigned char *copy; /* of a block that has to be written differently */
};

static size_t tag_size(const struct log_area *journal) {
    if (journal->tags3)
        return sizeof(struct jbd2_tag3);
    return journal->wide ? sizeof(struct jbd2_tag) : offsetof(struct jbd2_tag, block_high);
}

static void put_header(void *block, uint32_t kind, uint32_t sequence) {
    struct jbd2_header header = {htobe32(JBD2_MAGIC), htobe32(kind), htobe32(sequence)};
    memcpy(block, &header, sizeof(header));
}

/* Where tags end: a checksum may lie at the end of the block. */
static size_t descriptor_room(const struct log *log) {
    return log->ext->block_size - (log->journal->checked ? sizeof(uint32_t) : 0);
}

static void put_tag(struct log *log, uint64_t block, const void *bytes, bool escaped, bool last) {
    struct log_area *journal = log->journal;
    uint32_t flags =
        (escaped ? JBD2_TAG_ESCAPED : 0) | (last ? JBD2_TAG_LAST : 0) | (log->tags > 0 ? JBD2_TAG_SAME_UUID : 0);
    uint32_t sequence = htobe32(journal->sequence), sum = 0;
    if (journal->checked)
        sum = checksum(checksum(journal->seed, &sequence, sizeof(sequence)), bytes, log->ext->block_size);
    if (journal->tags3) {
        struct jbd2_tag3 tag = {htobe32((uint32_t)block), htobe32(flags), htobe32((uint32_t)(block >> 32)),
                                htobe32(sum)};
        memcpy(log->descriptor + log->filled, &tag, sizeof(tag));
    } else {
        struct jbd2_tag tag = {htobe32((uint32_t)block), htobe16((uint16_t)sum), htobe16((uint16_t)flags),
                               htobe32((uint32_t)(block >> 32))};
        memcpy(log->descriptor + log->filled, &tag, tag_size(journal));
    }
    log->filled += tag_size(journal);
    if (log->tags++ == 0) {
        memset(log->descriptor + log->filled, 0, 16); /* a UUID that nobody looks at */
        log->filled += 16;
    }
}

/* How many of `left` blocks the next descriptor tells of. */
static size_t in_descriptor(const struct log *log, size_t left) {
    size_t room = descriptor_room(log) - sizeof(struct jbd2_header) - 16, most = room / tag_size(log->journal);
    return left < most ? left : most;
}

static void begin_descriptor(struct log *log) {
    memset(log->descriptor, 0, log->ext->block_size);
    put_header(log->descriptor, JBD2_DESCRIPTOR, log->journal->sequence);
    log->filled = sizeof(struct jbd2_header);
    log->tags = 0;
}

static void end_descriptor(struct log *log) {
    if (!log->journal->checked)
        return;
    uint32_t sum = htobe32(checksum(log->journal->seed, log->descriptor, log->ext->block_size));
    memcpy(log->descriptor + log->ext->block_size - sizeof(sum), &sum, sizeof(sum));
}

/* A block that begins like one of the journal's own is written without its first word. */
static const unsigned char *escape(struct log *log, const unsigned char *bytes, bool *escaped) {
    uint32_t magic = htobe32(JBD2_MAGIC);
    *escaped = memcmp(bytes, &magic, sizeof(magic)) == 0;
    if (!*escaped)
        return bytes;
    memcpy(log->copy, bytes, log->ext->block_size);
    memset(log->copy, 0, sizeof(magic));
    return log->copy;
}

static int write_part(struct log *log, const struct dirty_block *list, size_t count, struct img_error *err) {
    uint64_t place = log->next++;
    int ret = 0;
    begin_descriptor(log);
    for (size_t i = 0; i < count && ret == 0; i++) {
        bool escaped;
        const unsigned char *bytes = escape(log, list[i].bytes, &escaped);
        put_tag(log, list[i].block, bytes, escaped, i + 1 == count);
        ret = journal_block(log->ext, log->next++, (void *)(uintptr_t)bytes, true, err);
    }
    end_descriptor(log);
    return ret < 0 ? ret : journal_block(log->ext, place, log->descriptor, true, err);
}

static int write_commit_block(struct log *log, struct img_error *err) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(log->copy, 0, log->ext->block_size);
    put_header(log->copy, JBD2_COMMIT, log->journal->sequence);
    struct jbd2_commit *commit = (struct jbd2_commit *)log->copy;
    commit->seconds = htobe64((uint64_t)now.tv_sec);
    commit->nanoseconds = htobe32((uint32_t)now.tv_nsec);
    if (log->journal->checked)
        commit->checksum[0] = htobe32(checksum(log->journal->seed, log->copy, log->ext->block_size));
    return journal_block(log->ext, log->next++, log->copy, true, err);
}

static int write_log(struct ext *ext, const struct dirty_block *list, size_t count, struct img_error *err) {
    struct log log = {.ext = ext, .journal = &writer_of(ext)->journal};
    log.next = log.journal->first;
    log.descriptor = malloc(ext->block_size);
    log.copy = malloc(ext->block_size);
    size_t parts = (count + in_descriptor(&log, SIZE_MAX) - 1) / in_descriptor(&log, SIZE_MAX);
    int ret = log.descriptor && log.copy ? 0 : fail_no_memory(err);
    if (ret == 0 && count + parts + 1 > log.journal->blocks)
        ret = fail(err, -ENOSPC, "A change of %zu blocks does not fit into the filesystem's journal of %" PRIu64, count,
                   log.journal->blocks);
    for (size_t done = 0, part; done < count && ret == 0; done += part) {
        part = in_descriptor(&log, count - done);
        ret = write_part(&log, list + done, part, err);
    }
    if (ret == 0)
        ret = write_commit_block(&log, err);
    free(log.descriptor);
    free(log.copy);
    return ret;
}

/* ---- the two superblocks ---- */

/* `start`: where the log begins, 0: it is empty. */
static int write_journal_super(struct ext *ext, uint32_t start, struct img_error *err) {
    struct log_area *journal = &writer_of(ext)->journal;
    struct jbd2_super *super = journal_super(ext);
    super->start = htobe32(start);
    super->sequence = htobe32(journal->sequence);
    if (journal->checked) {
        super->checksum = 0;
        super->checksum = htobe32(checksum(~0u, super, sizeof(*super)));
    }
    return journal_block(ext, 0, journal->super, true, err);
}

/* The filesystem's superblock as it is on the disk, with the word whether its journal has to be replayed. */
static int write_recovery_flag(struct ext *ext, bool needed, struct img_error *err) {
    struct ext2_super_block super;
    int ret = device_read(ext->fs.device, &super, sizeof(super), SUPER_AT, err);
    if (ret < 0)
        return ret;
    uint32_t flag = htole32(EXT3_FEATURE_INCOMPAT_RECOVER);
    super.s_feature_incompat = needed ? super.s_feature_incompat | flag : super.s_feature_incompat & ~flag;
    if (ext->checksums)
        super.s_checksum = htole32(checksum(~0u, &super, offsetof(struct ext2_super_block, s_checksum)));
    return device_write(ext->fs.device, &super, sizeof(super), SUPER_AT, err);
}

static int write_both(struct ext *ext, uint32_t start, struct img_error *err) {
    int ret = write_journal_super(ext, start, err);
    if (ret == 0)
        ret = write_recovery_flag(ext, start != 0, err);
    return ret < 0 ? ret : device_flush(ext->fs.device, err);
}

int log_empty(struct ext *ext, uint32_t sequence, struct img_error *err) {
    writer_of(ext)->journal.sequence = sequence;
    return write_both(ext, 0, err);
}

/* ---- all together ---- */

static int write_places(struct ext *ext, const struct dirty_block *list, size_t count, struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < count && ret == 0; i++)
        ret = device_write(ext->fs.device, list[i].bytes, ext->block_size, list[i].block << ext->block_bits, err);
    return ret < 0 ? ret : device_flush(ext->fs.device, err);
}

static int write_transaction(struct ext *ext, const struct dirty_block *list, size_t count, struct img_error *err) {
    struct log_area *journal = &writer_of(ext)->journal;
    int ret = journal->present ? write_log(ext, list, count, err) : 0;
    if (ret == 0)
        ret = device_flush(ext->fs.device, err);
    if (ret == 0 && journal->present)
        ret = write_both(ext, journal->first, err);
    if (ret == 0)
        ret = write_places(ext, list, count, err);
    if (ret < 0 || !journal->present)
        return ret;
    journal->sequence++;
    return write_both(ext, 0, err);
}

/* What the library keeps in memory becomes blocks: maps, descriptors, the superblock. */
static int gather(struct ext *ext, struct img_error *err) {
    if (writer_of(ext)->journal.present)
        ext2fs_set_feature_journal_needs_recovery(super_of(ext));
    errcode_t code = ext2fs_flush2(ext->lib, EXT2_FLAG_FLUSH_NO_SYNC);
    ext2fs_clear_feature_journal_needs_recovery(super_of(ext));
    return code ? ext_io_fail(ext->io, err, code, "The changes cannot be gathered") : 0;
}

int ext_commit(struct fs *fs, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct writer *writer = writer_of(ext);
    struct dirty_block *list;
    if (writer->broken)
        return fail(err, -EIO, "A change of the filesystem failed, and nothing more is written to it");
    if (!(ext->lib->flags & EXT2_FLAG_CHANGED) && dirty_count(writer->dirty) == 0)
        return 0;
    int ret = gather(ext, err);
    if (ret == 0)
        ret = dirty_list(writer->dirty, &list, err);
    if (ret == 0) {
        ret = write_transaction(ext, list, dirty_count(writer->dirty), err);
        free(list);
    }
    if (ret < 0) {
        writer->broken = true;
        return ret;
    }
    dirty_forget(writer->dirty);
    ext_io_forget(ext->io, 0, ext->fs.device->size);
    ext->lib->flags &= ~(EXT2_FLAG_CHANGED | EXT2_FLAG_DIRTY);
    return alloc_committed(ext, err);
}
