/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* alloc.c - free host clusters.
 *
 * A context takes clusters from runs of its own, without a lock. Runs are refilled one at a time: (1) from extents that
 * became free since the image was opened, (2) from holes of the old file, which are looked for one refcount block at a
 * time, (3) from the fresh area behind everything that was ever handed out. Tables come only from the fresh area: a
 * file whose counts are wrong must not get metadata written over its data.
 *
 * What must hold: a cluster is handed out only when its count is 0, and its count is 1 before anybody hears of it;
 * never cluster 0; the file is made long enough before a cluster behind its end is handed out.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)

void alloc_free(struct qcow2 *q, uint64_t cluster, uint64_t count, bool zero) {
    struct allocator *a = &q->alloc;
    SCOPED_SPIN(&a->lock);
    if (cluster == 0) {
        cluster++;
        count--;
    }
    if (!free_list_add(&a->free, cluster, count, zero) && cluster < a->scan)
        a->scan = cluster; /* forgotten here, found again by a later look at the counts */
}

static bool take_extent(struct allocator *a, uint64_t want, struct free_extent *out) {
    SCOPED_SPIN(&a->lock);
    return free_list_take(&a->free, want, out);
}

/* ---- set-up ---- */

/* A block device has no end of file that tells what is in use: the counts do. */
static int highest_counted(struct qcow2 *q, uint64_t *end, struct img_error *err) {
    struct refcounts *rc = &q->refcounts;
    *end = 1;
    uint64_t groups =
        (q->alloc.limit + rc->per_block - 1) / rc->per_block; /* what lies behind the device does not count */
    for (uint64_t group = groups < rc->table_entries ? groups : rc->table_entries; group-- > 0;) {
        if (!rc->table[group])
            continue;
        uint64_t first = group * rc->per_block, n = q->alloc.limit - first;
        for (uint64_t i = n < rc->per_block ? n : rc->per_block; i-- > 0;) {
            uint64_t cluster = first + i, count;
            int r = refcount_load(q, cluster, err);
            if (r < 0)
                return r;
            pthread_mutex_lock(&rc->lock);
            bool there = refcount_peek(q, cluster, &count);
            pthread_mutex_unlock(&rc->lock);
            if (there && count) {
                *end = cluster + 1;
                return 0;
            }
        }
    }
    return 0;
}

int alloc_init(struct qcow2 *q, struct img_error *err) {
    struct allocator *a = &q->alloc;
    struct img_epochs *epochs = &q->image->epochs;
    a->length = storage_size(q->file);
    a->scan = 1;
    a->fresh_is_zero = !q->file->fixed_size;
    a->limit = q->file->fixed_size ? a->length >> q->cluster_bits : (QCOW2_MAX_HOST_OFFSET + 1) >> q->cluster_bits;
    if (free_list_init(&a->free) < 0)
        return img_fail(err, -ENOMEM, "no memory for the list of free extents");
    for (unsigned i = 0; i < IMG_CONTEXTS; i++)
        if (!(epochs->contexts[i].driver = calloc(1, sizeof(struct q2_context))))
            return img_fail(err, -ENOMEM, "no memory for the contexts of '%s'", q->image->path);
    if (q->file->fixed_size)
        return highest_counted(q, &a->fresh, err);
    a->fresh = a->keep = (a->length + q->cluster_size - 1) >> q->cluster_bits;
    return 0;
}

void alloc_destroy(struct qcow2 *q) {
    for (unsigned i = 0; i < IMG_CONTEXTS; i++) {
        free(q->image->epochs.contexts[i].driver);
        q->image->epochs.contexts[i].driver = NULL;
    }
    freed_list_free(q->alloc.returned);
    free_list_destroy(&q->alloc.free);
    q->alloc.returned = NULL;
}

struct q2_context *q2_context(struct img_context *c) {
    return c->driver;
}

uint64_t run_take(struct run *run, uint64_t count, uint64_t *first, bool *zero) {
    SCOPED_SPIN(&run->lock);
    *zero = run->zero;
    if (count > run->end - run->next)
        count = run->end - run->next;
    *first = run->next;
    run->next += count;
    return count;
}

