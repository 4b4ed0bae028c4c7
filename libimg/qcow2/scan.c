/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* scan.c - one scan of all tables: what is there, counted in the order of enum scan_kind behind the data.
 *
 * Whatever is counted is inside the file: counts of clusters behind its end do not exist. named_end remembers how far
 * anything reaches that the present header leads to, counted or not: behind it a repair may write.
 */
#include "scan.h"

#include <string.h>

void scan_setup(struct scan *s, struct storage *file, struct storage *data_file, struct qcow2_header *header,
                const struct img_check_options *options) {
    *s = (struct scan){.file = file, .data_file = data_file, .header = header, .options = options};
}

/* What the header says may have changed since the last scan. */
static void take_header(struct scan *s) {
    const struct qcow2_header *h = s->header;
    s->cluster_bits = h->cluster_bits;
    s->cluster_size = 1ull << h->cluster_bits;
    s->v3 = h->version >= 3;
    s->extended = header_extended_l2(h);
    s->external = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
    s->words = s->extended ? 2 : 1;
    s->l2_bits = h->cluster_bits - (s->extended ? 4 : 3);
    s->file_size = storage_size(s->file);
    s->clusters = (s->file_size >> s->cluster_bits) + ((s->file_size & (s->cluster_size - 1)) != 0);
    s->data_size = s->data_file ? storage_size(s->data_file) : UINT64_MAX;
    s->l2_slow = QCOW2_COMPRESSED | QCOW2_L2_RESERVED | ((s->cluster_size - 1) & QCOW2_OFFSET_MASK);
    if (!s->v3)
        s->l2_slow |= QCOW2_ZERO;
    if (s->external)
        s->l2_slow = UINT64_MAX;
}

/* Drops what a scan found; what outlives scans stays. */
static void forget(struct scan *s) {
    counts_free(&s->counts);
    free(s->tables);
    free(s->reftable);
    free(s->l1s.list);
    free(s->bitmap_tables.list);
    free(s->snapshots.list);
    free(s->overlaps.list);
    free(s->bad_l1.list);
    scan_refcounts_forget(s);
    struct scan clean = {
        .file = s->file,
        .data_file = s->data_file,
        .header = s->header,
        .options = s->options,
        .quiet = s->quiet,
        .without_refcounts = s->without_refcounts,
        .without_snapshots = s->without_snapshots,
        .window = s->window,
    };
    memcpy(&clean.dropped, &s->dropped, sizeof clean.dropped);
    *s = clean;
}

void scan_free(struct scan *s) {
    forget(s);
    free(s->window);
    free(s->dropped.list);
    *s = (struct scan){0};
}

/* ---- counting ------------------------------------------------------------------------------------------- */

int scan_data(struct scan *s, uint64_t first, uint64_t n, uint64_t weight, unsigned marks) {
    if (s->named_end < (first + n) << s->cluster_bits)
        s->named_end = (first + n) << s->cluster_bits;
    return counts_add(&s->counts, first, n, weight, marks);
}

const char *scan_kind_name(enum scan_kind kind) {
    static const char *const names[] = {
        [KIND_L2] = "an L2 table",
        [KIND_SNAPSHOT_L1] = "a snapshot's L1 table",
        [KIND_BITMAP_TABLE] = "a bitmap table",
        [KIND_BITMAP_DIRECTORY] = "the bitmap directory",
        [KIND_CRYPTO] = "the encryption header",
        [KIND_SNAPSHOT_TABLE] = "the snapshot table",
        [KIND_L1] = "the active L1 table",
        [KIND_HEADER] = "the header",
        [KIND_REFCOUNT_TABLE] = "the refcount table",
        [KIND_REFCOUNT_BLOCK] = "a refcount block",
    };
    return names[kind];
}

static int note_overlap(struct scan *s, enum scan_kind kind, uint64_t cluster, bool on_metadata) {
    return scan_push(&s->overlaps, ((struct scan_overlap){cluster, kind, on_metadata}));
}

int scan_meta(struct scan *s, enum scan_kind kind, uint64_t offset, uint64_t length, uint64_t weight, unsigned marks) {
    if (!length || offset >= s->file_size)
        return 0;
    uint64_t first = offset >> s->cluster_bits, end;
    if (__builtin_add_overflow(offset, length - 1, &end))
        end = UINT64_MAX;
    end = (end >> s->cluster_bits) + 1;
    if (end > s->clusters)
        end = s->clusters;
    if (s->named_end < end << s->cluster_bits)
        s->named_end = end << s->cluster_bits;
    for (uint64_t c = first; c < end; c++) {
        unsigned before = counts_marks(&s->counts, c);
        int code = 0;
        if (before & COUNT_META || counts_get(&s->counts, c))
            code = note_overlap(s, kind, c, before & COUNT_META);
        if (!code)
            code = counts_add(&s->counts, c, 1, weight, marks | COUNT_META);
        if (code)
            return code;
    }
    return 0;
}

