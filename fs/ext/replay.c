/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replay.c - what the log of a journal holds, put over the device.
 *
 * A transaction is some descriptors, each followed by the blocks that its tags name, and a commit. Three passes: the
 * first finds the end, which is before the first transaction that has no commit or is not whole; the second gathers
 * which blocks were revoked, and up to which transaction; the third redirects every other block to its last copy. So
 * the log's blocks are looked at where they lie and nothing is kept of them but where.
 *
 * The log is a ring. A pass ends when it has been around once, whatever the blocks say.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../overlay.h"
#include "journal.h"

enum { TAG_ESCAPED = 1, TAG_SAME_UUID = 2, TAG_LAST = 8 };

#define REVOKED_MAX (4u << 20) /* records: 64 MiB */

enum pass { FIND_END, GATHER_REVOKED, REDIRECT };

struct revoked {
    uint64_t block;
    uint32_t age; /* transactions since the first one of the log */
};

struct replay {
    struct journal *journal;
    struct device *overlay;
    enum pass pass;
    uint32_t sequence, block; /* what comes next */
    uint32_t passed;          /* blocks, in this pass */
    uint32_t end;
    bool broken;  /* this transaction: something in it is not what it was */
    bool damaged; /* a transaction was committed and is broken */
    uint32_t sum; /* of this transaction, where its commit has one of all */
    struct revoked *revoked;
    size_t count, room;
    unsigned char *head, *data; /* a block each */
    struct img_error *err;
};

struct tag {
    uint64_t block;
    uint32_t flags, checksum;
};

static uint32_t get_be32(const unsigned char *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof(value));
    return be32toh(value);
}

/* The block after this one, around the ring. */
static uint32_t advance(struct replay *replay) {
    uint32_t block = replay->block++;
    replay->passed++;
    if (replay->block >= replay->journal->last)
        replay->block = replay->journal->first;
    return block;
}

static bool been_around(const struct replay *replay) {
    return replay->passed >= replay->journal->last - replay->journal->first;
}

/* ---- checksums ---- */

/* Of a block that holds its own checksum at `at`, which counts as zeroes. */
static bool checksum_right(const struct journal *journal, const unsigned char *block, size_t at) {
    static const unsigned char zero[4];
    uint32_t sum = ext2fs_crc32c_le(journal->seed, block, at);
    sum = ext2fs_crc32c_le(sum, zero, sizeof(zero));
    sum = ext2fs_crc32c_le(sum, block + at + 4, journal->block_size - at - 4);
    return sum == get_be32(block + at);
}

static bool tag_checksum_right(const struct replay *replay, const struct tag *tag) {
    uint32_t sequence = htobe32(replay->sequence), sum;
    if (!replay->journal->checksums)
        return true;
    sum = ext2fs_crc32c_le(replay->journal->seed, (const unsigned char *)&sequence, sizeof(sequence));
    sum = ext2fs_crc32c_le(sum, replay->data, replay->journal->block_size);
    return replay->journal->incompatible & JBD_INCOMPAT_CSUM_V3 ? sum == tag->checksum
                                                                : (sum & 0xffff) == tag->checksum;
}

/* A commit says all in its front and is zero behind it. If only its first sector reached the disk it counts: what it
 * commits has checksums of its own. */
static bool commit_checksum_right(const struct replay *replay) {
    enum { FRONT = 64, SUM = 16 };
    if (checksum_right(replay->journal, replay->head, SUM))
        return true;
    memset(replay->data, 0, replay->journal->block_size);
    memcpy(replay->data, replay->head, FRONT);
    return checksum_right(replay->journal, replay->data, SUM);
}

static bool commit_right(const struct replay *replay) {
    const struct journal *journal = replay->journal;
    const unsigned char *head = replay->head;
    uint8_t type = head[12], size = head[13];
    uint32_t sum = get_be32(head + 16);
    if (journal->checksums)
        return commit_checksum_right(replay);
    if (!(journal->compatible & JBD_COMPAT_CHECKSUM))
        return true;
    return (type == 1 && size == 4 && sum == replay->sum) || (type == 0 && size == 0 && sum == 0);
}

/* ---- revoked blocks ---- */

static int by_block(const void *a, const void *b) {
    const struct revoked *left = a, *right = b;
    if (left->block != right->block)
        return left->block < right->block ? -1 : 1;
    return (left->age > right->age) - (left->age < right->age);
}