void run_untake(struct run *run, uint64_t cluster) {
    SCOPED_SPIN(&run->lock);
    run->next = cluster;
    run->zero = false; /* it may hold anything now */
}

static bool run_is_empty(struct run *run) {
    SCOPED_SPIN(&run->lock);
    return run->next == run->end;
}

static struct freed_run run_left(struct run *run) {
    SCOPED_SPIN(&run->lock);
    return (struct freed_run){run->next, run->end - run->next};
}

static void run_skip_to(struct run *run, uint64_t next) {
    SCOPED_SPIN(&run->lock);
    run->next = next;
}

static void run_fill(struct run *run, uint64_t first, uint64_t count, bool zero) {
    SCOPED_SPIN(&run->lock);
    run->next = first;
    run->end = first + count;
    run->zero = zero;
}

int alloc_lengthen(struct qcow2 *q, uint64_t end, struct img_error *err) {
    struct allocator *a = &q->alloc;
    if (end > a->limit)
        return img_fail(err, -ENOSPC, "'%s' has no room for more clusters", q->image->path);
    uint64_t need = end << q->cluster_bits;
    if (need <= a->length)
        return 0;
    uint64_t step = a->length / 8 < MIB ? MIB : a->length / 8 > 256 * MIB ? 256 * MIB : a->length / 8;
    uint64_t length = a->length + step > need ? a->length + step : need;
    length &= ~(q->cluster_size - 1);
    int r = q->file->ops->truncate(q->file, length);
    if (r < 0 && length > need)
        r = q->file->ops->truncate(q->file, length = need);
    if (r < 0)
        return img_fail_errno(err, r, "could not lengthen '%s' to %llu bytes", q->image->path,
                              (unsigned long long)length);
    a->length = length;
    return 0;
}

/* ---- taking ---- */

/* Raises the counts of the clusters from 0 to 1, as far as they are 0. refill held. */
static int claim(struct qcow2 *q, uint64_t first, uint64_t count, uint64_t *claimed, struct img_error *err) {
    struct refcounts *rc = &q->refcounts;
    uint64_t done = 0;
    *claimed = 0;
    while (done < count) {
        uint64_t piece_end = ((first + done) / rc->per_piece + 1) * rc->per_piece;
        int r = refcount_load(q, first + done, err);
        if (r < 0)
            return done ? 0 : r;
        SCOPED_MUTEX(&rc->lock);
        for (; done < count && first + done < piece_end; done++) {
            uint64_t now;
            if (!refcount_peek(q, first + done, &now))
                break; /* evicted in between: load it again */
            if (now || !refcount_has_block(q, first + done))
                return 0;
            refcount_set(q, first + done, 1);
            *claimed = done + 1;
        }
    }
    return 0;
}

/* Looks for holes in the next refcount block of the old part of the file. *more: there is a further one. */
static int scan_block(struct qcow2 *q, bool *more, struct img_error *err) {
    struct allocator *a = &q->alloc;
    struct refcounts *rc = &q->refcounts;
    spin_lock(&a->lock);
    uint64_t at = a->scan;
    spin_unlock(&a->lock);
    uint64_t end = (at / rc->per_block + 1) * rc->per_block, start = 0, count = 0;
    bool full = false;
    if (end > a->fresh)
        end = a->fresh;
    while (at < end && !full) {
        uint64_t now = 1;
        int r = refcount_has_block(q, at) ? refcount_load(q, at, err) : 0;
        if (r < 0)
            return r;
        pthread_mutex_lock(&rc->lock);
        uint64_t piece_end = (at / rc->per_piece + 1) * rc->per_piece;
        for (; at < end && at < piece_end; at++) {
            if (!refcount_has_block(q, at))
                now = 1; /* nothing can be taken where nothing counts it */
            else if (!refcount_peek(q, at, &now))
                break;
            if (now == 0 && count++ == 0)
                start = at;
            if (now && count) {
                spin_lock(&a->lock);
                full = !free_list_add(&a->free, start, count, false);
                spin_unlock(&a->lock);
                count = 0;
                if (full)
                    break;
            }
        }
        pthread_mutex_unlock(&rc->lock);
    }
    spin_lock(&a->lock);
    if (count && !free_list_add(&a->free, start, count, false))
        full = true;
    a->scan = full ? start : at;
    *more = !full && at < a->fresh;
    spin_unlock(&a->lock);
    return 0;
}

