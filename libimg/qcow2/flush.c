/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* flush.c - rounds: the only place that writes L2 and L1, and limbo, where counts fall.
 *
 * A round, under role:
 *   1 note how much was written (`done`); freeze: copy each dirty slice under its lock, take its freed list; copy the
 *     dirty sectors of L1
 *   2 write dirty counts and refcount table sectors. After 1, so every count that a frozen entry needs is there
 *   3 barrier A
 *   4 write the frozen copies, never the live slices: a link made since 1 has data that A does not cover
 *   5 barrier B
 *   6 what was let go is durable: stamp it with the epoch and put it into limbo
 *
 * Skipped where they protect nothing: everything when nothing changed; 1, 2, 4, 5 when only clusters were overwritten;
 * A when no frozen entry began to show data (discards only).
 *
 * A reference in limbo falls once every plan that could have seen the old entry is closed, and its punch, if any, has
 * completed. A failed barrier, or a metadata write that fails with anything but lack of space, is for good.
 */
#include "invariants.h"

#include "../debug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- freezing ---- */

struct frozen {
    struct slice *slice;
    uint64_t host; /* where it belongs */
    void *copy;
    struct freed *freed;
    bool linked;
};

struct round {
    struct frozen *slices;
    uint32_t count;
    uint8_t *copies;
    uint64_t *l1_bits; /* dirty sectors; NULL: none */
    struct freed *l1_freed;
    uint8_t *l1_copy; /* the sectors, in order */
    bool linked;
};

static uint64_t l1_words(void) {
    return QCOW2_MAX_L1_BYTES / 512 / 64;
}

static uint64_t slice_place(struct qcow2 *q, uint64_t number) {
    unsigned bits = q->l2_bits - q->slice_bits;
    return (l1_entry(q, number >> bits) & QCOW2_OFFSET_MASK) + (number & ((1ull << bits) - 1)) * slice_bytes(q);
}

static void freeze_slice(struct qcow2 *q, struct slice *s, struct frozen *f) {
    SCOPED_SPIN(&s->lock);
    invariant_frozen(q, s);
    f->slice = s;
    f->host = slice_place(q, atomic_load_explicit(&s->tag, memory_order_relaxed));
    for (uint32_t i = 0; i < slice_bytes(q) / 8; i++)
        ((uint64_t *)f->copy)[i] = atomic_load_explicit(&s->e[i], memory_order_relaxed);
    f->freed = s->freed;
    f->linked = s->linked;
    s->freed = NULL;
    s->linked = s->dirty = false;
    s->frozen = true;
}

static int freeze_slices(struct qcow2 *q, struct round *r) {
    struct l2_cache *c = &q->cache;
    spin_lock(&c->dirty_lock);
    struct slice *list = c->dirty;
    uint32_t n = 0;
    for (struct slice *s = list; s; s = s->next)
        n++;
    c->dirty = NULL;
    spin_unlock(&c->dirty_lock);
    if (!n)
        return 0;
    r->slices = calloc(n, sizeof *r->slices);
    r->copies = malloc((size_t)n * slice_bytes(q));
    if (!r->slices || !r->copies) {
        spin_lock(&c->dirty_lock);
        while (list) {
            struct slice *next = list->next;
            list->next = c->dirty;
            c->dirty = list;
            list = next;
        }
        spin_unlock(&c->dirty_lock);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct slice *s = list;
        list = s->next; /* before the slice can become dirty again */
        r->slices[i].copy = r->copies + (size_t)i * slice_bytes(q);
        freeze_slice(q, s, &r->slices[i]);
        r->linked |= r->slices[i].linked;
    }
    r->count = n;
    atomic_fetch_sub_explicit(&c->ndirty, n, memory_order_relaxed);
    return 0;
}

