/* SPDX-License-Identifier: GPL-3.0-or-later */
/* log_format.h - the log of XFS as it lies on the disk, and nothing that acts on it.
 *
 * The log is a ring of 512-byte blocks. A record is a header block (more for records of over 32 KiB) and data blocks;
 * the first four bytes of every block are the number of the cycle in which it was written, and what stood there is kept
 * in the header. Records hold operations: a small header, and a region of bytes. The regions of one transaction are its
 * items. Records and operations are big endian, what items consist of has the order of the machine that wrote it;
 * little endian is the only one that is read here.
 */
#ifndef FS_XFS_LOG_FORMAT_H
#define FS_XFS_LOG_FORMAT_H

#include "format.h"

#define XLOG_MAGIC 0xfeedbabeu

enum {
    XLOG_BLOCK = 512,
    XLOG_CYCLES = 64,                    /* data blocks that one header block knows the first bytes of */
    XLOG_MAX_RECORD = 256 << 10,         /* bytes of data */
    XLOG_MAX_OPEN = 8 * XLOG_MAX_RECORD, /* bytes that may be on their way to the disk at once, in any order */
    XLOG_MAX_OPEN_RECORDS = 8,
    XLOG_I386_CRC_BYTES = 324, /* of a header that an i386 kernel wrote; others sum the padding behind it too */
    XLOG_CRC_BYTES = 328,
    XLOG_FORMAT_LITTLE = 1,
};

struct xlog_disk_record {
    be32 magic;
    be32 cycle;
    be32 version;
    be32 length; /* bytes of data */
    be64 lsn;    /* cycle, block */
    be64 tail_lsn;
    le32 crc;
    be32 previous; /* block */
    be32 operations;
    be32 cycle_data[XLOG_CYCLES];
    be32 format;
    xfs_uuid uuid;
    be32 size; /* version 2: of the buffer it was built in, which tells how many header blocks there are */
    uint8_t pad[512 - 324];
} __attribute__((packed));

_Static_assert(sizeof(struct xlog_disk_record) == XLOG_BLOCK, "a record header is one block");

struct xlog_disk_more {
    be32 cycle;
    be32 cycle_data[XLOG_CYCLES];
    uint8_t pad[252];
} __attribute__((packed));

_Static_assert(sizeof(struct xlog_disk_more) == XLOG_BLOCK, "a further header is one block");

enum { XLOG_MORE_CRC_BYTES = 260 };

enum {
    XLOG_START = 1 << 0,
    XLOG_COMMIT = 1 << 1,
    XLOG_CONTINUE = 1 << 2, /* the region goes on in the next record */
    XLOG_CONTINUED = 1 << 3,
    XLOG_END = 1 << 4,
    XLOG_UNMOUNT = 1 << 5,
};

struct xlog_disk_operation {
    be32 transaction;
    be32 length;
    uint8_t client;
    uint8_t flags;
    uint8_t pad[2];
} __attribute__((packed));

/* The first region of a transaction. */
struct xlog_disk_transaction {
    le32 magic;
    le32 type, id, items;
} __attribute__((packed));
#define XLOG_TRANSACTION_MAGIC 0x5452414eu /* "TRAN" */

enum {
    XLOG_ITEM_INODE = 0x123b,
    XLOG_ITEM_BUFFER = 0x123c,
    XLOG_ITEM_ICREATE = 0x123f,
    XLOG_ITEM_MAP = 0x1244,
    XLOG_ITEM_MAP_DONE = 0x1245,
    XLOG_ITEM_FIRST = 0x1236, /* of all kinds; the others need no action where files are only read */
    XLOG_ITEM_LAST = 0x124f,
    XLOG_MAX_REGIONS = 65536 / 128 / 2 + 1,
};

/* The first region of every item begins so. */
struct xlog_disk_item {
    le16 type;
    le16 regions; /* this one included */
} __attribute__((packed));

/* A buffer: the regions that follow are the runs of dirty chunks. */
struct xlog_disk_buffer {
    le16 type;
    le16 regions;
    le16 flags;
    le16 length; /* in 512 bytes */
    le64 daddr;
    le32 map_words;
    le32 map[];
} __attribute__((packed));

enum {
    XLOG_CHUNK = 128,
    XLOG_BUFFER_INODES = 1 << 0, /* inodes are logged by themselves: only links of unlinked ones are taken from it */
    XLOG_BUFFER_CANCEL = 1 << 1, /* the blocks are given up: what was logged of them before does not count */
    XLOG_BUFFER_QUOTA = 1 << 2 | 1 << 3 | 1 << 4,
};

struct xlog_disk_inode {
    le16 type;
    le16 regions;
    le32 fields;
    le16 attr_length;
    le16 data_length;
    le32 pad; /* 32-bit kernels leave it out */
    le64 ino;
    uint8_t device[16];
    le64 daddr;
    le32 length;
    le32 offset;
} __attribute__((packed));

enum { XLOG_INODE_SIZE = 56, XLOG_INODE32_SIZE = 52, XLOG_INODE_PAD = 12 };
_Static_assert(sizeof(struct xlog_disk_inode) == XLOG_INODE_SIZE, "an inode item is 56 bytes");

enum {
    XLOG_INODE_CORE = 1 << 0,
    XLOG_INODE_DATA_LOCAL = 1 << 1,
    XLOG_INODE_DATA_EXTENTS = 1 << 2,
    XLOG_INODE_DATA_ROOT = 1 << 3,
    XLOG_INODE_DEVICE = 1 << 4,
    XLOG_INODE_ATTR_LOCAL = 1 << 6,
    XLOG_INODE_ATTR_EXTENTS = 1 << 7,
    XLOG_INODE_ATTR_ROOT = 1 << 8,
    XLOG_INODE_DATA_OWNER = 1 << 9, /* the blocks of the data fork's tree came from another inode */
    XLOG_INODE_ATTR_OWNER = 1 << 10,

    XLOG_INODE_DATA = XLOG_INODE_DATA_LOCAL | XLOG_INODE_DATA_EXTENTS | XLOG_INODE_DATA_ROOT,
    XLOG_INODE_ATTR = XLOG_INODE_ATTR_LOCAL | XLOG_INODE_ATTR_EXTENTS | XLOG_INODE_ATTR_ROOT,
};

/* A chunk of new inodes; big endian but for the first two numbers. */
struct xlog_disk_icreate {
    le16 type;
    le16 regions;
    be32 group;
    be32 block;
    be32 count; /* inodes */
    be32 inode_size;
    be32 length; /* blocks */
    be32 generation;
} __attribute__((packed));

/* A change of an inode's map that is to be done, and that it was done. */
struct xlog_disk_map {
    le16 type;
    le16 regions;
    le32 extents; /* 1 */
    le64 id;
    le64 ino;
    le64 fsblock;
    le64 start;
    le32 count;
    le32 flags;
} __attribute__((packed));

struct xlog_disk_map_done {
    le16 type;
    le16 regions;
    le32 pad;
    le64 id; /* of the other */
} __attribute__((packed));

#define XLOG_MAP_TYPE 0xffu
#define XLOG_MAP_ADD 1u
#define XLOG_MAP_REMOVE 2u
#define XLOG_MAP_REALTIME (1u << 29)
#define XLOG_MAP_UNWRITTEN (1u << 30)
#define XLOG_MAP_ATTR (1u << 31)

#endif
