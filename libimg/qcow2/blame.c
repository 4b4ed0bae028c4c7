/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* blame.c - from wrong counts to the guest ranges that they hit.
 *
 * The comparison knows host clusters only. Wherever it finds something wrong, the active tables are walked once more,
 * in the order of the guest, to tell which part of the disk is concerned; a clean image is never walked twice.
 * Differences are collected in a batch, looked up in one walk, and reported in the order of the host clusters; the
 * batch doubles after each walk, so the number of walks is logarithmic and the memory in proportion to what is wrong.
 */
#include "scan.h"

#include <string.h>

/* ---- a walk over the active tables in the order of the guest -------------------------------------------- */

struct visit {
    int (*table)(struct scan *s, void *opaque, const struct scan_table *t);
    int (*entry)(struct scan *s, void *opaque, const struct scan_table *t, uint64_t index, struct scan_entry e);
    void *opaque;
};

static int compare_first_l1(const void *a, const void *b) {
    const struct scan_table *x = *(struct scan_table *const *)a, *y = *(struct scan_table *const *)b;
    return x->first_l1 < y->first_l1 ? -1 : x->first_l1 > y->first_l1;
}

static int visit_table(struct scan *s, const struct visit *v, const struct scan_table *t) {
    size_t length;
    for (uint64_t at = t->offset; scan_next_data(s, &at, t->offset + s->cluster_size, &length), length; at += length) {
        const void *raw;
        int code = scan_read(s, at, length, &raw);
        if (code == -ENOMEM)
            return code;
        if (code)
            continue;
        const be64 *word = raw;
        uint64_t index = (at - t->offset) / (s->words * 8);
        for (size_t i = 0; i < length / (s->words * 8); i++) {
            struct scan_entry e = {get64(word[i * s->words]), s->extended ? get64(word[i * 2 + 1]) : 0};
            code = e.word ? v->entry(s, v->opaque, t, index + i, e) : 0;
            if (code)
                return code;
        }
    }
    return 0;
}

static int visit_active(struct scan *s, const struct visit *v) {
    struct scan_table **order = malloc((s->ntables + 1) * sizeof(void *));
    if (!order)
        return -ENOMEM;
    size_t n = 0;
    for (size_t i = 0; i < s->ntables; i++)
        if (s->tables[i].active)
            order[n++] = &s->tables[i];
    qsort(order, n, sizeof(void *), compare_first_l1);
    /* The comparison, in the midst of which this may run, goes on with its own window. */
    uint8_t *window = s->window;
    uint64_t start = s->window_start, length = s->window_length;
    s->window = NULL;
    s->window_length = 0;
    int code = 0;
    for (size_t i = 0; i < n && !code; i++)
        code = v->table(s, v->opaque, order[i]);
    for (size_t i = 0; i < n && !code; i++)
        code = visit_table(s, v, order[i]);
    free(s->window);
    s->window = window;
    s->window_start = start;
    s->window_length = length;
    free(order);
    return code;
}

static uint64_t table_guest(const struct scan *s, const struct scan_table *t, uint64_t *length) {
    uint64_t guest = scan_guest(s, t, 0, length);
    *length = s->cluster_size << s->l2_bits;
    if (guest != SCAN_NO_GUEST && *length > s->header->size - guest)
        *length = s->header->size - guest;
    return guest;
}

/* ---- counts that differ ------------------------------------------------------------------------------------- */

struct difference {
    uint64_t cluster, on_disk, references;
    uint64_t guest, length;
};

struct batch {
    SCAN_VECTOR(struct difference) found;
    size_t limit, hint;
    bool errors; /* some count is too low: worth a walk */
};

static struct difference *find_difference(struct batch *b, uint64_t cluster) {
    size_t low = 0, high = b->found.n;
    if (b->hint < high && b->found.list[b->hint].cluster == cluster)
        return &b->found.list[b->hint++];
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (b->found.list[middle].cluster < cluster)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == b->found.n || b->found.list[low].cluster != cluster)
        return NULL;
    b->hint = low + 1;
    return &b->found.list[low];
}

static int blame_table(struct scan *s, void *opaque, const struct scan_table *t) {
    struct difference *d = find_difference(opaque, t->offset >> s->cluster_bits);
    if (d)
        d->guest = table_guest(s, t, &d->length);
    return 0;
}

static int blame_entry(struct scan *s, void *opaque, const struct scan_table *t, uint64_t index, struct scan_entry e) {
    struct batch *b = opaque;
    uint64_t first, n;
    scan_host(s, e, &first, &n);
    for (uint64_t i = 0; i < n; i++) {
        struct difference *d = find_difference(b, first + i);
        if (!d || d->on_disk >= d->references)
            continue;
        uint64_t length, guest = scan_guest(s, t, index, &length);
        if (d->guest == SCAN_NO_GUEST) {
            d->guest = guest;
            d->length = length;
        } else if (guest != SCAN_NO_GUEST) {
            scan_tell(s, IMG_FINDING_CORRUPTION, guest, length,
                      "ERROR cluster %llu is also used at guest offset 0x%llx", (unsigned long long)d->cluster,
                      (unsigned long long)guest);
        }
    }
    return 0;
}