static int freeze_l1(struct qcow2 *q, struct round *r) {
    uint64_t sectors = 0, *spare = calloc(l1_words(), 8);
    if (!spare)
        return -ENOMEM;
    spin_lock(&q->l1_lock);
    if (q->l1_any_dirty) {
        r->l1_bits = q->l1_dirty;
        q->l1_dirty = spare;
        spare = NULL;
        r->l1_freed = q->l1_freed;
        q->l1_freed = NULL;
        q->l1_any_dirty = false;
    }
    spin_unlock(&q->l1_lock);
    free(spare);
    if (!r->l1_bits)
        return 0;
    for (uint64_t i = 0; i < l1_words(); i++)
        sectors += __builtin_popcountll(r->l1_bits[i]);
    /* entries set since then may come along: their tables were written before they were set, and A is still to come */
    r->l1_copy = malloc(sectors * 512);
    if (!r->l1_copy)
        return -ENOMEM;
    uint64_t *to = (uint64_t *)r->l1_copy;
    for (uint64_t i = 0; i < l1_words() * 64; i++)
        if (r->l1_bits[i / 64] >> i % 64 & 1)
            for (unsigned k = 0; k < 64; k++)
                *to++ = atomic_load_explicit(&q->l1[i * 64 + k], memory_order_acquire);
    return 0;
}

/* Everything becomes dirty again: nothing is lost. */
static void thaw(struct qcow2 *q, struct round *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        struct slice *s = r->slices[i].slice;
        spin_lock(&s->lock);
        s->frozen = false;
        s->linked |= r->slices[i].linked;
        *freed_list_end(&s->freed) = r->slices[i].freed;
        r->slices[i].freed = NULL;
        slice_mark_dirty(q, s);
        spin_unlock(&s->lock);
    }
    if (r->l1_bits) {
        SCOPED_SPIN(&q->l1_lock);
        for (uint64_t i = 0; i < l1_words(); i++)
            q->l1_dirty[i] |= r->l1_bits[i];
        *freed_list_end(&q->l1_freed) = r->l1_freed;
        r->l1_freed = NULL;
        q->l1_any_dirty = true;
    }
}

/* ---- step 4 ---- */

static int by_host(const void *a, const void *b) {
    const struct frozen *x = a, *y = b;
    return x->host < y->host ? -1 : x->host > y->host;
}

static int write_frozen(struct qcow2 *q, struct round *r) {
    if (r->count)
        qsort(r->slices, r->count, sizeof *r->slices, by_host);
    for (uint32_t i = 0; i < r->count;) {
        struct iovec iov[64];
        int n = 0;
        uint64_t host = r->slices[i].host;
        while (n < 64 && i + n < r->count && r->slices[i + n].host == host + (uint64_t)n * slice_bytes(q)) {
            iov[n] = (struct iovec){r->slices[i + n].copy, slice_bytes(q)};
            n++;
        }
        int e = storage_writev(q->file, iov, n, host);
        if (e < 0)
            return e;
        i += n;
    }
    const uint8_t *from = r->l1_copy;
    for (uint64_t i = 0; r->l1_bits && i < l1_words() * 64; i++) {
        if (!(r->l1_bits[i / 64] >> i % 64 & 1))
            continue;
        int e = storage_write(q->file, from, 512, q->header.l1_offset + i * 512);
        if (e < 0)
            return e;
        from += 512;
    }
    return 0;
}

/* ---- limbo ---- */

void limbo_add(struct qcow2 *q, struct freed *list) {
    if (!list)
        return;
    uint64_t stamp = epoch_advance(&q->image->epochs);
    for (struct freed *f = list; f; f = f->next)
        f->stamp = stamp;
    *freed_list_end(&q->limbo) = list;
}

int limbo_release(struct qcow2 *q, struct img_error *err) {
    spin_lock(&q->alloc.lock);
    struct freed *returned = q->alloc.returned;
    q->alloc.returned = NULL;
    spin_unlock(&q->alloc.lock);
    limbo_add(q, returned);
    if (!q->limbo || atomic_load(&q->failed))
        return 0;
    uint64_t oldest = epoch_oldest(&q->image->epochs);
    for (struct freed **at = &q->limbo, *f; (f = *at);) {
        if (f->stamp >= oldest) {
            at = &f->next;
            continue;
        }
        for (uint32_t i = 0; i < f->used; i++) {
            int r = refcount_release(q, &f->run[i], f->punch, err);
            if (r < 0) { /* what is done is done, the rest stays */
                memmove(f->run, f->run + i, (f->used - i) * sizeof f->run[0]);
                f->used -= i;
                return r;
            }
        }
        *at = f->next;
        free(f);
    }
    return 0;
}

