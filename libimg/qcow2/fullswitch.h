/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch.h - the change of counts and COPIED flags of existing clusters, selected by one write of header sector 0.
 *
 * The caller says which trees gain or lose a reference, which one becomes the active state, what else is given up and
 * what the header says afterwards. The switch writes aside whatever must differ: L2 tables whose flags change, a new
 * L1, refcount blocks and a refcount table, the snapshot table. A power cut leaves the image exactly as before or
 * exactly as after; in neither case does anything leak.
 */
#ifndef LIBIMG_QCOW2_FULLSWITCH_H
#define LIBIMG_QCOW2_FULLSWITCH_H

#include "tree.h"

enum { FULL_SWITCH_TREES = 2, FULL_SWITCH_GONE = 4 };

struct full_switch {
    /* Everything that the tree names, its L2 tables among it but not its L1, is named once more (1) or once less (-1).
     */
    struct {
        struct tree tree;
        int weight;
    } trees[FULL_SWITCH_TREES];
    unsigned ntrees;

    /* The active state afterwards: entries of this tree, then none up to l1_size, which is not 0. Where `gains`,
     * trees[0] is the same tree and gains it: no cluster of it belongs to the active state alone, so no entry has
     * COPIED. Else it is the active state of before, and an entry gets COPIED where the other tree's loss leaves it
     * alone. */
    struct tree next;
    bool gains;
    uint32_t l1_size;

    struct freed_run gone[FULL_SWITCH_GONE]; /* each cluster is named once less */
    unsigned ngone;

    const void *snapshots; /* the snapshot table */
    size_t snapshots_bytes;
    uint32_t nsnapshots;
    uint64_t size;           /* of the disk */
    unsigned refcount_order; /* of the counts */
    bool lowered;            /* counts of what is lost may have fallen to 0 already */
};

/* A switch that keeps everything as it is but for the place of L1 and of the snapshot table, whose bytes are the
 * caller's. The old snapshot table is given up; the old L1 is not, as it may become a snapshot's. */
struct full_switch full_switch_unchanged(const struct qcow2 *q, const void *snapshots, size_t bytes,
                                         uint32_t nsnapshots);
/* The clusters of an L1 table are named once less. */
void full_switch_give_up_l1(const struct qcow2 *q, struct full_switch *s, uint64_t offset, uint32_t entries);

/* Role held, nothing runs, the file is what memory says (qcow2_rest) and an L1 without holes in memory is not needed:
 * the caller has nothing in flight. What header fields the caller set besides those above go along. On success the
 * image in memory is the new one; an error before the header is written leaves file and header as they were (but for
 * the fields that the caller set); -EOVERFLOW: a count would not fit. */
int full_switch(struct qcow2 *q, const struct full_switch *s, struct img_error *err);

/* The same arithmetic without a switch: counts that the losses of `s` bring to 0 are set to 0 in place. For a tree that
 * nobody names any more. */
int full_switch_lower(struct qcow2 *q, const struct full_switch *s, struct img_error *err);

#ifdef IMG_DEBUG
extern uint64_t full_switch_window; /* clusters; tests make it small */
#endif

#endif
