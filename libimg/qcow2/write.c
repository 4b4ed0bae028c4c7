/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* write.c - plans that allocate: reservation, commit, abort.
 *
 * A write that finds no cluster it may overwrite takes clusters from its context's run and hangs a reservation on the
 * slice; the entries change only at commit, when every byte of the plan is on the host. Until then readers and rounds
 * see the old mapping. A second writer of a reserved cluster joins when nobody has to fill edges and the ranges are
 * disjoint, else it waits without holding anything.
 *
 *   entry found                      edges come from      host cluster         loses a reference
 *   unallocated                      the layer below      new                  -
 *   zero                             zeroes               new                  its cluster, if it has one
 *   zero with cluster, COPIED        zeroes               the same, in place   -    (once its zero_epoch has passed)
 *   standard without COPIED          the old cluster      new                  the old one
 *   compressed                       decompressed         new                  every cluster it touches
 *   extended, subcluster not there   layer below, zeroes  the same, in place   -    (when all are zero: as above)
 */
#include "debug.h"
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>

/* ---- reservations ---- */

struct img_reservation *resv_find(struct slice *s, uint32_t index) {
    for (struct img_reservation *r = s->resv; r; r = r->next)
        if (index >= r->first && index - r->first < r->count)
            return r;
    return NULL;
}

static void hook(struct slice *s, struct img_reservation *r) {
    r->slice = s;
    r->hooked = true;
    r->next = s->resv;
    s->resv = r;
    s->pins++;
}

static void unhook(struct slice *s, struct img_reservation *r) {
    if (!r->hooked)
        return;
    struct img_reservation **at = &s->resv;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->hooked = false;
    s->pins--;
}

int resv_wait(struct qcow2 *q, struct img_plan *plan, struct slice *s) {
    uint64_t number = atomic_load_explicit(&s->tag, memory_order_relaxed);
    s->waiters = 1;
    would_block(plan, NEED_RESV, number, 0);
    plan->need.ticket = atomic_load(&q->wait[number % WAIT_QUEUES].sequence);
    return IMG_WOULD_BLOCK;
}

void resv_sleep(struct qcow2 *q, uint64_t number, uint32_t ticket) {
    struct wait_queue *w = &q->wait[number % WAIT_QUEUES];
    SCOPED_MUTEX(&w->lock);
    while (atomic_load(&w->sequence) == ticket)
        pthread_cond_wait(&w->moved, &w->lock);
}

bool resv_park(struct qcow2 *q, uint64_t number, uint32_t ticket, struct img_waiter *waiter) {
    struct wait_queue *w = &q->wait[number % WAIT_QUEUES];
    SCOPED_MUTEX(&w->lock);
    if (atomic_load(&w->sequence) != ticket)
        return false;
    waiter->next = w->parked;
    w->parked = waiter;
    return true;
}

static void wake(struct qcow2 *q, uint64_t number) {
    struct wait_queue *w = &q->wait[number % WAIT_QUEUES];
    pthread_mutex_lock(&w->lock);
    atomic_fetch_add(&w->sequence, 1);
    struct img_waiter *parked = w->parked;
    w->parked = NULL;
    pthread_cond_broadcast(&w->moved);
    pthread_mutex_unlock(&w->lock);
    waiters_wake(parked);
}

/* ---- how one cluster is written ---- */

/* The entry's own cluster may be written although the entry does not show it (all of it) yet. Where parts of a cluster
 * were cleared, a plan from before may still write there: so while one is open, what comes next goes to a new cluster.
 * But not when subclusters of the old one are still there: they would have to be copied while they can be overwritten,
 * and an overwrite between copy and commit would be lost. In place nothing can be, as only requests that the guest had
 * under way at once over the same sectors meet there. */
