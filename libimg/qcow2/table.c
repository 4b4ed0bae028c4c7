/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* table.c - L1, and how an L2 table comes into being.
 *
 * A new table is valid on the disk before L1 in memory names it: it gets its starting content (zeroes, or the bytes of
 * the shared table it replaces) when it is born. The barrier A of the next round makes that durable, so the round may
 * write L1 and the table's slices together. Every power cut shows the old or the new mapping.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>

/* l1_lock held. */
static void set_entry(struct qcow2 *q, uint64_t index, uint64_t entry) {
    atomic_store_explicit(&q->l1[index], htobe64(entry), memory_order_release);
    q->l1_dirty[index / 64 / 64] |= 1ull << (index / 64 % 64);
    q->l1_any_dirty = true;
}

/* The first content of the table at `host`. */
static int write_start(struct qcow2 *q, uint64_t old, uint64_t host, bool zero, struct img_error *err) {
    if (!(old & QCOW2_OFFSET_MASK) && zero)
        return 0;
    void *buffer = calloc(1, q->cluster_size);
    if (!buffer)
        return img_fail(err, -ENOMEM, "no memory for an L2 table of %llu bytes", (unsigned long long)q->cluster_size);
    int r = 0;
    if (old & QCOW2_OFFSET_MASK)
        r = storage_read(q->file, buffer, q->cluster_size, old & QCOW2_OFFSET_MASK);
    if (r < 0) { /* nothing was written: only this request fails */
        free(buffer);
        return img_fail_errno(err, r, "could not read the L2 table at 0x%llx of '%s'",
                              (unsigned long long)(old & QCOW2_OFFSET_MASK), q->image->path);
    }
    r = storage_write(q->file, buffer, q->cluster_size, host);
    free(buffer);
    if (r == 0)
        return 0;
    metadata_write_failed(q, r, "the host could not write a new L2 table");
    return img_fail_errno(err, r, "could not write a new L2 table of '%s'", q->image->path);
}

/* The birth lock and a write plan are held. IMG_WOULD_BLOCK: the meta run is empty. */
static int give_birth(struct qcow2 *q, struct img_context *c, uint64_t index, struct img_error *err) {
    uint64_t old = l1_entry(q, index), cluster;
    struct run *run = &q2_context(c)->meta;
    if ((old & QCOW2_OFFSET_MASK) && (old & QCOW2_COPIED))
        return 0;
    uint64_t table = old & QCOW2_OFFSET_MASK;
    if (old & QCOW2_L1_RESERVED || in_cluster(q, table) || (table && table + q->cluster_size > storage_size(q->file))) {
        corrupt_found(q, "L1 entry %llu (0x%llx) is invalid", (unsigned long long)index, (unsigned long long)old);
        return img_fail(err, -EIO, "L1 entry %llu of '%s' (0x%llx) is invalid", (unsigned long long)index,
                        q->image->path, (unsigned long long)old);
    }
    struct freed *freed = freed_new(1);
    if (!freed)
        return img_fail(err, -ENOMEM, "no memory for an L2 table");
    bool zero;
    if (!run_take(run, 1, &cluster, &zero)) {
        free(freed);
        return IMG_WOULD_BLOCK;
    }
    int r = write_start(q, old, cluster << q->cluster_bits, zero, err);
    if (r < 0) {
        run_untake(run, cluster);
        free(freed);
        return r;
    }
    metadata_add(q, cluster);
    if (table)
        freed_add(freed, cluster_index(q, table), 1);
    /* together: a round that takes the old table for let go must write the entry that lets it go */
    spin_lock(&q->l1_lock);
    if (table) {
        freed->next = q->l1_freed;
        q->l1_freed = freed;
    }
    set_entry(q, index, cluster << q->cluster_bits | QCOW2_COPIED);
    spin_unlock(&q->l1_lock);
    if (!table)
        free(freed);
    return 0;
}

int table_make_private(struct qcow2 *q, struct img_context *c, uint64_t index, struct img_error *err) {
    struct img_epochs *epochs = &q->image->epochs;
    if (index >= atomic_load(&q->l1_size))
        return img_fail(err, -EIO, "the L1 table of '%s' (%u entries) has no entry %llu", q->image->path,
                        atomic_load(&q->l1_size), (unsigned long long)index);
    struct img_plan plan = {.op = IMG_OP_WRITE, .writes = true};
    if (!plan_open(epochs, c, &plan))
        return 0;
    pthread_mutex_lock(&q->birth[index % BIRTH_LOCKS]);
    int r = give_birth(q, c, index, err);
    pthread_mutex_unlock(&q->birth[index % BIRTH_LOCKS]);
    plan_close(epochs, &plan);
    return r == IMG_WOULD_BLOCK ? alloc_refill(q, c, &q2_context(c)->meta, RUN_META, 1, err) : r;
}
