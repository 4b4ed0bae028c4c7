/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* resize.c - another virtual size, without a moment at which a power cut loses what was there.
 *
 * To grow, a larger L1 if it is needed (light switch); then everything behind the old end is made to read as zeroes
 * (the old tail of the last cluster is zeroed, entries left behind the old end are dropped, a longer backing file is
 * covered by zero flags), a round, and only then the header with the new size.
 *
 * To shrink, the header with the new size first; then the entries behind it, which nobody sees any more, are dropped
 * like a discard, and the file is cut. A cut in between leaves the new size and entries behind the end, which a later
 * grow drops.
 *
 * Bitmaps get their new tables with the same header.
 *
 * The gate is closed to everybody else; this thread's own context passes it.
 */
#include "bitmap.h"
#include "qcow2.h"

#include "../io.h"

#include <errno.h>

static uint64_t round_up(const struct qcow2 *q, uint64_t offset) {
    return (offset + q->cluster_size - 1) & ~(q->cluster_size - 1);
}

static int check_allowed(struct qcow2 *q, uint64_t size, enum img_preallocation preallocation, uint32_t flags,
                         struct img_error *err) {
    uint64_t old = atomic_load(&q->image->size);
    int r = writes_allowed(q, err);
    if (r < 0)
        return r;
    if (q->snapshots.count && !q->v3)
        return img_fail(err, -ENOTSUP, "Can't resize a v2 image which has snapshots");
    if (q->image->crypto && preallocation != IMG_PREALLOCATION_OFF)
        return img_fail(err, -ENOTSUP, "'%s' is encrypted: what it is resized by cannot be preallocated",
                        q->image->path);
    if (size < old && !(flags & IMG_RESIZE_SHRINK))
        return img_fail(err, -EINVAL, "%llu bytes is less than the size of '%s' (%llu): shrinking must be asked for",
                        (unsigned long long)size, q->image->path, (unsigned long long)old);
    if (size < old && preallocation != IMG_PREALLOCATION_OFF)
        return img_fail(err, -EINVAL, "Preallocation can't be used for shrinking an image");
    uint64_t entries = header_l1_entries(size, q->cluster_bits, q->extended);
    if (entries == UINT64_MAX)
        return img_fail(err, -EFBIG,
                        "the image size %llu is too large for file format 'qcow2' "
                        "(try using a larger cluster size)",
                        (unsigned long long)size);
    return bitmaps_resizable(q, size, err);
}

/* One sector selects the new size and the bitmaps that go with it. */
static int set_size(struct qcow2 *q, uint64_t size, struct img_error *err) {
    if (q->bitmaps.count)
        return bitmaps_resize(q, size, err);
    q->header.size = size;
    return header_switch(q, err);
}

int entries_drop(struct qcow2 *q, struct img_context *c, uint64_t from, uint64_t to, struct img_error *err) {
    uint64_t table = 1ull << (q->l2_bits + q->cluster_bits), tables = (uint64_t)atomic_load(&q->l1_size);
    while (from < to && from / table < tables) {
        uint64_t end = (from / table + 1) * table < to ? (from / table + 1) * table : to;
        int r = 0;
        if (l1_entry(q, from / table) & QCOW2_OFFSET_MASK)
            r = io_clear(q->image, c, IMG_OP_DROP, true, from, end - from, err);
        if (r < 0)
            return r;
        from = end;
    }
    return 0;
}

static int make_zero(struct qcow2 *q, struct img_context *c, uint64_t old, uint64_t size, struct img_error *err) {
    struct img *below = q->image->backing;
    uint64_t whole = round_up(q, old), end = size < whole ? size : whole;
    int r = 0;
    if (old < end)
        r = io_clear(q->image, c, IMG_OP_ZERO, false, old, end - old, err);
    if (r == 0 && whole < size)
        r = entries_drop(q, c, whole, size, err);
    if (r == 0 && below && img_size(below) > whole && whole < size)
        r = io_clear(q->image, c, IMG_OP_ZERO, true, whole, (size < img_size(below) ? size : img_size(below)) - whole,
                     err);
    return r;
}

