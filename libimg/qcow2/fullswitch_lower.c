/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fullswitch_lower.c - see fullswitch.h: the arithmetic of a full switch without a switch, in place. */
#include "fullswitch_parts.h"

#include <errno.h>

static int lower_group(struct switching *w, uint64_t group, struct img_error *err) {
    struct qcow2 *q = w->q;
    uint64_t first = group * w->d.per_block, low = UINT64_MAX, high = 0;
    for (uint64_t c = first; c < first + w->d.per_block; c++) {
        uint64_t old, count = 0;
        if (!deltas_at(&w->d, c))
            continue;
        int r = deltas_old_count(&w->d, c, &old, err);
        if (r == 0)
            r = deltas_new_count(&w->d, c, &count, err);
        if (r < 0)
            return r;
        if (!old || count)
            continue;
        uint64_t at = (c - first) << w->d.order >> 3;
        low = at < low ? at : low;
        high = at + (1u << w->d.order) / 8 + 1;
        refcount_put_raw(w->d.block, w->d.order, c - first, 0);
    }
    if (low >= high)
        return 0;
    high = high < q->cluster_size ? high : q->cluster_size;
    int r = storage_write(q->file, w->d.block + low, high - low, q->refcounts.table[group] + low);
    if (r < 0)
        metadata_write_failed(q, r, "the host could not write refcounts");
    return r < 0 ? img_fail_errno(err, r, "could not write the refcounts of '%s'", q->image->path) : 0;
}

static int lower(struct switching *w, struct img_error *err) {
    uint64_t end = to_clusters(w->q, storage_size(w->q->file));
    int r = deltas_init(&w->d, w->q, w->q->header.refcount_order, err);
    for (uint64_t start = 0; r == 0 && start < end; start += w->d.window) {
        r = switching_count_window(w, start, err);
        uint64_t group = start / w->d.per_block, last = group + w->d.window / w->d.per_block;
        for (; r == 0 && group < last && group < DELTAS_MAX_GROUPS; group++)
            if (deltas_touched(&w->d, group))
                r = lower_group(w, group, err);
    }
    if (r == 0 && (r = barrier(w->q, true)) < 0)
        img_fail_errno(err, r, "could not make the refcounts of '%s' durable", w->q->image->path);
    return r;
}

int full_switch_lower(struct qcow2 *q, const struct full_switch *s, struct img_error *err) {
    struct switching *w = switching_new(q, s, err);
    if (!w)
        return -ENOMEM;
    int r = lower(w, err);
    switching_free(w);
    return r < 0 ? r : qcow2_adopt(q, q->alloc.fresh, err);
}
