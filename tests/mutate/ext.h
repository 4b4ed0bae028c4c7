/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ext.h - the metadata of an ext filesystem, as find_ext.c finds it and sign_ext.c signs it. */
#ifndef TESTS_MUTATE_EXT_H
#define TESTS_MUTATE_EXT_H

#include "mutate.h"

#define ITEMS_MOST 8192

/* In the order in which they are signed: what holds sums of others comes behind them. */
enum kind {
    PLAIN,      /* has no sum: blocks of block numbers */
    INODE,      /* in a table */
    EXTENTS,    /* a block of a map */
    NAMES,      /* a block of a directory */
    HASHED,     /* ... of its index */
    ATTRIBUTES, /* a block of attributes */
    GROUP,      /* a descriptor */
    SUPER,
    COPY, /* a block in the journal, a copy of another */
    LOG_SUPER,
    LOG_TAIL, /* a descriptor or revocations: the sum is at the end */
    LOG_COMMIT,
    FAST, /* a block of fast commits */
    KINDS
};

struct item {
    enum kind kind;
    uint64_t at;   /* byte */
    uint64_t home; /* the same, but of what lies in a copy: where that belongs */
    uint32_t length;
    uint32_t number; /* the owner's inode; a group; of a copy the transaction, as the journal counts */
    uint64_t place;  /* byte: where the owner's inode lies; of a copy where its sum belongs */
    uint32_t extra;  /* of HASHED where in the block the counts are; of a copy the block that it is a copy of */
};

struct items {
    bool sums;     /* the filesystem has checksums */
    bool log_sums; /* the journal has */
    uint32_t block_size;
    uint64_t log_super; /* byte of the journal's superblock */
    size_t count;
    struct item list[ITEMS_MOST];
};

/* Signs everything. */
void ext_sign(struct base *base);
void ext_sign_item(struct base *base, const struct item *item);

#endif
