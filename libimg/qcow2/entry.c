/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* entry.c - what an L2 entry says, whether it may say so, and which host clusters it must not name.
 *
 * An entry is one or (extended) two words. Everything here is arithmetic on them; entries are validated once, when
 * their slice is loaded, by entry_fault. The set of metadata clusters makes the overlap check of a data write free:
 * an entry that names one is found at load, before anything can be written through it.
 */
#include "qcow2.h"

#include "../hash.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALLOCATED(bitmap) ((uint32_t)(bitmap))
#define ZEROES(bitmap) ((uint32_t)((bitmap) >> 32))

uint32_t subcluster_mask(const struct qcow2 *q, uint64_t from, uint64_t to) {
    unsigned first = from >> q->subcluster_bits, last = (to - 1) >> q->subcluster_bits;
    uint64_t below_end = last == 31 ? 0xffffffffull : (1ull << (last + 1)) - 1;
    return below_end & ~((1ull << first) - 1);
}

bool entry_has_host(const struct qcow2 *q, struct l2_entry e) {
    if (e.word & QCOW2_COMPRESSED)
        return false;
    return entry_host(e) || (q->external && (e.word & QCOW2_COPIED));
}

static enum entry_kind subcluster_kind(struct l2_entry e, unsigned sub) {
    if (ALLOCATED(e.bitmap) >> sub & 1)
        return ENTRY_STANDARD;
    return ZEROES(e.bitmap) >> sub & 1 ? ENTRY_ZERO : ENTRY_UNALLOCATED;
}

enum entry_kind entry_kind_at(const struct qcow2 *q, struct l2_entry e, uint64_t from, uint64_t *to) {
    if (e.word & QCOW2_COMPRESSED)
        return ENTRY_COMPRESSED;
    if (!q->extended) {
        if (q->v3 && (e.word & QCOW2_ZERO))
            return ENTRY_ZERO;
        return entry_has_host(q, e) ? ENTRY_STANDARD : ENTRY_UNALLOCATED;
    }
    unsigned sub = from >> q->subcluster_bits;
    enum entry_kind kind = subcluster_kind(e, sub);
    uint64_t end = (uint64_t)(sub + 1) << q->subcluster_bits;
    while (end < *to && subcluster_kind(e, ++sub) == kind)
        end += 1ull << q->subcluster_bits;
    if (end < *to)
        *to = end;
    return kind;
}

bool entry_overwritable(const struct qcow2 *q, struct l2_entry e, uint64_t from, uint64_t to) {
    if (!(e.word & QCOW2_COPIED) || !entry_has_host(q, e))
        return false;
    if (!q->extended)
        return !(e.word & QCOW2_ZERO);
    uint32_t mask = subcluster_mask(q, from, to);
    return (ALLOCATED(e.bitmap) & mask) == mask;
}

void compressed_clusters(const struct qcow2 *q, uint64_t word, uint64_t *first, uint64_t *count) {
    uint64_t host = qcow2_compressed_offset(word, q->cluster_bits);
    uint64_t last = host + qcow2_compressed_bytes(word, q->cluster_bits) - 1;
    *first = cluster_index(q, host);
    *count = cluster_index(q, last) - *first + 1;
}

static const char *compressed_fault(struct qcow2 *q, uint64_t word) {
    if (q->external)
        return "is compressed although the data is in an external file";
    uint64_t host = qcow2_compressed_offset(word, q->cluster_bits), first, count;
    if (host >= storage_size(q->file))
        return "names compressed data past the end of the file";
    compressed_clusters(q, word, &first, &count);
    for (uint64_t i = 0; i < count; i++)
        if (metadata_has(q, first + i))
            return "names compressed data that lies on metadata";
    return NULL;
}

