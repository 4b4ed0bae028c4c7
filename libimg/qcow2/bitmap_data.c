/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap_data.c - tables and bits of bitmaps on the disk: reading runs of dirty bits, and writing new tables.
 *
 * A table is read through a window and never as a whole, its bits one cluster at a time, so memory does not depend on
 * what an image says. Each entry is judged when it is used: an image may hold anything there. Bits behind the end of
 * the disk mean nothing and are never believed: they are cleared before the disk's size could make them mean something.
 *
 * A table is never changed in place. A new one shares the clusters that stay as they are with the old one; both are
 * complete until the header selects one of them.
 *
 * Specification: "Bitmap table", "Bitmap data".
 */
#include "bitmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- bits ---- */

void bits_set(uint8_t *data, uint64_t from, uint64_t count) {
    uint64_t end = from + count;
    for (; from < end && from % 8; from++)
        data[from / 8] |= (uint8_t)(1u << from % 8);
    memset(data + from / 8, 0xff, (end - from) / 8);
    for (from += (end - from) & ~7ull; from < end; from++)
        data[from / 8] |= (uint8_t)(1u << from % 8);
}

static void bits_clear_from(uint8_t *data, uint64_t from, uint64_t end) {
    for (; from < end && from % 8; from++)
        data[from / 8] &= (uint8_t) ~(1u << from % 8);
    memset(data + from / 8, 0, (end - from) / 8);
}

/* The first bit of this value in [from, end), or `end`. The buffer is whole words. */
static uint64_t bits_find(const uint8_t *data, uint64_t from, uint64_t end, bool value) {
    while (from < end) {
        uint64_t word;
        memcpy(&word, data + from / 64 * 8, sizeof word);
        word = le64toh(word);
        word = (value ? word : ~word) >> from % 64;
        if (word) {
            from += (unsigned)__builtin_ctzll(word);
            return from < end ? from : end;
        }
        from = (from / 64 + 1) * 64;
    }
    return end;
}

/* ---- reading ---- */

int bitmap_reader_open(struct bitmap_reader *r, struct qcow2 *q, const struct qcow2_bitmap *bitmap, uint64_t bits) {
    *r = (struct bitmap_reader){.q = q, .bitmap = bitmap, .bits = bits, .loaded = UINT64_MAX};
    r->window = malloc(BITMAP_TABLE_WINDOW * sizeof *r->window);
    r->data = malloc(q->cluster_size);
    return r->window && r->data ? 0 : -ENOMEM;
}

void bitmap_reader_close(struct bitmap_reader *r) {
    free(r->window);
    free(r->data);
    r->window = NULL;
    r->data = NULL;
}

static int load_window(struct bitmap_reader *r, uint64_t index) {
    uint64_t left = r->bitmap->table_size - index, n = left < BITMAP_TABLE_WINDOW ? left : BITMAP_TABLE_WINDOW;
    r->window_count = 0;
    int e = storage_read(r->q->file, r->window, n * 8, r->bitmap->table_offset + index * 8);
    if (e < 0)
        return e;
    for (uint64_t i = 0; i < n; i++)
        r->window[i] = be64toh(r->window[i]);
    r->window_first = index;
    r->window_count = n;
    return 0;
}

static const char *entry_is_wrong(const struct qcow2 *q, uint64_t entry) {
    uint64_t offset = entry & QCOW2_OFFSET_MASK, size = storage_size(q->file);
    if (entry & ~(QCOW2_OFFSET_MASK | BITMAP_ENTRY_ONES) || (offset && entry & BITMAP_ENTRY_ONES))
        return "has reserved bits set";
    if (in_cluster(q, offset))
        return "is not aligned to clusters";
    if (offset && (offset > size || size - offset < q->cluster_size))
        return "lies past the end of the file";
    return NULL;
}

/* The entry, whatever it says. */
static int raw_entry(struct bitmap_reader *r, uint64_t index, uint64_t *entry, struct img_error *err) {
    *entry = 0;
    if (index - r->window_first >= r->window_count) {
        int e = load_window(r, index);
        if (e < 0)
            return img_fail_errno(err, e, "could not read the table of bitmap '%s'", r->bitmap->name);
    }
    *entry = r->window[index - r->window_first];
    return 0;
}

static int good_entry(struct bitmap_reader *r, uint64_t index, uint64_t *entry, struct img_error *err) {
    int e = raw_entry(r, index, entry, err);
    const char *fault = e < 0 ? NULL : entry_is_wrong(r->q, *entry);
    return fault ? img_fail(err, -EUCLEAN, "Bitmap '%s': table entry %llu (0x%llx) %s", r->bitmap->name,
                            (unsigned long long)index, (unsigned long long)*entry, fault)
                 : e;
}

