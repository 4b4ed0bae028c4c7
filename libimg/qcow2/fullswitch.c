/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch.c - see fullswitch.h.
 *
 * Three steps. Count: all deltas are summed window by window and looked at; which refcount blocks and L2 tables must be
 * written anew is known then, and nothing has been written. Place: free clusters are found for all that is new. The new
 * counts count the new blocks and not the old ones, which may touch further blocks, so placing is repeated until it
 * changes nothing. Write: everything aside, then the header with a barrier on either side.
 *
 * Clusters for the new material count 0 in the file before the switch, so a cut there leaks nothing; the blocks aside
 * count them 1 and what they replace 0, so a cut afterwards leaks nothing either. In a file they come from where the
 * host has holes, so that counts that are wrong cost no data, and then from behind everything that was ever handed out;
 * on a device it is the other way round, and what counts 0 must do for a hole.
 *
 * The host gets back what counts 0 afterwards, once the header is durable.
 */
#include "deltas.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH (256u << 10)
#define HOLES_MOST (1u << 20) /* looks into holes before it is not worth it */
#define FREED_MOST (1u << 20) /* runs that are remembered */

/* Writes that follow each other in the file go out together. */
struct batch {
    uint8_t *bytes;
    uint64_t start, used;
};

struct runs {
    struct freed_run *list; /* owned */
    size_t used, room;
};

