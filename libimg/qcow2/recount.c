/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* recount.c - repair of counts, in place or by a new refcount structure; and the header that ends each step.
 *
 * In place, the comparison drives: each difference is set in a copy of its block, which is written when the comparison
 * moves on to the next. A new structure lies in one piece behind everything: snapshot table (when it must change),
 * refcount table, blocks. It counts itself; nothing that the old header names is overwritten, so until the header is
 * written the image is what it was.
 */
#include "scan.h"

#include <string.h>

int repair_barrier(struct scan *s, struct img_error *err) {
    int code = storage_flush(s->file);
    return code ? img_fail_errno(err, code, "Could not flush the repaired image") : 0;
}

int repair_header(struct scan *s, bool *wrote, struct img_error *err) {
    int code = repair_barrier(s, err);
    if (code)
        return code;
    *wrote = true;
    code = header_write_sector(s->file, s->header);
    if (code)
        return img_fail_errno(err, code, "Could not write the header");
    return repair_barrier(s, err);
}

/* ---- in place ------------------------------------------------------------------------------------------ */

struct recount {
    enum recount_what what;
    bool left; /* some count stays as it is, for its entry's sake */
    bool *wrote;
    struct img_error *err;
    uint8_t *block;     /* a cluster */
    uint64_t index;     /* which block; UINT64_MAX: none */
    uint64_t low, high; /* bytes [low, high) of it have changed */
};

static int store_block(struct scan *s, struct recount *r) {
    if (r->low >= r->high)
        return 0;
    uint64_t at = s->reftable[r->index] + r->low;
    *r->wrote = true;
    int code = storage_write(s->file, r->block + r->low, r->high - r->low, at);
    r->low = r->high = 0;
    return code ? img_fail_errno(r->err, code, "Could not write refcounts at offset 0x%llx", (unsigned long long)at)
                : 0;
}

static int load_block(struct scan *s, struct recount *r, uint64_t index) {
    int code = store_block(s, r);
    if (code)
        return code;
    r->index = index;
    r->low = s->cluster_size;
    r->high = 0;
    code = storage_read(s->file, r->block, s->cluster_size, s->reftable[index]);
    return code ? img_fail_errno(r->err, code, "Could not read the refcount block at offset 0x%llx",
                                 (unsigned long long)s->reftable[index])
                : 0;
}

static int set_count(struct scan *s, void *opaque, uint64_t cluster, uint64_t on_disk, uint64_t references) {
    struct recount *r = opaque;
    unsigned order = s->header->refcount_order;
    uint64_t per_block = scan_block_clusters(s), index = cluster / per_block, i = cluster % per_block;
    if (on_disk < references && (r->what != RECOUNT_ALL || references > blockcount_max(order)))
        return 0;
    if (r->what == RECOUNT_LOWER_UNSEEN && references == 1 && counts_marks(&s->counts, cluster) & COUNT_PLAIN) {
        r->left = true;
        return 0;
    }
    if (index >= s->nreftable || !s->reftable[index])
        return 0;
    if (index != r->index) {
        int code = load_block(s, r, index);
        if (code)
            return code;
    }
    scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0, "Repairing cluster %llu refcount=%llu reference=%llu",
              (unsigned long long)cluster, (unsigned long long)on_disk, (unsigned long long)references);
    blockcount_set(r->block, order, i, references);
    uint64_t low = i << order >> 3, high = (((i + 1) << order) + 7) >> 3;
    r->low = low < r->low ? low : r->low;
    r->high = high > r->high ? high : r->high;
    return 0;
}

int repair_counts(struct scan *s, enum recount_what what, bool *wrote, struct img_error *err) {
    struct recount r = {.what = what, .wrote = wrote, .err = err, .index = UINT64_MAX};
    r.block = malloc(s->cluster_size);
    if (!r.block)
        return img_fail_errno(err, -ENOMEM, "Could not repair");
    int code = scan_compare(s, set_count, &r);
    if (!code)
        code = store_block(s, &r);
    if (r.left)
        scan_tell(s, IMG_FINDING_ERROR, SCAN_NO_GUEST, 0,
                  "Leaks of clusters that would then need OFLAG_COPIED are left, as the image has errors; repair all");
    free(r.block);
    return code ? code : repair_barrier(s, err);
}

/* ---- a new snapshot table ---------------------------------------------------------------------------------- */

struct bytes {
    uint8_t *data;
    size_t n, room;
};

static void *append(struct bytes *b, size_t n) {
    if (b->room - b->n < n) {
        size_t room = (b->n + n) * 2;
        uint8_t *data = realloc(b->data, room);
        if (!data)
            return NULL;
        b->data = data;
        b->room = room;
    }
    memset(b->data + b->n, 0, n);
    b->n += n;
    return b->data + b->n - n;
}

