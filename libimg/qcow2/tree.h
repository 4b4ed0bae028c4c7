/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tree.h - one mapping of guest clusters to host clusters as it lies in the file: an L1 table and its L2 tables.
 *
 * For work on whole states (snapshots, the switch between them) that knows no cache: the file must be what memory says.
 */
#ifndef LIBIMG_QCOW2_TREE_H
#define LIBIMG_QCOW2_TREE_H

#include "qcow2.h"

struct tree {
    uint64_t l1_offset;
    uint32_t entries; /* of L1 that belong to it */
};

static inline uint64_t tree_l1_clusters(const struct qcow2 *q, uint64_t entries) {
    return (entries * 8 + q->cluster_size - 1) >> q->cluster_bits;
}

/* The host clusters of the image's file that an L2 entry names: none, one, or those of a compressed cluster; none where
 * the data lie in a file of their own. `own`: it has COPIED. */
struct tree_names {
    uint64_t first, count;
    bool standard, own;
};

/* What the entry at `index` of a table names. -EIO: it names what cannot be. */
int tree_names(const struct qcow2 *q, const be64 *table, uint64_t index, struct tree_names *names,
               struct img_error *err);

/* -EIO: an L1 entry, not 0, that cannot be. */
int tree_check_entry(struct qcow2 *q, uint64_t index, uint64_t entry, struct img_error *err);

/* L1 as it is in the file; *l1 is the caller's to free, of one entry at least. Every entry is checked: reserved bits,
 * alignment, inside the file, and no table is named twice. */
int tree_read_l1(struct qcow2 *q, const struct tree *t, be64 **out, struct img_error *err);

/* Reads L2 tables one after the other; begins with `q` set. What lies in a hole is not read. The file's extents are
 * remembered, so nobody may write to these tables in between. */
struct tree_reader {
    struct qcow2 *q;
    uint64_t start, end; /* what is known of the file: host bytes [start, end) */
    bool zero;           /* they are a hole */
};
/* Into a cluster's buffer. */
int tree_read_table(struct tree_reader *t, uint64_t host, be64 *table, struct img_error *err);

/* Calls `visit` for each L2 table that is there, in guest order. `table` stands until it returns, and it may be changed
 * there; a table that lies in a hole is given as zeroes. A negative result ends the walk. */
typedef int (*tree_visit)(void *opaque, uint64_t l1_index, uint64_t l1_entry, be64 *table);
int tree_walk(struct qcow2 *q, const struct tree *t, tree_visit visit, void *opaque, struct img_error *err);

#endif