static int report_batch(struct scan *s, struct batch *b) {
    struct visit visit = {blame_table, blame_entry, b};
    int code = b->errors && !s->quiet && s->options && s->options->report ? visit_active(s, &visit) : 0;
    for (size_t i = 0; i < b->found.n && !code; i++) {
        const struct difference *d = &b->found.list[i];
        bool leak = d->on_disk > d->references;
        scan_found(s, leak ? IMG_FINDING_LEAK : IMG_FINDING_CORRUPTION, leak ? SCAN_NO_GUEST : d->guest, d->length,
                   "%s cluster %llu refcount=%llu reference=%llu", leak ? "Leaked" : "ERROR",
                   (unsigned long long)d->cluster, (unsigned long long)d->on_disk, (unsigned long long)d->references);
    }
    b->found.n = b->hint = 0;
    b->errors = false;
    b->limit *= 2;
    return code;
}

static int collect(struct scan *s, void *opaque, uint64_t cluster, uint64_t on_disk, uint64_t references) {
    struct batch *b = opaque;
    b->errors |= on_disk < references;
    if (scan_push(&b->found, ((struct difference){cluster, on_disk, references, SCAN_NO_GUEST, 0})))
        return -ENOMEM;
    return b->found.n >= b->limit ? report_batch(s, b) : 0;
}

/* ---- COPIED flags and overlaps -------------------------------------------------------------------------------- */

static int flag_of_table(struct scan *s, void *opaque, const struct scan_table *t) {
    (void)opaque;
    uint64_t count;
    if (!s->flags_differ || scan_refcount(s, t->offset >> s->cluster_bits, &count))
        return 0; /* what cannot be read was reported by the comparison */
    bool wrong = count == 1 ? t->flags & TABLE_PLAIN : t->flags & TABLE_COPIED;
    uint64_t length, guest = table_guest(s, t, &length);
    if (wrong)
        scan_found(s, IMG_FINDING_CORRUPTION, guest, length,
                   "ERROR OFLAG_COPIED L2 cluster: l1_index=%u l1_entry=%llx refcount=%llu", t->first_l1,
                   (unsigned long long)(t->offset | (count == 1 ? 0 : QCOW2_COPIED)), (unsigned long long)count);
    return 0;
}

static void flag_of_entry(struct scan *s, const struct scan_table *t, uint64_t index, struct scan_entry e) {
    uint64_t length, guest = scan_guest(s, t, index, &length), count = 1;
    if (!scan_is_standard(s, e) || scan_l2_faults(s, e, guest) & FAULT_LOST)
        return;
    if (!s->external && scan_refcount(s, (e.word & QCOW2_OFFSET_MASK) >> s->cluster_bits, &count))
        return;
    if ((count == 1) != !!(e.word & QCOW2_COPIED))
        scan_found(s, IMG_FINDING_CORRUPTION, guest, length,
                   "ERROR OFLAG_COPIED data cluster: l2_entry=%llx refcount=%llu", (unsigned long long)e.word,
                   (unsigned long long)count);
}

static int inspect_entry(struct scan *s, void *opaque, const struct scan_table *t, uint64_t index,
                         struct scan_entry e) {
    (void)opaque;
    if (s->flags_differ)
        flag_of_entry(s, t, index, e);
    uint64_t first, n;
    scan_host(s, e, &first, &n);
    for (uint64_t i = 0; i < n && s->overlaps.n; i++) {
        const struct scan_overlap *o = scan_overlap(s, first + i);
        uint64_t length, guest = scan_guest(s, t, index, &length), count;
        if (!o || guest == SCAN_NO_GUEST)
            continue;
        /* Where the counts differ, the cluster's own line has told. */
        if (scan_refcount(s, first + i, &count) || count == counts_get(&s->counts, first + i))
            scan_tell(s, IMG_FINDING_CORRUPTION, guest, length,
                      "ERROR cluster %llu, which holds %s, is also used at guest offset 0x%llx",
                      (unsigned long long)(first + i), scan_kind_name(o->kind), (unsigned long long)guest);
    }
    return 0;
}

/* Where the counts differ as well the cluster has its line already, and a refcount block has its own. */
static int report_overlaps(struct scan *s) {
    for (size_t i = 0; i < s->overlaps.n; i++) {
        const struct scan_overlap *o = &s->overlaps.list[i];
        uint64_t count;
        if (o->kind == KIND_REFCOUNT_BLOCK)
            continue;
        int code = scan_refcount(s, o->cluster, &count);
        if (code == -ENOMEM)
            return code;
        if (code || count == counts_get(&s->counts, o->cluster))
            scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR cluster %llu holds both %s and %s",
                       (unsigned long long)o->cluster, scan_kind_name(o->kind),
                       o->on_metadata ? "other metadata" : "data");
    }
    return 0;
}

int scan_report(struct scan *s) {
    struct batch batch = {.limit = 1 << 16};
    int code = scan_compare(s, collect, &batch);
    if (!code)
        code = report_batch(s, &batch);
    free(batch.found.list);
    if (!code)
        code = report_overlaps(s);
    struct visit visit = {flag_of_table, inspect_entry, NULL};
    if (!code && (s->flags_differ || s->overlaps.n))
        code = visit_active(s, &visit);
    return code;
}