static bool writes_in_place(struct qcow2 *q, struct slice *s, struct l2_entry e) {
    if (!(e.word & QCOW2_COPIED) || !entry_has_host(q, e))
        return false;
    if (!q->extended && !(e.word & QCOW2_ZERO))
        return false;
    bool overwritable_parts = q->extended && (uint32_t)e.bitmap;
    return q->external || overwritable_parts || !s->zero_epoch || epoch_passed(&q->image->epochs, s->zero_epoch);
}

static bool lets_go(const struct qcow2 *q, struct l2_entry e) {
    return !q->external && (e.word & QCOW2_COMPRESSED || entry_has_host(q, e));
}

/* What fills the part of a fresh unit at `offset` that the write leaves out. */
static enum img_fill fill_of(const struct qcow2 *q, struct l2_entry e, uint64_t offset, bool host_is_zero) {
    uint64_t to = q->cluster_size;
    enum entry_kind kind = entry_kind_at(q, e, in_cluster(q, offset), &to);
    if (kind == ENTRY_STANDARD || kind == ENTRY_COMPRESSED ||
        (kind == ENTRY_UNALLOCATED && !reads_zero_below(q, offset)))
        return IMG_FILL_READ;
    return host_is_zero ? IMG_FILL_NONE : IMG_FILL_ZERO;
}

/* The edges of the first and last cluster, and which subclusters become allocated. `by_sub`: only subclusters are
 * filled. */
static void set_edges(struct qcow2 *q, struct img_plan *plan, struct l2_entry first, struct l2_entry last, bool by_sub,
                      bool host_is_zero) {
    uint64_t unit = by_sub ? 1ull << q->subcluster_bits : q->cluster_size;
    uint64_t end = plan->offset + plan->length;
    plan->head = plan->offset & (unit - 1);
    plan->tail = -end & (unit - 1);
    if (by_sub) { /* subclusters that are there already need no filling */
        uint64_t from = in_cluster(q, plan->offset), to = from + plan->length, one = from + 1;
        if (entry_kind_at(q, first, from, &one) == ENTRY_STANDARD)
            plan->head = 0;
        one = to;
        if (entry_kind_at(q, last, to - 1, &one) == ENTRY_STANDARD)
            plan->tail = 0;
        plan->resv.mask = subcluster_mask(q, from, to);
    } else {
        plan->resv.mask = UINT32_MAX;
    }
    plan->head_fill = plan->head ? fill_of(q, first, plan->offset - plan->head, host_is_zero) : IMG_FILL_NONE;
    plan->tail_fill = plan->tail ? fill_of(q, last, end, host_is_zero) : IMG_FILL_NONE;
    if (q->extended && !by_sub) { /* an edge of several subclusters, of different kinds */
        plan->head_fill = plan->head ? IMG_FILL_READ : IMG_FILL_NONE;
        plan->tail_fill = plan->tail ? IMG_FILL_READ : IMG_FILL_NONE;
    }
}

/* ---- resolve ---- */

/* Lets a write of one cluster share the reservation on it, or makes it wait. */
static int join_or_wait(struct qcow2 *q, struct img_plan *plan, struct slice *s, struct img_reservation *holder,
                        uint32_t index) {
    uint64_t end = (plan->offset | (q->cluster_size - 1)) + 1;
    if (plan->offset + plan->length < end)
        end = plan->offset + plan->length;
    for (struct img_reservation *r = s->resv; r; r = r->next)
        if (r->first <= index && index - r->first < r->count &&
            (!r->joinable || (r->start < end && plan->offset < r->end)))
            return resv_wait(q, plan, s);
    plan->length = end - plan->offset;
    plan->head = plan->tail = 0;
    plan->resv = (struct img_reservation){.first = index,
                                          .count = 1,
                                          .host = holder->host,
                                          .start = plan->offset,
                                          .end = end,
                                          .mask = UINT32_MAX,
                                          .joinable = true};
    hook(s, &plan->resv);
    return 0;
}