static int compare_overlaps(const void *a, const void *b) {
    const struct scan_overlap *x = a, *y = b;
    return x->cluster != y->cluster ? (x->cluster < y->cluster ? -1 : 1) : (int)x->kind - (int)y->kind;
}

const struct scan_overlap *scan_overlap(const struct scan *s, uint64_t cluster) {
    size_t low = 0, high = s->overlaps.n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->overlaps.list[middle].cluster < cluster)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->overlaps.n && s->overlaps.list[low].cluster == cluster ? &s->overlaps.list[low] : NULL;
}

/* ---- which L1 tables there are ----------------------------------------------------------------------------- */

static uint64_t l1_bytes(const struct scan *s) {
    return (uint64_t)s->header->l1_size * 8;
}

/* The active L1 table: without it there is nothing to repair from. */
static int name_active_l1(struct scan *s) {
    const struct qcow2_header *h = s->header;
    uint64_t bytes = l1_bytes(s);
    if (!bytes)
        return 0;
    if (h->l1_offset >= s->file_size || h->l1_offset & (s->cluster_size - 1) || bytes > QCOW2_MAX_L1_BYTES) {
        scan_found(s, IMG_FINDING_CORRUPTION, 0, h->size,
                   "ERROR l1_table_offset=0x%llx l1_size=%u: the active L1 table lies outside the file",
                   (unsigned long long)h->l1_offset, h->l1_size);
        s->hidden = s->hopeless = s->l1_outside = true;
        return 0;
    }
    if (h->l1_offset + bytes > s->file_size) {
        uint64_t per_entry = s->cluster_size << s->l2_bits, there = (s->file_size - h->l1_offset) / 8 * per_entry;
        bool hit = there < h->size;
        scan_found(s, IMG_FINDING_CORRUPTION, hit ? there : SCAN_NO_GUEST, hit ? h->size - there : 0,
                   "ERROR l1_table_offset=0x%llx l1_size=%u: the active L1 table is cut off by the end of the file",
                   (unsigned long long)h->l1_offset, h->l1_size);
        s->entries_wrong = s->hidden = true;
        if (s->cut_end < h->l1_offset + bytes)
            s->cut_end = h->l1_offset + bytes;
    }
    return scan_push(&s->l1s, ((struct scan_range){h->l1_offset, h->l1_offset + bytes, 1, 1}));
}

static bool counts_as_there(const struct scan *s, const struct scan_snapshot *snap) {
    return !snap->bad && !snap->drop && snap->l1_size && snap->l1_offset < s->file_size;
}

static int name_l1s(struct scan *s) {
    int code = name_active_l1(s);
    for (size_t i = 0; i < s->snapshots.n && !code; i++) {
        const struct scan_snapshot *snap = &s->snapshots.list[i];
        uint64_t end = snap->l1_offset + (uint64_t)snap->l1_size * 8;
        if (counts_as_there(s, snap))
            code = scan_push(&s->l1s, ((struct scan_range){snap->l1_offset, end, 1, 0}));
    }
    return code ? code : scan_sweep(&s->l1s);
}

/* Tables in holes cost nothing to claim; so what is claimed is held against what the file holds. */
static bool ranges_credible(struct scan *s, const scan_ranges *ranges, const char *what) {
    uint64_t clusters = 0;
    for (size_t i = 0; i < ranges->n; i++)
        clusters += ((ranges->list[i].end - ranges->list[i].start) >> s->cluster_bits) + 1;
    uint64_t there = s->file->ops->allocated(s->file) >> s->cluster_bits;
    if (clusters <= SCAN_RANGE_CLUSTERS + there)
        return true;
    scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
               "ERROR %s claim %llu clusters, the file holds %llu: they are not counted", what,
               (unsigned long long)clusters, (unsigned long long)there);
    s->hidden = s->hopeless = true;
    return false;
}

/* ---- metadata ---------------------------------------------------------------------------------------------- */

static int mark_tables(struct scan *s) {
    int code = 0;
    for (size_t i = 0; i < s->ntables && !code; i++) {
        const struct scan_table *t = &s->tables[i];
        unsigned marks = (t->flags & TABLE_COPIED ? COUNT_COPIED : 0) | (t->flags & TABLE_PLAIN ? COUNT_PLAIN : 0);
        code = scan_meta(s, KIND_L2, t->offset, s->cluster_size, t->refs, marks);
    }
    return code;
}

