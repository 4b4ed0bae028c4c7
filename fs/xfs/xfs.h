/* SPDX-License-Identifier: GPL-3.0-or-later */
/* xfs.h - an open XFS: what the files of this folder share.
 *
 * From below: super.c checks the superblock once, and with it every number that later arithmetic rests on; shape.c
 * knows how blocks describe themselves; cache.c keeps those that were read and found right; map.c finds a fork's
 * blocks; dir.c, lookup.c, attr.c and file.c read what lies in them; log.c, transaction.c and replay.c put what the log
 * holds over the device (an overlay) before any of this begins.
 */
#ifndef FS_XFS_H
#define FS_XFS_H

#include "../vfs.h"
#include "format.h"

/* The superblock, checked: see xfs_super_check for what holds. */
struct xfs_geometry {
    bool v5;
    bool ftype;          /* directories tell the types of files */
    bool lazy_count;     /* the superblock's counters are right after a clean unmount only */
    bool caseless;       /* names are found whatever their case (ASCII) */
    unsigned block_log;  /* of bytes */
    uint32_t block_size; /* bytes */
    uint64_t blocks;     /* of the filesystem */
    uint32_t ag_blocks;  /* of an allocation group; the last may be smaller */
    uint32_t ag_count;
    unsigned ag_block_log;
    unsigned inode_log;
    uint32_t inode_size; /* bytes */
    unsigned inodes_per_block_log;
    uint32_t sector_size;  /* bytes */
    uint32_t dir_size;     /* bytes of a directory block */
    uint32_t inode_buffer; /* bytes of inodes that are written, and in the log given up, together */
    uint64_t root;
    uint64_t log_start; /* fsblock; 0: it is on another device */
    uint32_t log_blocks;
    unsigned log_version;
    uint8_t max_inode_percent;
    uint64_t inode_count, inodes_free, blocks_free;
    xfs_uuid uuid;     /* that of blocks and inodes */
    xfs_uuid log_uuid; /* that of log records */
};

struct xfs_cache;

struct xfs {
    struct fs fs;
    struct device *device;  /* what is read: the device below, or the overlay on it */
    struct device *overlay; /* what the log holds; NULL: nothing */
    struct xfs_geometry geo;
    struct xfs_cache *cache;
    bool owners_vary;         /* the log moved trees from inode to inode: the owners in their blocks may be old */
    struct xfs_remap *remaps; /* changes of maps that the log left undone, in their order; NULL: none */
    size_t remap_count;
    char warning[1200];
};

/* ---- super.c ---- */

/* Reads and checks the superblock. -ENOTSUP: a feature, which is named, is not read here. */
int xfs_super_read(struct device *device, struct xfs_geometry *geo, struct img_error *err);
int xfs_probe(struct device *device, struct probe *probe);
/* The blocks of an allocation group. */
uint32_t xfs_ag_size(const struct xfs_geometry *geo, uint32_t group);
/* Are all `count` (> 0) blocks from `fsblock` in one allocation group, behind its first block? */
bool xfs_fsblock_ok(const struct xfs_geometry *geo, uint64_t fsblock, uint64_t count);
/* Byte of the device. */
uint64_t xfs_fsblock_address(const struct xfs_geometry *geo, uint64_t fsblock);
/* Numbers of a mount for reading. */
int xfs_space(struct fs *fs, struct fs_space *space, struct img_error *err);

/* ---- shape.c: how blocks describe themselves ---- */

enum xfs_kind {
    XFS_KIND_RAW = 0, /* any bytes: inodes, which are checked one by one */
    XFS_KIND_BMBT = 1 << 0,
    XFS_KIND_DIR_DATA = 1 << 1,
    XFS_KIND_DIR_LEAF = 1 << 2,
    XFS_KIND_NODE = 1 << 3, /* of directories and attributes */
    XFS_KIND_ATTR_LEAF = 1 << 4,
    XFS_KIND_SYMLINK = 1 << 5,
    XFS_KIND_ATTR_REMOTE = 1 << 6,
    XFS_KIND_OTHER = 1 << 7, /* met in the log alone */
};

struct xfs_shape {
    uint32_t magic;
    enum xfs_kind kind;
    bool wide;      /* magic: 4 bytes at 0; else 2 bytes at 8 */
    bool v5;        /* has what follows: the places in the block, 0 for none */
    uint8_t header; /* bytes before what the kind keeps */
    uint16_t crc, daddr, lsn, uuid, owner;
    const char *name;
};

/* NULL: none that is known here. */
const struct xfs_shape *xfs_shape_of(const uint8_t *block, size_t length);
/* Is it one of `kinds`, undamaged, in its place and its owner's (0: anybody's)? -EUCLEAN. */
int xfs_shape_check(const struct xfs *xfs, const uint8_t *block, size_t length, uint64_t address, unsigned kinds,
                    const struct xfs_shape **shape, struct img_error *err);
int xfs_owner_check(const struct xfs *xfs, const uint8_t *block, uint64_t address, const struct xfs_shape *shape,
                    uint64_t owner, struct img_error *err);
/* Is the checksum at `crc` right? */
bool xfs_crc_ok(const uint8_t *block, size_t length, size_t crc);
void xfs_crc_set(uint8_t *block, size_t length, size_t crc);

/* ---- cache.c: blocks that were read and checked ---- */

struct xfs_age {
    struct xfs_age *newer, *older;
};

struct xfs_block {
    struct xfs_age age; /* first, so that one is found from the other */
    uint64_t address;
    uint32_t length;
    unsigned users;
    const struct xfs_shape *shape; /* NULL: XFS_KIND_RAW */
    struct xfs_block *same_hash;
    uint8_t bytes[];
};