/* The first entry of a plan was looked at by lock_private_slice; those behind it are looked at here. */
static bool is_faulty(struct qcow2 *q, struct slice *s, uint32_t index, struct l2_entry e) {
    uint64_t number = atomic_load_explicit(&s->tag, memory_order_relaxed);
    return atomic_load(&s->suspect) && entry_fault(q, e, (number << q->slice_bits) + index);
}

/* How many clusters from `index` on can go into one plan of new clusters. */
static uint32_t count_new(struct qcow2 *q, struct slice *s, uint32_t index, uint32_t most, struct freed *freed) {
    uint32_t n = 0, losing = 0;
    while (n < most && !resv_find(s, index + n)) {
        struct l2_entry e = slice_get(q, s, index + n);
        if (entry_overwritable(q, e, 0, q->cluster_size) ||
            (n && (writes_in_place(q, s, e) || is_faulty(q, s, index + n, e))))
            break;
        if (lets_go(q, e) && (!freed || ++losing > freed->room))
            break;
        n++;
    }
    return n;
}

static uint32_t count_in_place(struct qcow2 *q, struct slice *s, uint32_t index, uint32_t most) {
    uint64_t host = entry_host(slice_get(q, s, index));
    uint32_t n = 1;
    while (!q->extended && n < most && !resv_find(s, index + n)) {
        struct l2_entry e = slice_get(q, s, index + n);
        if (!writes_in_place(q, s, e) || is_faulty(q, s, index + n, e) ||
            entry_host(e) != host + ((uint64_t)n << q->cluster_bits))
            break;
        n++;
    }
    return n;
}

/* Slice locked, no reservation on the first cluster. Chooses the clusters and hooks the reservation. */
static int reserve(struct qcow2 *q, struct img_plan *plan, struct slice *s, uint32_t index, uint32_t most) {
    struct l2_entry first = slice_get(q, s, index);
    uint64_t cluster = cluster_index(q, plan->offset), host = cluster;
    bool in_place = writes_in_place(q, s, first), zero = false;
    /* an extended cluster that is written in part is a plan of its own */
    if (q->extended && (in_cluster(q, plan->offset) || plan->length < q->cluster_size))
        most = 1;
    else if (q->extended)
        most = plan->length >> q->cluster_bits < most ? plan->length >> q->cluster_bits : most;

    uint32_t n = in_place ? count_in_place(q, s, index, most) : count_new(q, s, index, most, plan->freed);
    if (!n)
        return would_block(plan, NEED_NOTHING, 0, 0);
    if (in_place) {
        host = cluster_index(q, entry_host(first));
    } else if (!q->external) {
        n = run_take(&q2_context(plan->context)->data, n, &host, &zero);
        if (!n)
            return would_block(plan, NEED_RUN, 0, most);
        zero &= !q->image->crypto; /* zeroes on the host are not zeroes to the guest */
    }
    uint64_t end = (cluster + n) << q->cluster_bits;
    if (plan->offset + plan->length > end)
        plan->length = end - plan->offset;
    plan->resv = (struct img_reservation){.first = index,
                                          .count = n,
                                          .host = host << q->cluster_bits,
                                          .start = plan->offset,
                                          .end = plan->offset + plan->length,
                                          .zero = zero,
                                          .in_place = in_place || q->external};
    bool by_sub = q->extended && !(first.word & QCOW2_COMPRESSED) && (in_place || !entry_has_host(q, first));
    struct l2_entry last = slice_get(q, s, index + n - 1);
    set_edges(q, plan, first, last, by_sub && n == 1, zero);
    for (uint32_t i = 0; !in_place && i < n; i++) {
        struct l2_entry e = slice_get(q, s, index + i);
        uint64_t c = cluster_index(q, entry_host(e)), count = 1;
        if (!lets_go(q, e))
            continue;
        if (e.word & QCOW2_COMPRESSED)
            compressed_clusters(q, e.word, &c, &count);
        freed_add(plan->freed, c, count);
    }
    /* only the plan that links can free what it replaces, and it is not known yet which of several will */
    bool loses = !in_place && plan->freed && ((struct freed *)plan->freed)->used;
    plan->resv.joinable = n == 1 && zero && !loses && !q->extended && plan->head_fill == IMG_FILL_NONE &&
                          plan->tail_fill == IMG_FILL_NONE;
    hook(s, &plan->resv);
    return 0;
}

