/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch.c - see fullswitch.h.
 *
 * Three steps (fullswitch_parts.h): count what changes, find places for all that is new, write it aside. Then the
 * header is written, with a barrier on either side. The host gets back what counts 0 afterwards, once the header is
 * durable.
 */
#include "fullswitch_parts.h"

#include <errno.h>
#include <stdlib.h>

struct full_switch full_switch_unchanged(const struct qcow2 *q, const void *snapshots, size_t bytes,
                                         uint32_t nsnapshots) {
    const struct qcow2_header *h = &q->header;
    struct full_switch s = {
        .next = {h->l1_offset, h->l1_size},
        .l1_size = h->l1_size ? h->l1_size : 1,
        .snapshots = snapshots,
        .snapshots_bytes = nsnapshots ? bytes : 0,
        .nsnapshots = nsnapshots,
        .size = h->size,
        .refcount_order = h->refcount_order,
    };
    if (h->nb_snapshots)
        s.gone[s.ngone++] =
            (struct freed_run){cluster_index(q, h->snapshots_offset), to_clusters(q, q->snapshots.bytes)};
    return s;
}

void full_switch_give_up_l1(const struct qcow2 *q, struct full_switch *s, uint64_t offset, uint32_t entries) {
    struct freed_run run = {cluster_index(q, offset), tree_l1_clusters(q, entries)};
    if (run.count)
        s->gone[s->ngone++] = run;
}

int switching_no_memory(struct switching *w, struct img_error *err) {
    return img_fail(err, -ENOMEM, "no memory to change the counts of '%s'", w->q->image->path);
}

struct switching *switching_new(struct qcow2 *q, const struct full_switch *s, struct img_error *err) {
    struct switching *w = calloc(1, sizeof *w);
    if (!w) {
        img_fail(err, -ENOMEM, "no memory to change the counts of '%s'", q->image->path);
        return NULL;
    }
    w->q = q;
    w->s = s;
    w->counted = w->length = UINT64_MAX;
    return w;
}

void switching_free(struct switching *w) {
    for (uint64_t i = 0; w->marks && i < w->s->l1_size; i++)
        free(w->marks[i]);
    free(w->marks);
    free(w->l1);
    free(w->copy);
    free(w->copies);
    free(w->blocks);
    free(w->aside.list);
    free(w->freed.list);
    free(w->table);
    free(w->batch.bytes);
    deltas_free(&w->d);
    free(w);
}

static void set_header(struct switching *w) {
    struct qcow2_header *h = &w->q->header;
    const struct full_switch *s = w->s;
    h->l1_offset = w->l1_place << w->q->cluster_bits;
    h->l1_size = s->l1_size;
    h->refcount_table_offset = w->table_place << w->q->cluster_bits;
    h->refcount_table_clusters = w->table_clusters;
    h->snapshots_offset = s->nsnapshots ? w->snapshots_place << w->q->cluster_bits : 0;
    h->nb_snapshots = s->nsnapshots;
    h->size = s->size;
    h->refcount_order = s->refcount_order;
}

static int switch_header(struct switching *w, struct img_error *err) {
    struct qcow2_header *h = &w->q->header, before = *h;
    set_header(w);
    int r = header_switch(w->q, err);
    if (r == -ENOSPC && h->lineage_length && !atomic_load(&w->q->failed)) { /* no room for what can be done without */
        h->lineage_length = 0;
        h->autoclear &= ~QCOW2_AUTOCLEAR_LINEAGE;
        r = header_switch(w->q, err);
    }
    if (r < 0 && !atomic_load(&w->q->failed)) { /* it was not written */
        *h = before;
        header_encode(h);
    }
    return r;
}

static int run(struct switching *w, struct img_error *err) {
    int r = deltas_init(&w->d, w->q, w->s->refcount_order, err);
    if (r == 0)
        r = switching_read_next(w, err);
    if (r == 0)
        r = switching_count(w, err);
    if (r == 0)
        r = switching_place(w, err);
    if (r == 0)
        r = switching_write_aside(w, err);
    if (r == 0)
        r = switch_header(w, err);
    if (r < 0)
        switching_forget_aside(w);
    return r;
}

/* Nothing is known to be zero any more: places for the new are taken from what is free, and may be free again soon. */
static void forget_free(struct qcow2 *q) {
    SCOPED_SPIN(&q->alloc.lock);
    free_list_cut(&q->alloc.free, 0);
    q->alloc.scan = 1;
}

static void give_back(struct switching *w) {
    struct storage *file = w->q->file;
    uint64_t size = storage_size(file);
    for (size_t i = 0; i < w->freed.used; i++) {
        uint64_t at = w->freed.list[i].cluster << w->q->cluster_bits,
                 end = at + (w->freed.list[i].count << w->q->cluster_bits);
        if (at < size && file->ops->punch(file, at, (end < size ? end : size) - at) < 0)
            break; /* nor will the others */
    }
}

/* Where the area begins that was never handed out. */
static uint64_t fresh_afterwards(const struct switching *w) {
    if (w->fresh)
        return w->cursor;
    return w->q->file->fixed_size && !w->s->lowered ? w->q->alloc.limit : w->q->alloc.fresh;
}

int full_switch(struct qcow2 *q, const struct full_switch *s, struct img_error *err) {
    struct switching *w = switching_new(q, s, err);
    if (!w)
        return -ENOMEM;
    forget_free(q);
    int r = run(w, err);
    if (r == 0)
        r = qcow2_adopt(q, fresh_afterwards(w), err);
    if (r == 0)
        give_back(w);
    switching_free(w);
    return r;
}
