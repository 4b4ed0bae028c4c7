/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* l2.c - L2 tables in memory, in slices of 4 KiB.
 *
 * A directory of two levels leads from a guest slice number to its slice: a hit is three dependent loads and the
 * entry, whatever the image's size, with no store to shared memory. Slices are recycled, never freed, so a reader may
 * hold a stale pointer: `seq` and `tag`, read before and after the entry, tell it. Entries are atomics; an extended
 * entry (two words) changes between two increments of `seq`.
 *
 * What must hold: a slice is dirty only if its table belongs to this image alone (L1 has COPIED); a clean slice equals
 * the disk; only rounds write slices (flush.c), so eviction drops clean ones and nothing else; entries change only
 * under the slice lock.
 */
#include "invariants.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LOAD_BYTES 65536 /* at most this much of a table is read at once */

int l2_init(struct qcow2 *q, uint64_t bytes) {
    struct l2_cache *c = &q->cache;
    uint64_t slices = bytes / slice_bytes(q);
    c->capacity = slices < 16 ? 16 : slices > 1u << 24 ? 1u << 24 : slices;
    c->budget = c->capacity / 4;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->loaded, NULL);
    c->all = calloc(c->capacity, sizeof *c->all);
    /* room for the largest L1; untouched pages cost nothing */
    uint64_t entries = (uint64_t)QCOW2_MAX_L1_BYTES / 8 << (q->l2_bits - q->slice_bits);
    c->top_count = (entries >> DIRECTORY_BITS) + 1;
    void *top = mmap(NULL, c->top_count * sizeof *c->top, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (top == MAP_FAILED || !c->all)
        return -ENOMEM;
    c->top = top;
    return 0;
}

void l2_destroy(struct qcow2 *q) {
    struct l2_cache *c = &q->cache;
    if (!c->capacity)
        return;
    if (c->top) {
        /* only pages that slices of the image can have are looked at */
        uint64_t used = ((uint64_t)atomic_load(&q->l1_size) << (q->l2_bits - q->slice_bits) >> DIRECTORY_BITS) + 1;
        for (uint64_t i = 0; i < used && i < c->top_count; i++)
            free(atomic_load_explicit(&c->top[i], memory_order_relaxed));
        munmap(c->top, c->top_count * sizeof *c->top);
    }
    for (uint32_t i = 0; i < c->count; i++) {
        freed_list_free(c->all[i]->freed);
        free(c->all[i]);
    }
    free(c->all);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->loaded);
    memset(c, 0, sizeof *c);
}

/* ---- the directory ---- */

static struct slice *directory_get(const struct qcow2 *q, uint64_t number) {
    uint64_t page_index = number >> DIRECTORY_BITS;
    if (page_index >= q->cache.top_count)
        return NULL;
    _Atomic(struct slice *) *page = atomic_load_explicit(&q->cache.top[page_index], memory_order_acquire);
    return page ? atomic_load_explicit(&page[number & (DIRECTORY_PAGE - 1)], memory_order_acquire) : NULL;
}

/* cache.lock held. False: no memory, or no such slice can exist. */
static bool directory_put(struct qcow2 *q, uint64_t number, struct slice *s) {
    uint64_t page_index = number >> DIRECTORY_BITS;
    if (page_index >= q->cache.top_count)
        return false;
    _Atomic(struct slice *) *page = atomic_load_explicit(&q->cache.top[page_index], memory_order_relaxed);
    if (!page) {
        page = calloc(DIRECTORY_PAGE, sizeof *page);
        if (!page)
            return false;
        atomic_store_explicit(&q->cache.top[page_index], page, memory_order_release);
    }
    atomic_store_explicit(&page[number & (DIRECTORY_PAGE - 1)], s, memory_order_release);
    return true;
}

/* ---- entries ---- */

static struct l2_entry load_entry(const struct qcow2 *q, const struct slice *s, uint32_t index) {
    struct l2_entry e = {0, 0};
    const _Atomic uint64_t *word = &s->e[(uint64_t)index * q->words];
    e.word = be64toh(atomic_load_explicit(&word[0], memory_order_acquire));
    if (q->words == 2)
        e.bitmap = be64toh(atomic_load_explicit(&word[1], memory_order_acquire));
    return e;
}

