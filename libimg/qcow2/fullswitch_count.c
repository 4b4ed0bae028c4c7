/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch_count.c - the first step of a full switch: what changes.
 *
 * All deltas are summed window by window and looked at. Afterwards it is known which refcount blocks and L2 tables must
 * be written anew.
 */
#include "fullswitch_parts.h"

#include <errno.h>
#include <stdlib.h>

static void copy_table(struct switching *w, uint64_t index) {
    w->copy[index / 64] |= 1ull << index % 64;
}

/* ---- counting ---- */

struct counting {
    struct switching *w;
    int weight;
    bool next; /* it becomes the active tree, which gains */
    struct img_error *err;
};

static int count_table(void *opaque, uint64_t index, uint64_t entry, be64 *table) {
    struct counting *c = opaque;
    struct switching *w = c->w;
    uint64_t host = cluster_index(w->q, entry & QCOW2_OFFSET_MASK), entries = 1ull << w->q->l2_bits;
    bool own = false;
    for (uint64_t i = 0; i < entries; i++) {
        struct tree_names n;
        if (!table[i * w->q->words].raw)
            continue;
        int r = tree_names(w->q, table, i, &n, c->err);
        if (r == 0)
            r = deltas_add(&w->d, n.first, n.count, c->weight, c->err);
        if (r < 0)
            return r;
        own |= n.own;
    }
    if (c->next && own) { /* a copy without the flags, and nobody else names that */
        copy_table(w, index);
        return 0;
    }
    return deltas_add(&w->d, host, 1, c->weight, c->err);
}

int switching_count_window(struct switching *w, uint64_t start, struct img_error *err) {
    const struct full_switch *s = w->s;
    int r = 0;
    deltas_move(&w->d, start);
    w->counted = UINT64_MAX;
    for (unsigned i = 0; r == 0 && i < s->ntrees; i++) {
        struct counting c = {w, s->trees[i].weight, s->gains && i == 0, err};
        r = tree_walk(w->q, &s->trees[i].tree, count_table, &c, err);
    }
    for (unsigned i = 0; r == 0 && i < s->ngone; i++)
        r = deltas_add(&w->d, s->gone[i].cluster, s->gone[i].count, -1, err);
    if (r == 0 && s->lowered)
        r = deltas_forget_lost(&w->d, err);
    if (r == 0)
        w->counted = start;
    return r;
}

/* ---- flags that an active entry gets, as it is alone now ---- */

static int mark_entry(struct switching *w, uint64_t index, uint64_t i, struct img_error *err) {
    if (!w->marks[index] && !(w->marks[index] = calloc((1ull << w->q->l2_bits) / 8 + 1, 1)))
        return switching_no_memory(w, err);
    w->marks[index][i / 8] |= 1u << i % 8;
    copy_table(w, index);
    return 0;
}

static int mark_table(void *opaque, uint64_t index, uint64_t entry, be64 *table) {
    struct counting *c = opaque;
    struct switching *w = c->w;
    uint64_t host = cluster_index(w->q, entry & QCOW2_OFFSET_MASK), entries = 1ull << w->q->l2_bits;
    if (deltas_at(&w->d, host))
        w->l1[index] = (w->l1[index] & QCOW2_OFFSET_MASK) | (deltas_one(&w->d, host) ? QCOW2_COPIED : 0);
    for (uint64_t i = 0; i < entries; i++) {
        struct tree_names n;
        if (!table[i * w->q->words].raw)
            continue;
        int r = tree_names(w->q, table, i, &n, c->err);
        if (r < 0)
            return r;
        if (!n.standard || !deltas_at(&w->d, n.first))
            continue;
        if (n.own)
            return img_fail(c->err, -EIO,
                            "host cluster %llu of '%s' has COPIED although a snapshot names it too: the image must be "
                            "checked",
                            (unsigned long long)n.first, w->q->image->path);
        if (deltas_one(&w->d, n.first) && (r = mark_entry(w, index, i, c->err)) < 0)
            return r;
    }
    return 0;
}

/* The first step: sums, looks, and marks. */
int switching_count(struct switching *w, struct img_error *err) {
    uint64_t end = to_clusters(w->q, storage_size(w->q->file));
    struct counting c = {.w = w, .err = err};
    int r = 0;
    for (uint64_t start = 0; r == 0 && start < end; start += w->d.window) {
        r = switching_count_window(w, start, err);
        if (r == 0)
            r = deltas_check(&w->d, err);
        if (r == 0 && !w->s->gains && w->s->ntrees) /* else nothing that the tree names changes */
            r = tree_walk(w->q, &w->s->next, mark_table, &c, err);
    }
    if (r == 0 && w->s->refcount_order != w->q->header.refcount_order) /* every block is another one */
        for (uint64_t i = 0; i < w->q->refcounts.table_entries; i++)
            if (w->q->refcounts.table[i])
                deltas_touch(&w->d, i * w->d.old_per_block, w->d.old_per_block);
    for (uint64_t i = 0; r == 0 && i < w->s->next.entries; i++)
        w->ncopies += switching_copies(w, i);
    return r;
}

int switching_read_next(struct switching *w, struct img_error *err) {
    const struct full_switch *s = w->s;
    be64 *l1;
    w->l1_clusters = tree_l1_clusters(w->q, s->l1_size);
    w->l1 = calloc(w->l1_clusters << w->q->cluster_bits, 1);
    w->copy = calloc(s->l1_size / 64 + 1, 8);
    w->marks = calloc(s->l1_size, sizeof *w->marks);
    if (!w->l1 || !w->copy || !w->marks)
        return switching_no_memory(w, err);
    int r = tree_read_l1(w->q, &s->next, &l1, err);
    for (uint64_t i = 0; r == 0 && i < s->next.entries; i++)
        w->l1[i] = s->gains ? get64(l1[i]) & QCOW2_OFFSET_MASK : get64(l1[i]);
    free(l1);
    return r;
}