static int grow(struct qcow2 *q, struct img_context *c, uint64_t size, enum img_preallocation preallocation,
                struct img_error *err) {
    uint64_t old = atomic_load(&q->image->size);
    int r = l1_grow(q, header_l1_entries(size, q->cluster_bits, q->extended), err);
    if (r == 0 && q->external && storage_size(q->data) < size && !q->data->fixed_size &&
        (r = q->data->ops->truncate(q->data, size)) < 0)
        img_fail_errno(err, r, "could not lengthen the data file of '%s'", q->image->path);
    if (r < 0)
        return r;
    if (q->raw_external && preallocation == IMG_PREALLOCATION_OFF)
        preallocation = IMG_PREALLOCATION_METADATA; /* the data file must be readable without us */
    atomic_store(&q->image->size, size);            /* for our own requests; nobody else gets through the gate */
    r = make_zero(q, c, old, size, err);
    if (r == 0 && preallocation != IMG_PREALLOCATION_OFF && size > round_up(q, old))
        r = io_preallocate(q->image, c, round_up(q, old), size - round_up(q, old), preallocation, err);
    if (r == 0)
        r = round_run(q, err);
    if (r == 0)
        r = set_size(q, size, err);
    if (r < 0)
        atomic_store(&q->image->size, old);
    return r;
}

static int shrink(struct qcow2 *q, struct img_context *c, uint64_t size, struct img_error *err) {
    uint64_t old = atomic_load(&q->image->size), from = round_up(q, size);
    int r = round_run(q, err);
    if (r == 0)
        r = set_size(q, size, err);
    if (r < 0)
        return r;
    atomic_store(&q->image->size, size);
    r = entries_drop(q, c, from, round_up(q, old), err);
    if (r == 0)
        r = round_run(q, err);
    if (r == 0)
        r = limbo_release(q, err);
    if (r == 0 && (r = refcounts_write(q)) < 0)
        img_fail_errno(err, r, "could not write the refcounts of '%s'", q->image->path);
    if (r == 0 && (r = barrier(q, true)) < 0)
        img_fail_errno(err, r, "could not make the new size of '%s' durable", q->image->path);
    q->alloc.keep = 1; /* the file may become shorter than it was at open */
    if (r == 0 && q->external && !q->data->fixed_size && (r = q->data->ops->truncate(q->data, size)) < 0)
        img_fail_errno(err, r, "could not shorten the data file of '%s'", q->image->path);
    return r;
}

/* No guest sees what is written on the way: bitmaps are stored before and need not record it. They are valid on the
 * disk all the time, and the next change of the guest begins to record anew. */
static int resize_hidden(struct qcow2 *q, struct img_context *c, uint64_t size, enum img_preallocation preallocation,
                         struct img_error *err) {
    int r = record_store(q, err);
    if (r == 0)
        r = first_hidden_change(q, err);
    if (r < 0)
        return r;
    atomic_store(&q->changed, true);
    r = size > atomic_load(&q->image->size) ? grow(q, c, size, preallocation, err) : shrink(q, c, size, err);
    atomic_store(&q->changed, false);
    return r;
}

int qcow2_resize(struct img *image, uint64_t size, enum img_preallocation preallocation, uint32_t flags,
                 struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    struct img_context *c = context_claim(&image->epochs);
    pthread_mutex_lock(&q->role);
    /* under role: another resize may have changed what is compared */
    uint64_t old = atomic_load(&image->size);
    int r = check_allowed(q, size, preallocation, flags, err);
    if (r == 0 && size != old) {
        gate_close(&image->epochs, true);
        c->passes_gate = true;
        r = resize_hidden(q, c, size, preallocation, err);
        gate_open(&image->epochs, true);
    }
    pthread_mutex_unlock(&q->role);
    context_release(&image->epochs, c);
    return r;
}