static int revoke(struct replay *replay, uint64_t block) {
    if (replay->count == replay->room) {
        size_t room = replay->room ? 2 * replay->room : 256;
        struct revoked *more = room <= REVOKED_MAX ? realloc(replay->revoked, room * sizeof(*more)) : NULL;
        if (room > REVOKED_MAX)
            return fail(replay->err, -EUCLEAN, "The journal revokes more than %u blocks", REVOKED_MAX / 2);
        if (!more)
            return fail_no_memory(replay->err);
        replay->revoked = more;
        replay->room = room;
    }
    replay->revoked[replay->count++] =
        (struct revoked){.block = block, .age = replay->sequence - replay->journal->sequence};
    return 0;
}

/* Sorted, and of each block only the last. */
static void settle_revoked(struct replay *replay) {
    size_t kept = 0;
    if (replay->count > 1)
        qsort(replay->revoked, replay->count, sizeof(replay->revoked[0]), by_block);
    for (size_t i = 0; i < replay->count; i++)
        if (i + 1 == replay->count || replay->revoked[i + 1].block != replay->revoked[i].block)
            replay->revoked[kept++] = replay->revoked[i];
    replay->count = kept;
}

static int same_block(const void *key, const void *element) {
    uint64_t block = *(const uint64_t *)key, other = ((const struct revoked *)element)->block;
    return (block > other) - (block < other);
}

static bool is_revoked(const struct replay *replay, uint64_t block) {
    const struct revoked *found =
        replay->count ? bsearch(&block, replay->revoked, replay->count, sizeof(*found), same_block) : NULL;
    return found && found->age >= replay->sequence - replay->journal->sequence;
}

