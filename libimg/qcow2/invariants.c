/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* invariants.c - what must always hold, looked at in builds with IMG_DEBUG (tests and sanitizers); else empty.
 *
 *   - a clean slice that is evicted equals its bytes on the disk
 *   - a slice that a round freezes belongs to a table of this image alone (its L1 entry has COPIED)
 *   - a closed image leaves no reservation, pin, dirty or frozen slice, freed list, run, limbo entry or open plan
 */
#include "invariants.h"

#ifdef IMG_DEBUG

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must_hold(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "invariant broken: %s\n", what);
    abort();
}

static uint64_t l1_of(const struct qcow2 *q, const struct slice *s) {
    return l1_entry(q, atomic_load(&s->tag) >> (q->l2_bits - q->slice_bits));
}

void invariant_frozen(const struct qcow2 *q, const struct slice *s) {
    must_hold(l1_of(q, s) & QCOW2_OFFSET_MASK && l1_of(q, s) & QCOW2_COPIED,
              "a dirty slice belongs to a table that is not this image's alone");
}

void invariant_evicted(struct qcow2 *q, const struct slice *s) {
    uint64_t per_table = 1ull << (q->l2_bits - q->slice_bits), table = l1_of(q, s) & QCOW2_OFFSET_MASK;
    uint64_t place = table + (atomic_load(&s->tag) & (per_table - 1)) * slice_bytes(q);
    uint64_t disk[4096 / 8];
    if (!q->writable || atomic_load(&q->failed) || !table)
        return;
    if (storage_read(q->file, disk, slice_bytes(q), place) < 0)
        return;
    for (uint32_t i = 0; i < slice_bytes(q) / 8; i++)
        must_hold(disk[i] == atomic_load(&s->e[i]), "a clean slice differs from the disk");
}

static void slices_at_rest(const struct qcow2 *q) {
    for (uint32_t i = 0; i < q->cache.count; i++) {
        const struct slice *s = q->cache.all[i];
        must_hold(!s->resv && !s->pins, "a closed image has reservations");
        must_hold(!s->dirty && !s->frozen && !s->freed, "a closed image has dirty slices");
    }
}

void invariant_closed(const struct qcow2 *q) {
    for (unsigned i = 0; i < IMG_CONTEXTS; i++) {
        const struct img_context *c = &q->image->epochs.contexts[i];
        const struct q2_context *runs = c->driver;
        /* the gate's owner may have no plan of its own open either */
        must_hold(!c->first[0] && !c->first[1], "a closed image has open plans");
        must_hold(!atomic_load(&c->oldest[0]) && !atomic_load(&c->oldest[1]), "a context shows plans that it has not");
        must_hold(!runs || (runs->data.next == runs->data.end && runs->meta.next == runs->meta.end &&
                            runs->byte_next == runs->byte_end),
                  "a closed image holds clusters in runs");
    }
    slices_at_rest(q);
    must_hold(!q->limbo && !q->alloc.returned && !q->l1_freed && !q->l1_any_dirty,
              "a closed image has clusters in limbo");
}

#endif
