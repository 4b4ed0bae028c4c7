/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* expand.c - zeroes in the tables of snapshots, on the way to version 2, which cannot say "zeroes".
 *
 * Without a backing file such an entry becomes one that names nothing. Over one it names a cluster of zeroes, and as
 * nobody writes what is named twice, all of them can name the same cluster until its count is full.
 *
 * Nobody else looks at a snapshot's tables, so they are changed in place, some at a time: the counts of what they are
 * to name are durable before, and the counts of what they let go fall when they are durable themselves. A power cut in
 * between leaves some entries changed, which show the same, and at worst clusters that count too much. A table of
 * several snapshots is changed once; its own count tells for how many.
 */
#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TABLES_MOST = 64 };
#define TABLE_BYTES_MOST (16u << 20)

struct gone {
    uint64_t cluster, times;
};

struct expand {
    struct qcow2 *q;
    struct img_error *err;
    /* tables that are changed and not written yet */
    uint8_t *bytes;
    uint64_t places[TABLES_MOST]; /* host offsets */
    unsigned used, room;
    struct gone *gone; /* what they let go */
    uint64_t ngone;
    uint64_t zeroes, references; /* the cluster of zeroes, and how often it is named; 0: none */
};

static uint64_t entries_of_table(const struct qcow2 *q) {
    return 1ull << q->l2_bits;
}

static bool says_zero(uint64_t word) {
    return !(word & QCOW2_COMPRESSED) && word & QCOW2_ZERO;
}

static bool has_zeroes(const struct qcow2 *q, const be64 *table) {
    for (uint64_t i = 0; i < entries_of_table(q); i++)
        if (says_zero(get64(table[i])))
            return true;
    return false;
}

/* ---- writing ---- */

static int let_go(struct expand *x) {
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < x->ngone; i++)
        for (uint64_t n = 0; r == 0 && n < x->gone[i].times; n++)
            r = refcount_release(x->q, &(struct freed_run){x->gone[i].cluster, 1}, false, x->err);
    x->ngone = 0;
    return r;
}

static int write_tables(struct expand *x) {
    struct qcow2 *q = x->q;
    int r = x->used ? refcounts_write(q) : 0;
    if (r == 0 && x->used)
        r = barrier(q, true);
    for (unsigned i = 0; r == 0 && i < x->used; i++)
        if ((r = storage_write(q->file, x->bytes + i * q->cluster_size, q->cluster_size, x->places[i])) < 0)
            metadata_write_failed(q, r, "the host could not write a snapshot's table");
    if (r == 0 && x->used)
        r = barrier(q, true);
    x->used = 0;
    return r < 0 ? img_fail_errno(x->err, r, "could not write the tables of a snapshot of '%s'", q->image->path)
                 : let_go(x);
}

/* ---- changing ---- */

static int count_of(struct expand *x, uint64_t cluster, uint64_t *count) {
    for (;;) {
        int r = refcount_load(x->q, cluster, x->err);
        if (r < 0)
            return r;
        SCOPED_MUTEX(&x->q->refcounts.lock);
        if (refcount_peek(x->q, cluster, count))
            return 0;
    }
}

static int set_count(struct expand *x, uint64_t cluster, uint64_t count) {
    uint64_t before;
    for (;;) {
        int r = refcount_load(x->q, cluster, x->err);
        if (r < 0)
            return r;
        SCOPED_MUTEX(&x->q->refcounts.lock);
        if (!refcount_peek(x->q, cluster, &before))
            continue; /* evicted in between */
        refcount_set(x->q, cluster, count);
        return 0;
    }
}

/* The cluster of zeroes is named `times` more. */
static int name_zeroes(struct expand *x, uint64_t times) {
    struct qcow2 *q = x->q;
    uint64_t cluster;
    int r = 0;
    if (!x->zeroes || times > q->refcounts.max - x->references) {
        r = alloc_contiguous(q, 1, &cluster, x->err);
        if (r == 0 && (r = storage_zero(q->file, cluster << q->cluster_bits, q->cluster_size, false)) < 0)
            img_fail_errno(x->err, r, "could not write zeroes to '%s'", q->image->path);
        if (r < 0)
            return r;
        x->zeroes = cluster;
        x->references = 0;
    }
    r = set_count(x, x->zeroes, x->references + times);
    if (r == 0)
        x->references += times;
    return r;
}

