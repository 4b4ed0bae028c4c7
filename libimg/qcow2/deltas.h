/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* deltas.h - by how much the counts of host clusters change: for one window of clusters at a time.
 *
 * A window bounds the memory, whatever the size of the image: 64 MiB of deltas cover 1 TiB at the usual 64 KiB. Larger
 * images take several passes over the L2 tables. What spans the windows is one bit for each refcount block: does any
 * count in it change?
 */
#ifndef LIBIMG_QCOW2_DELTAS_H
#define LIBIMG_QCOW2_DELTAS_H

#include "fullswitch.h"

enum { DELTAS_MAX_GROUPS = QCOW2_MAX_REFCOUNT_TABLE_BYTES / 8 };

struct deltas {
    struct qcow2 *q;
    unsigned order;                           /* of the new counts */
    uint64_t per_block, max;                  /* of the new counts; a block covers a "group" of clusters */
    uint64_t old_per_block;                   /* of the counts in the file */
    uint8_t *block;                           /* a block of the file */
    uint64_t block_number;                    /* which; UINT64_MAX: none */
    int32_t *delta;                           /* of the window's clusters */
    uint64_t start, window;                   /* clusters [start, start + window) */
    uint64_t *one;                            /* bits of the window: the count is 1 afterwards */
    uint64_t touched[DELTAS_MAX_GROUPS / 64]; /* groups with a count that changes; kept over windows */
};

/* Memory: the window is only there as far as it is touched. */
int deltas_init(struct deltas *d, struct qcow2 *q, unsigned order, struct img_error *err);
void deltas_free(struct deltas *d);
/* All of the window is 0 again, and it begins at `start`. */
void deltas_move(struct deltas *d, uint64_t start);
/* Clusters outside of the window are left out, and so is what no table could count. */
int deltas_add(struct deltas *d, uint64_t first, uint64_t count, int weight, struct img_error *err);
void deltas_touch(struct deltas *d, uint64_t first, uint64_t count);
static inline bool deltas_touched(const struct deltas *d, uint64_t group) {
    return d->touched[group / 64] >> group % 64 & 1;
}
static inline int32_t deltas_at(const struct deltas *d, uint64_t cluster) {
    return cluster - d->start < d->window ? d->delta[cluster - d->start] : 0;
}
static inline bool deltas_one(const struct deltas *d, uint64_t cluster) {
    uint64_t i = cluster - d->start;
    return i < d->window && d->one[i / 64] >> i % 64 & 1;
}
/* The count in the file; 0 where no block covers it. */
int deltas_old_count(struct deltas *d, uint64_t cluster, uint64_t *count, struct img_error *err);
/* The count afterwards: -EOVERFLOW, or -EIO when it contradicts what is there. */
int deltas_new_count(struct deltas *d, uint64_t cluster, uint64_t *count, struct img_error *err);
/* Losses of clusters that count 0 already are none: such a cluster may be given to something else. */
int deltas_forget_lost(struct deltas *d, struct img_error *err);
/* Looks at each count of the window that changes, and notes which become 1. */
int deltas_check(struct deltas *d, struct img_error *err);
/* The block of a group that lies in the window, as it will be; `out` holds a cluster. */
int deltas_block(struct deltas *d, uint64_t group, uint8_t *out, struct img_error *err);

#endif
