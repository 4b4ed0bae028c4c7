/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* refgrow.c - the birth of refcount blocks, and a larger refcount table.
 *
 * The file grows into an area (a group) that no refcount block covers. The block is placed first in the area it covers,
 * written complete with its own count, and a barrier passes (phase 0) before the table in memory names it; the entry
 * goes to disk with the counts of the next round, and only now are clusters of the group handed out. When the table
 * itself is full, a new one is written behind the blocks that count it, and a light switch selects it.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BLOCKS 64

/* Writes the block of `group` at `place` with counts of one for clusters [first, first + count). */
static int write_block(struct qcow2 *q, uint64_t group, uint64_t place, uint64_t first, uint64_t count,
                       struct img_error *err) {
    struct refcounts *rc = &q->refcounts;
    uint64_t start = group * rc->per_block;
    uint8_t *block = calloc(1, q->cluster_size);
    if (!block)
        return img_fail(err, -ENOMEM, "no memory for a refcount block of %llu bytes",
                        (unsigned long long)q->cluster_size);
    for (uint64_t c = first; c < first + count; c++)
        if (c >= start && c - start < rc->per_block)
            refcount_put_raw(block, q->header.refcount_order, c - start, 1);
    int r = storage_write(q->file, block, q->cluster_size, place << q->cluster_bits);
    free(block);
    if (r < 0)
        metadata_write_failed(q, r, "the host could not write a refcount block");
    return r < 0 ? img_fail_errno(err, r, "could not write a refcount block of '%s'", q->image->path) : 0;
}

static void set_table_entry(struct qcow2 *q, uint64_t group, uint64_t place) {
    struct refcounts *rc = &q->refcounts;
    SCOPED_MUTEX(&rc->lock);
    rc->table[group] = place << q->cluster_bits;
    rc->table_dirty[group / 64 / 64] |= 1ull << (group / 64 % 64);
    rc->any_table_dirty = true;
}

/* How many groups from `group` on begin in what the file has become long enough for: with small clusters and wide
 * counts one step of its growth needs many blocks, and one barrier serves them all. */
static uint64_t groups_ahead(const struct qcow2 *q, uint64_t group) {
    uint64_t per_block = q->refcounts.per_block, end = q->alloc.length >> q->cluster_bits, n = 1;
    while (n < MAX_BLOCKS && group + n < q->refcounts.table_entries && (group + n) * per_block < end &&
           !q->refcounts.table[group + n])
        n++;
    return n;
}

/* The blocks of `n` groups from `group` on: the first at `place`, the others first in their own groups or beside it. */
struct births {
    uint64_t group, n, place;
    bool side_by_side;
};

static uint64_t place_of(const struct qcow2 *q, const struct births *b, uint64_t i) {
    return i == 0 ? b->place : b->side_by_side ? b->place + i : (b->group + i) * q->refcounts.per_block;
}

/* The fresh area goes on behind the first of them, or behind all that lie beside it. */
static int make_blocks(struct qcow2 *q, const struct births *b, struct img_error *err) {
    struct allocator *a = &q->alloc;
    uint64_t beside = b->side_by_side ? b->n : 1;
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < b->n; i++) {
        uint64_t at = place_of(q, b, i);
        r = write_block(q, b->group + i, at, b->side_by_side ? b->place : at, beside, err);
    }
    if (r == 0 && (r = barrier(q, false)) < 0)
        img_fail_errno(err, r, "could not make refcount blocks of '%s' durable", q->image->path);
    if (r < 0) {
        a->fresh_is_zero = false; /* some may have been written */
        return r;
    }
    for (uint64_t i = 0; i < b->n; i++) {
        metadata_add(q, place_of(q, b, i));
        set_table_entry(q, b->group + i, place_of(q, b, i));
    }
    if (b->place > a->fresh)
        alloc_free(q, a->fresh, b->place - a->fresh, a->fresh_is_zero);
    a->fresh = b->place + beside;
    return 0;
}

static int grow_blocks(struct qcow2 *q, uint64_t group, struct img_error *err) {
    uint64_t start = group * q->refcounts.per_block;
    struct births b = {.group = group, .place = q->alloc.fresh > start ? q->alloc.fresh : start};
    int r = alloc_lengthen(q, b.place + 1, err);
    if (r < 0)
        return r;
    b.n = groups_ahead(q, group); /* as far as the file is long now */
    return make_blocks(q, &b, err);
}

/* The new table and the blocks that count it and themselves: [blocks][table], from the first group without a place in
 * the old table on. */
struct layout {
    uint64_t first_group, first_cluster;
    uint64_t blocks, table_clusters;
};

static bool plan_layout(struct qcow2 *q, uint64_t cluster, struct layout *l) {
    struct refcounts *rc = &q->refcounts;
    uint64_t entries_per_cluster = q->cluster_size / 8;
    l->first_group = rc->table_entries;
    l->first_cluster = l->first_group * rc->per_block;
    if (q->alloc.fresh > l->first_cluster)
        l->first_cluster = q->alloc.fresh;
    if (cluster > l->first_cluster)
        l->first_cluster = cluster;
    l->blocks = 1;
    l->table_clusters = q->header.refcount_table_clusters * 2ull;
    for (;;) {
        uint64_t last = l->first_cluster + l->blocks + l->table_clusters - 1;
        uint64_t blocks = last / rc->per_block - l->first_group + 1;
        uint64_t clusters = (l->first_group + blocks + entries_per_cluster - 1) / entries_per_cluster;
        if (blocks <= l->blocks && clusters <= l->table_clusters)
            break;
        if (blocks > l->blocks)
            l->blocks = blocks;
        if (clusters > l->table_clusters)
            l->table_clusters = clusters;
    }
    return l->table_clusters << q->cluster_bits <= QCOW2_MAX_REFCOUNT_TABLE_BYTES;
}

