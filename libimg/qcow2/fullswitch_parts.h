/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch_parts.h - what the steps of a full switch share: what has been worked out so far, and for whom.
 *
 * Each step has a file, and reads what the steps before it found: count fills deltas, L1 and marks; place says where
 * all that is new will lie; write aside changes the file, but nothing that the header names. fullswitch.c takes them in
 * turn and frees what they leave.
 */
#ifndef LIBIMG_QCOW2_FULLSWITCH_PARTS_H
#define LIBIMG_QCOW2_FULLSWITCH_PARTS_H

#include "deltas.h"

/* Writes that follow each other in the file go out together. */
struct batch {
    uint8_t *bytes;
    uint64_t start, used;
};

struct runs {
    struct freed_run *list; /* owned */
    size_t used, room;
};

struct switching {
    struct qcow2 *q;
    const struct full_switch *s;
    struct deltas d;
    uint64_t counted; /* the window whose deltas are in memory without what placing added; UINT64_MAX: none */

    uint64_t *l1;    /* the new one, host byte order */
    uint64_t *copy;  /* bits of L1 entries: their table is written anew */
    uint8_t **marks; /* of L1 entries: bits of L2 entries that get COPIED; NULL: none */
    uint64_t ncopies, nblocks;

    /* places, host clusters */
    uint64_t cursor, stop; /* where the search goes on, and ends */
    bool fresh;            /* it is behind everything that was ever handed out */
    bool last;             /* there is no other part to be searched */
    uint64_t looked;       /* for holes, so many times */
    uint64_t hole, data;   /* the host's hole that was found last, bytes: [hole, data) */
    uint64_t l1_place, l1_clusters, snapshots_place, snapshots_clusters, table_place, table_clusters;
    uint64_t *copies, *blocks; /* in the order of the bits */
    struct runs aside;         /* all of them */
    struct runs freed;         /* what counts 0 afterwards */

    uint64_t *table; /* the new refcount table, big endian */
    struct batch batch;
    uint64_t length; /* of the file, before it was made longer; UINT64_MAX: it was not */
};

static inline uint64_t to_clusters(const struct qcow2 *q, uint64_t bytes) {
    return (bytes + q->cluster_size - 1) >> q->cluster_bits;
}

static inline bool switching_copies(const struct switching *w, uint64_t index) {
    return w->copy[index / 64] >> index % 64 & 1;
}

/* NULL: no memory. */
struct switching *switching_new(struct qcow2 *q, const struct full_switch *s, struct img_error *err);
void switching_free(struct switching *w);
int switching_no_memory(struct switching *w, struct img_error *err);

/* fullswitch_count.c: sums, looks, and marks. Nothing has been written. */
int switching_read_next(struct switching *w, struct img_error *err);
int switching_count(struct switching *w, struct img_error *err);
/* The deltas of the window that begins at cluster `start`, without what placing adds. */
int switching_count_window(struct switching *w, uint64_t start, struct img_error *err);

/* fullswitch_place.c: a place for all that is new. */
int switching_place(struct switching *w, struct img_error *err);
bool switching_replaces_block(const struct switching *w, uint64_t number);
/* Behind all that are there, or merged with the last. False: no memory. */
bool runs_add(struct runs *r, uint64_t cluster, uint64_t count);

/* fullswitch_aside.c: everything but the header. */
int switching_write_aside(struct switching *w, struct img_error *err);
/* What was written is forgotten: nothing names it. */
void switching_forget_aside(struct switching *w);

#endif
