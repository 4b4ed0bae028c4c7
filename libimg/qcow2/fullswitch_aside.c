/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch_aside.c - the third step of a full switch: everything but the header is written, where nothing lay.
 *
 * The clusters of it count 0 in the file before the switch, so a cut there leaks nothing; the blocks aside count them 1
 * and what they replace 0, so a cut afterwards leaks nothing either.
 */
#include "fullswitch_parts.h"

#include <errno.h>
#include <stdlib.h>

#define BATCH (256u << 10)
#define FREED_MOST (1u << 20) /* runs that are remembered */

static int store_batch(struct switching *w, struct img_error *err) {
    struct batch *b = &w->batch;
    int r = b->used ? storage_write(w->q->file, b->bytes, b->used, b->start) : 0;
    b->used = 0;
    if (r < 0)
        metadata_write_failed(w->q, r, "the host could not write tables aside");
    return r < 0 ? img_fail_errno(err, r, "could not write new tables of '%s'", w->q->image->path) : 0;
}

/* Gives room for one cluster at `cluster`, which is written with the others. NULL: an error, in *err and *r. */
static uint8_t *batch_cluster(struct switching *w, uint64_t cluster, int *r, struct img_error *err) {
    struct batch *b = &w->batch;
    uint64_t at = cluster << w->q->cluster_bits, room = BATCH > w->q->cluster_size ? BATCH : w->q->cluster_size;
    *r = 0;
    if (!b->bytes && !(b->bytes = malloc(room)))
        *r = switching_no_memory(w, err);
    else if (b->used && (b->start + b->used != at || b->used + w->q->cluster_size > room))
        *r = store_batch(w, err);
    if (*r < 0)
        return NULL;
    if (!b->used)
        b->start = at;
    b->used += w->q->cluster_size;
    return b->bytes + b->used - w->q->cluster_size;
}

static int write_whole(struct switching *w, const void *bytes, uint64_t count, uint64_t cluster,
                       struct img_error *err) {
    int r = count ? storage_write(w->q->file, bytes, count, cluster << w->q->cluster_bits) : 0;
    if (r < 0)
        metadata_write_failed(w->q, r, "the host could not write tables aside");
    return r < 0 ? img_fail_errno(err, r, "could not write new tables of '%s'", w->q->image->path) : 0;
}

static void set_flags(const struct switching *w, be64 *table, const uint8_t *marks) {
    for (uint64_t i = 0; i < 1ull << w->q->l2_bits; i++) {
        be64 *word = &table[i * w->q->words];
        if (w->s->gains && !(get64(*word) & QCOW2_COMPRESSED))
            *word = put64(get64(*word) & ~QCOW2_COPIED);
        if (marks && marks[i / 8] >> i % 8 & 1)
            *word = put64(get64(*word) | QCOW2_COPIED);
    }
}

static int write_copies(struct switching *w, struct img_error *err) {
    int r = 0;
    struct tree_reader reader = {.q = w->q};
    for (uint64_t i = 0, n = 0; r == 0 && i < w->s->next.entries; i++) {
        if (!switching_copies(w, i))
            continue;
        be64 *table = (be64 *)batch_cluster(w, w->copies[n], &r, err);
        if (r == 0)
            r = tree_read_table(&reader, w->l1[i] & QCOW2_OFFSET_MASK, table, err);
        if (r < 0)
            break;
        set_flags(w, table, w->marks[i]);
        w->l1[i] = w->copies[n++] << w->q->cluster_bits | QCOW2_COPIED;
    }
    return r < 0 ? r : store_batch(w, err);
}

static int write_l1(struct switching *w, struct img_error *err) {
    for (uint64_t i = 0; i < w->s->l1_size; i++)
        w->l1[i] = htobe64(w->l1[i]);
    return write_whole(w, w->l1, w->l1_clusters << w->q->cluster_bits, w->l1_place, err);
}

/* What placing adds to the deltas of the window. `tables`: of L2 tables that are written anew and belonged to the
 * active state (the old L1 entries are needed, so it comes before the copies). */
static int add_places(struct switching *w, const uint64_t *tables, struct img_error *err) {
    struct qcow2 *q = w->q;
    int r = deltas_add(&w->d, cluster_index(q, q->header.refcount_table_offset), q->header.refcount_table_clusters, -1,
                       err);
    w->counted = UINT64_MAX;
    for (size_t i = 0; r == 0 && i < w->aside.used; i++)
        r = deltas_add(&w->d, w->aside.list[i].cluster, w->aside.list[i].count, 1, err);
    for (uint64_t i = 0; r == 0 && i < q->refcounts.table_entries; i++)
        if (switching_replaces_block(w, i))
            r = deltas_add(&w->d, cluster_index(q, q->refcounts.table[i]), 1, -1, err);
    for (uint64_t i = 0; r == 0 && tables && i < w->ncopies; i++)
        r = deltas_add(&w->d, tables[i], 1, -1, err);
    return r;
}

