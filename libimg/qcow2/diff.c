/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* diff.c - where two states of an image differ, from their tables alone.
 *
 * A host cluster that two states name holds the same bytes for both, as nobody writes what is named twice; an L2 table
 * that both name is not even read. So the work follows what changed, and two clusters that happen to hold the same
 * bytes in different places count as different.
 *
 * The image may be in use: it is held still for a batch of tables at a time, and the caller hears of a batch while
 * requests go on. The active state may change in between; a snapshot that is deleted ends it.
 */
#include "tree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    L1_WINDOW = 4096,  /* entries that are looked at in one batch */
    TABLE_BATCH = 64,  /* L2 tables that are read in one batch, of both states together */
    MAX_RANGES = 4096, /* that a batch can find; one table may go beyond, so there is room behind */
};

struct state {
    uint64_t l1_offset, size;
    uint32_t l1_size;
};

struct range {
    uint64_t start, end;
};

struct diff {
    struct qcow2 *q;
    struct state a, b;
    struct tree_reader reader;
    be64 *window[2]; /* L1 entries */
    be64 *table[2];  /* a cluster each */
    struct range *ranges;
    size_t nranges, room;
    uint64_t next; /* L1 index */
};

/* ---- one table ---- */

static int add_range(struct diff *d, uint64_t start, uint64_t end, struct img_error *err) {
    struct range *last = d->nranges ? &d->ranges[d->nranges - 1] : NULL;
    if (last && last->end == start) {
        last->end = end;
        return 0;
    }
    if (d->nranges == d->room) {
        size_t room = d->room * 2 + 64;
        struct range *larger = realloc(d->ranges, room * sizeof *larger);
        if (!larger)
            return img_fail(err, -ENOMEM, "no memory for the differences in '%s'", d->q->image->path);
        d->ranges = larger;
        d->room = room;
    }
    d->ranges[d->nranges++] = (struct range){start, end};
    return 0;
}

static struct l2_entry entry_of(const struct qcow2 *q, const be64 *table, uint64_t i) {
    struct l2_entry e = {get64(table[i * q->words]), q->words == 2 ? get64(table[i * 2 + 1]) : 0};
    return e;
}

/* What the bytes from `from` on are made of, as far as it is uniform (*to is lowered). Nothing below: unallocated is
 * zero. */
static enum entry_kind kind_of(const struct qcow2 *q, struct l2_entry e, uint64_t from, uint64_t *to) {
    enum entry_kind kind = entry_kind_at(q, e, from, to);
    return kind == ENTRY_UNALLOCATED && !q->header.backing_file ? ENTRY_ZERO : kind;
}

static bool same_source(struct l2_entry a, struct l2_entry b, enum entry_kind kind) {
    if (kind == ENTRY_STANDARD)
        return entry_host(a) == entry_host(b);
    return kind != ENTRY_COMPRESSED || a.word == b.word;
}

static int compare_entries(struct diff *d, struct l2_entry a, struct l2_entry b, uint64_t guest, uint64_t end,
                           struct img_error *err) {
    struct qcow2 *q = d->q;
    int r = 0;
    for (uint64_t from = 0, to; r == 0 && from < q->cluster_size && guest + from < end; from = to) {
        to = q->cluster_size;
        enum entry_kind x = kind_of(q, a, from, &to), y = kind_of(q, b, from, &to);
        if (x != y || !same_source(a, b, x))
            r = add_range(d, guest + from, guest + to < end ? guest + to : end, err);
    }
    return r;
}

static int load(struct diff *d, unsigned side, uint64_t index, uint64_t entry, struct img_error *err) {
    struct qcow2 *q = d->q;
    int r = entry ? tree_check_entry(q, index, entry, err) : 0;
    if (entry && r == 0)
        return tree_read_table(&d->reader, entry & QCOW2_OFFSET_MASK, d->table[side], err);
    memset(d->table[side], 0, q->cluster_size);
    return r;
}

static int compare_tables(struct diff *d, uint64_t index, uint64_t a, uint64_t b, uint64_t end, struct img_error *err) {
    struct qcow2 *q = d->q;
    uint64_t cluster = index << q->l2_bits;
    int r = load(d, 0, index, a, err);
    if (r == 0)
        r = load(d, 1, index, b, err);
    for (uint64_t i = 0; r == 0 && i < 1ull << q->l2_bits && (cluster + i) << q->cluster_bits < end; i++) {
        struct l2_entry x = entry_of(q, d->table[0], i), y = entry_of(q, d->table[1], i);
        if ((x.word & ~QCOW2_COPIED) != (y.word & ~QCOW2_COPIED) || x.bitmap != y.bitmap)
            r = compare_entries(d, x, y, (cluster + i) << q->cluster_bits, end, err);
    }
    return r;
}

/* ---- batches ---- */

static int find_state(struct qcow2 *q, const char *name, struct state *s, struct img_error *err) {
    const struct qcow2_header *h = &q->header;
    *s = (struct state){h->l1_offset, h->size, h->l1_size};
    if (!name)
        return 0;
    const struct qcow2_snapshot *snapshot = snapshots_find(&q->snapshots, name);
    if (!snapshot)
        return img_fail(err, -ENOENT, "'%s' has no snapshot '%s'", q->image->path, name);
    *s = (struct state){snapshot->l1_offset,
                        snapshot->disk_size == UINT64_MAX ? h->size : snapshot->disk_size & ~511ull, snapshot->l1_size};
    return 0;
}

