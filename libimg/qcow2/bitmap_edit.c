/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap_edit.c - what users do with persistent bitmaps: add, remove, clear, enable, disable, merge, and look inside.
 *
 * Each is one change by one header sector (bitmap_store.c). What is being recorded is stored first, so that all that an
 * edit acts on lies on the disk; the next change of guest data begins to record anew. The gate is closed to writers
 * meanwhile. A bitmap that is in use without being recorded here was left behind by a crash: it is not complete, and
 * can only be removed.
 *
 * The sentences are those of qemu-img where it has them.
 */
#include "bitmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_DIRTY_TRACKING = 1 };

/* ---- limits ---- */

int bitmap_usable(const struct qcow2 *q, const struct qcow2_bitmap *b, struct img_error *err) {
    uint64_t entries = bitmap_entries(q, bitmap_bits(b, q->header.size));
    if (b->flags & QCOW2_BITMAP_IN_USE && !b->record) {
        img_fail(err, -ESTALE, "Bitmap '%s' is inconsistent and cannot be used", b->name);
        return img_hint(err, -ESTALE, "Try block-dirty-bitmap-remove to delete this bitmap from disk");
    }
    if (b->extra_size)
        return img_fail(err, -ENOTSUP, "Bitmap '%s' has extra data that is not supported (extra_data_size = %u)",
                        b->name, b->extra_size);
    if (b->table_size != entries || entries << q->cluster_bits > BITMAP_MAX_DATA_BYTES)
        return img_fail(err, -EINVAL,
                        "Bitmap '%s' doesn't satisfy the constraints (bitmap_table_size = %u, but a disk of %llu bytes "
                        "needs %llu)",
                        b->name, b->table_size, (unsigned long long)q->header.size, (unsigned long long)entries);
    return 0;
}

int bitmap_storable(const struct qcow2 *q, const char *name, unsigned granularity_bits, uint64_t size,
                    struct img_error *err) {
    struct qcow2_bitmap b = {.granularity_bits = (uint8_t)granularity_bits};
    const char *why = NULL;
    if (strlen(name) > BITMAP_MAX_NAME)
        why = "Name length exceeds maximum (1023 characters)";
    else if (size == 0)
        why = "The disk has no bytes";
    else if (bitmap_entries(q, bitmap_bits(&b, size)) << q->cluster_bits > BITMAP_MAX_DATA_BYTES)
        why = "Too much space will be occupied by the bitmap. Use larger granularity";
    return why ? img_fail(err, -EFBIG, "Can't make bitmap '%s' persistent in '%s': %s", name, q->image->path, why) : 0;
}

/* 0: as large as a cluster, but 4 to 64 KiB. */
static int granularity_of(const struct qcow2 *q, uint64_t granularity, unsigned *bits, struct img_error *err) {
    if (granularity == 0)
        granularity = q->cluster_size < 4096 ? 4096 : q->cluster_size > 65536 ? 65536 : q->cluster_size;
    *bits = (unsigned)__builtin_ctzll(granularity);
    if (granularity & (granularity - 1) || *bits < BITMAP_MIN_GRANULARITY_BITS)
        return img_fail(err, -EINVAL, "Granularity must be power of 2 and at least %u",
                        1u << BITMAP_MIN_GRANULARITY_BITS);
    if (*bits > BITMAP_MAX_GRANULARITY_BITS)
        return img_fail(err, -EINVAL, "Granularity must be power of 2 and at most %u",
                        1u << BITMAP_MAX_GRANULARITY_BITS);
    return 0;
}

static size_t find(const struct qcow2_bitmaps *b, const char *name) {
    size_t i = 0;
    while (i < b->count && strcmp(b->list[i].name, name) != 0)
        i++;
    return i;
}

static int not_found(const char *name, struct img_error *err) {
    return img_fail(err, -ENOENT, "Dirty bitmap '%s' not found", name);
}

/* ---- one edit each ---- */

