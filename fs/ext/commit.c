/* SPDX-License-Identifier: GPL-3.0-or-later */
/* commit.c - a transaction becomes durable: into the journal, then to its places (write.h).
 *
 * The order, with a flush of the disk at each |:
 *     file data; the log: descriptors, blocks, commit block; the filesystem's superblock: it needs recovery
 *   | the journal's superblock names the log: this is the commit
 *   | every block to its place
 *   | the journal's superblock: it is empty
 *   | the filesystem's superblock: nothing needs recovery
 *   |
 * A journal that holds something while the superblock says that nothing needs recovery is never on the disk: e2fsck
 * would ask what that means. What becomes of a filesystem without a journal is told in order.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "write.h"

#define SUPER_AT 1024
/* Of a large journal no more is used, so that memory stays bounded. */
#define TRANSACTION_MAX (64u << 20)

int log_open(struct ext *ext, struct img_error *err) {
    struct writer *writer = writer_of(ext);
    if (!ext2fs_has_feature_journal(super_of(ext)))
        return 0;
    if (super_of(ext)->s_journal_inum == 0)
        return fail(err, -EROFS, "The journal is on a device of its own");
    if (!(writer->journal = calloc(1, sizeof(*writer->journal))))
        return fail_no_memory(err);
    int ret = journal_open(ext, writer->journal, err);
    if (ret < 0) {
        free(writer->journal);
        writer->journal = NULL;
        return ret;
    }
    if (writer->journal->error)
        return fail(err, -EROFS, "The journal was given up after error %" PRId32, writer->journal->error);
    uint64_t most = TRANSACTION_MAX >> ext->block_bits, room = writer->journal->last - writer->journal->first;
    writer->blocks = room < most ? room : most;
    return 0;
}

void log_close(struct ext *ext) {
    struct writer *writer = writer_of(ext);
    if (writer->journal)
        journal_close(writer->journal);
    free(writer->journal);
}

static int write_block(struct ext *ext, uint64_t number, const void *bytes, struct img_error *err) {
    uint64_t place = 0;
    int ret = journal_place(writer_of(ext)->journal, (uint32_t)number, &place, err);
    return ret < 0 ? ret : device_write(ext->fs.device, bytes, ext->block_size, place, err);
}

static uint32_t checksum(uint32_t seed, const void *bytes, size_t count) {
    return ext2fs_crc32c_le(seed, bytes, count);
}

/* ---- the log ---- */

struct log {
    struct ext *ext;
    struct journal *journal;
    uint64_t next;             /* block of the journal */
    unsigned char *descriptor; /* that is being filled; of its blocks none is written yet */
    size_t filled;
    unsigned tags;
    unsigned char *copy; /* of a block that has to be written differently */
};

static void put_header(void *block, uint32_t kind, uint32_t sequence) {
    struct jbd_header header = {htobe32(JBD_MAGIC), htobe32(kind), htobe32(sequence)};
    memcpy(block, &header, sizeof(header));
}

/* Where tags end: a checksum may lie at the end of the block. */
static size_t descriptor_room(const struct log *log) {
    return log->ext->block_size - (log->journal->checksums ? sizeof(uint32_t) : 0);
}

static void put_tag(struct log *log, uint64_t block, const void *bytes, bool escaped, bool last) {
    struct journal *journal = log->journal;
    uint32_t flags =
        (escaped ? JBD_TAG_ESCAPED : 0) | (last ? JBD_TAG_LAST : 0) | (log->tags > 0 ? JBD_TAG_SAME_UUID : 0);
    uint32_t sequence = htobe32(journal->sequence), sum = 0;
    if (journal->checksums)
        sum = checksum(checksum(journal->seed, &sequence, sizeof(sequence)), bytes, log->ext->block_size);
    if (journal->incompatible & JBD_INCOMPAT_CSUM_V3) {
        struct jbd_tag3 tag = {htobe32((uint32_t)block), htobe32(flags), htobe32((uint32_t)(block >> 32)),
                               htobe32(sum)};
        memcpy(log->descriptor + log->filled, &tag, sizeof(tag));
    } else {
        struct jbd_tag tag = {htobe32((uint32_t)block), htobe16((uint16_t)sum), htobe16((uint16_t)flags),
                              htobe32((uint32_t)(block >> 32))};
        /* The descriptor is zeroed: with CSUM_V2 a tag is two bytes longer than anything in it. */
        memcpy(log->descriptor + log->filled, &tag, journal->tag < sizeof(tag) ? journal->tag : sizeof(tag));
    }
    log->filled += journal->tag;
    if (log->tags++ == 0) {
        memset(log->descriptor + log->filled, 0, 16); /* a UUID that nobody looks at */
        log->filled += 16;
    }
}

