/* SPDX-License-Identifier: GPL-3.0-or-later */
/* write.h - changes of an ext filesystem as transactions (vfs_write.h): what the files that make them share.
 *
 * libext2fs changes metadata, and every block that it writes stays in memory (dirty.c). File data goes at once to
 * blocks that were free when the transaction began and are still (alloc.c). A commit (commit.c) makes the data durable,
 * writes the changed blocks into the filesystem's own journal with a commit block, makes that durable, and only then
 * lets the journal's superblock name it: from there on whoever mounts the filesystem replays it. After that the blocks
 * go to their places, and the journal is empty again.
 *
 * Since each transaction ends with an empty journal, no block of an older one can be replayed over newer data, and
 * there are no revoke records.
 *
 * A filesystem without a journal has its blocks written in an order of dependence instead (order.c), and what a change
 * frees is freed behind all of it.
 */
#ifndef FS_EXT_WRITE_H
#define FS_EXT_WRITE_H

#include "../names.h"
#include "../vfs_write.h"
#include "journal.h"

/* ---- dirty.c: blocks of metadata that are changed and not on the disk ---- */

struct dirty_block {
    uint64_t block;
    unsigned char *bytes; /* a whole block */
};

struct dirty;

int dirty_new(unsigned block_size, struct dirty **dirty, struct img_error *err);
void dirty_free(struct dirty *dirty);
size_t dirty_count(const struct dirty *dirty);
/* NULL: the block is not changed. */
unsigned char *dirty_find(const struct dirty *dirty, uint64_t block);
/* Makes room for a block; its bytes are the caller's to fill. NULL: no memory. */
unsigned char *dirty_add(struct dirty *dirty, uint64_t block);
/* All of them in the order of the disk. The array is the caller's to free, the bytes are not. */
int dirty_list(const struct dirty *dirty, struct dirty_block **list, struct img_error *err);
void dirty_forget(struct dirty *dirty);

/* ---- the writer ---- */

/* What there is only without a journal. */
struct unjournaled {
    ext2fs_block_bitmap maps;  /* where the maps of what is free and the groups' descriptors lie */
    ext2fs_block_bitmap begun; /* in use when the transaction began */
    ext2fs_block_bitmap later; /* to be freed behind the transaction */
    struct gone_inode {
        uint64_t ino;
        bool directory;
    } * gone; /* ... inodes */
    size_t count, room;
};

struct writer {
    struct dirty *dirty;
    ext2fs_block_bitmap taken; /* in use now, or when the transaction began */
    struct unjournaled *unjournaled;
    struct journal *journal; /* NULL: there is none */
    uint64_t blocks;         /* of a transaction, its descriptors and its commit block included */
    struct fs_write_ops ops; /* whole where there is a journal */
    uint64_t room_dir;       /* room.c: the directory that got a name last; 0: none is remembered */
    uint64_t room_block;     /* ... before this block of it there is no room */
    struct names names;      /* ... and the names that it may have */
    bool broken;             /* a change ended in the middle: nothing more may be committed */
};

static inline struct writer *writer_of(struct ext *ext) {
    return ext->writer;
}

/* Prepares a filesystem that was just opened for changes; what its journal held is put to its places. -EROFS with the
 * reason: it cannot be changed here. */
int writer_open(struct ext *ext, const struct fs_open_options *options, struct img_error *err);
void writer_close(struct ext *ext);

/* The first thing of each change: commits what there is when there would be no room for more. -EIO: broken. */
int change_begin(struct ext *ext, struct img_error *err);
/* An error in the middle of a change: what was done of it must never be committed. */
int change_failed(struct ext *ext, errcode_t code, const char *what, struct img_error *err);
/* Inodes in memory may be old now. */
void forget_nodes(struct ext *ext);

/* ---- alloc.c ---- */

int alloc_open(struct ext *ext, struct img_error *err);
void alloc_close(struct ext *ext);
/* What was freed may be used again. */
int alloc_committed(struct ext *ext, struct img_error *err);
/* Nothing may be freed that is not the inode's own: are its blocks in use? *end: behind its last one. -EUCLEAN */
int alloc_check(struct ext *ext, uint64_t ino, uint64_t *end, struct img_error *err);
int alloc_free_inode(struct ext *ext, uint64_t ino, bool directory, struct img_error *err);
/* Without a journal: what waited for the end of the transaction is free now. */
void alloc_release(struct ext *ext);
/* Up to `want` free blocks one after another, the nearest behind `goal`, which are then in use. -ENOSPC. */
int alloc_run(struct ext *ext, uint64_t goal, uint64_t want, uint64_t *block, uint64_t *got, struct img_error *err);

/* ---- commit.c ---- */

int log_open(struct ext *ext, struct img_error *err);
/* After the log was replayed for real: it is empty, and the next transaction's number is `sequence`. */
int log_empty(struct ext *ext, uint32_t sequence, struct img_error *err);
/* After the log was put to its places, while fast commits are still needed: it begins at its last block, which is
 * empty, and the next transaction, of the number that they follow, leaves that alone. */
