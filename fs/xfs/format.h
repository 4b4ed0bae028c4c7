/* SPDX-License-Identifier: GPL-3.0-or-later */
/* format.h - XFS as it lies on the disk, and nothing that acts on it; its log is in log_format.h.
 *
 * Numbers are big endian (checksums little) and wrapped in types of their own, so that none is used without get. "v4"
 * are filesystems without checksums, "v5" those with: most of their blocks begin with a longer header. An "fsblock" is
 * an allocation group's number in the high bits and a block of it in the low ones; a "daddr" counts units of 512 bytes
 * from the front of the device.
 */
#ifndef FS_XFS_FORMAT_H
#define FS_XFS_FORMAT_H

#include "../byteorder.h"

typedef struct {
    uint8_t bytes[16];
} xfs_uuid;

enum {
    XFS_DADDR_SHIFT = 9,
    XFS_MIN_BLOCK_LOG = 9,
    XFS_MAX_BLOCK_LOG = 16,
    XFS_MAX_SECTOR_LOG = 15,
    XFS_MIN_INODE_LOG = 8,
    XFS_MAX_INODE_LOG = 11,
    XFS_MAX_INODE_SIZE = 1 << XFS_MAX_INODE_LOG,
    XFS_MIN_AG_BLOCKS = 64,
    XFS_INODES_PER_CHUNK = 64,
};

/* ---- the superblock: sector 0 of every allocation group ---- */

#define XFS_SB_MAGIC 0x58465342u /* "XFSB" */

struct xfs_disk_sb {
    be32 magic;
    be32 block_size;
    be64 blocks;
    be64 rt_blocks;
    be64 rt_extents;
    xfs_uuid uuid;
    be64 log_start; /* fsblock; 0: the log is on another device */
    be64 root_ino;
    be64 rt_bitmap_ino;
    be64 rt_summary_ino;
    be32 rt_extent_size;
    be32 ag_blocks;
    be32 ag_count;
    be32 rt_bitmap_blocks;
    be32 log_blocks;
    be16 version; /* the low four bits; above them features */
    be16 sector_size;
    be16 inode_size;
    be16 inodes_per_block;
    char label[12];
    uint8_t block_log;
    uint8_t sector_log;
    uint8_t inode_log;
    uint8_t inodes_per_block_log;
    uint8_t ag_block_log; /* rounded up */
    uint8_t rt_extents_log;
    uint8_t in_progress; /* mkfs has not ended */
    uint8_t max_inode_percent;
    be64 inode_count; /* allocated */
    be64 inodes_free;
    be64 blocks_free;
    be64 rt_extents_free;
    be64 user_quota_ino;
    be64 group_quota_ino;
    be16 quota_flags;
    uint8_t flags;
    uint8_t shared_version;
    be32 inode_alignment; /* blocks */
    be32 stripe_unit;
    be32 stripe_width;
    uint8_t dir_block_log; /* added to block_log */
    uint8_t log_sector_log;
    be16 log_sector_size;
    be32 log_stripe_unit; /* bytes */
    be32 features2;
    be32 bad_features2;
    /* v5; byte 208 */
    be32 compat;
    be32 ro_compat;
    be32 incompat;
    be32 log_incompat;
    le32 crc;
    be32 sparse_alignment;
    be64 project_quota_ino;
    be64 lsn;
    xfs_uuid meta_uuid; /* what is in the blocks, where `uuid` was changed later */
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_sb) == 264, "the superblock up to meta_uuid is 264 bytes");

enum {
    XFS_SB_VERSION = 0x000f,
    XFS_SB_LOG_V2 = 0x0400,
    XFS_SB_DIR_V2 = 0x2000,
    XFS_SB_CASELESS = 0x4000,
    XFS_SB_MORE = 0x8000, /* features2 counts */

    XFS_SB2_LAZY_COUNT = 0x00000002,
    XFS_SB2_FTYPE = 0x00000200,
};