/* How many of `left` blocks the next descriptor tells of. */
static size_t in_descriptor(const struct log *log, size_t left) {
    size_t room = descriptor_room(log) - sizeof(struct jbd_header) - 16, most = room / log->journal->tag;
    return left < most ? left : most;
}

static void begin_descriptor(struct log *log) {
    memset(log->descriptor, 0, log->ext->block_size);
    put_header(log->descriptor, JBD_DESCRIPTOR, log->journal->sequence);
    log->filled = sizeof(struct jbd_header);
    log->tags = 0;
}

static void end_descriptor(struct log *log) {
    if (!log->journal->checksums)
        return;
    uint32_t sum = htobe32(checksum(log->journal->seed, log->descriptor, log->ext->block_size));
    memcpy(log->descriptor + log->ext->block_size - sizeof(sum), &sum, sizeof(sum));
}

/* A block that begins like one of the journal's own is written without its first word. */
static const unsigned char *escape(struct log *log, const unsigned char *bytes, bool *escaped) {
    uint32_t magic = htobe32(JBD_MAGIC);
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
        ret = write_block(log->ext, log->next++, bytes, err);
    }
    end_descriptor(log);
    return ret < 0 ? ret : write_block(log->ext, place, log->descriptor, err);
}

static int write_commit_block(struct log *log, struct img_error *err) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(log->copy, 0, log->ext->block_size);
    put_header(log->copy, JBD_COMMIT, log->journal->sequence);
    struct jbd_commit *commit = (struct jbd_commit *)log->copy;
    commit->seconds = htobe64((uint64_t)now.tv_sec);
    commit->nanoseconds = htobe32((uint32_t)now.tv_nsec);
    if (log->journal->checksums)
        commit->checksum[0] = htobe32(checksum(log->journal->seed, log->copy, log->ext->block_size));
    return write_block(log->ext, log->next++, log->copy, err);
}

