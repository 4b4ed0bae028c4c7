/* SPDX-License-Identifier: GPL-3.0-or-later */
/* journal.h - the log of an ext filesystem (jbd2), as it lies in the journal's inode: what journal.c, replay.c and
 * fastcommit.c share. */
#ifndef FS_EXT_JOURNAL_H
#define FS_EXT_JOURNAL_H

#include "ext.h"

#define JBD_MAGIC 0xc03b3998u

enum jbd_type { JBD_DESCRIPTOR = 1, JBD_COMMIT = 2, JBD_SUPER_V1 = 3, JBD_SUPER_V2 = 4, JBD_REVOKE = 5 };

enum jbd_feature {
    JBD_COMPAT_CHECKSUM = 1, /* a commit has a CRC of all that it commits */
    JBD_INCOMPAT_REVOKE = 1,
    JBD_INCOMPAT_64BIT = 2,
    JBD_INCOMPAT_ASYNC_COMMIT = 4,
    JBD_INCOMPAT_CSUM_V2 = 8,
    JBD_INCOMPAT_CSUM_V3 = 16,
    JBD_INCOMPAT_FAST_COMMIT = 32,
};

/* Before everything that is not a copy of a block. On the disk all numbers are big endian. */
struct jbd_header {
    uint32_t magic, type, sequence;
};

struct jbd_super {
    struct jbd_header header;
    uint32_t block_size, length, first;
    uint32_t sequence, start;                     /* of the first transaction; start 0: there is none */
    uint32_t error;                               /* why it was given up */
    uint32_t compatible, incompatible, read_only; /* this and what follows: version 2 only */
    uint8_t uuid[16];
    uint32_t users, copy, max_transaction, max_data;
    uint8_t checksum_type, padding[3];
    uint32_t fast_blocks, head;
    uint32_t unused[40];
    uint32_t checksum;
    uint8_t user_uuids[768];
};
_Static_assert(sizeof(struct jbd_super) == 1024, "the journal's superblock");

enum jbd_tag_flag { JBD_TAG_ESCAPED = 1, JBD_TAG_SAME_UUID = 2, JBD_TAG_LAST = 8 };

/* Behind the header of a descriptor, for each block that follows it: struct journal.tag bytes of it. */
struct jbd_tag {
    uint32_t block;
    uint16_t checksum, flags;
    uint32_t block_high;
};
/* The same with CSUM_V3. */
struct jbd_tag3 {
    uint32_t block, flags, block_high, checksum;
};

struct jbd_commit {
    struct jbd_header header;
    uint8_t checksum_type, checksum_size, padding[2];
    uint32_t checksum[8];
    uint64_t seconds;
    uint32_t nanoseconds;
};

struct journal {
    struct ext *ext;
    struct node *node;
    unsigned block_size;
    uint32_t first, last;            /* the log is a ring of the blocks [first, last) */
    uint32_t start;                  /* where it begins; 0: it is empty */
    uint32_t sequence;               /* of the first transaction */
    uint32_t fast_first, fast_count; /* blocks of fast commits; 0: there are none */
    uint32_t compatible, incompatible;
    int32_t error;  /* not 0: it was given up */
    uint32_t seed;  /* of its checksums */
    bool checksums; /* of all its blocks (v2, v3) */
    unsigned tag;   /* bytes of a tag without its UUID */
};

/* -EUCLEAN, -ENOTSUP: nothing can be replayed, and why. */
int journal_open(struct ext *ext, struct journal *journal, struct img_error *err);
void journal_close(struct journal *journal);
/* Where a block of the journal lies on the device. */
int journal_place(struct journal *journal, uint32_t block, uint64_t *place, struct img_error *err);
int journal_read(struct journal *journal, uint32_t block, void *buffer, struct img_error *err);

/* replay.c: replays the log into a new overlay over `device`; NULL: it holds nothing. *end: the sequence number behind
 * the last transaction that is whole. *damaged: something that had been committed is lost. */
int journal_replay(struct journal *journal, struct device *device, struct device **overlay, uint32_t *end,
                   bool *damaged, struct img_error *err);

/* ---- fastcommit.c ---- */

/* The part of the area of fast commits that is whole and belongs to the transaction `sequence`: blocks of tags. */
struct fast_log {
    unsigned char *bytes; /* NULL: there is nothing */
    size_t blocks, tags;
};

int fast_scan(struct journal *journal, uint32_t sequence, struct fast_log *log, struct img_error *err);
/* Replays it into what ext shows; ext stands on an overlay. */
int fast_replay(struct ext *ext, const struct fast_log *log, struct img_error *err);

#endif
