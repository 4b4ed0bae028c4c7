/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* count.h - reference counters for host clusters, sparse: what `check` counts with.
 *
 * One 16-bit cell for each cluster, in leaves of 64 cells that are made on the first touch and found by a hash of the
 * leaf's number. So memory follows the clusters that are referenced, not the length of the file: 2 bytes a cluster
 * where they lie together, about 150 bytes a cluster where each lies alone. The last leaf is remembered, which makes a
 * run of neighbours as cheap as an array.
 *
 * A cell holds 13 bits of count and three marks. Counts that do not fit go to a second, small hash and saturate at
 * 2^64 - 1. The marks say how the active tables name the cluster: so one walk over the tables is enough to know whether
 * any COPIED flag is wrong, and whether two kinds of things lie on one cluster.
 */
#ifndef LIBIMG_QCOW2_COUNT_H
#define LIBIMG_QCOW2_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COUNT_COPIED = 1 << 13, /* an active entry with the COPIED flag names it */
    COUNT_PLAIN = 1 << 14,  /* an active entry that could have the COPIED flag, without it, names it */
    COUNT_META = 1 << 15,   /* it holds metadata */
    COUNT_MARKS = COUNT_COPIED | COUNT_PLAIN | COUNT_META,

    COUNT_LEAF_BITS = 6,
    COUNT_LEAF = 1 << COUNT_LEAF_BITS,
};

struct count_slot {
    uint64_t key; /* leaf number + 1; 0: empty */
    uint16_t *leaf;
};

struct count_large {
    uint64_t key; /* cluster + 1; 0: empty */
    uint64_t count;
};

struct counts {
    struct count_slot *slots;
    uint64_t mask, used;
    uint64_t factor; /* hash.h */
    struct count_large *large;
    uint64_t large_mask, large_used;
    struct count_chunk *chunks; /* where the leaves lie */
    uint32_t chunk_left;        /* leaves not handed out in the newest */
    uint64_t last_number;
    uint16_t *last_leaf;
};

/* -ENOMEM is the only error of the calls below. */
int counts_init(struct counts *c);
void counts_free(struct counts *c);

/* Adds `weight` to each of the clusters [first, first + n) and sets the marks. The caller has bounded the range. */
int counts_add(struct counts *c, uint64_t first, uint64_t n, uint64_t weight, unsigned marks);

uint64_t counts_get(const struct counts *c, uint64_t cluster);
unsigned counts_marks(const struct counts *c, uint64_t cluster);

/* The cells of the leaf that holds `cluster`, or NULL. */
const uint16_t *counts_leaf(const struct counts *c, uint64_t cluster);
/* The count in a cell of that leaf. */
uint64_t counts_cell(const struct counts *c, uint16_t cell, uint64_t cluster);

/* The numbers of all leaves in rising order (number << COUNT_LEAF_BITS is the first cluster); *out is the caller's to
 * free. */
int counts_leaves(const struct counts *c, uint64_t **out, size_t *n);

#endif
