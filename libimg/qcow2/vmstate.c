/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmstate.c - where the state of a virtual machine lies: behind the disk's end, from the first L1 entry on that the
 * disk does not need.
 *
 * There it is stored as the disk is, by the same plans, so that it takes part in rounds, counts and snapshots. The
 * format does not say how long it is. Only L1 must reach so far: to write, it grows by a light switch, by half of what
 * it is at least, so that a long state that comes piece by piece makes few switches.
 *
 * Specification: "Snapshots" (vm_state_size); "Cluster mapping".
 */
#include "qcow2.h"

#include <errno.h>

static unsigned table_bits(const struct qcow2 *q) {
    return q->l2_bits + q->cluster_bits; /* log2 of what one L1 entry covers */
}

/* An open plan would look at L1 meanwhile; the gate is closed to those that write. */
static int grow_l1(struct qcow2 *q, uint64_t entries, struct img_error *err) {
    SCOPED_MUTEX(&q->role);
    int r = writes_allowed(q, err);
    if (r < 0 || entries <= atomic_load(&q->l1_size))
        return r;
    uint64_t roomy = atomic_load(&q->l1_size) * 3ull / 2, most = QCOW2_MAX_L1_BYTES / 8;
    roomy = roomy < most ? roomy : most;
    gate_close(&q->image->epochs, false);
    r = first_hidden_change(q, err);
    if (r == 0)
        r = l1_grow(q, entries < roomy ? roomy : entries, err);
    gate_open(&q->image->epochs, false);
    return r;
}

int qcow2_state_at(struct img *image, uint64_t offset, uint64_t length, bool writes, uint64_t *at,
                   struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    uint64_t tables = ((atomic_load(&image->size) - 1) >> table_bits(q)) + 1, end;
    if (!atomic_load(&image->size))
        tables = 0;
    *at = tables << table_bits(q);
    if (__builtin_add_overflow(*at, offset, at) || __builtin_add_overflow(*at, length, &end) || end > INT64_MAX)
        return img_fail(err, -EINVAL, "a machine's state of '%s' cannot have %llu bytes at %llu", image->path,
                        (unsigned long long)length, (unsigned long long)offset);
    return writes && length ? grow_l1(q, ((end - 1) >> table_bits(q)) + 1, err) : 0;
}