/* Tables of which each counts its own clusters, though they may lie on each other: one weight per cluster. */
static int mark_ranges(struct scan *s, enum scan_kind kind, scan_ranges *ranges) {
    for (size_t i = 0; i < ranges->n; i++)
        ranges->list[i].end = (ranges->list[i].end + s->cluster_size - 1) & ~(s->cluster_size - 1);
    int code = scan_sweep(ranges);
    for (size_t i = 0; i < ranges->n && !code; i++) {
        const struct scan_range *r = &ranges->list[i];
        code = scan_meta(s, kind, r->start, r->end - r->start, r->weight, 0);
    }
    return code;
}

static int mark_snapshot_l1s(struct scan *s) {
    scan_ranges ranges = {0};
    int code = 0;
    for (size_t i = 0; i < s->snapshots.n && !code; i++) {
        const struct scan_snapshot *snap = &s->snapshots.list[i];
        uint64_t end = snap->l1_offset + (uint64_t)snap->l1_size * 8;
        if (counts_as_there(s, snap))
            code = scan_push(&ranges, ((struct scan_range){snap->l1_offset, end, 1, 0}));
    }
    if (!code)
        code = mark_ranges(s, KIND_SNAPSHOT_L1, &ranges);
    free(ranges.list);
    return code;
}

static int mark_bitmaps(struct scan *s, scan_ranges *tables) {
    const struct qcow2_header *h = s->header;
    int code = mark_ranges(s, KIND_BITMAP_TABLE, tables);
    if (!code && h->has_bitmaps && h->autoclear & QCOW2_AUTOCLEAR_BITMAPS)
        code = scan_meta(s, KIND_BITMAP_DIRECTORY, h->bitmap_directory_offset, h->bitmap_directory_size, 1, 0);
    return code;
}

static int mark_named_by_header(struct scan *s) {
    const struct qcow2_header *h = s->header;
    int code = 0;
    uint64_t end;
    if (h->has_crypto && (__builtin_add_overflow(h->crypto_offset, h->crypto_length, &end) || end > s->file_size)) {
        scan_found(s, IMG_FINDING_CORRUPTION, 0, h->size, SCAN_PAST_END, (unsigned long long)h->crypto_offset,
                   (unsigned long long)h->crypto_length);
        s->hopeless = true;
    }
    if (h->has_crypto)
        code = scan_meta(s, KIND_CRYPTO, h->crypto_offset, h->crypto_length, 1, 0);
    uint64_t table = 0;
    if (s->snapshots.n) {
        const struct scan_snapshot *last = &s->snapshots.list[s->snapshots.n - 1];
        table = last->entry + last->entry_size - h->snapshots_offset;
    }
    if (s->without_snapshots) {
        if (table && s->named_end < h->snapshots_offset + table)
            s->named_end = h->snapshots_offset + table;
    } else if (!code) {
        code = scan_meta(s, KIND_SNAPSHOT_TABLE, h->snapshots_offset, table, 1, 0);
    }
    if (!code && !s->l1_outside)
        code = scan_meta(s, KIND_L1, h->l1_offset, l1_bytes(s), 1, 0);
    return code ? code : scan_meta(s, KIND_HEADER, 0, s->cluster_size, 1, 0);
}

static int compare_offsets(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int run_parts(struct scan *s) {
    scan_ranges bitmap_clusters = {0};
    int code = scan_snapshots(s);
    if (!code)
        code = scan_bitmaps(s);
    if (!code)
        code = name_l1s(s);
    for (size_t i = 0; i < s->bitmap_tables.n && !code; i++)
        code = scan_push(&bitmap_clusters, s->bitmap_tables.list[i]);
    if (!code)
        code = scan_sweep(&s->bitmap_tables);
    if (code || !ranges_credible(s, &s->l1s, "L1 tables") || !ranges_credible(s, &s->bitmap_tables, "bitmap tables"))
        goto out;
    code = scan_refcount_table(s);
    if (!code)
        code = scan_l1_tables(s);
    if (!code) {
        s->total = s->ntables + s->nreftable;
        code = scan_l2_tables(s);
    }
    if (!code)
        code = scan_bitmap_data(s);
    if (!code)
        code = mark_tables(s);
    if (!code)
        code = mark_snapshot_l1s(s);
    if (!code)
        code = mark_bitmaps(s, &bitmap_clusters);
    if (!code)
        code = mark_named_by_header(s);
    if (!code)
        code = scan_refcount_blocks(s);
    if (s->overlaps.n)
        qsort(s->overlaps.list, s->overlaps.n, sizeof *s->overlaps.list, compare_overlaps);
    if (s->bad_l1.n)
        qsort(s->bad_l1.list, s->bad_l1.n, sizeof *s->bad_l1.list, compare_offsets);
out:
    free(bitmap_clusters.list);
    return code;
}

int scan_run(struct scan *s) {
    forget(s);
    take_header(s);
    s->result.total_clusters = (s->header->size >> s->cluster_bits) + ((s->header->size & (s->cluster_size - 1)) != 0);
    int code = counts_init(&s->counts);
    return code ? code : run_parts(s);
}