/* One entry of a table that is named `times`. */
static int change_entry(struct expand *x, be64 *table, uint64_t i, uint64_t times) {
    struct qcow2 *q = x->q;
    struct tree_names n;
    int r = tree_names(q, table, i, &n, x->err);
    if (r == 0 && q->header.backing_file)
        r = name_zeroes(x, times);
    if (r < 0)
        return r;
    if (n.count)
        x->gone[x->ngone++] = (struct gone){n.first, times};
    table[i] = put64(q->header.backing_file ? x->zeroes << q->cluster_bits : 0);
    return 0;
}

static bool is_waiting(const struct expand *x, uint64_t place) {
    for (unsigned i = 0; i < x->used; i++)
        if (x->places[i] == place)
            return true;
    return false;
}

static int change_table(void *opaque, uint64_t l1_index, uint64_t l1_entry, be64 *table) {
    struct expand *x = opaque;
    struct qcow2 *q = x->q;
    uint64_t place = l1_entry & QCOW2_OFFSET_MASK, times = 0;
    (void)l1_index;
    if (!has_zeroes(q, table) || is_waiting(x, place))
        return 0;
    struct qcow2_table where = {"A snapshot's L2 table", "offset", place, q->cluster_size};
    int r = header_check_table(&q->header, &where, storage_size(q->file), x->err);
    if (r == 0 && x->used == x->room)
        r = write_tables(x);
    if (r == 0)
        r = count_of(x, cluster_index(q, place), &times);
    if (r < 0)
        return r;
    if (!times)
        return img_fail(x->err, -EIO, "the table at 0x%llx of '%s' is not counted: the image must be checked",
                        (unsigned long long)place, q->image->path);
    be64 *changed = (be64 *)(x->bytes + x->used * q->cluster_size);
    memcpy(changed, table, q->cluster_size);
    x->places[x->used++] = place;
    for (uint64_t i = 0; r == 0 && i < entries_of_table(q); i++)
        if (says_zero(get64(changed[i])))
            r = change_entry(x, changed, i, times);
    return r; /* after an error too the entries changed so far are written */
}

static int expand(struct expand *x) {
    struct qcow2 *q = x->q;
    int r = 0;
    for (size_t i = 0; r == 0 && i < q->snapshots.count; i++) {
        struct tree tree = {q->snapshots.list[i].l1_offset, q->snapshots.list[i].l1_size};
        r = tree_walk(q, &tree, change_table, x, x->err);
    }
    if (atomic_load(&q->failed))
        return r;
    if (r < 0)
        x->err = NULL; /* what was changed before is written all the same */
    int last = write_tables(x);
    return r < 0 ? r : last;
}

int expand_snapshots(struct qcow2 *q, struct img_error *err) {
    struct expand x = {.q = q, .err = err};
    if (!q->snapshots.count)
        return 0;
    if (q->image->crypto && q->header.backing_file)
        return img_fail(err, -ENOTSUP, "'%s' is encrypted: zeroes in its snapshots cannot become data", q->image->path);
    int r = first_hidden_change(q, err);
    if (r < 0)
        return r;
    x.room = TABLE_BYTES_MOST >> q->cluster_bits;
    x.room = x.room > TABLES_MOST ? TABLES_MOST : x.room;
    x.bytes = malloc(x.room * q->cluster_size);
    x.gone = calloc(x.room * entries_of_table(q), sizeof *x.gone);
    r = x.bytes && x.gone ? expand(&x)
                          : img_fail(err, -ENOMEM, "no memory for the tables of the snapshots of '%s'", q->image->path);
    free(x.bytes);
    free(x.gone);
    return r;
}