enum {
    XFS_INCOMPAT_FTYPE = 1 << 0,
    XFS_INCOMPAT_SPARSE_INODES = 1 << 1,
    XFS_INCOMPAT_META_UUID = 1 << 2,
    XFS_INCOMPAT_BIGTIME = 1 << 3,
    XFS_INCOMPAT_NEEDS_REPAIR = 1 << 4,
    XFS_INCOMPAT_LARGE_EXTENT_COUNTS = 1 << 5,
    XFS_INCOMPAT_EXCHANGE_RANGE = 1 << 6,
    XFS_INCOMPAT_PARENT_POINTERS = 1 << 7,
    XFS_INCOMPAT_METADATA_TREE = 1 << 8,
    XFS_INCOMPAT_ZONED = 1 << 9,
    XFS_INCOMPAT_ZONE_GAPS = 1 << 10,
};

/* ---- allocation group headers: sectors 1 and 2 of a group ---- */

#define XFS_AGF_MAGIC 0x58414746u  /* "XAGF" */
#define XFS_AGI_MAGIC 0x58414749u  /* "XAGI" */
#define XFS_AGFL_MAGIC 0x5841464cu /* "XAFL" */

struct xfs_disk_agf {
    be32 magic, version, number, length;
    be32 roots[3], levels[3];
    be32 list_first, list_last, list_count;
    be32 blocks_free, longest, btree_blocks;
    xfs_uuid uuid;
    be32 rmap_blocks, refcount_blocks, refcount_root, refcount_level;
    be64 spare[14];
    be64 lsn;
    le32 crc;
    be32 spare2;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_agf) == 224, "an AGF is 224 bytes");

struct xfs_disk_agi {
    be32 magic, version, number, length;
    be32 count, root, level, free;
    be32 newest, last_directory;
    be32 unlinked[64];
    xfs_uuid uuid;
    le32 crc;
    be32 pad;
    be64 lsn;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_agi) == 328, "an AGI up to its free inode tree is 328 bytes");

/* ---- inodes ---- */

#define XFS_INODE_MAGIC 0x494eu /* "IN" */

struct xfs_disk_inode {
    be16 magic;
    be16 mode;
    uint8_t version; /* 1, 2; 3 in v5 */
    uint8_t format;
    be16 nlink_v1;
    be32 uid;
    be32 gid;
    be32 nlink;
    be16 projid_low;
    be16 projid_high;
    be64 extents64; /* with XFS_INODE2_LARGE_EXTENT_COUNTS; its last two bytes are a counter of flushes in v4 */
    be64 atime;
    be64 mtime;
    be64 ctime;
    be64 size;
    be64 blocks; /* of the filesystem, for both forks and their trees */
    be32 extent_size_hint;
    be32 extents; /* with XFS_INODE2_LARGE_EXTENT_COUNTS those of the attribute fork */
    be16 attr_extents;
    uint8_t fork_offset; /* of the attribute fork, in 8 bytes behind the data fork's start; 0: there is none */
    uint8_t attr_format;
    be32 dmapi_mask;
    be16 dmapi_state;
    be16 flags;
    be32 generation;
    be32 next_unlinked;
    /* version 3; byte 100 */
    le32 crc;
    be64 change_count;
    be64 lsn;
    be64 flags2;
    be32 cow_extent_size;
    uint8_t pad[12];
    be64 crtime;
    be64 ino;
    xfs_uuid uuid;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_inode) == 176, "the head of an inode of version 3 is 176 bytes");

enum {
    XFS_INODE_V2_SIZE = 100,

    XFS_FORMAT_DEVICE = 0,
    XFS_FORMAT_LOCAL = 1,
    XFS_FORMAT_EXTENTS = 2,
    XFS_FORMAT_BTREE = 3,

    XFS_INODE_REALTIME = 1 << 0,
    XFS_INODE2_BIGTIME = 1 << 3,
    XFS_INODE2_LARGE_EXTENT_COUNTS = 1 << 4,
};
#define XFS_BIGTIME_EPOCH (-(int64_t)0x80000000) /* seconds: where bigtime's nanoseconds begin */

/* ---- maps of forks ---- */

/* From the high bits: unwritten 1, file block 54, fsblock 52, blocks 21. */
struct xfs_disk_extent {
    be64 high, low;
} __attribute__((packed));

#define XFS_BMBT_MAGIC 0x424d4150u    /* "BMAP" */
#define XFS_BMBT_V5_MAGIC 0x424d4133u /* "BMA3" */