/* A look without a lock: how many of the clusters will lose something. Wrong guesses only cost a second try. */
static uint32_t guess_freed(struct qcow2 *q, uint64_t cluster, uint32_t most) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < most; i++) {
        struct l2_entry e;
        bool suspect;
        if (l2_peek(q, cluster + i, &e, &suspect) && lets_go(q, e))
            n++;
    }
    return n;
}

/* What all allocating plans need first: a private table, the slice, room in the dirty budget. Returns it locked. */
static int lock_private_slice(struct qcow2 *q, struct img_plan *plan, struct slice **out, struct img_error *err) {
    uint64_t cluster = cluster_index(q, plan->offset), entry = l1_entry(q, l1_index(q, cluster));
    if (!(entry & QCOW2_OFFSET_MASK) || !(entry & QCOW2_COPIED))
        return would_block(plan, NEED_TABLE, l1_index(q, cluster), 0);
    struct slice *s = l2_lock(q, slice_number(q, cluster));
    if (!s)
        return would_block(plan, NEED_SLICE, slice_number(q, cluster), 0);
    if (!s->dirty && l2_over_budget(q)) {
        l2_unlock(s);
        return would_block(plan, NEED_ROUND, 0, 0);
    }
    struct l2_entry e = slice_get(q, s, slice_index(q, cluster));
    const char *fault = atomic_load(&s->suspect) ? entry_fault(q, e, cluster) : NULL;
    if (fault) {
        l2_unlock(s);
        corrupt_found(q, "the L2 entry of guest offset 0x%llx (0x%llx) %s", (unsigned long long)plan->offset,
                      (unsigned long long)e.word, fault);
        if (atomic_load(&q->corrupt) == CORRUPT_FOUND)
            return would_block(plan, NEED_CORRUPT, 0, 0);
        return img_fail(err, -EIO, "the L2 entry of guest offset 0x%llx of '%s' (0x%llx) %s",
                        (unsigned long long)plan->offset, q->image->path, (unsigned long long)e.word, fault);
    }
    *out = s;
    return 0;
}

int resolve_allocating(struct qcow2 *q, struct img_plan *plan, struct img_error *err) {
    uint64_t cluster = cluster_index(q, plan->offset);
    uint64_t most = cluster_index(q, plan->offset + plan->length - 1) - cluster + 1;
    uint32_t index = slice_index(q, cluster), rest = slice_entries(q) - index;
    if (most > rest)
        most = rest;

    uint32_t losing = guess_freed(q, cluster, most);
    plan->freed = NULL;
    if (losing && !(plan->freed = freed_new(losing)))
        return img_fail(err, -ENOMEM, "no memory for a write of %u clusters", losing);
    struct slice *s = NULL;
    bool hooked = false;
    int r = lock_private_slice(q, plan, &s, err);
    if (r == 0) {
        struct img_reservation *holder = resv_find(s, index);
        r = holder ? join_or_wait(q, plan, s, holder, index) : reserve(q, plan, s, index, most);
        hooked = plan->resv.hooked; /* once it is unlocked, who shares the cluster may link it at any moment */
        l2_unlock(s);
    }
    if (r || !hooked) {
        free(plan->freed);
        plan->freed = NULL;
        return r;
    }
    IMG_DEBUG_PAUSE("reserved");
    plan->action = IMG_MOVE_STEPS;
    plan->nsteps = 1;
    plan->steps[0] = (struct img_step){.kind = IMG_STEP_HOST,
                                       .guest = plan->offset,
                                       .length = plan->length,
                                       .file = q->data,
                                       .host = plan->resv.host + in_cluster(q, plan->offset)};
    return 0;
}

/* ---- compressed clusters ---- */