static int write_table(struct qcow2 *q, const uint64_t *table, uint64_t bytes, uint64_t place, struct img_error *err) {
    uint64_t *disk = malloc(bytes);
    if (!disk)
        return img_fail(err, -ENOMEM, "no memory for a refcount table of %llu bytes", (unsigned long long)bytes);
    for (uint64_t i = 0; i < bytes / 8; i++)
        disk[i] = htobe64(table[i]);
    int r = storage_write(q->file, disk, bytes, place);
    free(disk);
    return r < 0 ? img_fail_errno(err, r, "could not write the new refcount table of '%s'", q->image->path) : 0;
}

/* After the switch: the old table is free, the new one is ours. */
static void adopt_table(struct qcow2 *q, const struct layout *l, uint64_t *table, uint64_t *dirty, struct freed *old) {
    struct refcounts *rc = &q->refcounts;
    pthread_mutex_lock(&rc->lock);
    free(rc->table);
    free(rc->table_dirty);
    rc->table = table;
    rc->table_dirty = dirty;
    rc->table_entries = (l->table_clusters << q->cluster_bits) / 8;
    rc->any_table_dirty = false;
    pthread_mutex_unlock(&rc->lock);
    for (uint64_t i = 0; i < l->blocks + l->table_clusters; i++)
        metadata_add(q, l->first_cluster + i);
    limbo_add(q, old);
}

static int grow_table(struct qcow2 *q, uint64_t cluster, struct img_error *err) {
    struct refcounts *rc = &q->refcounts;
    struct allocator *a = &q->alloc;
    struct layout l;
    if (!plan_layout(q, cluster, &l))
        return img_fail(err, -EFBIG, "the refcount table of '%s' cannot grow past %u bytes", q->image->path,
                        QCOW2_MAX_REFCOUNT_TABLE_BYTES);
    uint64_t total = l.blocks + l.table_clusters, bytes = l.table_clusters << q->cluster_bits;
    uint64_t *table = calloc(1, bytes), *dirty = calloc(bytes / 512 / 64 + 1, 8);
    struct freed *old = freed_new(1);
    int r = -ENOMEM;
    if (!table || !dirty || !old) {
        img_fail(err, r, "no memory for a refcount table of %llu bytes", (unsigned long long)bytes);
        goto fail;
    }
    memcpy(table, rc->table, rc->table_entries * 8);
    if ((r = alloc_lengthen(q, l.first_cluster + total, err)) < 0)
        goto fail;
    for (uint64_t i = 0; i < l.blocks; i++) {
        table[l.first_group + i] = (l.first_cluster + i) << q->cluster_bits;
        r = write_block(q, l.first_group + i, l.first_cluster + i, l.first_cluster, total, err);
        if (r < 0)
            goto fail;
    }
    if ((r = write_table(q, table, bytes, (l.first_cluster + l.blocks) << q->cluster_bits, err)) < 0)
        goto fail;
    freed_add(old, cluster_index(q, q->header.refcount_table_offset), q->header.refcount_table_clusters);
    q->header.refcount_table_offset = (l.first_cluster + l.blocks) << q->cluster_bits;
    q->header.refcount_table_clusters = l.table_clusters;
    if ((r = header_switch(q, err)) < 0)
        goto fail;
    adopt_table(q, &l, table, dirty, old);
    if (l.first_cluster > a->fresh)
        alloc_free(q, a->fresh, l.first_cluster - a->fresh, a->fresh_is_zero);
    a->fresh = l.first_cluster + total;
    return 0;
fail:
    free(table);
    free(dirty);
    free(old);
    return r;
}

int refcounts_grow(struct qcow2 *q, uint64_t cluster, struct img_error *err) {
    SCOPED_MUTEX(&q->alloc.refill);
    int r = writes_allowed(q, err);
    if (r < 0 || refcount_has_block(q, cluster))
        return r;
    uint64_t group = cluster / q->refcounts.per_block;
    return group < q->refcounts.table_entries ? grow_blocks(q, group, err) : grow_table(q, cluster, err);
}

/* ---- room for a long run ---- */

static uint64_t groups_in_use(const struct qcow2 *q) {
    uint64_t groups = q->refcounts.table_entries;
    while (groups && !q->refcounts.table[groups - 1])
        groups--;
    return groups;
}

/* A run that is longer than a group cannot lie where each group begins with its own block. So behind all groups that
 * have one, the blocks that the run and they themselves need come first, side by side. */
int refcounts_cover(struct qcow2 *q, uint64_t count, struct img_error *err) {
    struct allocator *a = &q->alloc;
    SCOPED_MUTEX(&a->refill);
    int r = writes_allowed(q, err);
    if (r < 0)
        return r;
    uint64_t per_block = q->refcounts.per_block, group = groups_in_use(q), n = 1;
    while (group * per_block < a->fresh)
        group++;
    uint64_t start = group * per_block;
    while (n * per_block < n + count)
        n = (n + count + per_block - 1) / per_block;
    if (group + n > q->refcounts.table_entries)
        return grow_table(q, start + n + count, err);

    r = alloc_lengthen(q, start + n, err);
    struct births b = {.group = group, .n = n, .place = start, .side_by_side = true};
    return r < 0 ? r : make_blocks(q, &b, err);
}