static int write_log(struct ext *ext, const struct dirty_block *list, size_t count, struct img_error *err) {
    struct log log = {.ext = ext, .journal = writer_of(ext)->journal};
    log.next = log.journal->first;
    log.descriptor = malloc(ext->block_size);
    log.copy = malloc(ext->block_size);
    size_t parts = (count + in_descriptor(&log, SIZE_MAX) - 1) / in_descriptor(&log, SIZE_MAX);
    int ret = log.descriptor && log.copy ? 0 : fail_no_memory(err);
    if (ret == 0 && count + parts + 1 > writer_of(ext)->blocks)
        ret = fail(err, -ENOSPC, "A change of %zu blocks does not fit into the filesystem's journal of %" PRIu64, count,
                   writer_of(ext)->blocks);
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
    struct journal *journal = writer_of(ext)->journal;
    struct jbd_super super;
    uint64_t place = 0;
    int ret = journal_place(journal, 0, &place, err);
    if (ret == 0)
        ret = device_read(ext->fs.device, &super, sizeof(super), place, err);
    if (ret < 0)
        return ret;
    super.start = htobe32(start);
    super.sequence = htobe32(journal->sequence);
    if (journal->checksums) {
        super.checksum = 0;
        super.checksum = htobe32(checksum(~0u, &super, sizeof(super)));
    }
    return device_write(ext->fs.device, &super, sizeof(super), place, err);
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

int log_empty(struct ext *ext, uint32_t sequence, struct img_error *err) {
    writer_of(ext)->journal->sequence = sequence;
    int ret = write_journal_super(ext, 0, err);
    if (ret == 0)
        ret = device_flush(ext->fs.device, err);
    if (ret == 0)
        ret = write_recovery_flag(ext, false, err);
    return ret < 0 ? ret : device_flush(ext->fs.device, err);
}

int log_park(struct ext *ext, uint32_t sequence, struct img_error *err) {
    struct writer *writer = writer_of(ext);
    unsigned char *zero = calloc(1, ext->block_size);
    writer->journal->sequence = sequence;
    writer->blocks -= writer->blocks == writer->journal->last - writer->journal->first;
    int ret = zero ? write_block(ext, writer->journal->last - 1, zero, err) : fail_no_memory(err);
    free(zero);
    if (ret == 0)
        ret = device_flush(ext->fs.device, err);
    if (ret == 0)
        ret = write_journal_super(ext, writer->journal->last - 1, err);
    return ret < 0 ? ret : device_flush(ext->fs.device, err);
}

/* The log is durable, and named. */
static int commit_log(struct ext *ext, const struct dirty_block *list, size_t count, struct img_error *err) {
    int ret = write_log(ext, list, count, err);
    if (ret == 0)
        ret = write_recovery_flag(ext, true, err);
    if (ret == 0)
        ret = device_flush(ext->fs.device, err);
    if (ret == 0)
        ret = write_journal_super(ext, writer_of(ext)->journal->first, err);
    return ret < 0 ? ret : device_flush(ext->fs.device, err);
}

/* ---- all together ---- */

static int write_places(struct ext *ext, const struct dirty_block *list, size_t count, struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < count && ret == 0; i++)
        ret = device_write(ext->fs.device, list[i].bytes, ext->block_size, list[i].block << ext->block_bits, err);
    return ret < 0 ? ret : device_flush(ext->fs.device, err);
}

static int journaled_commit(struct ext *ext, struct img_error *err) {
    struct dirty_block *list = NULL;
    size_t count = 0;
    int ret = commit_gather(ext, &list, &count, err);
    if (ret == 0)
        ret = commit_log(ext, list, count, err);
    if (ret == 0)
        ret = write_places(ext, list, count, err);
    free(list);
    return ret < 0 ? ret : log_empty(ext, writer_of(ext)->journal->sequence + 1, err);
}

int commit_gather(struct ext *ext, struct dirty_block **list, size_t *count, struct img_error *err) {
    if (writer_of(ext)->journal)
        ext2fs_set_feature_journal_needs_recovery(super_of(ext));
    errcode_t code = ext2fs_flush2(ext->lib, EXT2_FLAG_FLUSH_NO_SYNC);
    ext2fs_clear_feature_journal_needs_recovery(super_of(ext));
    if (code)
        return ext_io_fail(ext->io, err, code, "The changes cannot be gathered");
    *count = dirty_count(writer_of(ext)->dirty);
    return dirty_list(writer_of(ext)->dirty, list, err);
}

int ext_commit(struct fs *fs, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct writer *writer = writer_of(ext);
    if (writer->broken)
        return fail(err, -EIO, "A change of the filesystem failed, and nothing more is written to it");
    if (!(ext->lib->flags & EXT2_FLAG_CHANGED) && dirty_count(writer->dirty) == 0)
        return 0;
    int ret = writer->journal ? journaled_commit(ext, err) : ordered_commit(ext, err);
    if (ret < 0) {
        writer->broken = true;
        return ret;
    }
    ext->fs.commits++;
    dirty_forget(writer->dirty);
    ext_io_forget(ext->io, 0, ext->fs.device->size);
    ext->lib->flags &= ~(EXT2_FLAG_CHANGED | EXT2_FLAG_DIRTY);
    return alloc_committed(ext, err);
}