static int read_revoke_block(struct replay *replay) {
    unsigned width = replay->journal->incompatible & JBD_INCOMPAT_64BIT ? 8 : 4;
    uint32_t end = get_be32(replay->head + 12),
             limit = replay->journal->block_size - (replay->journal->checksums ? 4 : 0);
    if (end > limit)
        return fail(replay->err, -EUCLEAN, "A list of revoked blocks in the journal has %" PRIu32 " bytes", end);
    for (uint32_t at = 16; at + width <= end; at += width) {
        uint64_t block = get_be32(replay->head + at);
        if (width == 8)
            block = block << 32 | get_be32(replay->head + at + 4);
        int ret = revoke(replay, block);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* ---- descriptors ---- */

static void read_tag(const struct journal *journal, const unsigned char *bytes, struct tag *tag) {
    bool v3 = journal->incompatible & JBD_INCOMPAT_CSUM_V3;
    *tag = (struct tag){.block = get_be32(bytes)};
    if (v3) {
        tag->flags = get_be32(bytes + 4);
        tag->checksum = get_be32(bytes + 12);
    } else {
        tag->checksum = (uint32_t)bytes[4] << 8 | bytes[5];
        tag->flags = (uint32_t)bytes[6] << 8 | bytes[7];
    }
    if (journal->incompatible & JBD_INCOMPAT_64BIT)
        tag->block |= (uint64_t)get_be32(bytes + 8) << 32;
}

/* First pass: is the block what its tag says? */
static int look_at_data(struct replay *replay, uint32_t block, const struct tag *tag) {
    bool all = replay->journal->compatible & JBD_COMPAT_CHECKSUM;
    if (!all && !replay->journal->checksums)
        return 0;
    int ret = journal_read(replay->journal, block, replay->data, replay->err);
    if (ret < 0)
        return ret;
    if (all)
        replay->sum = ext2fs_crc32_be(replay->sum, replay->data, replay->journal->block_size);
    if (!tag_checksum_right(replay, tag))
        replay->broken = true;
    return 0;
}

/* Last pass. A block that begins with the journal's own magic number had it taken out. */
static int redirect(struct replay *replay, uint32_t block, const struct tag *tag) {
    struct ext *ext = replay->journal->ext;
    uint32_t magic = htobe32(JBD_MAGIC);
    uint64_t place, target = tag->block << ext->block_bits;
    if (is_revoked(replay, tag->block))
        return 0;
    if (tag->block >= ext->blocks) {
        replay->damaged = true;
        return 0;
    }
    int ret = journal_place(replay->journal, block, &place, replay->err);
    if (ret == 0)
        ret = overlay_redirect(replay->overlay, target, place, replay->err);
    if (ret == 0 && tag->flags & TAG_ESCAPED)
        ret = device_write(replay->overlay, &magic, sizeof(magic), target, replay->err);
    return ret;
}

static int read_descriptor(struct replay *replay) {
    const struct journal *journal = replay->journal;
    size_t end = journal->block_size - (journal->checksums ? 4 : 0);
    struct tag tag = {0};
    if (journal->checksums && !checksum_right(journal, replay->head, end))
        replay->broken = true;
    if (journal->compatible & JBD_COMPAT_CHECKSUM)
        replay->sum = ext2fs_crc32_be(replay->sum, replay->head, journal->block_size);
    for (size_t at = sizeof(struct jbd_header); at + journal->tag <= end && !(tag.flags & TAG_LAST);
         at += journal->tag) {
        read_tag(journal, replay->head + at, &tag);
        uint32_t block = advance(replay);
        int ret = replay->pass == FIND_END   ? look_at_data(replay, block, &tag)
                  : replay->pass == REDIRECT ? redirect(replay, block, &tag)
                                             : 0;
        if (ret < 0)
            return ret;
        if (!(tag.flags & TAG_SAME_UUID))
            at += 16;
    }
    return 0;
}

/* ---- the passes ---- */

/* 1: the log ends before this transaction. */
static int read_commit(struct replay *replay) {
    bool right = replay->pass != FIND_END || commit_right(replay);
    if (right && replay->broken)
        replay->damaged = true;
    if (!right || replay->broken)
        return 1;
    replay->sum = ~0u;
    replay->sequence++;
    return 0;
}

/* One block of the log that is no copy. 1: the log ends here. */
static int read_log_block(struct replay *replay) {
    int ret = journal_read(replay->journal, advance(replay), replay->head, replay->err);
    if (ret < 0)
        return ret;
    if (get_be32(replay->head) != JBD_MAGIC || get_be32(replay->head + 8) != replay->sequence)
        return 1;
    switch (get_be32(replay->head + 4)) {
    case JBD_DESCRIPTOR:
        return read_descriptor(replay);
    case JBD_COMMIT:
        return read_commit(replay);
    case JBD_REVOKE:
        if (replay->journal->checksums &&
            !checksum_right(replay->journal, replay->head, replay->journal->block_size - 4))
            replay->broken = true;
        return replay->pass == GATHER_REVOKED ? read_revoke_block(replay) : 0;
    default:
        return 1;
    }
}

static int run_pass(struct replay *replay, enum pass pass) {
    int ret = 0;
    replay->pass = pass;
    replay->sequence = replay->journal->sequence;
    replay->block = replay->journal->start;
    replay->passed = 0;
    replay->broken = false;
    replay->sum = ~0u;
    while (ret == 0 && !been_around(replay) && (pass == FIND_END || replay->sequence != replay->end))
        ret = read_log_block(replay);
    if (pass == FIND_END)
        replay->end = replay->sequence;
    return ret < 0 ? ret : 0;
}

static int run_passes(struct replay *replay, struct device *device) {
    int ret = run_pass(replay, FIND_END);
    if (ret < 0 || replay->end == replay->journal->sequence)
        return ret;
    ret = device_of_overlay(device, replay->journal->block_size, &replay->overlay, replay->err);
    if (ret == 0)
        ret = run_pass(replay, GATHER_REVOKED);
    settle_revoked(replay);
    return ret < 0 ? ret : run_pass(replay, REDIRECT);
}

int journal_replay(struct journal *journal, struct device *device, struct device **overlay, uint32_t *end,
                   bool *damaged, struct img_error *err) {
    struct replay replay = {.journal = journal, .err = err, .end = journal->sequence};
    int ret = 0;
    replay.head = malloc(journal->block_size);
    replay.data = malloc(journal->block_size);
    if (!replay.head || !replay.data)
        ret = fail_no_memory(err);
    else if (journal->start != 0)
        ret = run_passes(&replay, device);
    free(replay.head);
    free(replay.data);
    free(replay.revoked);
    if (ret < 0) {
        device_close(replay.overlay);
        return ret;
    }
    *overlay = replay.overlay;
    *end = replay.end;
    *damaged = replay.damaged;
    return 0;
}