/* What is not remembered only stays stored. */
static void note_freed(struct switching *w, uint64_t group) {
    uint64_t first = group * w->d.per_block, count;
    for (uint64_t c = first; c < first + w->d.per_block && w->freed.used < FREED_MOST; c++)
        if (deltas_at(&w->d, c) < 0 && deltas_new_count(&w->d, c, &count, NULL) == 0 && !count)
            (void)runs_add(&w->freed, c, 1);
}

static int write_blocks(struct switching *w, const uint64_t *tables, struct img_error *err) {
    struct qcow2 *q = w->q;
    uint64_t written = 0;
    int r = 0;
    for (uint64_t group = 0; r == 0 && written < w->nblocks; group++) {
        uint64_t start = group * w->d.per_block, window = start - start % w->d.window;
        if (!deltas_touched(&w->d, group))
            continue;
        if (written == 0 || w->d.start != window) {
            if (w->counted != window)
                r = switching_count_window(w, window, err);
            if (r == 0)
                r = add_places(w, tables, err);
        }
        uint8_t *block = r == 0 ? batch_cluster(w, w->blocks[written], &r, err) : NULL;
        if (r == 0)
            r = deltas_block(&w->d, group, block, err);
        if (r == 0)
            w->table[group] = htobe64(w->blocks[written++] << q->cluster_bits);
        if (r == 0)
            note_freed(w, group);
    }
    return r < 0 ? r : store_batch(w, err);
}

/* The old table's entries, where their blocks stay. */
static int begin_table(struct switching *w, struct img_error *err) {
    struct qcow2 *q = w->q;
    uint64_t bytes = w->table_clusters << q->cluster_bits;
    w->table = calloc(1, bytes);
    if (!w->table)
        return switching_no_memory(w, err);
    for (uint64_t i = 0; i < q->refcounts.table_entries && i < bytes / 8; i++)
        if (!switching_replaces_block(w, i))
            w->table[i] = htobe64(q->refcounts.table[i]);
    return 0;
}

/* As much as is needed, and no more. */
static int lengthen(struct switching *w, struct img_error *err) {
    struct qcow2 *q = w->q;
    uint64_t end = 0;
    for (size_t i = 0; i < w->aside.used; i++)
        if (end < w->aside.list[i].cluster + w->aside.list[i].count)
            end = w->aside.list[i].cluster + w->aside.list[i].count;
    end <<= q->cluster_bits;
    if (q->file->fixed_size || end <= q->alloc.length)
        return 0;
    uint64_t before = q->alloc.length;
    int r = q->file->ops->truncate(q->file, end);
    if (r < 0)
        return img_fail_errno(err, r, "could not lengthen '%s' to %llu bytes", q->image->path, (unsigned long long)end);
    w->length = before;
    q->alloc.length = end;
    return 0;
}

int switching_write_aside(struct switching *w, struct img_error *err) {
    uint64_t *tables = NULL;
    int r = lengthen(w, err);
    if (r == 0 && !w->s->gains && w->ncopies) {
        uint64_t n = 0;
        tables = calloc(w->ncopies, sizeof *tables);
        for (uint64_t i = 0; tables && i < w->s->next.entries; i++)
            if (switching_copies(w, i))
                tables[n++] = cluster_index(w->q, w->l1[i] & QCOW2_OFFSET_MASK);
        r = tables ? 0 : switching_no_memory(w, err);
    }
    if (r == 0)
        r = begin_table(w, err);
    if (r == 0)
        r = write_blocks(w, tables, err);
    if (r == 0)
        r = write_copies(w, err);
    if (r == 0)
        r = write_l1(w, err);
    if (r == 0)
        r = write_whole(w, w->table, w->table_clusters << w->q->cluster_bits, w->table_place, err);
    if (r == 0)
        r = write_whole(w, w->s->snapshots, w->s->snapshots_bytes, w->snapshots_place, err);
    free(tables);
    return r;
}

void switching_forget_aside(struct switching *w) {
    struct qcow2 *q = w->q;
    if (w->length == UINT64_MAX || atomic_load(&q->failed))
        return;
    if (q->file->ops->truncate(q->file, w->length) < 0)
        q->alloc.fresh_is_zero = false;
    else
        q->alloc.length = w->length;
}