/* A count that falls although no entry let go: through limbo as well. Without memory the cluster stays a leak. */
static void give_back(struct qcow2 *q, uint64_t cluster, uint64_t count) {
    struct freed *f = freed_new(1);
    if (!f)
        return;
    freed_add(f, cluster, count);
    spin_lock(&q->alloc.lock);
    f->next = q->alloc.returned;
    q->alloc.returned = f;
    spin_unlock(&q->alloc.lock);
}

/* Makes the context's byte run at least `stored` long. False: the data run must be refilled. */
static bool extend_bytes(struct qcow2 *q, struct q2_context *c, uint32_t stored) {
    while (c->byte_end - c->byte_next < stored) {
        uint64_t cluster;
        bool zero;
        if (!run_take(&c->data, 1, &cluster, &zero))
            return false;
        if (cluster << q->cluster_bits != c->byte_end) {
            /* the run held one count for the cluster it leaves half used */
            if (c->byte_next < c->byte_end)
                give_back(q, cluster_index(q, c->byte_next),
                          cluster_index(q, c->byte_end - 1) + 1 - cluster_index(q, c->byte_next));
            c->byte_next = cluster << q->cluster_bits;
        }
        c->byte_end = (cluster + 1) << q->cluster_bits;
    }
    return true;
}

/* Takes `stored` bytes. The run's own count of a cluster passes to the data when the run leaves it; only a cluster in
 * which the run stays is counted once more, or left when it cannot be. */
static int take_bytes(struct qcow2 *q, struct img_plan *plan, uint64_t *host, struct img_error *err) {
    struct q2_context *c = q2_context(plan->context);
    if (!extend_bytes(q, c, plan->stored))
        return would_block(plan, NEED_RUN, 0, 0);
    uint64_t next = c->byte_next + plan->stored, last = cluster_index(q, next - 1), count;
    if (next > 1ull << qcow2_compressed_shift(q->cluster_bits))
        return img_fail(err, -EFBIG, "'%s' is too long: no entry can name compressed data at host offset %llu",
                        q->image->path, (unsigned long long)c->byte_next);
    if (in_cluster(q, next)) {
        SCOPED_MUTEX(&q->refcounts.lock);
        if (!refcount_peek(q, last, &count))
            return would_block(plan, NEED_COUNT, last, 0);
        if (count < q->refcounts.max)
            refcount_set(q, last, count + 1);
        else
            next = (last + 1) << q->cluster_bits;
    }
    *host = c->byte_next;
    c->byte_next = next;
    return 0;
}

int resolve_compressed(struct qcow2 *q, struct img_plan *plan, struct img_error *err) {
    uint64_t cluster = cluster_index(q, plan->offset), host = 0;
    uint32_t index = slice_index(q, cluster);
    struct slice *s = NULL;
    if (q->external)
        return img_fail(err, -ENOTSUP, "'%s' keeps its data in an external file and cannot hold compressed clusters",
                        q->image->path);
    if (q->image->crypto)
        return img_fail(err, -ENOTSUP, "'%s' is encrypted: Compression and encryption not supported at the same time",
                        q->image->path);
    plan->freed = freed_new(1);
    if (!plan->freed)
        return img_fail(err, -ENOMEM, "no memory for a compressed write");
    int r = lock_private_slice(q, plan, &s, err);
    if (r == 0) {
        struct l2_entry e = slice_get(q, s, index);
        r = resv_find(s, index) ? resv_wait(q, plan, s) : take_bytes(q, plan, &host, err);
        if (r == 0) {
            uint64_t first = cluster_index(q, entry_host(e)), count = 1;
            if (e.word & QCOW2_COMPRESSED)
                compressed_clusters(q, e.word, &first, &count);
            if (lets_go(q, e))
                freed_add(plan->freed, first, count);
            plan->resv = (struct img_reservation){
                .first = index, .count = 1, .host = host, .start = plan->offset, .end = plan->offset + plan->length};
            plan->compressed = qcow2_compressed_entry(host, plan->stored, q->cluster_bits);
            hook(s, &plan->resv);
        }
        l2_unlock(s);
    }
    if (r) {
        free(plan->freed);
        plan->freed = NULL;
        return r;
    }
    plan->action = IMG_MOVE_STEPS;
    plan->head = plan->tail = 0;
    plan->nsteps = 1;
    plan->steps[0] = (struct img_step){
        .kind = IMG_STEP_HOST, .guest = plan->offset, .length = plan->stored, .file = q->file, .host = host};
    return 0;
}