/* Step 6: the frozen slices are clean and what they let go is durable. */
static void finish_round(struct qcow2 *q, struct round *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        struct slice *s = r->slices[i].slice;
        spin_lock(&s->lock);
        s->frozen = false;
        spin_unlock(&s->lock);
        limbo_add(q, r->slices[i].freed);
        r->slices[i].freed = NULL;
    }
    limbo_add(q, r->l1_freed);
    r->l1_freed = NULL;
}

static void free_round(struct round *r) {
    free(r->slices);
    free(r->copies);
    free(r->l1_bits);
    free(r->l1_copy);
}

/* ---- the round ---- */

static int metadata_failed(struct qcow2 *q, int code, const char *what, struct img_error *err) {
    metadata_write_failed(q, code, what);
    return img_fail_errno(err, code, "could not write the metadata of '%s'", q->image->path);
}

static int write_round(struct qcow2 *q, struct round *r, struct img_error *err) {
    int e = refcounts_write(q);
    if (e < 0)
        return img_fail_errno(err, e, "could not write the refcounts of '%s'", q->image->path);
    if (r->linked || r->l1_bits) {
        e = barrier(q, true);
        if (e < 0)
            return failed_error(q, err);
    }
    IMG_DEBUG_PAUSE("round-synced");
    e = write_frozen(q, r);
    if (e < 0)
        return metadata_failed(q, e, "the host could not write L2 or L1 tables", err);
    e = barrier(q, true);
    return e < 0 ? failed_error(q, err) : 0;
}

static int run_frozen(struct qcow2 *q, uint64_t cap, struct img_error *err) {
    struct round r = {0};
    int e = freeze_slices(q, &r);
    if (e == 0)
        e = freeze_l1(q, &r);
    IMG_DEBUG_PAUSE("round-frozen");
    if (e < 0)
        img_fail(err, e, "no memory for a flush of '%s'", q->image->path);
    else if (!r.count && !r.l1_bits)
        e = cap == q->synced ? 0 : barrier(q, true) < 0 ? failed_error(q, err) : 0;
    else
        e = write_round(q, &r, err);
    if (e == 0) {
        finish_round(q, &r);
        q->synced = cap;
    } else {
        thaw(q, &r);
    }
    free_round(&r);
    return e;
}

int round_run(struct qcow2 *q, struct img_error *err) {
    if (atomic_load(&q->failed))
        return failed_error(q, err);
    uint64_t number = atomic_fetch_add(&q->started, 1) + 1;
    int r = run_frozen(q, epochs_done(&q->image->epochs), err);
    if (r < 0)
        return r;
    atomic_store(&q->ended, number);
    IMG_DEBUG_PAUSE("round-done");
    (void)limbo_release(q, NULL); /* what cannot fall now stays in limbo; the round itself is done */
    return 0;
}

/* At half of the budget somebody who is done writing runs a round, while the others go on; at the whole of it they
 * would all have to wait for one. */
bool qcow2_strained(struct img *image) {
    struct qcow2 *q = qcow2_of(image);
    return atomic_load_explicit(&q->cache.ndirty, memory_order_relaxed) > q->cache.budget / 2;
}

void qcow2_relieve(struct img *image) {
    struct qcow2 *q = qcow2_of(image);
    if (!qcow2_strained(image) || atomic_load(&q->failed) || pthread_mutex_trylock(&q->role) != 0)
        return;
    (void)round_run(q, NULL); /* an error is kept for the next flush, or nothing is lost */
    pthread_mutex_unlock(&q->role);
}

int qcow2_flush(struct img *image, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    if (!q->writable)
        return 0;
    if (atomic_load(&q->failed))
        return failed_error(q, err);
    if (image->cache == IMG_CACHE_UNSAFE)
        return 0;
    /* a round that started after this call covers all that was acknowledged before it, whoever runs it */
    uint64_t need = atomic_load(&q->started) + 1;
    SCOPED_MUTEX(&q->role);
    if (atomic_load(&q->failed))
        return failed_error(q, err);
    return atomic_load(&q->ended) >= need ? 0 : round_run(q, err);
}