bool l2_peek(struct qcow2 *q, uint64_t cluster, struct l2_entry *entry, bool *suspect) {
    uint64_t number = slice_number(q, cluster);
    struct slice *s = directory_get(q, number);
    if (!s)
        return false;
    for (int tries = 0; tries < 8; tries++) {
        uint32_t seq = atomic_load_explicit(&s->seq, memory_order_acquire);
        if (atomic_load_explicit(&s->tag, memory_order_acquire) != number)
            return false;
        if (seq & 1)
            continue;
        *entry = load_entry(q, s, slice_index(q, cluster));
        *suspect = atomic_load_explicit(&s->suspect, memory_order_acquire);
        if (atomic_load_explicit(&s->seq, memory_order_acquire) != seq)
            continue;
        if (!atomic_load_explicit(&s->used, memory_order_relaxed))
            atomic_store_explicit(&s->used, 1, memory_order_relaxed);
        return true;
    }
    s = l2_lock(q, number);
    if (!s)
        return false;
    *entry = load_entry(q, s, slice_index(q, cluster));
    *suspect = atomic_load_explicit(&s->suspect, memory_order_relaxed);
    l2_unlock(s);
    return true;
}

struct slice *l2_lock(struct qcow2 *q, uint64_t number) {
    struct slice *s = directory_get(q, number);
    if (!s)
        return NULL;
    spin_lock(&s->lock);
    if (atomic_load_explicit(&s->tag, memory_order_relaxed) != number || s->loading) {
        spin_unlock(&s->lock);
        return NULL;
    }
    atomic_store_explicit(&s->used, 1, memory_order_relaxed);
    return s;
}

struct l2_entry slice_get(const struct qcow2 *q, const struct slice *s, uint32_t index) {
    return load_entry(q, s, index);
}

void slice_set(const struct qcow2 *q, struct slice *s, uint32_t index, struct l2_entry e) {
    _Atomic uint64_t *word = &s->e[(uint64_t)index * q->words];
    if (q->words == 1) {
        atomic_store_explicit(&word[0], htobe64(e.word), memory_order_release);
        return;
    }
    atomic_fetch_add_explicit(&s->seq, 1, memory_order_acq_rel);
    atomic_store_explicit(&word[0], htobe64(e.word), memory_order_release);
    atomic_store_explicit(&word[1], htobe64(e.bitmap), memory_order_release);
    atomic_fetch_add_explicit(&s->seq, 1, memory_order_acq_rel);
}

void slice_mark_dirty(struct qcow2 *q, struct slice *s) {
    if (s->dirty)
        return;
    s->dirty = true;
    spin_lock(&q->cache.dirty_lock);
    s->next = q->cache.dirty;
    q->cache.dirty = s;
    spin_unlock(&q->cache.dirty_lock);
    atomic_fetch_add_explicit(&q->cache.ndirty, 1, memory_order_relaxed);
}

/* ---- buffers ---- */

/* Slice lock held: takes the slice out of readers' sight. */
static void hide(struct qcow2 *q, struct slice *s) {
    uint64_t old = atomic_load_explicit(&s->tag, memory_order_relaxed);
    if (!(atomic_load_explicit(&s->seq, memory_order_relaxed) & 1))
        atomic_fetch_add_explicit(&s->seq, 1, memory_order_acq_rel);
    if (old != SLICE_NONE)
        directory_put(q, old, NULL);
    atomic_store_explicit(&s->tag, SLICE_NONE, memory_order_release);
}

static bool evict(struct qcow2 *q, struct slice *s) {
    if (atomic_exchange_explicit(&s->used, 0, memory_order_relaxed) || !spin_try(&s->lock))
        return false;
    bool idle = !s->loading && !s->dirty && !s->frozen && !s->pins && !s->waiters && !s->freed &&
                (!s->zero_epoch || epoch_passed(&q->image->epochs, s->zero_epoch));
    if (idle && atomic_load_explicit(&s->tag, memory_order_relaxed) != SLICE_NONE) {
        invariant_evicted(q, s);
        hide(q, s);
    }
    spin_unlock(&s->lock);
    return idle;
}

static struct slice *new_slice(struct qcow2 *q) {
    struct slice *s = aligned_alloc(64, (sizeof *s + slice_bytes(q) + 63) / 64 * 64);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s + slice_bytes(q));
    atomic_store(&s->seq, 1);
    atomic_store(&s->tag, SLICE_NONE);
    q->cache.all[q->cache.count++] = s;
    return s;
}