/* From extents that are known to be free. */
static int take_known(struct qcow2 *q, struct run *run, uint64_t want, struct img_error *err) {
    struct free_extent e;
    while (take_extent(&q->alloc, want, &e)) {
        uint64_t claimed;
        int r = claim(q, e.cluster, e.count, &claimed, err);
        if (r < 0)
            return r;
        if (claimed < e.count) /* the next one is counted by something */
            alloc_free(q, e.cluster + claimed + 1, e.count - claimed - 1, e.zero);
        if (!claimed)
            continue;
        run_fill(run, e.cluster, claimed, e.zero);
        return 1;
    }
    return 0;
}

/* From the fresh area. IMG_WOULD_BLOCK: a refcount block must be made first. 0: there is none. */
static int take_fresh(struct qcow2 *q, struct run *run, uint64_t want, struct img_error *err) {
    struct allocator *a = &q->alloc;
    for (;;) {
        if (a->fresh >= a->limit)
            return 0;
        if (!refcount_has_block(q, a->fresh))
            return IMG_WOULD_BLOCK;
        uint64_t group_end = (a->fresh / q->refcounts.per_block + 1) * q->refcounts.per_block;
        uint64_t n = want < group_end - a->fresh ? want : group_end - a->fresh, claimed = 0;
        if (n > a->limit - a->fresh)
            n = a->limit - a->fresh;
        int r = alloc_lengthen(q, a->fresh + n, err);
        if (r < 0 && n > 1)
            r = alloc_lengthen(q, a->fresh + (n = 1), err);
        if (r == 0)
            r = claim(q, a->fresh, n, &claimed, err);
        if (r < 0)
            return r;
        if (!claimed) {
            a->fresh++; /* a count behind the end of the file: leaked by a power cut */
            continue;
        }
        run_fill(run, a->fresh, claimed, a->fresh_is_zero);
        a->fresh += claimed;
        return 2;
    }
}

static uint64_t wanted(const struct qcow2 *q, struct run *run, enum run_kind kind, uint64_t least) {
    uint64_t start = kind == RUN_META ? 1 : MIB >> q->cluster_bits;
    /* compressed data comes slowly, and of what it leaves over only the end of the file can be given back */
    uint64_t most = kind == RUN_META ? 16 : (least ? 16 * MIB : MIB / 4) >> q->cluster_bits;
    uint64_t want = run->want ? run->want * 2ull : start;
    if (kind == RUN_DATA && want < least)
        want = least;
    if (want > most)
        want = most;
    run->want = want ? want : 1;
    return run->want;
}

/* Takes half of what a run has left, from its end. */
static bool take_half(struct run *from, struct run *to) {
    spin_lock(&from->lock);
    uint64_t n = (from->end - from->next + 1) / 2, first = from->end - n;
    bool zero = from->zero;
    from->end -= n;
    spin_unlock(&from->lock);
    if (n)
        run_fill(to, first, n, zero);
    return n;
}

/* Before it is said that there is no room: others, and this context's other run, may hold more than they need. */
static bool take_from_runs(struct qcow2 *q, struct run *run) {
    for (unsigned i = 0; i < IMG_CONTEXTS; i++) {
        struct q2_context *c = q->image->epochs.contexts[i].driver;
        if (c && (take_half(&c->data, run) || take_half(&c->meta, run)))
            return true;
    }
    return false;
}

enum found { FOUND_NOTHING, FOUND_RUN, NEEDS_BLOCK };

