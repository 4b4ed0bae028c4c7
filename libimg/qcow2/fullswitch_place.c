/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch_place.c - the second step of a full switch: free clusters for all that is new.
 *
 * The new counts count the new blocks and not the old ones, which may touch further blocks, so placing is repeated
 * until it changes nothing.
 *
 * In a file places are taken where the host has holes, so that counts that are wrong cost no data, and then from behind
 * everything that was ever handed out; on a device it is the other way round, and what counts 0 must do for a hole.
 */
#include "fullswitch_parts.h"

#include <errno.h>
#include <stdlib.h>

#define HOLES_MOST (1u << 20) /* looks into holes before it is not worth it */

bool runs_add(struct runs *r, uint64_t cluster, uint64_t count) {
    struct freed_run *last = r->used ? &r->list[r->used - 1] : NULL;
    if (last && last->cluster + last->count == cluster) {
        last->count += count;
        return true;
    }
    if (r->used == r->room) {
        size_t room = r->room * 2 + 16;
        struct freed_run *larger = realloc(r->list, room * sizeof *larger);
        if (!larger)
            return false;
        r->list = larger;
        r->room = room;
    }
    r->list[r->used++] = (struct freed_run){cluster, count};
    return true;
}

static void search(struct switching *w, bool fresh) {
    w->fresh = fresh;
    w->cursor = fresh ? w->q->alloc.fresh : 1;
    w->stop = fresh ? w->q->alloc.limit : w->q->alloc.fresh;
}

/* After a deletion without room whatever counts 0 will do, but not while what lies there is still to be read. */
static bool old_part_allowed(const struct switching *w) {
    return !w->s->lowered || to_clusters(w->q, storage_size(w->q->file)) <= w->d.window;
}

static bool only_holes(const struct switching *w) {
    return !w->fresh && !w->q->file->fixed_size && !w->s->lowered;
}

/* The first cluster from `at` on that lies in a hole of the host's, or `stop`. A file in many pieces is not looked
 * through to its end. */
static uint64_t next_hole(struct switching *w, uint64_t at) {
    struct storage *file = w->q->file;
    uint64_t size = w->q->cluster_size, end = storage_size(file);
    for (uint64_t from = at * size; at < w->stop && from < end && w->looked++ < HOLES_MOST;
         at = to_clusters(w->q, from)) {
        struct storage_extent e = {.length = end - from};
        if (from >= w->hole && from + size <= w->data)
            return at;
        if (file->ops->extent(file, from, end - from, &e) < 0 || !e.length)
            break;
        if (e.zero) {
            w->hole = from;
            w->data = from + e.length;
        }
        if (e.zero && e.length >= size)
            return at;
        from = to_clusters(w->q, from + e.length) * size;
    }
    return w->stop;
}

/* Goes to the next cluster that may be taken if it counts 0. False: there is none. */
static bool find_candidate(struct switching *w) {
    if (only_holes(w))
        w->cursor = next_hole(w, w->cursor);
    return w->cursor < w->stop;
}

/* `n` clusters side by side that count 0. */
static int place(struct switching *w, uint64_t n, uint64_t *first, struct img_error *err) {
    uint64_t run = 0, next = w->cursor;
    while (run < n) {
        uint64_t count;
        if (!find_candidate(w)) {
            if (w->last)
                return img_fail(err, -ENOSPC, "'%s' has no room for %llu more clusters side by side", w->q->image->path,
                                (unsigned long long)n);
            w->last = true;
            search(w, !w->fresh);
            run = 0;
            continue;
        }
        int r = deltas_old_count(&w->d, w->cursor, &count, err);
        if (r < 0)
            return r;
        run = count ? 0 : w->cursor == next ? run + 1 : 1;
        next = ++w->cursor;
    }
    *first = n ? w->cursor - n : 0;
    return !n || runs_add(&w->aside, *first, n) ? 0 : switching_no_memory(w, err);
}