int log_park(struct ext *ext, uint32_t sequence, struct img_error *err);
void log_close(struct ext *ext);
/* What the library keeps in memory becomes blocks; all of them. The array is the caller's to free. */
int commit_gather(struct ext *ext, struct dirty_block **list, size_t *count, struct img_error *err);
int ext_commit(struct fs *fs, struct img_error *err);

/* ---- order.c ---- */

int ordered_commit(struct ext *ext, struct img_error *err);

/* ---- pending.c: fast commits ---- */

struct pending;

/* Takes from ext what they have changed, before it is opened without. */
int pending_take(struct ext *ext, struct pending **pending, struct img_error *err);
/* Makes it one transaction, and commits it. */
int pending_apply(struct ext *ext, const struct pending *pending, struct img_error *err);
void pending_free(struct pending *pending);

/* ---- orphan.c ---- */

/* Ends what the guest had begun to end: files without a name, and such that were being cut. -EUCLEAN */
int orphans_release(struct ext *ext, struct img_error *err);

/* ---- inodes: put.c ---- */

/* Reads all of an inode into a buffer of ext->inode_size bytes at least, which the caller frees. */
int inode_read(struct ext *ext, uint64_t ino, struct ext2_inode_large **inode, struct img_error *err);
int inode_write(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err);
/* Enters a run of at most 32768 blocks, which are in use, behind all that the file has. */
int map_blocks(struct ext *ext, uint64_t ino, bool extents, const struct run *run, struct img_error *err);
void inode_set_times(const struct ext *ext, struct ext2_inode_large *inode, const struct fs_time *atime,
                     const struct fs_time *mtime, const struct fs_time *ctime);
struct fs_time time_now(void);
int ext_append(struct fs *fs, uint64_t ino, const void *buffer, size_t count, uint64_t offset, struct img_error *err);
int ext_set_size(struct fs *fs, uint64_t ino, uint64_t size, struct img_error *err);
int ext_set_attributes(struct fs *fs, uint64_t ino, const struct fs_attributes *attributes, struct img_error *err);
int ext_set_xattr(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t length,
                  struct img_error *err);

/* ---- room.c ---- */

/* ext2fs_link, which needs no look at all of the directory when it is the one of the last call. */
errcode_t room_link(struct ext *ext, ext2_ino_t dir, const char *name, ext2_ino_t ino, int type);
/* A name has gone: there may be room before. */
void room_forget(struct ext *ext);
/* True: the directory has no such name, and need not be read for it. */
bool room_lacks(struct ext *ext, uint64_t dir, const char *name, size_t length);

/* ---- names.c ---- */

int ext_create(struct fs *fs, uint64_t dir, const char *name, size_t length, const struct fs_new *file, uint64_t *ino,
               struct img_error *err);
int ext_link(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err);
int ext_unlink(struct fs *fs, uint64_t dir, const char *name, size_t length, struct img_error *err);

/* What has a name that is to go. */
struct victim {
    uint64_t ino;
    uint32_t mode;
    unsigned links;
    bool directory;
};

/* What has this name, and may it go? -ENOENT: nothing has. */
int find_victim(struct ext *ext, uint64_t dir, const char *name, size_t length, struct victim *victim,
                struct img_error *err);
int type_in_directory(uint32_t mode);
/* May names be changed in there? */
int check_directory(struct ext *ext, uint64_t dir, struct img_error *err);
/* Room for a new entry of that name: what has it already goes, if that is wanted. */
int make_place(struct ext *ext, uint64_t dir, const char *name, size_t length, bool replace, bool by_directory,
               struct img_error *err);
int put_entry(struct ext *ext, uint64_t dir, const char *name, uint64_t ino, uint32_t mode, struct img_error *err);
int take_entry(struct ext *ext, uint64_t dir, const char *name, struct img_error *err);
/* One name more, counted before it is there; one less, of a file or an empty directory. */
int add_link(struct ext *ext, uint64_t ino, uint32_t *mode, struct img_error *err);
int drop_link(struct ext *ext, uint64_t ino, struct img_error *err);
/* The directory's own times, now that its entries have changed; `links`: by how many directories more or less. */
int touch_directory(struct ext *ext, uint64_t dir, int links, struct img_error *err);
/* Fills an inode of a file that has no blocks yet, or a short target. */
int make_plain(struct ext *ext, uint64_t ino, const struct fs_new *file, struct img_error *err);
/* Blocks and attributes of an inode that ends, or gets others; and the inode that has none any more. */
int free_content(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err);
int free_empty_inode(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err);
/* Without a journal, changes of which one must be durable before the other are commits of their own. */
int separate(struct ext *ext, struct img_error *err);

/* ---- rename.c ---- */

int ext_rename(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t new_dir, const char *new_name,
               size_t new_length, struct img_error *err);

/* ---- replace.c: without a journal ---- */

/* A new file takes the inode of the one that it replaces. 1: done; 0: that cannot be, or there is none. */
int replace_inside(struct ext *ext, uint64_t dir, const char *name, size_t length, const struct fs_new *file,
                   uint64_t *ino, struct img_error *err);
/* What inode `ino` has becomes the content of the one with that name, and `ino` ends. 1: done; 0: that cannot be. */
int take_over(struct ext *ext, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err);
/* Is the inode not on the disk yet? */
bool is_born(struct ext *ext, uint64_t ino);

#endif
