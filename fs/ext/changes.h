/* SPDX-License-Identifier: GPL-3.0-or-later */
/* changes.h - names and maps that are different from what lies on the device: what fast commits have changed, kept in
 * memory. A filesystem without any has no struct changes. */
#ifndef FS_EXT_CHANGES_H
#define FS_EXT_CHANGES_H

#include "ext.h"

/* A name in a directory. Sorted by directory and name; "" says that what lies on the disk of it does not count. */
struct change {
    uint64_t dir, ino; /* ino 0: the name is gone */
    size_t length;
    char name[]; /* ends in a NUL that does not count */
};

/* The whole map of an inode, without its holes. */
struct remap {
    uint64_t ino;
    struct run *runs;
    size_t count, room;
};

/* The inode is not what it was. */
int change_inode(struct ext *ext, uint64_t ino, struct img_error *err);
int change_entry(struct ext *ext, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err);
int change_emptied(struct ext *ext, uint64_t dir, struct img_error *err);
/* run->physical 0: the range is a hole, or reads as one. */
int change_range(struct ext *ext, struct node *node, const struct run *run, struct img_error *err);
/* Nothing of the inode's map counts any more. */
int change_unmapped(struct ext *ext, uint64_t ino, struct img_error *err);
/* Everything is said: from now on changes_of may be asked. */
int changes_settle(struct ext *ext, struct img_error *err);
void changes_free(struct changes *changes);

/* All of it, for whoever puts it on the disk. */
struct change *const *changes_names(const struct changes *changes, size_t *count);
const uint64_t *changes_inodes(const struct changes *changes, size_t *count); /* some more than once */
void changes_each_map(const struct changes *changes, void (*call)(void *opaque, const struct remap *map), void *opaque);

/* What became of a name; NULL: it is as on the disk. */
const struct change *changed_entry(const struct ext *ext, uint64_t dir, const char *name, size_t length);
/* All that changed in a directory, in order of names; NULL with *count 0: nothing. */
struct change *const *changes_of(const struct ext *ext, uint64_t dir, size_t *count);
/* NULL: the inode's map is as on the disk. */
const struct remap *remap_of(const struct ext *ext, uint64_t ino);

#endif
