/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* switch.c - changes of header sector 0.
 *
 * One write of 512 bytes selects the size, L1, refcount table, snapshots and feature bits. Before it a barrier makes
 * durable what it names, after it a barrier makes it durable itself, so a power cut leaves exactly before or after. A
 * light switch changes no count of an existing cluster: new clusters are counted first and leak if the cut comes early,
 * old ones go through limbo and leak if it comes late.
 *
 * Names and extensions change with it: whoever holds role sets the fields of the header and calls header_switch, which
 * lays them out so that one write selects them (header_relayout).
 */
#include "bitmap.h"
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Names and extensions that sector 0 is about to name, where the header on the disk has nothing. */
static int write_outside(struct qcow2 *q, struct header_outside *outside, struct img_error *err) {
    int r = header_relayout(&q->header, outside, err);
    if (r < 0)
        return img_prefix(err, r, "Could not change the header of '%s': ", q->image->path);
    if (outside->length)
        r = storage_write(q->file, q->header.first + outside->offset, outside->length, outside->offset);
    return r < 0 ? img_fail_errno(err, r, "could not write the names in the header of '%s'", q->image->path) : 0;
}

int header_switch(struct qcow2 *q, struct img_error *err) {
    struct header_outside outside;
    int r = write_outside(q, &outside, err);
    if (r < 0) {
        if (outside.length)
            fail_for_good(q, r, "the host could not write the header");
        return r;
    }
    r = barrier(q, true);
    if (r == 0) {
        r = header_write_sector(q->file, &q->header);
        if (r < 0)
            fail_for_good(q, r, "the host could not write the header");
    }
    if (r == 0)
        r = barrier(q, true);
    if (r == 0 && outside.stale_length) { /* no barrier, no error: it matters to no reader of today */
        memset(q->header.first + outside.stale, 0, outside.stale_length);
        (void)storage_write(q->file, q->header.first + outside.stale, outside.stale_length, outside.stale);
    }
    return r < 0 ? img_fail_errno(err, r, "could not change the header of '%s'", q->image->path) : 0;
}

/* Nothing is written to an image before it is changed; before the first change, whatever the change would make untrue
 * is taken back: autoclear bits that we do not know, and that bitmaps which are to record it are complete on the disk.
 */
int first_hidden_change(struct qcow2 *q, struct img_error *err) {
    int r = 0;
    if (q->header.autoclear & ~QCOW2_AUTOCLEAR_KNOWN) {
        q->header.autoclear &= QCOW2_AUTOCLEAR_KNOWN;
        r = header_switch(q, err);
    }
    if (r == 0)
        atomic_store(&q->touched, true);
    return r;
}

int first_change(struct qcow2 *q, struct img_error *err) {
    SCOPED_MUTEX(&q->role);
    if (atomic_load(&q->changed))
        return 0;
    bool touched = atomic_load(&q->touched);
    int r = first_hidden_change(q, err);
    if (r == 0 && q->header.has_bitmaps && q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS)
        r = record_begin(q, err);
    if (r < 0 && !atomic_load(&q->failed)) /* the marks may be lost although they are set in memory */
        fail_for_good(q, r, "the host could not mark the bitmaps as in use");
    if (r == 0)
        atomic_store_explicit(&q->changed, true, memory_order_release);
    else
        atomic_store(&q->touched, touched);
    return r;
}

int mark_corrupt(struct qcow2 *q, struct img_error *err) {
    SCOPED_MUTEX(&q->role);
    if (atomic_load(&q->corrupt) != CORRUPT_FOUND)
        return 0;
    int r = 0;
    if (q->v3 && q->writable && !atomic_load(&q->failed)) {
        q->header.incompatible |= QCOW2_INCOMPAT_CORRUPT;
        r = header_switch(q, err);
    }
    atomic_store(&q->corrupt, CORRUPT_MARKED);
    fail_for_good(q, -EIO, q->corrupt_text);
    return r;
}

int l1_grow(struct qcow2 *q, uint64_t entries, struct img_error *err) {
    uint32_t old_entries = atomic_load(&q->l1_size);
    uint64_t bytes = (entries * 8 + 511) & ~511ull, clusters = (bytes + q->cluster_size - 1) >> q->cluster_bits, first;
    uint64_t old = q->header.l1_offset,
             old_clusters = ((uint64_t)old_entries * 8 + q->cluster_size - 1) >> q->cluster_bits;
    if (entries <= old_entries)
        return 0;
    if (entries * 8 > QCOW2_MAX_L1_BYTES)
        return img_fail(err, -EFBIG, "an L1 table of %llu entries is too large", (unsigned long long)entries);
    int r = round_run(q, err); /* disk = memory; the gate keeps it so */
    if (r < 0)
        return r;
    struct freed *freed = freed_new(1);
    if (!freed)
        return img_fail(err, -ENOMEM, "no memory for a larger L1 table");
    if ((r = alloc_contiguous(q, clusters, &first, err)) == 0) {
        /* beyond the old entries the array in memory is zero */
        r = storage_write(q->file, (void *)q->l1, bytes, first << q->cluster_bits);
        if (r < 0)
            metadata_write_failed(q, r, "the host could not write a larger L1 table");
        else
            r = refcounts_write(q);
        if (r < 0) {
            img_fail_errno(err, r, "could not write the new L1 table of '%s'", q->image->path);
            struct freed_run back = {first, clusters};
            (void)refcount_release(q, &back, false, NULL); /* else a leak */
        }
    }
    if (r < 0) {
        free(freed);
        return r;
    }
    for (uint64_t i = 0; i < clusters; i++)
        metadata_add(q, first + i);
    q->header.l1_offset = first << q->cluster_bits;
    q->header.l1_size = entries;
    r = header_switch(q, err);
    if (r < 0) {
        free(freed);
        return r;
    }
    atomic_store(&q->l1_size, entries);
    if (old_clusters && old) {
        freed_add(freed, cluster_index(q, old), old_clusters);
        limbo_add(q, freed);
    } else {
        free(freed);
    }
    return 0;
}