/* In the inode: keys (file blocks) follow, and behind the room for them the pointers. */
struct xfs_disk_bmbt_root {
    be16 level;
    be16 records;
} __attribute__((packed));

struct xfs_disk_long_btree {
    be32 magic;
    be16 level;
    be16 records;
    be64 left, right;
    /* v5; byte 24 */
    be64 daddr;
    be64 lsn;
    xfs_uuid uuid;
    be64 owner;
    le32 crc;
    be32 pad;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_long_btree) == 72, "the header of a v5 block is 72 bytes");

enum {
    XFS_BTREE_V4_HEADER = 24,
    XFS_BMBT_MAX_LEVEL = 15, /* ours: far above what a file can need */
};

/* ---- trees of directories and attributes ---- */

enum {
    XFS_DA_NODE_MAGIC = 0xfebe,
    XFS_DA_NODE_V5_MAGIC = 0x3ebe,
    XFS_DIR_LEAF1_MAGIC = 0xd2f1,
    XFS_DIR_LEAF1_V5_MAGIC = 0x3df1,
    XFS_DIR_LEAFN_MAGIC = 0xd2ff,
    XFS_DIR_LEAFN_V5_MAGIC = 0x3dff,
    XFS_ATTR_LEAF_MAGIC = 0xfbee,
    XFS_ATTR_LEAF_V5_MAGIC = 0x3bee,
    XFS_DA_MAX_LEVEL = 5,
};

/* The head of nodes and leaves: blocks of the fork, not of the filesystem. */
struct xfs_disk_da_info {
    be32 forward, back;
    be16 magic;
    be16 pad;
    /* v5; byte 12 */
    le32 crc;
    be64 daddr;
    be64 lsn;
    xfs_uuid uuid;
    be64 owner;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_da_info) == 56, "the head of a v5 node is 56 bytes");

enum { XFS_DA_V4_INFO = 12 };

/* Follows the info of a node, and in v5 four bytes of padding; then the entries. */
struct xfs_disk_da_node {
    be16 count;
    be16 level;
} __attribute__((packed));

struct xfs_disk_da_entry {
    be32 hash; /* the highest below */
    be32 block;
} __attribute__((packed));

/* ---- directories ---- */

#define XFS_DIR_BLOCK_MAGIC 0x58443242u    /* "XD2B": one block holds all */
#define XFS_DIR_BLOCK_V5_MAGIC 0x58444233u /* "XDB3" */
#define XFS_DIR_DATA_MAGIC 0x58443244u     /* "XD2D" */
#define XFS_DIR_DATA_V5_MAGIC 0x58444433u  /* "XDD3" */
#define XFS_DIR_FREE_MAGIC 0x58443246u     /* "XD2F" */
#define XFS_DIR_FREE_V5_MAGIC 0x58444633u  /* "XDF3" */
#define XFS_DIR_LEAF_OFFSET (1ull << 35)   /* bytes: behind it are leaves and nodes */

struct xfs_disk_dir_v5 {
    be32 magic;
    le32 crc;
    be64 daddr;
    be64 lsn;
    xfs_uuid uuid;
    be64 owner;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_dir_v5) == 48, "the head of a v5 directory block is 48 bytes");

enum {
    XFS_DIR_DATA_V4_HEADER = 16, /* with three notes of free space */
    XFS_DIR_DATA_V5_HEADER = 64,
    XFS_DIR_ALIGN = 8,
    XFS_DIR_FREE_TAG = 0xffff,
};

/* An entry of a data block: ino, length, name, [type], padding to 8, tag (its own offset). */
struct xfs_disk_dir_entry {
    be64 ino;
    uint8_t length;
    char name[];
} __attribute__((packed));

struct xfs_disk_dir_unused {
    be16 tag; /* XFS_DIR_FREE_TAG */
    be16 length;
} __attribute__((packed));

/* At the end of a block that holds all; its leaf entries lie before it. */
struct xfs_disk_dir_tail {
    be32 count, stale;
} __attribute__((packed));

struct xfs_disk_dir_leaf_entry {
    be32 hash;
    be32 address; /* in 8 bytes, as if data blocks lay side by side; 0: removed */
} __attribute__((packed));