/* One entry with extra data within the limits; in version 3 at least what the format demands. */
static int append_snapshot(struct scan *s, const struct scan_snapshot *snap, struct bytes *out) {
    size_t head = sizeof(struct qcow2_disk_snapshot), names = (size_t)snap->id_size + snap->name_size;
    size_t old = snap->extra_size < QCOW2_MAX_SNAPSHOT_EXTRA ? snap->extra_size : QCOW2_MAX_SNAPSHOT_EXTRA;
    size_t extra = s->v3 && old < 16 ? 16 : old;
    uint8_t *at = append(out, (head + extra + names + 7) & ~(size_t)7);
    if (!at)
        return -ENOMEM;
    int code = storage_read(s->file, at, head + old, snap->entry);
    if (!code && names)
        code = storage_read(s->file, at + head + extra, names, snap->entry + head + snap->extra_size);
    struct qcow2_disk_snapshot *disk = (struct qcow2_disk_snapshot *)at;
    struct qcow2_disk_snapshot_extra *more = (struct qcow2_disk_snapshot_extra *)(at + head);
    disk->extra_data_size = put32(extra);
    if (extra >= 8 && old < 8)
        more->vm_state_size_large = put64(get32(disk->vm_state_size));
    if (extra >= 16 && old < 16)
        more->disk_size = put64(s->header->size);
    return code;
}

static int make_snapshot_table(struct scan *s, struct bytes *out, uint32_t *n, struct img_error *err) {
    *n = 0;
    for (size_t i = 0; i < s->snapshots.n; i++) {
        const struct scan_snapshot *snap = &s->snapshots.list[i];
        if (snap->bad || snap->drop) {
            scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0, "Repairing snapshot table: entry %zu is dropped", i);
            continue;
        }
        int code = append_snapshot(s, snap, out);
        if (code)
            return img_fail_errno(err, code, "Could not copy the snapshot table");
        ++*n;
    }
    return 0;
}

/* ---- a new refcount structure --------------------------------------------------------------------------------- */

struct rebuild {
    struct scan *s;
    struct bytes snapshots;
    uint32_t nsnapshots;
    unsigned order;
    uint64_t per_block; /* clusters that a block covers */
    uint64_t place;     /* host cluster where it begins */
    uint64_t snapshot_clusters, table_clusters, blocks, entries;
    uint64_t *leaves;
    size_t nleaves;
};

/* The narrowest width, not narrower than the old one, in which all counts fit; version 2 knows only 16 bits. */
static void choose_width(struct rebuild *r) {
    struct scan *s = r->s;
    r->order = s->header->refcount_order;
    while (s->v3 && r->order < QCOW2_MAX_REFCOUNT_ORDER && s->max_count > blockcount_max(r->order))
        r->order++;
    if (r->order != s->header->refcount_order)
        scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0, "Repairing refcount width: %u bits for %llu references",
                  1u << r->order, (unsigned long long)s->max_count);
    r->per_block = s->cluster_size * 8 >> r->order;
}

static uint64_t to_clusters(const struct scan *s, uint64_t bytes) {
    return (bytes >> s->cluster_bits) + ((bytes & (s->cluster_size - 1)) != 0);
}

/* How many blocks hold a count, and the highest, when the structure takes `total` clusters at its place. */
static void count_blocks(struct rebuild *r, uint64_t total) {
    uint64_t first = r->place / r->per_block, last = (r->place + total - 1) / r->per_block, seen = UINT64_MAX;
    r->blocks = last - first + 1;
    for (size_t i = 0; i < r->nleaves; i++) {
        uint64_t block = (r->leaves[i] << COUNT_LEAF_BITS) / r->per_block;
        if (block != seen && (block < first || block > last))
            r->blocks++;
        seen = block;
    }
    uint64_t highest = seen != UINT64_MAX && seen > last ? seen : last;
    r->entries = highest + 1;
    r->table_clusters = to_clusters(r->s, r->entries * 8);
}

/* Its size depends on itself: grows until it covers itself. False: the table would be too large. */
static bool lay_out(struct rebuild *r, uint64_t place) {
    r->place = place;
    r->snapshot_clusters = to_clusters(r->s, r->snapshots.n);
    uint64_t total = r->snapshot_clusters + 2, before;
    do {
        before = total;
        count_blocks(r, total);
        total = r->snapshot_clusters + r->table_clusters + r->blocks;
    } while (total > before);
    return r->table_clusters << r->s->cluster_bits <= QCOW2_MAX_REFCOUNT_TABLE_BYTES;
}

static uint64_t total_clusters(const struct rebuild *r) {
    return r->snapshot_clusters + r->table_clusters + r->blocks;
}

/* Behind the end of the file, where nothing can lie that somebody may still want; if that cannot be, behind all that is
 * named. */
static int find_place(struct rebuild *r, struct img_error *err) {
    struct scan *s = r->s;
    uint64_t named = to_clusters(s, s->named_end), behind = s->clusters > named ? s->clusters : named;
    if (!s->file->fixed_size && lay_out(r, behind))
        return 0;
    if (!lay_out(r, named))
        return img_fail(err, -EFBIG, "A refcount table for a file of %llu bytes is larger than %u bytes",
                        (unsigned long long)s->file_size, QCOW2_MAX_REFCOUNT_TABLE_BYTES);
    if (s->file->fixed_size && (named + total_clusters(r)) << s->cluster_bits > s->file_size)
        return img_fail(err, -ENOSPC, "The new refcounts need %llu bytes behind offset 0x%llx, where the device ends",
                        (unsigned long long)(total_clusters(r) << s->cluster_bits), (unsigned long long)s->named_end);
    return 0;
}