/* cache.lock held. NULL: everything is in use (run a round) or, without `may_evict`, nothing is free. */
static struct slice *take_buffer(struct qcow2 *q, bool may_evict) {
    struct l2_cache *c = &q->cache;
    struct slice *s = c->free;
    if (s) {
        c->free = s->next;
        return s;
    }
    if (c->count < c->capacity && (s = new_slice(q)))
        return s;
    for (uint32_t tries = 0; may_evict && tries < 2 * c->count; tries++) {
        c->hand = c->hand + 1 < c->count ? c->hand + 1 : 0;
        if (evict(q, c->all[c->hand]))
            return c->all[c->hand];
    }
    return NULL;
}

static void give_buffer(struct qcow2 *q, struct slice *s) {
    s->next = q->cache.free;
    q->cache.free = s;
}

/* ---- loading ---- */

/* One slice as it was read: entries are validated here, once. */
static void fill(struct qcow2 *q, struct slice *s, uint64_t number, const uint64_t *from) {
    uint64_t cluster = number << q->slice_bits;
    bool suspect = false;
    for (uint32_t i = 0; i < slice_entries(q); i++) {
        struct l2_entry e = {.word = be64toh(from[i * q->words])};
        atomic_store_explicit(&s->e[i * q->words], from[i * q->words], memory_order_release);
        if (q->words == 2) {
            e.bitmap = be64toh(from[i * 2 + 1]);
            atomic_store_explicit(&s->e[i * 2 + 1], from[i * 2 + 1], memory_order_release);
        }
        const char *fault = e.word | e.bitmap ? entry_fault(q, e, cluster + i) : NULL;
        suspect |= fault != NULL;
        /* now, not when it is used: by then the file may have grown over the place that it names */
        if (fault && q->writable)
            corrupt_found(q, "the L2 entry of guest offset 0x%llx (0x%llx) %s",
                          (unsigned long long)(cluster + i) << q->cluster_bits, (unsigned long long)e.word, fault);
    }
    atomic_store_explicit(&s->suspect, suspect, memory_order_release);
}

/* An entry of a writable image whose cluster counts 0 would be handed out a second time: looked for in the counts
 * that are resident, which costs nothing. */
static void compare_counts(struct qcow2 *q, struct slice *s, uint64_t number) {
    SCOPED_MUTEX(&q->refcounts.lock);
    for (uint32_t i = 0; i < slice_entries(q); i++) {
        struct l2_entry e = load_entry(q, s, i);
        uint64_t count;
        if (!entry_has_host(q, e) || in_cluster(q, entry_host(e)) ||
            !refcount_peek(q, cluster_index(q, entry_host(e)), &count) || count)
            continue;
        corrupt_found(q, "guest offset 0x%llx names host offset 0x%llx, whose count is 0",
                      (unsigned long long)(((number << q->slice_bits) + i) << q->cluster_bits),
                      (unsigned long long)entry_host(e));
    }
}

static const char *l1_fault(struct qcow2 *q, uint64_t entry) {
    uint64_t table = entry & QCOW2_OFFSET_MASK;
    if (entry & QCOW2_L1_RESERVED)
        return "has reserved bits set";
    if (in_cluster(q, table))
        return "is not aligned to a cluster";
    if (table + q->cluster_size > storage_size(q->file) && table + q->cluster_size > q->alloc.length)
        return "names a table past the end of the file";
    return NULL;
}

/* cache.lock held: claims up to `most` absent slices from `number` on, in `out`. Returns how many. */
static uint32_t claim_slices(struct qcow2 *q, uint64_t number, uint32_t most, struct slice **out) {
    uint32_t n = 0;
    while (n < most && !directory_get(q, number + n)) {
        struct slice *s = take_buffer(q, n == 0);
        if (!s)
            break;
        spin_lock(&s->lock);
        s->loading = true;
        s->linked = false;
        s->zero_epoch = 0;
        atomic_store_explicit(&s->tag, number + n, memory_order_release);
        spin_unlock(&s->lock);
        if (!directory_put(q, number + n, s)) {
            hide(q, s);
            s->loading = false;
            give_buffer(q, s);
            break;
        }
        out[n++] = s;
    }
    return n;
}