static int read_window(struct diff *d, unsigned side, const struct state *s, uint64_t count, struct img_error *err) {
    uint64_t there = d->next < s->l1_size ? s->l1_size - d->next : 0;
    there = there < count ? there : count;
    memset(d->window[side], 0, count * 8);
    int r = there ? storage_read(d->q->file, d->window[side], there * 8, s->l1_offset + d->next * 8) : 0;
    return r < 0 ? img_fail_errno(err, r, "could not read an L1 table of '%s'", d->q->image->path) : 0;
}

static int compare_batch(struct diff *d, uint64_t end, uint64_t entries, struct img_error *err) {
    uint64_t first = d->next, count = entries - first < L1_WINDOW ? entries - first : L1_WINDOW;
    int r = read_window(d, 0, &d->a, count, err);
    if (r == 0)
        r = read_window(d, 1, &d->b, count, err);
    for (unsigned tables = 0; r == 0 && d->next < first + count && tables < TABLE_BATCH && d->nranges < MAX_RANGES;
         d->next++) {
        uint64_t a = get64(d->window[0][d->next - first]), b = get64(d->window[1][d->next - first]);
        if ((a & QCOW2_OFFSET_MASK) == (b & QCOW2_OFFSET_MASK))
            continue;
        r = compare_tables(d, d->next, a, b, end, err);
        tables += 2;
    }
    return r;
}

/* One batch, with the image held still. *more: there is another. */
static int run_batch(struct diff *d, const char *a, const char *b, bool *more, struct img_error *err) {
    struct qcow2 *q = d->q;
    d->nranges = 0;
    d->reader = (struct tree_reader){.q = q}; /* the file may have changed since the last batch */
    int r = find_state(q, a, &d->a, err);
    if (r == 0)
        r = find_state(q, b, &d->b, err);
    if (r < 0)
        return r;
    uint64_t end = d->a.size < d->b.size ? d->a.size : d->b.size,
             behind = d->a.size < d->b.size ? d->b.size : d->a.size;
    uint64_t table = 1ull << (q->l2_bits + q->cluster_bits), entries = end / table + (end % table != 0);
    if (d->next < entries)
        r = compare_batch(d, end, entries, err);
    *more = d->next < entries;
    if (r == 0 && !*more && end < behind)
        r = add_range(d, end, behind, err);
    return r;
}

static int hold_batch(struct diff *d, const char *a, const char *b, bool *more, struct img_error *err) {
    struct qcow2 *q = d->q;
    bool live = q->writable && !(q->image->flags & IMG_OPEN_INFO);
    if (live)
        requests_hold(&q->image->epochs);
    pthread_mutex_lock(&q->role);
    int r = live && !atomic_load(&q->failed) ? round_run(q, err) : 0; /* file = memory */
    if (r == 0)
        r = run_batch(d, a, b, more, err);
    pthread_mutex_unlock(&q->role);
    if (live)
        requests_release(&q->image->epochs);
    return r;
}

/* Ranges of neighbouring batches are one. */
struct teller {
    img_snapshot_differs differs;
    void *opaque;
    struct range held;
};

static int tell(struct teller *t, const struct range *range) {
    if (range && t->held.end == range->start && t->held.end) {
        t->held.end = range->end;
        return 0;
    }
    int r = t->held.end ? t->differs(t->opaque, t->held.start, t->held.end - t->held.start) : 0;
    t->held = range ? *range : (struct range){0};
    return r ? -ECANCELED : 0;
}

static int run(struct diff *d, const char *a, const char *b, struct teller *t, struct img_error *err) {
    int r = 0;
    for (bool more = true; r == 0 && more;) {
        r = hold_batch(d, a, b, &more, err);
        for (size_t i = 0; r == 0 && i < d->nranges; i++)
            if ((r = tell(t, &d->ranges[i])) < 0)
                img_fail(err, r, "the comparison of states of '%s' was given up", d->q->image->path);
    }
    if (r == 0 && (r = tell(t, NULL)) < 0)
        img_fail(err, r, "the comparison of states of '%s' was given up", d->q->image->path);
    return r;
}

int qcow2_diff(struct img *image, const char *a, const char *b, img_snapshot_differs differs, void *opaque,
               struct img_error *err) {
    struct diff d = {.q = qcow2_of(image)};
    struct teller t = {.differs = differs, .opaque = opaque};
    int r = 0;
    for (unsigned side = 0; side < 2; side++) {
        d.window[side] = malloc(L1_WINDOW * sizeof *d.window[side]);
        d.table[side] = malloc(d.q->cluster_size);
        if (!d.window[side] || !d.table[side])
            r = img_fail(err, -ENOMEM, "no memory to compare states of '%s'", image->path);
    }
    if (r == 0)
        r = run(&d, a, b, &t, err);
    for (unsigned side = 0; side < 2; side++) {
        free(d.window[side]);
        free(d.table[side]);
    }
    free(d.ranges);
    return r;
}