static int write_at(struct rebuild *r, const void *data, uint64_t n, uint64_t cluster, struct img_error *err) {
    uint64_t at = cluster << r->s->cluster_bits;
    int code = storage_write(r->s->file, data, n, at);
    return code ? img_fail_errno(err, code, "Could not write %llu bytes of new metadata at offset 0x%llx",
                                 (unsigned long long)n, (unsigned long long)at)
                : 0;
}

/* Fills one block from the leaves that lie in it, *next on. */
static void fill_block(struct rebuild *r, uint8_t *block, uint64_t index, size_t *next) {
    struct scan *s = r->s;
    uint64_t first = index * r->per_block, max = blockcount_max(r->order);
    memset(block, 0, s->cluster_size);
    for (; *next < r->nleaves && r->leaves[*next] << COUNT_LEAF_BITS < first + r->per_block; ++*next) {
        uint64_t cluster = r->leaves[*next] << COUNT_LEAF_BITS;
        const uint16_t *leaf = counts_leaf(&s->counts, cluster);
        for (unsigned i = 0; i < COUNT_LEAF; i++) {
            uint64_t count = counts_cell(&s->counts, leaf[i], cluster + i);
            if (count)
                blockcount_set(block, r->order, cluster + i - first, count < max ? count : max);
        }
    }
}

/* Writes the blocks, several at once, and puts their offsets into the table. */
static int write_blocks(struct rebuild *r, be64 *table, struct img_error *err) {
    struct scan *s = r->s;
    uint64_t batch = SCAN_WINDOW >> s->cluster_bits ? SCAN_WINDOW >> s->cluster_bits : 1, filled = 0, written = 0;
    uint64_t start = r->place + r->snapshot_clusters + r->table_clusters;
    uint8_t *buffer = malloc(batch << s->cluster_bits);
    int code = buffer ? 0 : img_fail_errno(err, -ENOMEM, "Could not repair");
    for (size_t next = 0; next < r->nleaves && !code;) {
        uint64_t index = (r->leaves[next] << COUNT_LEAF_BITS) / r->per_block;
        table[index] = put64((start + written + filled) << s->cluster_bits);
        fill_block(r, buffer + (filled++ << s->cluster_bits), index, &next);
        if (filled < batch && next < r->nleaves)
            continue;
        code = write_at(r, buffer, filled << s->cluster_bits, start + written, err);
        written += filled;
        filled = 0;
    }
    free(buffer);
    return code;
}

static int write_structure(struct rebuild *r, struct img_error *err) {
    struct scan *s = r->s;
    be64 *table = calloc(1, r->table_clusters << s->cluster_bits);
    if (!table)
        return img_fail_errno(err, -ENOMEM, "Could not repair");
    int code = write_blocks(r, table, err);
    if (!code)
        code = write_at(r, table, r->table_clusters << s->cluster_bits, r->place + r->snapshot_clusters, err);
    if (!code && r->snapshots.n)
        code = write_at(r, r->snapshots.data, r->snapshots.n, r->place, err);
    free(table);
    return code;
}

static void adopt(struct rebuild *r) {
    struct scan *s = r->s;
    struct qcow2_header *h = s->header;
    h->refcount_table_offset = (r->place + r->snapshot_clusters) << s->cluster_bits;
    h->refcount_table_clusters = r->table_clusters;
    h->refcount_order = r->order;
    if (s->without_snapshots) {
        h->nb_snapshots = r->nsnapshots;
        h->snapshots_offset = r->nsnapshots ? r->place << s->cluster_bits : 0;
    }
}

int repair_rebuild(struct scan *s, bool *wrote, struct img_error *err) {
    struct rebuild r = {.s = s};
    scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0, "Rebuilding refcount structure");
    int code = s->without_snapshots ? make_snapshot_table(s, &r.snapshots, &r.nsnapshots, err) : 0;
    if (!code && counts_leaves(&s->counts, &r.leaves, &r.nleaves))
        code = img_fail_errno(err, -ENOMEM, "Could not repair");
    choose_width(&r);
    if (!code)
        code = find_place(&r, err);
    free(r.leaves);
    r.leaves = NULL;
    if (!code && (counts_add(&s->counts, r.place, total_clusters(&r), 1, COUNT_META) ||
                  counts_leaves(&s->counts, &r.leaves, &r.nleaves)))
        code = img_fail_errno(err, -ENOMEM, "Could not repair");
    if (!code) {
        *wrote = true;
        code = write_structure(&r, err);
    }
    if (!code) {
        adopt(&r);
        code = repair_header(s, wrote, err);
    }
    free(r.leaves);
    free(r.snapshots.data);
    return code;
}
