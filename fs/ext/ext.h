/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ext.h - ext2, ext3 and ext4, for reading: what the files of this folder share.
 *
 * libext2fs opens the filesystem and knows its geometry, its inodes and its hashes; it reads through an io_manager of
 * ours (io.c), which stands on a device. What has to be bounded against a hostile disk is done here: how a file's
 * blocks are found (map.c), directories (dir.c), attributes (xattr.c). A journal that holds something is replayed into
 * an overlay first (recover.c), and then nothing here knows of it.
 *
 * An inode in use is a `node`: its bytes, checked once, and the part of its block map that was needed last.
 */
#ifndef FS_EXT_EXT_H
#define FS_EXT_EXT_H

#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

#include "../error.h"
#include "../vfs.h"

/* ---- io.c: blocks of the device, for the library and for us, through one small cache ---- */

struct ext_io;

int ext_io_new(struct device *device, struct ext_io **io, struct img_error *err);
void ext_io_free(struct ext_io *io);
io_manager ext_io_manager(struct ext_io *io);
/* What ext2fs_open2 has to be given as a name. */
const char *ext_io_name(const struct ext_io *io);
/* Small pieces come out of the cache, with what lies around them; large ones go past it. */
int ext_io_read(struct ext_io *io, void *buffer, size_t count, uint64_t offset, struct img_error *err);
struct dirty;
/* From now on what the library writes is kept in there, and what is read shows it. */
void ext_io_take_writes(struct ext_io *io, struct dirty *dirty, unsigned block_size);
/* The device was written past the cache here. */
void ext_io_forget(struct ext_io *io, uint64_t offset, uint64_t length);
/* Writes what stands on an overlay. */
int ext_io_write(struct ext_io *io, const void *buffer, size_t count, uint64_t offset, struct img_error *err);
/* Turns an error of the library into ours: that of the device, if it was one. `what` says what was done. */
int ext_io_fail(struct ext_io *io, struct img_error *err, errcode_t code, const char *what);

/* ---- the filesystem ---- */

#define SUMMED 512           /* blocks of directories that are known to be right */
#define NODES 16             /* inodes that are kept */
#define MAP_END (1ull << 62) /* behind the last block of any file */
#define MAP_RUNS 256         /* pieces of a file that one look at its map brings */

/* `length` blocks of a file from its block `logical` on, which lie one after another. */
struct run {
    uint64_t logical, length;
    uint64_t physical; /* 0: zeroes, of which nothing is on the disk */
};

/* A window of a file's map: what lies in [from, to). What no run covers there is a hole. */
struct map {
    uint64_t from, to;
    unsigned count;
    struct run runs[MAP_RUNS];
};

struct node {
    uint64_t ino;
    unsigned users; /* who holds it: node_get without node_put */
    uint64_t used;  /* fs->clock when it was last asked for */
    bool kept;      /* it is one of fs->nodes */
    uint32_t seed;  /* what checksums of its blocks begin with */
    uint64_t size;  /* i_size in bytes */
    struct map map;
    struct ext2_inode_large *inode; /* all s_inode_size bytes, at least those of the struct, zeroes behind */
};

/* A block of a directory whose checksum was right. A walk looks every name up: it would be summed for each of them. */
struct summed {
    uint64_t block, ino;
};

struct changes; /* changes.h */
struct writer;  /* write.h */

struct ext {
    struct fs fs;
    struct device *overlay; /* what the journal held, over fs.device; NULL: nothing */
    struct device *noted;   /* what fast commits have changed in inodes, over that; NULL: nothing */
    struct ext_io *io;
    ext2_filsys lib;
    unsigned block_size, block_bits, inode_size;
    uint64_t first_block, blocks; /* [first_block, blocks) are the filesystem's */
    bool checksums;               /* metadata_csum */
    struct changes *changes;      /* of fast commits; NULL: none */
    uint32_t journal_end;         /* the number behind the last transaction that was replayed */
    struct node *nodes[NODES];
    uint64_t clock;
    uint64_t visited; /* blocks of directories, so far */
    struct summed summed[SUMMED];
    struct writer *writer; /* write.h; NULL: for reading */
};

static inline struct ext *ext_of(struct fs *fs) {
    return (struct ext *)fs;
}
static inline struct ext2_super_block *super_of(const struct ext *ext) {
    return ext->lib->super;
}