static int add(struct bitmap_change *c, const struct img_bitmap_edit *edit, struct img_error *err) {
    struct qcow2 *q = c->q;
    unsigned bits;
    if (find(&c->next, edit->name) < c->next.count)
        return img_fail(err, -EEXIST, "Bitmap already exists: %s", edit->name);
    if (!*edit->name)
        return img_fail(err, -EINVAL, "Bitmap name cannot be empty");
    int r = granularity_of(q, edit->granularity, &bits, err);
    if (r == 0 && !q->v3)
        r = img_fail(err, -ENOTSUP,
                     "Can't make bitmap '%s' persistent in '%s': Cannot store dirty bitmaps in qcow2 v2 files",
                     edit->name, q->image->path);
    if (r == 0)
        r = bitmap_storable(q, edit->name, bits, c->size, err);
    if (r < 0)
        return r;
    struct qcow2_bitmap *b = &c->next.list[c->next.count];
    *b = (struct qcow2_bitmap){.flags = edit->enabled ? QCOW2_BITMAP_AUTO : 0,
                               .type = TYPE_DIRTY_TRACKING,
                               .granularity_bits = (uint8_t)bits,
                               .name = strdup(edit->name)};
    if (!b->name)
        return img_fail(err, -ENOMEM, "no memory for bitmap '%s'", edit->name);
    c->next.count++;
    return bitmap_write_table(c, NULL, b, NULL, err);
}

static int clear(struct bitmap_change *c, struct qcow2_bitmap *b, struct img_error *err) {
    int r = bitmap_let_go(c, b, err);
    return r < 0 ? r : bitmap_write_table(c, NULL, b, NULL, err);
}

/* The bits of another bitmap, as those of the bitmap that takes them up. */
struct merge {
    struct bitmap_reader reader;
    unsigned from_bits, to_bits; /* granularities */
    uint64_t first, count;       /* the next dirty run of the source; count 0: there is none */
};

/* Makes the run one that does not end before `bit` of the target. */
static int advance(struct merge *m, uint64_t bit, struct img_error *err) {
    uint64_t from = bit << m->to_bits >> m->from_bits;
    if (m->count == 0 || m->first + m->count > from)
        return 0;
    int r = bitmap_reader_next(&m->reader, from, &m->first, &m->count, err);
    if (r == 0)
        m->count = 0;
    return r < 0 ? r : 0;
}

/* The granules of the target that the run touches. */
static void run_in_target(const struct merge *m, uint64_t *first, uint64_t *end) {
    *first = m->first << m->from_bits >> m->to_bits;
    *end = ((((m->first + m->count) << m->from_bits) - 1) >> m->to_bits) + 1;
}

static int any_merged(void *opaque, uint64_t first, uint64_t count, struct img_error *err) {
    struct merge *m = opaque;
    uint64_t from, end;
    int r = advance(m, first, err);
    if (r < 0 || m->count == 0)
        return r;
    run_in_target(m, &from, &end);
    return from < first + count;
}

static int add_merged(void *opaque, uint64_t first, uint64_t count, uint8_t *data, struct img_error *err) {
    struct merge *m = opaque;
    for (uint64_t at = first; at < first + count;) {
        uint64_t from, end;
        int r = advance(m, at, err);
        if (r < 0)
            return r;
        if (m->count == 0)
            break;
        run_in_target(m, &from, &end);
        if (from >= first + count)
            break;
        from = from < at ? at : from;
        end = end > first + count ? first + count : end;
        bits_set(data, from - first, end - from);
        at = end;
    }
    return 0;
}

static int merge_bits(struct bitmap_change *c, struct qcow2_bitmap *to, struct qcow2 *source,
                      const struct qcow2_bitmap *from, struct img_error *err) {
    struct merge m = {.from_bits = from->granularity_bits, .to_bits = to->granularity_bits, .count = 1};
    struct bitmap_addition addition = {any_merged, add_merged, &m};
    int r = bitmap_reader_open(&m.reader, source, from, bitmap_bits(from, source->header.size));
    if (r < 0)
        img_fail(err, r, "no memory to merge bitmap '%s'", from->name);
    else if ((r = bitmap_reader_next(&m.reader, 0, &m.first, &m.count, err)) == 1)
        r = bitmap_write_table(c, to, to, &addition, err);
    bitmap_reader_close(&m.reader);
    return r;
}