/* ---- commit, abort ---- */

static struct l2_entry linked_entry(const struct qcow2 *q, const struct img_plan *plan, struct l2_entry old,
                                    uint32_t i) {
    const struct img_reservation *r = &plan->resv;
    if (plan->op == IMG_OP_COMPRESSED)
        return (struct l2_entry){.word = plan->compressed};
    struct l2_entry e = {.word = (r->host + ((uint64_t)i << q->cluster_bits)) | QCOW2_COPIED};
    if (q->extended) {
        uint64_t mask = r->mask;
        uint64_t kept = mask == UINT32_MAX || old.word & QCOW2_COMPRESSED ? 0 : old.bitmap;
        e.bitmap = (kept | mask) & ~(mask << 32);
    }
    return e;
}

/* Everyone who shares the reserved cluster learns that it is linked. */
static void tell_joined(struct slice *s, const struct img_reservation *mine) {
    struct img_reservation *next;
    for (struct img_reservation *r = s->resv; r; r = next) {
        next = r->next;
        if (r == mine || r->first != mine->first || !r->joinable)
            continue;
        r->linked = true;
        unhook(s, r);
    }
}

void qcow2_commit(struct img *image, struct img_plan *plan) {
    struct qcow2 *q = qcow2_of(image);
    struct img_reservation *r = &plan->resv;
    struct slice *s = r->slice;
    if (!s)
        return; /* an overwrite */
    spin_lock(&s->lock);
    uint64_t number = atomic_load_explicit(&s->tag, memory_order_relaxed);
    bool wakes = false;
    if (!r->linked) {
        for (uint32_t i = 0; i < r->count; i++)
            slice_set(q, s, r->first + i, linked_entry(q, plan, slice_get(q, s, r->first + i), i));
        s->linked = true;
        slice_mark_dirty(q, s);
        if (r->joinable)
            tell_joined(s, r);
        struct freed *f = plan->freed;
        if (f && f->used) {
            f->next = s->freed;
            s->freed = f;
            plan->freed = NULL;
        }
        unhook(s, r);
        wakes = s->waiters;
        s->waiters = 0;
    }
    spin_unlock(&s->lock);
    r->slice = NULL;
    free(plan->freed);
    plan->freed = NULL;
    if (wakes)
        wake(q, number);
}

void qcow2_abort(struct img *image, struct img_plan *plan, bool touched) {
    struct qcow2 *q = qcow2_of(image);
    struct img_reservation *r = &plan->resv;
    struct slice *s = r->slice;
    (void)touched; /* what comes back through limbo is never taken for zero */
    if (!s)
        return;
    spin_lock(&s->lock);
    uint64_t number = atomic_load_explicit(&s->tag, memory_order_relaxed);
    bool lonely = !r->linked;
    unhook(s, r);
    if (r->joinable && resv_find(s, r->first))
        lonely = false; /* somebody else still writes to it */
    bool wakes = s->waiters;
    s->waiters = 0;
    spin_unlock(&s->lock);
    if (lonely && !r->in_place) {
        uint64_t first = cluster_index(q, r->host), count = r->count;
        if (plan->op == IMG_OP_COMPRESSED)
            count = cluster_index(q, r->host + plan->stored - 1) - first + 1;
        give_back(q, first, count);
    }
    r->slice = NULL;
    free(plan->freed);
    plan->freed = NULL;
    if (wakes)
        wake(q, number);
}