/* Reads one block of metadata. -EUCLEAN: `block` is none of the filesystem's; `ino` is whose it would be. */
int ext_read_block(struct ext *ext, uint64_t ino, uint64_t block, void *buffer, struct img_error *err);

/* ---- ext.c ---- */

/* On the device, or on the overlay over it. */
int ext_open_library(struct ext *ext, struct device *device, struct img_error *err);
void ext_close_library(struct ext *ext);

/* ---- recover.c ---- */

/* If the journal holds something: replays it, and shows that. */
int ext_recover(struct ext *ext, struct device *device, struct img_error *err);

/* ---- super.c ---- */

int ext_probe(struct device *device, struct probe *probe);
/* Everything that the superblock claims about sizes, against the device and against itself, before the library acts on
 * it. */
int ext_check_super(struct device *device, struct ext2_super_block *super, struct img_error *err);
int ext_read_super(struct device *device, struct ext2_super_block *super, struct img_error *err);
int ext_space(struct fs *fs, struct fs_space *space, struct img_error *err);

/* ---- node.c ---- */

/* The inode, which stands until node_put. -ENOENT: it is not in use; -EUCLEAN: there is no such number, or it is
 * damaged. */
int node_get(struct ext *ext, uint64_t ino, struct node **node, struct img_error *err);
void node_put(struct ext *ext, struct node *node);
void node_free_all(struct ext *ext);
/* The inode has changed on the overlay; nobody holds it. */
void node_forget(struct ext *ext, uint64_t ino);
/* The inode's 60 bytes for a map, or whatever else the flags say. */
static inline unsigned char *node_block(struct node *node) {
    return (unsigned char *)node->inode->i_block;
}
bool node_has(const struct node *node, uint32_t flag);
/* Where it lies on the device. -EUCLEAN */
int inode_place(struct ext *ext, uint32_t ino, uint64_t *place, struct img_error *err);
int ext_stat(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err);

/* ---- map.c ---- */

/* The run that the file's block `block` lies in, beginning with it. Behind the last block of the map: zeroes. */
int map_find(struct ext *ext, struct node *node, uint64_t block, struct run *run, struct img_error *err);

/* All runs of the first `blocks` blocks, in order, without holes; the list is the caller's to free. -EUCLEAN: a block
 * is in it twice. That must not be where work grows with the length of a map: one block could be repeated without end.
 */
int map_gather(struct ext *ext, struct node *node, uint64_t blocks, struct run **runs, size_t *count,
               struct img_error *err);

/* Tells of the blocks of a file, and of those that say where they are. -EUCLEAN: more than the filesystem has. */
int map_trace(struct ext *ext, struct node *node, fs_range_call call, void *opaque, struct img_error *err);

/* ---- trace.c ---- */

int ext_trace(struct fs *fs, uint64_t ino, enum fs_part part, fs_range_call call, void *opaque, struct img_error *err);
bool ext_alike(struct fs *a, struct fs *b);

/* ---- data.c ---- */

/* Bytes of any inode that has some, up to its size. */
int node_read(struct ext *ext, struct node *node, void *buffer, size_t count, uint64_t offset, size_t *got,
              struct img_error *err);
int ext_read(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
             struct img_error *err);
int ext_next_data(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t *start, uint64_t *length,
                  struct img_error *err);
/* The length of what ext_readlink gives. -EUCLEAN */
int target_length(struct ext *ext, struct node *node, uint64_t *length, struct img_error *err);
int ext_readlink(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err);

/* ---- dir.c ---- */

int ext_lookup(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err);
int ext_list(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err);

/* ---- nokey.c: names without the key that they are encrypted with ---- */

#define NOKEY_MAX 256 /* bytes, with a NUL */

/* Each returns the length of the text; 0: it cannot have been a name. */
size_t nokey_name(const uint32_t hashes[2], const char *name, size_t length, char text[NOKEY_MAX]);
size_t nokey_entry(struct ext *ext, struct node *dir, const char *name, size_t length, char text[NOKEY_MAX]);
/* A symbolic link's target as it lies on the disk: its length, then its bytes. */
size_t nokey_target(const unsigned char *bytes, size_t size, char text[NOKEY_MAX]);

/* ---- xattr.c ---- */

int ext_xattrs(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err);
/* Where inline data goes on behind the first 60 bytes; it lies in the inode. *length 0: it does not. */
int xattr_inline_rest(struct ext *ext, struct node *node, const unsigned char **rest, size_t *length,
                      struct img_error *err);

#endif
