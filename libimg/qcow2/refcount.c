/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* refcount.c - counts in memory, in pieces of 4 KiB.
 *
 * Counts rise in the cache before anything that needs them is linked, and fall only when what let go is durable. So
 * the cache never holds anything that may not be on the disk: a dirty piece may be written at any time and in any
 * order, and eviction writes it like a round does.
 *
 * Two mutexes: `io` is held while pieces are read or written, `lock` for the counts themselves; a piece is copied under
 * `lock` and written under `io` alone, so two writes of a piece cannot pass each other.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_NONE UINT64_MAX

/* ---- widths (specification: "Refcounts"; below 8 bits the lowest bits come first) ---- */

uint64_t refcount_get_raw(const void *block, unsigned order, uint64_t index) {
    const uint8_t *p = block;
    if (order < 3)
        return p[index >> (3 - order)] >> ((index & ((8u >> order) - 1)) << order) & ((1u << (1u << order)) - 1);
    uint64_t value = 0;
    for (unsigned i = 0, bytes = 1u << (order - 3); i < bytes; i++)
        value = value << 8 | p[(index << (order - 3)) + i];
    return value;
}

void refcount_put_raw(void *block, unsigned order, uint64_t index, uint64_t count) {
    uint8_t *p = block;
    if (order < 3) {
        unsigned shift = (index & ((8u >> order) - 1)) << order, mask = (1u << (1u << order)) - 1;
        uint8_t *byte = &p[index >> (3 - order)];
        *byte = (*byte & ~(mask << shift)) | count << shift;
        return;
    }
    for (unsigned bytes = 1u << (order - 3), i = bytes; i-- > 0; count >>= 8)
        p[(index << (order - 3)) + i] = count;
}

/* ---- set-up ---- */

static int read_table(struct qcow2 *q, struct img_error *err) {
    struct refcounts *rc = &q->refcounts;
    uint64_t bytes = (uint64_t)q->header.refcount_table_clusters << q->cluster_bits;
    rc->table_entries = bytes / 8;
    rc->table = calloc(rc->table_entries, 8);
    rc->table_dirty = calloc(bytes / 512 / 64 + 1, 8);
    if (!rc->table || !rc->table_dirty)
        return img_fail(err, -ENOMEM, "no memory for the refcount table of %llu bytes", (unsigned long long)bytes);
    int r = storage_read(q->file, rc->table, bytes, q->header.refcount_table_offset);
    if (r < 0)
        return img_fail_errno(err, r, "could not read the refcount table of '%s'", q->image->path);
    for (uint64_t i = 0; i < rc->table_entries; i++) {
        uint64_t entry = rc->table[i] = be64toh(rc->table[i]);
        if (!entry)
            continue;
        if (entry & QCOW2_REFTABLE_RESERVED || in_cluster(q, entry) || entry >= storage_size(q->file))
            corrupt_found(q, "refcount table entry %llu (0x%llx) is misaligned or past the end of the file",
                          (unsigned long long)i, (unsigned long long)entry);
        else if (!metadata_add(q, cluster_index(q, entry)))
            corrupt_found(q, "refcount table entry %llu (0x%llx) names a cluster that holds other metadata",
                          (unsigned long long)i, (unsigned long long)entry);
    }
    return 0;
}

int refcounts_init(struct qcow2 *q, uint64_t bytes, struct img_error *err) {
    struct refcounts *rc = &q->refcounts;
    unsigned order = q->header.refcount_order;
    rc->per_block = q->cluster_size * 8 >> order;
    rc->max = order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
    rc->piece_bytes = q->cluster_size < 4096 ? q->cluster_size : 4096;
    rc->pieces_per_block = q->cluster_size / rc->piece_bytes;
    rc->per_piece = rc->piece_bytes * 8 >> order;
    rc->capacity = bytes / rc->piece_bytes < 16         ? 16
                   : bytes / rc->piece_bytes > 1u << 22 ? 1u << 22
                                                        : bytes / rc->piece_bytes;
    rc->buckets = rc->capacity;
    rc->hash = calloc(rc->buckets, sizeof *rc->hash);
    rc->all = calloc(rc->capacity, sizeof *rc->all);
    if (!rc->hash || !rc->all)
        return img_fail(err, -ENOMEM, "no memory for a refcount cache of %llu bytes", (unsigned long long)bytes);
    return read_table(q, err);
}

void refcounts_forget(struct qcow2 *q) {
    struct refcounts *rc = &q->refcounts;
    for (uint32_t i = 0; i < rc->count; i++)
        free(rc->all[i]);
    free(rc->all);
    free(rc->hash);
    free(rc->table);
    free(rc->table_dirty);
    rc->all = NULL;
    rc->hash = NULL;
    rc->table = rc->table_dirty = NULL;
    rc->count = rc->hand = rc->ndirty = 0;
    rc->table_entries = 0;
    rc->any_table_dirty = false;
}

void refcounts_destroy(struct qcow2 *q) {
    refcounts_forget(q);
}