static int merge(struct bitmap_change *c, struct qcow2_bitmap *to, const struct img_bitmap_edit *edit,
                 struct img_error *err) {
    struct qcow2 *source = edit->source == c->q->image ? c->q : qcow2_of(edit->source);
    size_t i = find(&source->bitmaps, edit->source_name);
    if (i == source->bitmaps.count)
        return not_found(edit->source_name, err);
    const struct qcow2_bitmap from = source->bitmaps.list[i];
    int r = bitmap_usable(source, &from, err);
    if (r < 0)
        return r;
    if (source->header.size != c->size)
        return img_fail(err, -EINVAL,
                        "Bitmaps are of different sizes (destination size is %llu, source size is %llu) and can't be "
                        "merged",
                        (unsigned long long)c->size, (unsigned long long)source->header.size);
    return from.name == to->name ? 0 : merge_bits(c, to, source, &from, err);
}

static int edit_one(struct bitmap_change *c, const struct img_bitmap_edit *edit, struct img_error *err) {
    size_t i = find(&c->next, edit->name);
    if (edit->op == IMG_BITMAP_ADD)
        return add(c, edit, err);
    if (i == c->next.count)
        return not_found(edit->name, err);
    struct qcow2_bitmap *b = &c->next.list[i];
    int r = edit->op == IMG_BITMAP_REMOVE ? 0 : bitmap_usable(c->q, b, err);
    if (r < 0)
        return r;
    switch (edit->op) {
    case IMG_BITMAP_REMOVE:
        r = bitmap_let_go(c, b, err);
        memmove(b, b + 1, (--c->next.count - i) * sizeof *b);
        return r;
    case IMG_BITMAP_CLEAR:
        return clear(c, b, err);
    case IMG_BITMAP_MERGE:
        return merge(c, b, edit, err);
    default:
        b->flags = (b->flags & ~QCOW2_BITMAP_AUTO) | (edit->enabled ? QCOW2_BITMAP_AUTO : 0);
        return 0;
    }
}

/* ---- all ---- */

/* The name that was put into the change or taken out of it: it is nobody's afterwards. */
static char *loose_name(const struct qcow2 *q, const struct bitmap_change *c, const struct img_bitmap_edit *edit,
                        bool done) {
    size_t before = find(&q->bitmaps, edit->name), after = find(&c->next, edit->name);
    if (edit->op == IMG_BITMAP_REMOVE && done && before < q->bitmaps.count)
        return q->bitmaps.list[before].name;
    if (edit->op == IMG_BITMAP_ADD && !done && before == q->bitmaps.count && after < c->next.count)
        return c->next.list[after].name;
    return NULL;
}

static int edit_stored(struct qcow2 *q, const struct img_bitmap_edit *edit, struct img_error *err) {
    struct bitmap_change c;
    int r = first_hidden_change(q, err);
    if (r == 0)
        r = bitmap_change_begin(&c, q, err);
    if (r != 0)
        return r;
    r = edit_one(&c, edit, err);
    char *removed = loose_name(q, &c, edit, true), *added = loose_name(q, &c, edit, false);
    r = bitmap_change_end(&c, r, err);
    free(r == 0 ? removed : added);
    return r;
}

int qcow2_bitmap_edit(struct img *image, const struct img_bitmap_edit *edit, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    SCOPED_MUTEX(&q->role);
    int r = writes_allowed(q, err);
    if (r < 0)
        return r;
    gate_close(&image->epochs, false);
    r = record_store(q, err);
    if (r == 0)
        r = edit_stored(q, edit, err);
    gate_open(&image->epochs, false);
    return r;
}

int qcow2_bitmap_next(struct img *image, const char *name, uint64_t offset, uint64_t *start, uint64_t *length,
                      struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    struct bitmap_reader reader;
    uint64_t first = 0, count = 0, size;
    SCOPED_MUTEX(&q->role);
    size = q->header.size;
    size_t i = find(&q->bitmaps, name);
    if (i == q->bitmaps.count)
        return not_found(name, err);
    const struct qcow2_bitmap *b = &q->bitmaps.list[i];
    int r = bitmap_usable(q, b, err);
    if (r < 0)
        return r;
    r = bitmap_reader_open(&reader, q, b, bitmap_bits(b, size));
    if (r < 0)
        img_fail(err, r, "no memory to read bitmap '%s'", name);
    else if (offset < size)
        r = bitmap_reader_next(&reader, offset >> b->granularity_bits, &first, &count, err);
    bitmap_reader_close(&reader);
    *start = size;
    *length = 0;
    if (r <= 0)
        return r;
    uint64_t from = first << b->granularity_bits, to = (first + count) << b->granularity_bits;
    *start = from < offset ? offset : from;
    *length = (to < size ? to : size) - *start;
    return 0;
}