static int search_locked(struct qcow2 *q, struct run *run, enum run_kind kind, uint64_t want, struct img_error *err) {
    SCOPED_MUTEX(&q->alloc.refill);
    bool more = true;
    int r;
    if (!run_is_empty(run))
        return FOUND_RUN;
    if (kind == RUN_DATA) {
        if ((r = take_known(q, run, want, err)))
            return r < 0 ? r : FOUND_RUN;
        if ((r = scan_block(q, &more, err)) < 0)
            return r;
        if ((r = take_known(q, run, want, err)))
            return r < 0 ? r : FOUND_RUN;
    }
    r = take_fresh(q, run, want, err);
    if (r)
        return r < 0 ? r : r == IMG_WOULD_BLOCK ? NEEDS_BLOCK : FOUND_RUN;
    /* nothing fresh: look at all that is left */
    while (more) {
        if ((r = scan_block(q, &more, err)) < 0)
            return r;
        if ((r = take_known(q, run, want, err)))
            return r < 0 ? r : FOUND_RUN;
    }
    r = take_known(q, run, want, err);
    return r < 0 ? r : r || take_from_runs(q, run) ? FOUND_RUN : FOUND_NOTHING;
}

/* Counts move: a write plan is open meanwhile, so that a closed gate means that none does. */
static int search(struct qcow2 *q, struct img_context *c, struct run *run, enum run_kind kind, uint64_t want,
                  struct img_error *err) {
    struct img_plan plan = {.op = IMG_OP_WRITE, .writes = true};
    if (!plan_open(&q->image->epochs, c, &plan))
        return FOUND_RUN; /* the caller meets the gate and comes back */
    int r = search_locked(q, run, kind, want, err);
    plan_close(&q->image->epochs, &plan);
    return r;
}

int alloc_refill(struct qcow2 *q, struct img_context *c, struct run *run, enum run_kind kind, uint64_t least,
                 struct img_error *err) {
    if (!run_is_empty(run))
        return 0;
    uint64_t want = wanted(q, run, kind, least);
    for (bool relieved = false;;) {
        int r = writes_allowed(q, err);
        if (r == 0)
            r = search(q, c, run, kind, want, err);
        if (r < 0 || r == FOUND_RUN)
            return r < 0 ? r : 0;
        SCOPED_MUTEX(&q->role);
        if (r == NEEDS_BLOCK) {
            pthread_mutex_lock(&q->alloc.refill);
            uint64_t fresh = q->alloc.fresh;
            pthread_mutex_unlock(&q->alloc.refill);
            if ((r = refcounts_grow(q, fresh, err)) < 0)
                return r;
            continue;
        }
        if (relieved)
            return img_fail(err, -ENOSPC, "'%s' has no room for more clusters", q->image->path);
        if ((r = round_run(q, err)) < 0) /* what was let go may be free now */
            return r;
        relieved = true;
    }
}

/* Whether the clusters are counted by blocks that exist. */
static bool blocks_cover(struct qcow2 *q, uint64_t first, uint64_t count) {
    uint64_t per_block = q->refcounts.per_block;
    for (uint64_t group = first / per_block; group <= (first + count - 1) / per_block; group++)
        if (!refcount_has_block(q, group * per_block))
            return false;
    return true;
}

/* refill held. *claimed < count: something there was counted; try again behind it. */
static int claim_fresh(struct qcow2 *q, uint64_t count, uint64_t *first, uint64_t *claimed, struct img_error *err) {
    struct allocator *a = &q->alloc;
    *first = a->fresh;
    *claimed = 0;
    int r = alloc_lengthen(q, *first + count, err);
    if (r == 0)
        r = claim(q, *first, count, claimed, err);
    if (r == 0)
        a->fresh += *claimed < count ? *claimed + 1 : count;
    return r;
}

int alloc_contiguous(struct qcow2 *q, uint64_t count, uint64_t *first, struct img_error *err) {
    struct allocator *a = &q->alloc;
    for (;;) {
        uint64_t claimed = 0;
        pthread_mutex_lock(&a->refill);
        bool covered = blocks_cover(q, a->fresh, count);
        int r = covered ? claim_fresh(q, count, first, &claimed, err) : 0;
        pthread_mutex_unlock(&a->refill);
        if (!covered)
            r = refcounts_cover(q, count, err);
        if (r < 0 || claimed == count)
            return r;
        struct freed_run back = {*first, claimed};
        if ((r = refcount_release(q, &back, false, err)) < 0)
            return r;
    }
}