struct work {
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

static uint64_t to_clusters(const struct qcow2 *q, uint64_t bytes) {
    return (bytes + q->cluster_size - 1) >> q->cluster_bits;
}

static bool bit(const uint64_t *bits, uint64_t i) {
    return bits[i / 64] >> i % 64 & 1;
}

static void set_bit(uint64_t *bits, uint64_t i) {
    bits[i / 64] |= 1ull << i % 64;
}

static int no_memory(struct work *w, struct img_error *err) {
    return img_fail(err, -ENOMEM, "no memory to change the counts of '%s'", w->q->image->path);
}

/* Behind all that are there, or merged with the last. False: no memory. */
static bool add_run(struct runs *r, uint64_t cluster, uint64_t count) {
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

/* ---- counting ---- */

struct counting {
    struct work *w;
    int weight;
    bool next; /* it becomes the active tree, which gains */
    struct img_error *err;
};

static int count_table(void *opaque, uint64_t index, uint64_t entry, be64 *table) {
    struct counting *c = opaque;
    struct work *w = c->w;
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
        set_bit(w->copy, index);
        return 0;
    }
    return deltas_add(&w->d, host, 1, c->weight, c->err);
}

static int count_window(struct work *w, uint64_t start, struct img_error *err) {
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

static int mark_entry(struct work *w, uint64_t index, uint64_t i, struct img_error *err) {
    if (!w->marks[index] && !(w->marks[index] = calloc((1ull << w->q->l2_bits) / 8 + 1, 1)))
        return no_memory(w, err);
    w->marks[index][i / 8] |= 1u << i % 8;
    set_bit(w->copy, index);
    return 0;
}

static int mark_table(void *opaque, uint64_t index, uint64_t entry, be64 *table) {
    struct counting *c = opaque;
    struct work *w = c->w;
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
static int count_all(struct work *w, struct img_error *err) {
    uint64_t end = to_clusters(w->q, storage_size(w->q->file));
    struct counting c = {.w = w, .err = err};
    int r = 0;
    for (uint64_t start = 0; r == 0 && start < end; start += w->d.window) {
        r = count_window(w, start, err);
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
        w->ncopies += bit(w->copy, i);
    return r;
}

static int read_next(struct work *w, struct img_error *err) {
    const struct full_switch *s = w->s;
    be64 *l1;
    w->l1_clusters = tree_l1_clusters(w->q, s->l1_size);
    w->l1 = calloc(w->l1_clusters << w->q->cluster_bits, 1);
    w->copy = calloc(s->l1_size / 64 + 1, 8);
    w->marks = calloc(s->l1_size, sizeof *w->marks);
    if (!w->l1 || !w->copy || !w->marks)
        return no_memory(w, err);
    int r = tree_read_l1(w->q, &s->next, &l1, err);
    for (uint64_t i = 0; r == 0 && i < s->next.entries; i++)
        w->l1[i] = s->gains ? get64(l1[i]) & QCOW2_OFFSET_MASK : get64(l1[i]);
    free(l1);
    return r;
}

/* ---- placing ---- */

static void search(struct work *w, bool fresh) {
    w->fresh = fresh;
    w->cursor = fresh ? w->q->alloc.fresh : 1;
    w->stop = fresh ? w->q->alloc.limit : w->q->alloc.fresh;
}

/* After a deletion without room whatever counts 0 will do, but not while what lies there is still to be read. */
static bool old_part_allowed(const struct work *w) {
    return !w->s->lowered || to_clusters(w->q, storage_size(w->q->file)) <= w->d.window;
}

static bool only_holes(const struct work *w) {
    return !w->fresh && !w->q->file->fixed_size && !w->s->lowered;
}

/* The first cluster from `at` on that lies in a hole of the host's, or `stop`. A file in many pieces is not looked
 * through to its end. */
static uint64_t next_hole(struct work *w, uint64_t at) {
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
static bool find_candidate(struct work *w) {
    if (only_holes(w))
        w->cursor = next_hole(w, w->cursor);
    return w->cursor < w->stop;
}

/* `n` clusters side by side that count 0. */
static int place(struct work *w, uint64_t n, uint64_t *first, struct img_error *err) {
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
    return !n || add_run(&w->aside, *first, n) ? 0 : no_memory(w, err);
}

static uint64_t count_groups(const struct work *w, uint64_t *highest) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < DELTAS_MAX_GROUPS / 64; i++) {
        n += __builtin_popcountll(w->d.touched[i]);
        if (w->d.touched[i])
            *highest = i * 64 + 63 - __builtin_clzll(w->d.touched[i]);
    }
    return n;
}

/* Finds places for everything as it is known now. */
static int place_all(struct work *w, struct img_error *err) {
    w->last = !old_part_allowed(w);
    search(w, w->last || (w->q->file->fixed_size && !w->s->lowered));
    w->looked = w->hole = w->data = 0;
    w->aside.used = 0;
    free(w->blocks);
    w->blocks = calloc(w->nblocks + 1, sizeof *w->blocks);
    if (!w->blocks)
        return no_memory(w, err);
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

static bool replaces_block(const struct work *w, uint64_t number) {
    const struct qcow2 *q = w->q;
    if (!q->refcounts.table[number])
        return false;
    return w->s->refcount_order != q->header.refcount_order ||
           (number < DELTAS_MAX_GROUPS && deltas_touched(&w->d, number));
}

/* What the places change in turn. */
static void touch_places(struct work *w) {
    struct qcow2 *q = w->q;
    for (size_t i = 0; i < w->aside.used; i++)
        deltas_touch(&w->d, w->aside.list[i].cluster, w->aside.list[i].count);
    for (uint64_t i = 0; i < q->refcounts.table_entries; i++)
        if (replaces_block(w, i))
            deltas_touch(&w->d, cluster_index(q, q->refcounts.table[i]), 1);
}

static int find_places(struct work *w, struct img_error *err) {
    struct qcow2 *q = w->q;
    w->copies = calloc(w->ncopies + 1, sizeof *w->copies);
    if (!w->copies)
        return no_memory(w, err);
    w->snapshots_clusters = to_clusters(q, w->s->snapshots_bytes);
    w->table_clusters = w->s->refcount_order == q->header.refcount_order ? q->header.refcount_table_clusters : 1;
    deltas_touch(&w->d, cluster_index(q, q->header.refcount_table_offset), q->header.refcount_table_clusters);
    if (!w->s->gains)
        for (uint64_t i = 0; i < w->s->next.entries; i++)
            if (bit(w->copy, i))
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

/* ---- writing aside ---- */

static int store_batch(struct work *w, struct img_error *err) {
    struct batch *b = &w->batch;
    int r = b->used ? storage_write(w->q->file, b->bytes, b->used, b->start) : 0;
    b->used = 0;
    if (r < 0)
        metadata_write_failed(w->q, r, "the host could not write tables aside");
    return r < 0 ? img_fail_errno(err, r, "could not write new tables of '%s'", w->q->image->path) : 0;
}

/* Gives room for one cluster at `cluster`, which is written with the others. NULL: an error, in *err and *r. */
static uint8_t *batch_cluster(struct work *w, uint64_t cluster, int *r, struct img_error *err) {
    struct batch *b = &w->batch;
    uint64_t at = cluster << w->q->cluster_bits, room = BATCH > w->q->cluster_size ? BATCH : w->q->cluster_size;
    *r = 0;
    if (!b->bytes && !(b->bytes = malloc(room)))
        *r = no_memory(w, err);
    else if (b->used && (b->start + b->used != at || b->used + w->q->cluster_size > room))
        *r = store_batch(w, err);
    if (*r < 0)
        return NULL;
    if (!b->used)
        b->start = at;
    b->used += w->q->cluster_size;
    return b->bytes + b->used - w->q->cluster_size;
}

static int write_whole(struct work *w, const void *bytes, uint64_t count, uint64_t cluster, struct img_error *err) {
    int r = count ? storage_write(w->q->file, bytes, count, cluster << w->q->cluster_bits) : 0;
    if (r < 0)
        metadata_write_failed(w->q, r, "the host could not write tables aside");
    return r < 0 ? img_fail_errno(err, r, "could not write new tables of '%s'", w->q->image->path) : 0;
}

static void set_flags(const struct work *w, be64 *table, const uint8_t *marks) {
    for (uint64_t i = 0; i < 1ull << w->q->l2_bits; i++) {
        be64 *word = &table[i * w->q->words];
        if (w->s->gains && !(get64(*word) & QCOW2_COMPRESSED))
            *word = put64(get64(*word) & ~QCOW2_COPIED);
        if (marks && marks[i / 8] >> i % 8 & 1)
            *word = put64(get64(*word) | QCOW2_COPIED);
    }
}

static int write_copies(struct work *w, struct img_error *err) {
    int r = 0;
    struct tree_reader reader = {.q = w->q};
    for (uint64_t i = 0, n = 0; r == 0 && i < w->s->next.entries; i++) {
        if (!bit(w->copy, i))
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

static int write_l1(struct work *w, struct img_error *err) {
    for (uint64_t i = 0; i < w->s->l1_size; i++)
        w->l1[i] = htobe64(w->l1[i]);
    return write_whole(w, w->l1, w->l1_clusters << w->q->cluster_bits, w->l1_place, err);
}

/* What placing adds to the deltas of the window. `tables`: of L2 tables that are written anew and belonged to the
 * active state (the old L1 entries are needed, so it comes before the copies). */
static int add_places(struct work *w, const uint64_t *tables, struct img_error *err) {
    struct qcow2 *q = w->q;
    int r = deltas_add(&w->d, cluster_index(q, q->header.refcount_table_offset), q->header.refcount_table_clusters, -1,
                       err);
    w->counted = UINT64_MAX;
    for (size_t i = 0; r == 0 && i < w->aside.used; i++)
        r = deltas_add(&w->d, w->aside.list[i].cluster, w->aside.list[i].count, 1, err);
    for (uint64_t i = 0; r == 0 && i < q->refcounts.table_entries; i++)
        if (replaces_block(w, i))
            r = deltas_add(&w->d, cluster_index(q, q->refcounts.table[i]), 1, -1, err);
    for (uint64_t i = 0; r == 0 && tables && i < w->ncopies; i++)
        r = deltas_add(&w->d, tables[i], 1, -1, err);
    return r;
}

/* What is not remembered only stays stored. */
static void note_freed(struct work *w, uint64_t group) {
    uint64_t first = group * w->d.per_block, count;
    for (uint64_t c = first; c < first + w->d.per_block && w->freed.used < FREED_MOST; c++)
        if (deltas_at(&w->d, c) < 0 && deltas_new_count(&w->d, c, &count, NULL) == 0 && !count)
            (void)add_run(&w->freed, c, 1);
}

static int write_blocks(struct work *w, const uint64_t *tables, struct img_error *err) {
    struct qcow2 *q = w->q;
    uint64_t written = 0;
    int r = 0;
    for (uint64_t group = 0; r == 0 && written < w->nblocks; group++) {
        uint64_t start = group * w->d.per_block, window = start - start % w->d.window;
        if (!deltas_touched(&w->d, group))
            continue;
        if (written == 0 || w->d.start != window) {
            if (w->counted != window)
                r = count_window(w, window, err);
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
static int begin_table(struct work *w, struct img_error *err) {
    struct qcow2 *q = w->q;
    uint64_t bytes = w->table_clusters << q->cluster_bits;
    w->table = calloc(1, bytes);
    if (!w->table)
        return no_memory(w, err);
    for (uint64_t i = 0; i < q->refcounts.table_entries && i < bytes / 8; i++)
        if (!replaces_block(w, i))
            w->table[i] = htobe64(q->refcounts.table[i]);
    return 0;
}

/* As much as is needed, and no more. */
static int lengthen(struct work *w, struct img_error *err) {
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

static int write_aside(struct work *w, struct img_error *err) {
    uint64_t *tables = NULL;
    int r = lengthen(w, err);
    if (r == 0 && !w->s->gains && w->ncopies) {
        uint64_t n = 0;
        tables = calloc(w->ncopies, sizeof *tables);
        for (uint64_t i = 0; tables && i < w->s->next.entries; i++)
            if (bit(w->copy, i))
                tables[n++] = cluster_index(w->q, w->l1[i] & QCOW2_OFFSET_MASK);
        r = tables ? 0 : no_memory(w, err);
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

/* ---- the switch ---- */

/* What is written aside is forgotten: nothing names it. */
static void forget_aside(struct work *w) {
    struct qcow2 *q = w->q;
    if (w->length == UINT64_MAX || atomic_load(&q->failed))
        return;
    if (q->file->ops->truncate(q->file, w->length) < 0)
        q->alloc.fresh_is_zero = false;
    else
        q->alloc.length = w->length;
}

static void set_header(struct work *w) {
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

static int switch_header(struct work *w, struct img_error *err) {
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

static int run(struct work *w, struct img_error *err) {
    int r = deltas_init(&w->d, w->q, w->s->refcount_order, err);
    if (r == 0)
        r = read_next(w, err);
    if (r == 0)
        r = count_all(w, err);
    if (r == 0)
        r = find_places(w, err);
    if (r == 0)
        r = write_aside(w, err);
    if (r == 0)
        r = switch_header(w, err);
    if (r < 0)
        forget_aside(w);
    return r;
}

static void free_work(struct work *w) {
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

/* Nothing is known to be zero any more: places for the new are taken from what is free, and may be free again soon. */
static void forget_free(struct qcow2 *q) {
    SCOPED_SPIN(&q->alloc.lock);
    free_list_cut(&q->alloc.free, 0);
    q->alloc.scan = 1;
}

static void give_back(struct work *w) {
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
static uint64_t fresh_afterwards(const struct work *w) {
    if (w->fresh)
        return w->cursor;
    return w->q->file->fixed_size && !w->s->lowered ? w->q->alloc.limit : w->q->alloc.fresh;
}

int full_switch(struct qcow2 *q, const struct full_switch *s, struct img_error *err) {
    struct work *w = calloc(1, sizeof *w);
    if (!w)
        return img_fail(err, -ENOMEM, "no memory to change the counts of '%s'", q->image->path);
    w->q = q;
    w->s = s;
    w->counted = w->length = UINT64_MAX;
    forget_free(q);
    int r = run(w, err);
    if (r == 0)
        r = qcow2_adopt(q, fresh_afterwards(w), err);
    if (r == 0)
        give_back(w);
    free_work(w);
    return r;
}

/* ---- in place ---- */

static int lower_group(struct work *w, uint64_t group, struct img_error *err) {
    struct qcow2 *q = w->q;
    uint64_t first = group * w->d.per_block, low = UINT64_MAX, high = 0;
    for (uint64_t c = first; c < first + w->d.per_block; c++) {
        uint64_t old, count = 0;
        if (!deltas_at(&w->d, c))
            continue;
        int r = deltas_old_count(&w->d, c, &old, err);
        if (r == 0)
            r = deltas_new_count(&w->d, c, &count, err);
        if (r < 0)
            return r;
        if (!old || count)
            continue;
        uint64_t at = (c - first) << w->d.order >> 3;
        low = at < low ? at : low;
        high = at + (1u << w->d.order) / 8 + 1;
        refcount_put_raw(w->d.block, w->d.order, c - first, 0);
    }
    if (low >= high)
        return 0;
    high = high < q->cluster_size ? high : q->cluster_size;
    int r = storage_write(q->file, w->d.block + low, high - low, q->refcounts.table[group] + low);
    if (r < 0)
        metadata_write_failed(q, r, "the host could not write refcounts");
    return r < 0 ? img_fail_errno(err, r, "could not write the refcounts of '%s'", q->image->path) : 0;
}

static int lower(struct work *w, struct img_error *err) {
    uint64_t end = to_clusters(w->q, storage_size(w->q->file));
    int r = deltas_init(&w->d, w->q, w->q->header.refcount_order, err);
    for (uint64_t start = 0; r == 0 && start < end; start += w->d.window) {
        r = count_window(w, start, err);
        uint64_t group = start / w->d.per_block, last = group + w->d.window / w->d.per_block;
        for (; r == 0 && group < last && group < DELTAS_MAX_GROUPS; group++)
            if (deltas_touched(&w->d, group))
                r = lower_group(w, group, err);
    }
    if (r == 0 && (r = barrier(w->q, true)) < 0)
        img_fail_errno(err, r, "could not make the refcounts of '%s' durable", w->q->image->path);
    return r;
}

int full_switch_lower(struct qcow2 *q, const struct full_switch *s, struct img_error *err) {
    struct work *w = calloc(1, sizeof *w);
    if (!w)
        return img_fail(err, -ENOMEM, "no memory to change the counts of '%s'", q->image->path);
    w->q = q;
    w->s = s;
    int r = lower(w, err);
    free_work(w);
    return r < 0 ? r : qcow2_adopt(q, q->alloc.fresh, err);
}