static int load_bits(struct bitmap_reader *r, uint64_t index, uint64_t entry, struct img_error *err) {
    if (r->loaded == index)
        return 0;
    r->loaded = UINT64_MAX;
    if (entry <= BITMAP_ENTRY_ONES) {
        memset(r->data, entry ? 0xff : 0, r->q->cluster_size);
    } else {
        int e = storage_read(r->q->file, r->data, r->q->cluster_size, entry);
        if (e < 0)
            return img_fail_errno(err, e, "could not read the data of bitmap '%s'", r->bitmap->name);
    }
    r->loaded = index;
    return 0;
}

int bitmap_reader_next(struct bitmap_reader *r, uint64_t from, uint64_t *first, uint64_t *count,
                       struct img_error *err) {
    uint64_t per = bitmap_bits_per_entry(r->q);
    while (from < r->bits) {
        uint64_t index = from / per, start = index * per, entry;
        uint64_t end = r->bits - start < per ? r->bits - start : per;
        int e = good_entry(r, index, &entry, err);
        if (e == 0 && entry)
            e = load_bits(r, index, entry, err);
        if (e < 0)
            return e;
        uint64_t bit = entry ? bits_find(r->data, from - start, end, true) : end;
        if (bit < end) {
            *first = start + bit;
            *count = bits_find(r->data, bit, end, false) - bit;
            return 1;
        }
        from = start + per;
    }
    return 0;
}

bool bitmap_table_is_sound(struct qcow2 *q, const struct qcow2_bitmap *b) {
    struct bitmap_reader reader;
    bool sound = bitmap_reader_open(&reader, q, b, 0) == 0;
    for (uint64_t i = 0; sound && i < b->table_size; i++) {
        uint64_t entry;
        sound = good_entry(&reader, i, &entry, NULL) == 0;
    }
    bitmap_reader_close(&reader);
    return sound;
}

/* ---- writing ---- */

/* A table that is being written. */
struct table_writer {
    struct bitmap_change *change;
    struct bitmap_reader reader; /* of the old one */
    const struct qcow2_bitmap *from;
    const struct bitmap_addition *addition;
    uint64_t old_bits, new_bits;
    uint8_t *work;    /* a cluster of bits */
    uint64_t *window; /* of the new table */
};

/* How many of `bits` belong to this entry. */
static uint64_t bits_of_entry(const struct qcow2 *q, uint64_t index, uint64_t bits) {
    uint64_t per = bitmap_bits_per_entry(q), start = index * per;
    return bits <= start ? 0 : bits - start < per ? bits - start : per;
}

static int write_bits(struct table_writer *w, uint64_t *entry, struct img_error *err) {
    struct qcow2 *q = w->change->q;
    uint64_t cluster;
    int r = bitmap_change_take(w->change, 1, &cluster, err);
    if (r < 0)
        return r;
    *entry = cluster << q->cluster_bits;
    r = storage_write(q->file, w->work, q->cluster_size, *entry);
    if (r < 0) {
        metadata_write_failed(q, r, "the host could not write a bitmap");
        return img_fail_errno(err, r, "could not write bits of '%s'", q->image->path);
    }
    return 0;
}

/* The entry at `index` of the new table; what the old one named there is let go when it is not kept. */
static int next_entry(struct table_writer *w, uint64_t index, uint64_t *entry, struct img_error *err) {
    struct qcow2 *q = w->change->q;
    uint64_t first = index * bitmap_bits_per_entry(q), size = q->cluster_size, old = 0;
    uint64_t was = bits_of_entry(q, index, w->old_bits), is = bits_of_entry(q, index, w->new_bits);
    int r = was ? good_entry(&w->reader, index, &old, err) : 0;
    int adds = r == 0 && is && w->addition ? w->addition->any(w->addition->opaque, first, is, err) : 0;
    bool cut = old && was != is && !(old == BITMAP_ENTRY_ONES && is < was);
    *entry = old;
    if (r < 0 || adds < 0 || (!adds && !cut))
        return r < 0 ? r : adds < 0 ? adds : 0;
    if ((r = load_bits(&w->reader, index, old, err)) < 0)
        return r;
    memcpy(w->work, w->reader.data, size);
    bits_clear_from(w->work, was, size * 8);
    if (adds && (r = w->addition->add(w->addition->opaque, first, is, w->work, err)) < 0)
        return r;
    bits_clear_from(w->work, is, size * 8);
    if (old && memcmp(w->work, w->reader.data, size) == 0)
        return 0;
    if (bits_find(w->work, 0, size * 8, true) == size * 8)
        *entry = 0;
    else if (bits_find(w->work, 0, size * 8, false) == size * 8)
        *entry = BITMAP_ENTRY_ONES;
    else
        r = write_bits(w, entry, err);
    if (r == 0 && old > BITMAP_ENTRY_ONES && (r = bitmap_change_let_go(w->change, cluster_index(q, old), 1)) < 0)
        img_fail_errno(err, r, "no memory to change a bitmap");
    return r;
}