/* refill held. 0: no free extent of the old file is long enough. */
static int claim_known(struct qcow2 *q, uint64_t count, struct freed_run *claimed, struct img_error *err) {
    struct free_extent e;
    bool more;
    int r = scan_block(q, &more, err);
    if (r < 0 || !take_extent(&q->alloc, count, &e))
        return r;
    if (e.count == count)
        r = claim(q, e.cluster, count, &claimed->count, err);
    claimed->cluster = e.cluster;
    uint64_t left = claimed->count; /* the one behind them is counted by something */
    if (e.count < count)
        alloc_free(q, e.cluster, e.count, e.zero);
    else if (left + 1 < count)
        alloc_free(q, e.cluster + left + 1, count - left - 1, e.zero);
    return r;
}

int alloc_anywhere(struct qcow2 *q, uint64_t count, uint64_t *first, struct img_error *err) {
    struct freed_run claimed = {0};
    pthread_mutex_lock(&q->alloc.refill);
    int r = claim_known(q, count, &claimed, err);
    pthread_mutex_unlock(&q->alloc.refill);
    *first = claimed.cluster;
    if (r == 0 && claimed.count == count)
        return 0;
    if (claimed.count)
        r = refcount_release(q, &claimed, false, err);
    return r < 0 ? r : alloc_contiguous(q, count, first, err);
}

/* ---- closing ---- */

/* What could not be given back stays the run's. Nobody takes from it, but a helper thread may look whether it is empty.
 */
static int return_run(struct qcow2 *q, struct run *run, struct img_error *err) {
    struct freed_run held = run_left(run);
    int r = refcount_release(q, &held, false, err);
    run_skip_to(run, held.cluster);
    return r;
}

static int return_bytes(struct qcow2 *q, struct q2_context *c, struct img_error *err) {
    struct freed_run held = {0};
    if (c->byte_next < c->byte_end) {
        held.cluster = cluster_index(q, c->byte_next);
        held.count = cluster_index(q, c->byte_end - 1) + 1 - held.cluster;
    }
    int r = refcount_release(q, &held, false, err);
    c->byte_next = r < 0 ? held.cluster << q->cluster_bits : 0;
    c->byte_end = r < 0 ? c->byte_end : 0;
    return r;
}

int alloc_return_runs(struct qcow2 *q, struct img_error *err) {
    for (unsigned i = 0; i < IMG_CONTEXTS; i++) {
        struct q2_context *c = q->image->epochs.contexts[i].driver;
        int r = c ? return_run(q, &c->data, err) : 0;
        if (r == 0 && c)
            r = return_run(q, &c->meta, err);
        if (r == 0 && c)
            r = return_bytes(q, c, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The file ends at `end` now: what was free behind it is fresh again. The image may live on after a check. */
static void forget_tail(struct allocator *a, uint64_t end) {
    SCOPED_MUTEX(&a->refill);
    SCOPED_SPIN(&a->lock);
    free_list_cut(&a->free, end);
    if (a->fresh > end)
        a->fresh = end;
    if (a->scan > end)
        a->scan = end;
}

int alloc_trim(struct qcow2 *q) {
    struct allocator *a = &q->alloc;
    uint64_t end = (a->length + q->cluster_size - 1) >> q->cluster_bits;
    if (q->file->fixed_size || atomic_load(&q->corrupt))
        return 0;
    while (end > a->keep) {
        uint64_t count = 0;
        if (refcount_load(q, end - 1, NULL) < 0)
            return 0;
        pthread_mutex_lock(&q->refcounts.lock);
        bool there = refcount_peek(q, end - 1, &count);
        pthread_mutex_unlock(&q->refcounts.lock);
        if (there && count)
            break;
        if (there)
            end--;
    }
    uint64_t length = end << q->cluster_bits;
    if (length >= a->length)
        return 0;
    int r = q->file->ops->truncate(q->file, length);
    if (r == 0) {
        a->length = length;
        forget_tail(a, end);
    }
    return r;
}