int xfs_cache_open(struct xfs *xfs, struct img_error *err);
void xfs_cache_close(struct xfs *xfs);
/* A run of bytes of the device that makes up a block. */
struct xfs_piece {
    uint64_t address;
    uint32_t length;
};
/* The block that `pieces` make up, which has the address of the first: one of `kinds`, as xfs_shape_check. It stands
 * until xfs_block_put. */
int xfs_block_get(struct xfs *xfs, const struct xfs_piece *pieces, size_t count, unsigned kinds, uint64_t owner,
                  struct xfs_block **result, struct img_error *err) IMG_WARN_UNUSED;
void xfs_block_put(struct xfs *xfs, struct xfs_block *block); /* NULL is allowed */

/* ---- inode.c ---- */

struct xfs_fork {
    bool attr;
    uint8_t format;       /* XFS_FORMAT_* */
    uint64_t extents;     /* with XFS_FORMAT_EXTENTS: records that are all in `bytes` */
    const uint8_t *bytes; /* in the inode */
    uint32_t length;
};

struct xfs_inode {
    uint64_t ino;
    uint16_t mode;
    uint32_t nlink, uid, gid;
    uint64_t size, blocks;
    bool realtime;
    struct fs_time atime, mtime, ctime, btime;
    uint32_t device; /* of device nodes, as it is stored */
    struct xfs_fork data, attr;
    uint8_t bytes[XFS_MAX_INODE_SIZE];
};

/* -ENOENT: it is not in use; -EUCLEAN. Forks point into *inode, which therefore must not be copied. */
int xfs_inode_get(struct xfs *xfs, uint64_t ino, struct xfs_inode *inode, struct img_error *err) IMG_WARN_UNUSED;
int xfs_stat(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err);
/* Where the inode lies. */
int xfs_inode_place(const struct xfs_geometry *geo, uint64_t ino, struct xfs_piece *place, struct img_error *err);

/* ---- map.c: where a fork's blocks are ---- */

struct xfs_extent {
    uint64_t start;   /* block of the fork */
    uint64_t count;   /* blocks, > 0 */
    uint64_t fsblock; /* of a hole 0 */
    bool hole, unwritten;
};

/* A change of a map that is not in it. */
struct xfs_remap {
    uint64_t id, ino;
    bool attr;                /* fork */
    struct xfs_extent extent; /* or a hole, of which all is said */
};
/* intents.c: changes *extent, which is what `block` lies in. */
void xfs_remap(const struct xfs *xfs, uint64_t ino, bool attr, uint64_t block, struct xfs_extent *extent);

/* What `block` of a fork lies in: the extent, or from `block` on the hole up to the next one (or UINT64_MAX). Asked for
 * block after block behind the former answer, it is done after as many steps as the map has records. */
int xfs_map(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t block,
            struct xfs_extent *extent, struct img_error *err) IMG_WARN_UNUSED;
/* The checked block of `bytes` bytes that begins with `block` of a fork. A hole is -EUCLEAN. */
int xfs_fork_block(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t block,
                   uint32_t bytes, unsigned kinds, struct xfs_block **result, struct img_error *err) IMG_WARN_UNUSED;

/* ---- tree.c: the hashed trees of directories and attributes ---- */

/* Where entries of a node or leaf begin, behind their counts. */
size_t xfs_da_header(const struct xfs *xfs, size_t counts);
/* The first leaf that may hold `hash`, from the node or leaf at `block` on. */
int xfs_da_descend(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint64_t block,
                   uint32_t bytes, uint32_t hash, unsigned leaf_kind, struct xfs_block **leaf, uint32_t *leaf_block,
                   struct img_error *err) IMG_WARN_UNUSED;
/* The leaf that follows; *leaf is put, and NULL behind the last. A leaf that does not point back at the one before it
 * is -EUCLEAN, so that no chain is endless. */
int xfs_da_next(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_fork *fork, uint32_t bytes,
                unsigned leaf_kind, struct xfs_block **leaf, uint32_t *leaf_block,
                struct img_error *err) IMG_WARN_UNUSED;
uint32_t xfs_name_hash(const char *name, size_t length);

/* ---- dir.c, lookup.c, attr.c, file.c ---- */

/* An entry at `offset` of a data block: its name, inode and size. -EUCLEAN, or 0; *entry NULL: free space. */
int xfs_dir_entry_at(const struct xfs *xfs, const struct xfs_block *block, uint32_t offset, uint32_t end,
                     const struct xfs_disk_dir_entry **entry, uint32_t *size, struct img_error *err);
/* Where the entries of a data block end. */
int xfs_dir_data_end(const struct xfs *xfs, const struct xfs_block *block, uint32_t *end, struct img_error *err);
/* -EUCLEAN: the data blocks of a directory are not all different ones. */
int xfs_dir_check_map(struct xfs *xfs, const struct xfs_inode *inode, struct img_error *err);
/* Calls back with each entry of a directory that is in its inode. */
int xfs_dir_short(const struct xfs *xfs, const struct xfs_inode *inode, fs_entry_call call, void *opaque,
                  struct img_error *err);
int xfs_list(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err);
int xfs_lookup(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err);
int xfs_xattrs(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err);
int xfs_read(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
             struct img_error *err);
int xfs_next_data(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t *start, uint64_t *length,
                  struct img_error *err);
int xfs_readlink(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err);

/* ---- trace.c ---- */

int xfs_trace(struct fs *fs, uint64_t ino, enum fs_part part, fs_range_call call, void *opaque, struct img_error *err);
bool xfs_alike(struct fs *a, struct fs *b);

/* ---- log.c ---- */

/* Puts what the log holds, if it holds something, over xfs->device. */
int xfs_log_replay(struct xfs *xfs, struct img_error *err) IMG_WARN_UNUSED;

#endif
