/* SPDX-License-Identifier: GPL-3.0-or-later */
/* jbd2.h - the journal of ext3 and ext4 on the disk, as far as it is written here. All numbers are big-endian. */
#ifndef FS_EXT_JBD2_H
#define FS_EXT_JBD2_H

#include <stdint.h>

#define JBD2_MAGIC 0xc03b3998u

enum jbd2_kind { JBD2_DESCRIPTOR = 1, JBD2_COMMIT = 2, JBD2_SUPER_V1 = 3, JBD2_SUPER_V2 = 4, JBD2_REVOKE = 5 };

struct jbd2_header {
    uint32_t magic, kind, sequence;
};

enum { JBD2_COMPAT_CHECKSUM = 1 };
enum {
    JBD2_INCOMPAT_REVOKE = 1,
    JBD2_INCOMPAT_64BIT = 2,
    JBD2_INCOMPAT_ASYNC_COMMIT = 4,
    JBD2_INCOMPAT_CSUM_V2 = 8,
    JBD2_INCOMPAT_CSUM_V3 = 16,
    JBD2_INCOMPAT_FAST_COMMIT = 32,
};

struct jbd2_super {
    struct jbd2_header header;
    uint32_t block_size, length; /* of the journal, in blocks */
    uint32_t first;              /* block of the log */
    uint32_t sequence, start;    /* of the first transaction in it; start 0: it is empty */
    uint32_t error;
    uint32_t compat, incompat, ro_compat; /* from here on: version 2 only */
    uint8_t uuid[16];
    uint32_t users, dynamic_super, max_transaction, max_data;
    uint8_t checksum_type, padding[3];
    uint32_t fast_commit_blocks, head, unused[40], checksum;
    uint8_t user_ids[16 * 48];
};
_Static_assert(sizeof(struct jbd2_super) == 1024, "the journal's superblock");

enum { JBD2_TAG_ESCAPED = 1, JBD2_TAG_SAME_UUID = 2, JBD2_TAG_LAST = 8 };

/* Behind the header of a descriptor, one for each block that follows it. Without 64BIT the last word is missing. */
struct jbd2_tag {
    uint32_t block;
    uint16_t checksum, flags;
    uint32_t block_high;
};
/* With CSUM_V3. */
struct jbd2_tag3 {
    uint32_t block, flags, block_high, checksum;
};

struct jbd2_commit {
    struct jbd2_header header;
    uint8_t checksum_type, checksum_size, padding[2];
    uint32_t checksum[8];
    uint64_t seconds;
    uint32_t nanoseconds;
};

#endif