/* Shows (or, after an error, drops) slices that were being loaded. */
static void publish(struct qcow2 *q, struct slice **slices, uint32_t n, bool good) {
    SCOPED_MUTEX(&q->cache.lock);
    for (uint32_t i = 0; i < n; i++) {
        struct slice *s = slices[i];
        spin_lock(&s->lock);
        s->loading = false;
        if (good) {
            atomic_store_explicit(&s->used, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&s->seq, 1, memory_order_acq_rel);
        } else {
            hide(q, s);
            give_buffer(q, s);
        }
        spin_unlock(&s->lock);
    }
    pthread_cond_broadcast(&q->cache.loaded);
}

static int read_slices(struct qcow2 *q, uint64_t number, struct slice **slices, uint32_t n, struct img_error *err) {
    unsigned per_table_bits = q->l2_bits - q->slice_bits;
    uint64_t index = number >> per_table_bits, entry = l1_entry(q, index);
    uint64_t place = (number & ((1ull << per_table_bits) - 1)) * slice_bytes(q);
    const char *fault = l1_fault(q, entry);
    if (fault) {
        corrupt_found(q, "L1 entry %llu (0x%llx) %s", (unsigned long long)index, (unsigned long long)entry, fault);
        return img_fail(err, -EIO, "L1 entry %llu (0x%llx) of '%s' %s", (unsigned long long)index,
                        (unsigned long long)entry, q->image->path, fault);
    }
    size_t bytes = (size_t)n * slice_bytes(q);
    uint64_t *buffer = malloc(bytes);
    if (!buffer)
        return img_fail(err, -ENOMEM, "no memory for %zu bytes of L2 table", bytes);
    int r = storage_read(q->file, buffer, bytes, (entry & QCOW2_OFFSET_MASK) + place);
    if (r < 0)
        img_fail_errno(err, r, "could not read the L2 table at 0x%llx of '%s'",
                       (unsigned long long)(entry & QCOW2_OFFSET_MASK), q->image->path);
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        fill(q, slices[i], number + i, buffer + (size_t)i * slice_bytes(q) / 8);
        if (q->writable && !q->external)
            compare_counts(q, slices[i], number + i);
    }
    free(buffer);
    return r;
}

/* The rest of the table from `number` on, bounded; one slice for a lone miss of a large table is wasteful, so
 * neighbours come along while there are buffers that nobody uses. */
static uint32_t window(const struct qcow2 *q, uint64_t number) {
    uint64_t per_table = 1ull << (q->l2_bits - q->slice_bits);
    uint64_t rest = per_table - (number & (per_table - 1)), most = LOAD_BYTES / slice_bytes(q);
    return rest < most ? rest : most;
}

static int load_pinned(struct qcow2 *q, uint64_t number, struct img_error *err) {
    struct l2_cache *c = &q->cache;
    struct slice *slices[LOAD_BYTES / 512];

    pthread_mutex_lock(&c->lock);
    for (;;) {
        struct slice *s = directory_get(q, number);
        if (!s)
            break;
        if (!s->loading) {
            pthread_mutex_unlock(&c->lock);
            return 0;
        }
        pthread_cond_wait(&c->loaded, &c->lock);
    }
    uint32_t n = claim_slices(q, number, window(q, number), slices);
    pthread_mutex_unlock(&c->lock);
    if (!n)
        return IMG_WOULD_BLOCK;
    int r = read_slices(q, number, slices, n, err);
    publish(q, slices, n, r == 0);
    return r;
}

int l2_load(struct qcow2 *q, struct img_context *c, uint64_t number, struct img_error *err) {
    if (!(l1_entry(q, number >> (q->l2_bits - q->slice_bits)) & QCOW2_OFFSET_MASK))
        return 0;
    /* the plan keeps the table in place while it is read, whatever becomes of its L1 entry */
    struct img_plan pin = {.op = IMG_OP_READ};
    if (!plan_open(&q->image->epochs, c, &pin))
        return 0;
    int r = load_pinned(q, number, err);
    plan_close(&q->image->epochs, &pin);
    return r;
}

void l2_forget(struct qcow2 *q) {
    SCOPED_MUTEX(&q->cache.lock);
    for (uint32_t i = 0; i < q->cache.count; i++) {
        struct slice *s = q->cache.all[i];
        atomic_store(&s->used, 0);
        if (atomic_load(&s->tag) != SLICE_NONE && evict(q, s))
            give_buffer(q, s);
    }
}