static uint64_t count_groups(const struct switching *w, uint64_t *highest) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < DELTAS_MAX_GROUPS / 64; i++) {
        n += __builtin_popcountll(w->d.touched[i]);
        if (w->d.touched[i])
            *highest = i * 64 + 63 - __builtin_clzll(w->d.touched[i]);
    }
    return n;
}

/* Finds places for everything as it is known now. */
static int place_all(struct switching *w, struct img_error *err) {
    w->last = !old_part_allowed(w);
    search(w, w->last || (w->q->file->fixed_size && !w->s->lowered));
    w->looked = w->hole = w->data = 0;
    w->aside.used = 0;
    free(w->blocks);
    w->blocks = calloc(w->nblocks + 1, sizeof *w->blocks);
    if (!w->blocks)
        return switching_no_memory(w, err);
    int r = place(w, w->l1_clusters, &w->l1_place, err);
    if (r == 0)
        r = place(w, w->snapshots_clusters, &w->snapshots_place, err);
    if (r == 0)
        r = place(w, w->table_clusters, &w->table_place, err);
    for (uint64_t i = 0; r == 0 && i < w->ncopies; i++)
        r = place(w, 1, &w->copies[i], err);
    for (uint64_t i = 0; r == 0 && i < w->nblocks; i++)
        r = place(w, 1, &w->blocks[i], err);
    return r;
}

bool switching_replaces_block(const struct switching *w, uint64_t number) {
    const struct qcow2 *q = w->q;
    if (!q->refcounts.table[number])
        return false;
    return w->s->refcount_order != q->header.refcount_order ||
           (number < DELTAS_MAX_GROUPS && deltas_touched(&w->d, number));
}

/* What the places change in turn. */
static void touch_places(struct switching *w) {
    struct qcow2 *q = w->q;
    for (size_t i = 0; i < w->aside.used; i++)
        deltas_touch(&w->d, w->aside.list[i].cluster, w->aside.list[i].count);
    for (uint64_t i = 0; i < q->refcounts.table_entries; i++)
        if (switching_replaces_block(w, i))
            deltas_touch(&w->d, cluster_index(q, q->refcounts.table[i]), 1);
}

int switching_place(struct switching *w, struct img_error *err) {
    struct qcow2 *q = w->q;
    w->copies = calloc(w->ncopies + 1, sizeof *w->copies);
    if (!w->copies)
        return switching_no_memory(w, err);
    w->snapshots_clusters = to_clusters(q, w->s->snapshots_bytes);
    w->table_clusters = w->s->refcount_order == q->header.refcount_order ? q->header.refcount_table_clusters : 1;
    deltas_touch(&w->d, cluster_index(q, q->header.refcount_table_offset), q->header.refcount_table_clusters);
    if (!w->s->gains)
        for (uint64_t i = 0; i < w->s->next.entries; i++)
            if (switching_copies(w, i))
                deltas_touch(&w->d, cluster_index(q, w->l1[i] & QCOW2_OFFSET_MASK), 1);
    for (uint64_t blocks = 0, clusters = 0;;) {
        uint64_t highest = 0;
        touch_places(w);
        w->nblocks = count_groups(w, &highest);
        if (to_clusters(q, (highest + 1) * 8) > w->table_clusters)
            w->table_clusters = to_clusters(q, (highest + 1) * 8);
        if (blocks && w->nblocks == blocks && w->table_clusters == clusters)
            break;
        blocks = w->nblocks;
        clusters = w->table_clusters;
        int r = place_all(w, err);
        if (r < 0)
            return r;
        const struct freed_run *last = &w->aside.list[w->aside.used - 1];
        if ((last->cluster + last->count) / w->d.per_block >= DELTAS_MAX_GROUPS ||
            w->table_clusters << q->cluster_bits > QCOW2_MAX_REFCOUNT_TABLE_BYTES)
            return img_fail(err, -EFBIG, "the refcount table of '%s' cannot grow past %u bytes", q->image->path,
                            QCOW2_MAX_REFCOUNT_TABLE_BYTES);
    }
    return 0;
}