static int write_window(struct table_writer *w, uint64_t table, uint64_t index, uint64_t count, struct img_error *err) {
    struct qcow2 *q = w->change->q;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t entry;
        int r = next_entry(w, index + i, &entry, err);
        if (r < 0)
            return r;
        w->window[i] = htobe64(entry);
    }
    int r = storage_write(q->file, w->window, count * 8, table + index * 8);
    if (r < 0) {
        metadata_write_failed(q, r, "the host could not write a bitmap table");
        return img_fail_errno(err, r, "could not write a bitmap table of '%s'", q->image->path);
    }
    return 0;
}

/* What lies behind the last entry of the new table. */
static int let_go_rest(struct table_writer *w, uint64_t index, struct img_error *err) {
    for (; w->from && index < w->from->table_size; index++) {
        uint64_t entry;
        int r = good_entry(&w->reader, index, &entry, err);
        if (r == 0 && entry > BITMAP_ENTRY_ONES)
            r = bitmap_change_let_go(w->change, cluster_index(w->change->q, entry), 1);
        if (r < 0)
            return r;
    }
    return 0;
}

static int write_all(struct table_writer *w, struct qcow2_bitmap *to, struct img_error *err) {
    struct qcow2 *q = w->change->q;
    uint64_t entries = bitmap_entries(q, w->new_bits), clusters = bitmap_table_clusters(q, entries), first;
    int r = bitmap_change_take(w->change, clusters, &first, err);
    for (uint64_t at = 0; r == 0 && at < entries; at += BITMAP_TABLE_WINDOW) {
        uint64_t left = entries - at;
        r = write_window(w, first << q->cluster_bits, at, left < BITMAP_TABLE_WINDOW ? left : BITMAP_TABLE_WINDOW, err);
    }
    if (r == 0)
        r = let_go_rest(w, entries, err);
    if (r == 0 && w->from)
        r = bitmap_change_let_go(w->change, cluster_index(q, w->from->table_offset),
                                 bitmap_table_clusters(q, w->from->table_size));
    if (r < 0)
        return r;
    to->table_offset = first << q->cluster_bits;
    to->table_size = (uint32_t)entries;
    return 0;
}

int bitmap_write_table(struct bitmap_change *c, const struct qcow2_bitmap *from, struct qcow2_bitmap *to,
                       const struct bitmap_addition *addition, struct img_error *err) {
    static const struct qcow2_bitmap none;
    const struct qcow2_bitmap old = from ? *from : none; /* `to` may be the same */
    struct table_writer w = {.change = c,
                             .from = from ? &old : NULL,
                             .addition = addition,
                             .old_bits = from ? bitmap_bits(from, c->q->header.size) : 0,
                             .new_bits = bitmap_bits(to, c->size)};
    int r = bitmap_reader_open(&w.reader, c->q, &old, w.old_bits);
    w.work = malloc(c->q->cluster_size);
    w.window = malloc(BITMAP_TABLE_WINDOW * sizeof *w.window);
    if (r < 0 || !w.work || !w.window)
        r = img_fail(err, -ENOMEM, "no memory to change bitmap '%s'", to->name);
    if (r == 0)
        r = write_all(&w, to, err);
    bitmap_reader_close(&w.reader);
    free(w.work);
    free(w.window);
    return r;
}

int bitmap_let_go(struct bitmap_change *c, const struct qcow2_bitmap *b, struct img_error *err) {
    struct qcow2 *q = c->q;
    struct bitmap_reader reader;
    int r = bitmap_reader_open(&reader, q, b, 0);
    for (uint64_t i = 0; r == 0 && i < b->table_size; i++) {
        uint64_t entry;
        if (raw_entry(&reader, i, &entry, NULL) < 0)
            break;
        if (entry > BITMAP_ENTRY_ONES && !entry_is_wrong(q, entry))
            r = bitmap_change_let_go(c, cluster_index(q, entry), 1);
    }
    bitmap_reader_close(&reader);
    if (r == 0)
        r = bitmap_change_let_go(c, cluster_index(q, b->table_offset), bitmap_table_clusters(q, b->table_size));
    return r < 0 ? img_fail(err, r, "no memory to let go of bitmap '%s'", b->name) : 0;
}