const char *entry_fault(struct qcow2 *q, struct l2_entry e, uint64_t cluster) {
    if (e.word & QCOW2_COMPRESSED)
        return compressed_fault(q, e.word);
    uint64_t reserved = QCOW2_L2_RESERVED | (!q->v3 || q->extended ? QCOW2_ZERO : 0);
    if (e.word & reserved)
        return "has reserved bits set";
    if (q->extended && (ALLOCATED(e.bitmap) & ZEROES(e.bitmap)))
        return "has a subcluster that is both allocated and zero";
    if (!entry_has_host(q, e))
        return q->extended && ALLOCATED(e.bitmap) ? "has allocated subclusters but no host cluster" : NULL;
    uint64_t host = entry_host(e);
    if (q->external)
        return host == cluster << q->cluster_bits ? NULL : "names another place of the data file than the guest's";
    if (in_cluster(q, host))
        return "names a host cluster that is not aligned";
    if (host >= storage_size(q->file))
        return "names a host cluster past the end of the file";
    if (metadata_has(q, cluster_index(q, host)))
        return "names a host cluster that holds metadata";
    return NULL;
}

/* ---- the set of metadata clusters: open addressing, replaced when three quarters full ---- */

struct cluster_set {
    struct cluster_set *older; /* readers may still look there; freed with the image */
    uint64_t mask, used, factor;
    _Atomic uint64_t slot[]; /* cluster + 2 */
};
enum { SLOT_EMPTY = 0, SLOT_REMOVED = 1 };

static struct cluster_set *set_new(uint64_t slots, struct cluster_set *older) {
    struct cluster_set *set = calloc(1, sizeof *set + slots * sizeof set->slot[0]);
    if (set) {
        set->mask = slots - 1;
        set->older = older;
        if (older)
            set->factor = older->factor;
        else
            set->factor = hash_factor(set);
    }
    return set;
}

static void set_insert(struct cluster_set *set, uint64_t value) {
    uint64_t i = hash_number(set->factor, value - 2) & set->mask;
    while (atomic_load_explicit(&set->slot[i], memory_order_relaxed) > SLOT_REMOVED)
        i = (i + 1) & set->mask;
    if (atomic_load_explicit(&set->slot[i], memory_order_relaxed) == SLOT_EMPTY)
        set->used++;
    atomic_store_explicit(&set->slot[i], value, memory_order_release);
}

static _Atomic uint64_t *set_find(struct cluster_set *set, uint64_t cluster) {
    for (uint64_t i = hash_number(set->factor, cluster) & set->mask;; i = (i + 1) & set->mask) {
        uint64_t value = atomic_load_explicit(&set->slot[i], memory_order_acquire);
        if (value == SLOT_EMPTY)
            return NULL;
        if (value == cluster + 2)
            return &set->slot[i];
    }
}

int metadata_init(struct qcow2 *q) {
    atomic_store(&q->meta, set_new(256, NULL));
    return atomic_load(&q->meta) ? 0 : -ENOMEM;
}

void metadata_destroy(struct qcow2 *q) {
    struct cluster_set *set = atomic_load(&q->meta);
    while (set) {
        struct cluster_set *older = set->older;
        free(set);
        set = older;
    }
    atomic_store(&q->meta, NULL);
}

bool metadata_has(struct qcow2 *q, uint64_t cluster) {
    return set_find(atomic_load_explicit(&q->meta, memory_order_acquire), cluster) != NULL;
}

bool metadata_add(struct qcow2 *q, uint64_t cluster) {
    SCOPED_MUTEX(&q->meta_lock);
    struct cluster_set *set = atomic_load(&q->meta);
    if (set_find(set, cluster))
        return false;
    if (set->used * 4 >= set->mask * 3) {
        struct cluster_set *larger = set_new((set->mask + 1) * 2, set);
        if (!larger)
            return true; /* the overlap check loses this cluster; the counts still protect it */
        for (uint64_t i = 0; i <= set->mask; i++) {
            uint64_t value = atomic_load(&set->slot[i]);
            if (value > SLOT_REMOVED)
                set_insert(larger, value);
        }
        atomic_store_explicit(&q->meta, larger, memory_order_release);
        set = larger;
    }
    set_insert(set, cluster + 2);
    return true;
}

void metadata_remove(struct qcow2 *q, uint64_t cluster) {
    if (!metadata_has(q, cluster))
        return;
    SCOPED_MUTEX(&q->meta_lock);
    _Atomic uint64_t *slot = set_find(atomic_load(&q->meta), cluster);
    if (slot)
        atomic_store_explicit(slot, SLOT_REMOVED, memory_order_release);
}
