/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dir.h - a visit to the entries of a directory: what dir.c and index.c share. */
#ifndef FS_EXT_DIR_H
#define FS_EXT_DIR_H

#include "ext.h"

struct visit {
    struct ext *ext;
    struct node *node;
    int (*entry)(struct visit *visit, const struct ext2_dir_entry_2 *entry);
    fs_entry_call call;
    void *opaque;
    const char *name; /* that is looked for; NULL: all entries are wanted */
    size_t length;
    uint64_t found;
    struct img_error *err;
};

/* -EUCLEAN */
int dir_damaged(struct visit *visit, const char *what, uint64_t value);
/* Reads a block of the device that is one of the directory, and looks at its checksum. */
int dir_read_block(struct visit *visit, unsigned char *block, uint64_t number);
/* ... and visits its entries, until one says so. */
int dir_visit_block(struct visit *visit, unsigned char *block, uint64_t number);

/* index.c: visits the blocks that visit->name may be in, by its hash. -ENOTSUP: there is no index that could be used.
 */
int index_visit(struct visit *visit);

#endif
