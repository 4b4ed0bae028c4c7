/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* deltas.c - counts before and after a full switch (deltas.h).
 *
 * Counts are read from the file, through one block at a time: callers go through clusters in rising order. A sum that
 * would leave the width, fall below zero, or raise a count of 0 (something names a cluster that is not counted) is
 * refused before anything is written.
 */
#include "deltas.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WINDOW (1ull << 24)

#ifdef IMG_DEBUG
uint64_t full_switch_window;
#endif

static size_t delta_bytes(const struct deltas *d) {
    return d->window * sizeof *d->delta;
}

static size_t one_bytes(const struct deltas *d) {
    return (d->window / 64 + 1) * 8;
}

static void *untouched(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int deltas_init(struct deltas *d, struct qcow2 *q, unsigned order, struct img_error *err) {
    *d = (struct deltas){.q = q, .order = order, .block_number = UINT64_MAX};
    d->per_block = q->cluster_size * 8 >> order;
    d->old_per_block = q->refcounts.per_block;
    d->max = order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
    d->window = WINDOW;
#ifdef IMG_DEBUG
    if (full_switch_window)
        d->window = full_switch_window;
#endif
    if (d->window < d->per_block)
        d->window = d->per_block;
    d->window -= d->window % d->per_block;
    d->block = malloc(q->cluster_size);
    d->delta = untouched(delta_bytes(d));
    d->one = untouched(one_bytes(d));
    return d->block && d->delta && d->one ? 0
                                          : img_fail(err, -ENOMEM, "no memory for the counts of '%s'", q->image->path);
}

void deltas_free(struct deltas *d) {
    free(d->block);
    if (d->delta)
        munmap(d->delta, delta_bytes(d));
    if (d->one)
        munmap(d->one, one_bytes(d));
    d->block = NULL;
    d->delta = NULL;
    d->one = NULL;
}

void deltas_move(struct deltas *d, uint64_t start) {
    d->start = start;
    /* anonymous memory that was given back is zero */
    if (madvise(d->delta, delta_bytes(d), MADV_DONTNEED) < 0)
        memset(d->delta, 0, delta_bytes(d));
    if (madvise(d->one, one_bytes(d), MADV_DONTNEED) < 0)
        memset(d->one, 0, one_bytes(d));
}

void deltas_touch(struct deltas *d, uint64_t first, uint64_t count) {
    for (uint64_t group = first / d->per_block; count && group <= (first + count - 1) / d->per_block; group++)
        if (group < DELTAS_MAX_GROUPS)
            d->touched[group / 64] |= 1ull << group % 64;
}

int deltas_add(struct deltas *d, uint64_t first, uint64_t count, int weight, struct img_error *err) {
    if (!weight)
        return 0;
    for (uint64_t c = first; c < first + count; c++) {
        if (c - d->start >= d->window)
            continue;
        int32_t *delta = &d->delta[c - d->start];
        if (__builtin_add_overflow(*delta, weight, delta))
            return img_fail(err, -EOVERFLOW, "host cluster %llu of '%s' is named too often", (unsigned long long)c,
                            d->q->image->path);
        deltas_touch(d, c, 1);
    }
    return 0;
}

/* ---- counts ---- */

int deltas_old_count(struct deltas *d, uint64_t cluster, uint64_t *count, struct img_error *err) {
    struct qcow2 *q = d->q;
    uint64_t number = cluster / d->old_per_block;
    *count = 0;
    if (!refcount_has_block(q, cluster))
        return 0;
    if (number != d->block_number) {
        uint64_t place = q->refcounts.table[number];
        d->block_number = UINT64_MAX;
        if (place & QCOW2_REFTABLE_RESERVED || in_cluster(q, place) || place >= storage_size(q->file))
            return img_fail(err, -EIO, "the refcount block at 0x%llx of '%s' is misaligned or past the end of the file",
                            (unsigned long long)place, q->image->path);
        int r = storage_read(q->file, d->block, q->cluster_size, place);
        if (r < 0)
            return img_fail_errno(err, r, "could not read the refcount block at 0x%llx of '%s'",
                                  (unsigned long long)place, q->image->path);
        d->block_number = number;
    }
    *count = refcount_get_raw(d->block, q->header.refcount_order, cluster % d->old_per_block);
    return 0;
}

static int contradiction(struct deltas *d, uint64_t cluster, uint64_t old, int32_t delta, struct img_error *err) {
    return img_fail(err, -EIO,
                    "host cluster %llu of '%s' counts %llu references, which cannot change by %d: the image must be "
                    "checked",
                    (unsigned long long)cluster, d->q->image->path, (unsigned long long)old, delta);
}

int deltas_new_count(struct deltas *d, uint64_t cluster, uint64_t *count, struct img_error *err) {
    int32_t delta = deltas_at(d, cluster);
    uint64_t old;
    int r = deltas_old_count(d, cluster, &old, err);
    *count = old;
    if (r < 0)
        return r;
    if (delta < 0 && (uint64_t) - (int64_t)delta > old)
        return contradiction(d, cluster, old, delta, err);
    if (delta > 0 && d->max - old < (uint64_t)delta)
        delta = 0, r = -EOVERFLOW;
    if (r < 0 || old > d->max)
        return img_fail(err, -EOVERFLOW,
                        "host cluster %llu of '%s' would have more references than its refcount of %u bits can count",
                        (unsigned long long)cluster, d->q->image->path, 1u << d->order);
    *count = old + (uint64_t)(int64_t)delta;
    return 0;
}

/* The clusters of a group. */
static uint64_t group_start(const struct deltas *d, uint64_t group) {
    return group * d->per_block;
}

int deltas_forget_lost(struct deltas *d, struct img_error *err) {
    uint64_t first = d->start / d->per_block, last = first + d->window / d->per_block;
    for (uint64_t group = first; group < last && group < DELTAS_MAX_GROUPS; group++)
        for (uint64_t c = group_start(d, group); deltas_touched(d, group) && c < group_start(d, group + 1); c++) {
            uint64_t old = 0;
            int r = deltas_at(d, c) < 0 ? deltas_old_count(d, c, &old, err) : 0;
            if (r < 0)
                return r;
            if (deltas_at(d, c) < 0 && !old)
                d->delta[c - d->start] = 0;
        }
    return 0;
}

int deltas_check(struct deltas *d, struct img_error *err) {
    uint64_t first = d->start / d->per_block, last = first + d->window / d->per_block;
    for (uint64_t group = first; group < last && group < DELTAS_MAX_GROUPS; group++) {
        if (!deltas_touched(d, group))
            continue;
        for (uint64_t c = group_start(d, group); c < group_start(d, group + 1); c++) {
            uint64_t count;
            if (!deltas_at(d, c))
                continue;
            int r = deltas_new_count(d, c, &count, err);
            if (r == 0 && deltas_at(d, c) > 0 && count == (uint64_t)deltas_at(d, c))
                r = contradiction(d, c, 0, deltas_at(d, c), err);
            if (r < 0)
                return r;
            if (count == 1)
                d->one[(c - d->start) / 64] |= 1ull << (c - d->start) % 64;
        }
    }
    return 0;
}

int deltas_block(struct deltas *d, uint64_t group, uint8_t *out, struct img_error *err) {
    memset(out, 0, d->q->cluster_size);
    for (uint64_t i = 0; i < d->per_block; i++) {
        uint64_t count;
        int r = deltas_new_count(d, group_start(d, group) + i, &count, err);
        if (r < 0)
            return r;
        if (count)
            refcount_put_raw(out, d->order, i, count);
    }
    return 0;
}