/* ---- pieces ---- */

static uint64_t piece_of(const struct refcounts *rc, uint64_t cluster) {
    return cluster / rc->per_piece;
}

static struct rc_piece *find(struct refcounts *rc, uint64_t number) {
    for (struct rc_piece *p = rc->hash[number % rc->buckets]; p; p = p->chain)
        if (p->number == number)
            return p;
    return NULL;
}

static void unchain(struct refcounts *rc, struct rc_piece *piece) {
    struct rc_piece **at = &rc->hash[piece->number % rc->buckets];
    while (*at != piece)
        at = &(*at)->chain;
    *at = piece->chain;
    piece->number = PIECE_NONE;
}

static uint64_t piece_place(const struct refcounts *rc, uint64_t number) {
    return rc->table[number / rc->pieces_per_block] + number % rc->pieces_per_block * rc->piece_bytes;
}

/* `io` held, `lock` not: writes one dirty piece. */
static int write_piece(struct qcow2 *q, struct rc_piece *piece) {
    struct refcounts *rc = &q->refcounts;
    uint8_t copy[4096];
    pthread_mutex_lock(&rc->lock);
    uint64_t place = piece_place(rc, piece->number);
    memcpy(copy, piece->data, rc->piece_bytes);
    piece->dirty = false;
    rc->ndirty--;
    pthread_mutex_unlock(&rc->lock);
    int r = storage_write(q->file, copy, rc->piece_bytes, place);
    if (r < 0) {
        SCOPED_MUTEX(&rc->lock);
        if (!piece->dirty) {
            piece->dirty = true;
            rc->ndirty++;
        }
    }
    return r;
}

/* `io` held: a piece that belongs to nothing, in no chain; NULL and *error on failure. */
static struct rc_piece *take_piece(struct qcow2 *q, int *error) {
    struct refcounts *rc = &q->refcounts;
    *error = -ENOMEM;
    if (rc->count < rc->capacity) {
        struct rc_piece *piece = malloc(sizeof *piece + rc->piece_bytes);
        if (piece) {
            piece->number = PIECE_NONE;
            piece->dirty = false;
            rc->all[rc->count++] = piece;
            return piece;
        }
    }
    for (uint32_t tries = 0; tries < 3 * rc->count; tries++) {
        rc->hand = (rc->hand + 1) % rc->count;
        struct rc_piece *piece = rc->all[rc->hand];
        pthread_mutex_lock(&rc->lock);
        bool busy = piece->used, dirty = piece->dirty;
        piece->used = false;
        if (!busy && !dirty && piece->number != PIECE_NONE)
            unchain(rc, piece);
        pthread_mutex_unlock(&rc->lock);
        if (busy)
            continue;
        if (!dirty)
            return piece;
        if (atomic_load(&q->failed))
            continue; /* nothing but reads reaches the file */
        int r = write_piece(q, piece);
        if (r < 0) {
            metadata_write_failed(q, r, "the host could not write refcounts");
            *error = r;
            return NULL;
        }
    }
    return NULL;
}

int refcount_load(struct qcow2 *q, uint64_t cluster, struct img_error *err) {
    struct refcounts *rc = &q->refcounts;
    uint64_t number = piece_of(rc, cluster);
    SCOPED_MUTEX(&rc->io);
    pthread_mutex_lock(&rc->lock);
    bool there = !refcount_has_block(q, cluster) || find(rc, number);
    uint64_t place = there ? 0 : piece_place(rc, number);
    pthread_mutex_unlock(&rc->lock);
    if (there)
        return 0;
    if (place & QCOW2_REFTABLE_RESERVED || place >= storage_size(q->file))
        return img_fail(err, -EIO, "the refcount block at 0x%llx of '%s' is misaligned or past the end of the file",
                        (unsigned long long)place, q->image->path);
    int r;
    struct rc_piece *piece = take_piece(q, &r);
    if (!piece)
        return img_fail_errno(err, r, "could not make room in the refcount cache of '%s'", q->image->path);
    r = storage_read(q->file, piece->data, rc->piece_bytes, place);
    if (r < 0)
        return img_fail_errno(err, r, "could not read the refcount block at 0x%llx of '%s'", (unsigned long long)place,
                              q->image->path);
    SCOPED_MUTEX(&rc->lock);
    piece->number = number;
    piece->used = true;
    piece->chain = rc->hash[number % rc->buckets];
    rc->hash[number % rc->buckets] = piece;
    return 0;
}

bool refcount_peek(struct qcow2 *q, uint64_t cluster, uint64_t *count) {
    struct refcounts *rc = &q->refcounts;
    *count = 0;
    if (!refcount_has_block(q, cluster))
        return true;
    struct rc_piece *piece = find(rc, piece_of(rc, cluster));
    if (!piece)
        return false;
    piece->used = true;
    *count = refcount_get_raw(piece->data, q->header.refcount_order, cluster % rc->per_piece);
    return true;
}

void refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count) {
    struct refcounts *rc = &q->refcounts;
    struct rc_piece *piece = find(rc, piece_of(rc, cluster));
    if (!piece)
        return; /* cannot be: the caller looked it up under the same lock */
    refcount_put_raw(piece->data, q->header.refcount_order, cluster % rc->per_piece, count);
    piece->used = true;
    if (!piece->dirty) {
        piece->dirty = true;
        rc->ndirty++;
    }
}

/* ---- writing ---- */

static int write_table_sectors(struct qcow2 *q) {
    struct refcounts *rc = &q->refcounts;
    uint64_t sectors = rc->table_entries / 64;
    for (uint64_t i = 0; i < sectors; i++) {
        uint64_t sector[64];
        if (!(rc->table_dirty[i / 64] >> i % 64 & 1))
            continue;
        pthread_mutex_lock(&rc->lock);
        for (unsigned k = 0; k < 64; k++)
            sector[k] = htobe64(rc->table[i * 64 + k]);
        pthread_mutex_unlock(&rc->lock);
        int r = storage_write(q->file, sector, sizeof sector, q->header.refcount_table_offset + i * 512);
        if (r < 0)
            return r;
        rc->table_dirty[i / 64] &= ~(1ull << i % 64);
    }
    rc->any_table_dirty = false;
    return 0;
}

static int by_place(const void *a, const void *b) {
    const struct rc_piece *const *x = a, *const *y = b;
    return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

static int write_dirty(struct qcow2 *q) {
    struct refcounts *rc = &q->refcounts;
    SCOPED_MUTEX(&rc->io);
    pthread_mutex_lock(&rc->lock);
    bool any = rc->ndirty;
    pthread_mutex_unlock(&rc->lock);
    if (any) {
        /* in the order of the file, so that the host sees a stream */
        qsort(rc->all, rc->count, sizeof *rc->all, by_place);
        for (uint32_t i = 0; i < rc->count; i++) {
            pthread_mutex_lock(&rc->lock);
            bool dirty = rc->all[i]->dirty;
            pthread_mutex_unlock(&rc->lock);
            int r = dirty ? write_piece(q, rc->all[i]) : 0;
            if (r < 0)
                return r;
        }
    }
    return rc->any_table_dirty ? write_table_sectors(q) : 0;
}

int refcounts_write(struct qcow2 *q) {
    int r = write_dirty(q);
    if (r < 0)
        metadata_write_failed(q, r, "the host could not write refcounts");
    return r;
}

/* ---- counts fall ---- */

/* One cluster loses a reference. *free: it was the last one. */
static int decrement(struct qcow2 *q, uint64_t cluster, struct img_error *err) {
    for (int tries = 0;; tries++) {
        uint64_t count;
        int r = refcount_load(q, cluster, err);
        if (r < 0)
            return r;
        SCOPED_MUTEX(&q->refcounts.lock);
        if (!refcount_peek(q, cluster, &count))
            continue; /* evicted in between */
        if (!count) {
            corrupt_found(q, "host cluster at 0x%llx lost a reference but its count was 0",
                          (unsigned long long)cluster << q->cluster_bits);
            return 0;
        }
        refcount_set(q, cluster, count - 1);
        return count == 1;
    }
}

static int is_last(struct qcow2 *q, uint64_t cluster, struct img_error *err) {
    for (;;) {
        uint64_t count;
        int r = refcount_load(q, cluster, err);
        if (r < 0)
            return r;
        SCOPED_MUTEX(&q->refcounts.lock);
        if (refcount_peek(q, cluster, &count))
            return count == 1;
    }
}

/* The first `n` clusters of the run count one each and lose it. They go to the free list as far as that went well. */
static int release_last(struct qcow2 *q, struct freed_run *run, uint64_t n, bool zero, struct img_error *err) {
    uint64_t first = run->cluster, done = 0;
    int r = 0;
    while (done < n && (r = decrement(q, first + done, err)) >= 0) {
        metadata_remove(q, first + done);
        done++;
    }
    run->cluster += done;
    run->count -= done;
    if (done)
        alloc_free(q, first, done, zero);
    return r < 0 ? r : 0;
}

int refcount_release(struct qcow2 *q, struct freed_run *run, bool punch, struct img_error *err) {
    while (run->count) {
        /* neighbours that become free together are punched together, before their counts fall */
        uint64_t n = 0, at = run->cluster << q->cluster_bits;
        int r = 0;
        while (n < run->count && (r = is_last(q, run->cluster + n, err)) > 0)
            n++;
        if (r < 0)
            return r;
        if (n) {
            bool zero =
                punch && storage_size(q->file) > at && q->file->ops->punch(q->file, at, n << q->cluster_bits) == 0;
            if ((r = release_last(q, run, n, zero && !q->file->fixed_size, err)) < 0)
                return r;
            continue;
        }
        if ((r = decrement(q, run->cluster, err)) < 0)
            return r;
        if (r > 0) /* another release made it the last one in between */
            alloc_free(q, run->cluster, 1, false);
        run->cluster++;
        run->count--;
    }
    return 0;
}