/* Follows the info of a leaf, and in v5 four bytes of padding. */
struct xfs_disk_dir_leaf {
    be16 count;
    be16 stale;
} __attribute__((packed));

/* In the inode: the parent and all inode numbers have 4 bytes, or 8 if `wide` is not 0. */
struct xfs_disk_dir_short {
    uint8_t count;
    uint8_t wide;
} __attribute__((packed));

struct xfs_disk_dir_short_entry {
    uint8_t length;
    be16 offset;
    char name[];
} __attribute__((packed));

/* ---- symbolic links and remote attribute values: a header in each v5 extent or block ---- */

#define XFS_SYMLINK_MAGIC 0x58534c4du     /* "XSLM" */
#define XFS_ATTR_REMOTE_MAGIC 0x5841524du /* "XARM" */

struct xfs_disk_remote {
    be32 magic;
    be32 offset; /* of these bytes in the whole */
    be32 bytes;
    le32 crc;
    xfs_uuid uuid;
    be64 owner;
    be64 daddr;
    be64 lsn;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_remote) == 56, "the head of a remote block is 56 bytes");

enum { XFS_SYMLINK_MAX = 1024 };

/* ---- attributes ---- */

struct xfs_disk_attr_short {
    be16 total;
    uint8_t count;
    uint8_t pad;
} __attribute__((packed));

struct xfs_disk_attr_short_entry {
    uint8_t name_length;
    uint8_t value_length;
    uint8_t flags;
    char name[]; /* then the value */
} __attribute__((packed));

/* Follows the info of a leaf; in v5 four bytes of padding behind it. */
struct xfs_disk_attr_leaf {
    be16 count;
    be16 used_bytes;
    be16 first_used;
    uint8_t holes;
    uint8_t pad;
    be16 free_map[6];
} __attribute__((packed));

struct xfs_disk_attr_entry {
    be32 hash;
    be16 name_offset; /* in the block */
    uint8_t flags;
    uint8_t pad;
} __attribute__((packed));

struct xfs_disk_attr_local {
    be16 value_length;
    uint8_t name_length;
    char name[];
} __attribute__((packed));

struct xfs_disk_attr_remote {
    be32 value_block;
    be32 value_length;
    uint8_t name_length;
    char name[];
} __attribute__((packed));

enum {
    XFS_ATTR_LOCAL = 1 << 0,
    XFS_ATTR_ROOT = 1 << 1,   /* trusted. */
    XFS_ATTR_SECURE = 1 << 2, /* security. */
    XFS_ATTR_PARENT = 1 << 3, /* a parent pointer: no attribute to the user */
    XFS_ATTR_INCOMPLETE = 1 << 7,
    XFS_ATTR_VALUE_MAX = 65536,
};

/* The value of SGI_ACL_FILE and SGI_ACL_DEFAULT: a count, then these. */
struct xfs_disk_acl_entry {
    be32 tag;
    be32 id;
    be16 permissions;
    be16 pad;
} __attribute__((packed));

/* ---- trees within an allocation group: known to the replay of the log alone ---- */

#define XFS_BNOBT_V5_MAGIC 0x41423342u  /* "AB3B" */
#define XFS_CNTBT_V5_MAGIC 0x41423343u  /* "AB3C" */
#define XFS_INOBT_V5_MAGIC 0x49414233u  /* "IAB3" */
#define XFS_FINOBT_V5_MAGIC 0x46494233u /* "FIB3" */
#define XFS_RMAPBT_MAGIC 0x524d4233u    /* "RMB3" */
#define XFS_REFCBT_MAGIC 0x52334643u    /* "R3FC" */

struct xfs_disk_short_btree {
    be32 magic;
    be16 level;
    be16 records;
    be32 left, right;
    be64 daddr;
    be64 lsn;
    xfs_uuid uuid;
    be32 owner;
    le32 crc;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_short_btree) == 56, "the header of a v5 block is 56 bytes");

struct xfs_disk_agfl {
    be32 magic;
    be32 number;
    xfs_uuid uuid;
    be64 lsn;
    le32 crc;
} __attribute__((packed));

_Static_assert(sizeof(struct xfs_disk_agfl) == 36, "the head of a free list is 36 bytes");

#endif
