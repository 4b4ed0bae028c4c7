/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* record.c - bitmaps that record what the guest changes while the image is open.
 *
 * Before the first change of guest data every enabled bitmap is marked in use on the disk. From then on the granules of
 * each change become bits in memory, in chunks that come into being when they are needed: old bits stay on the disk.
 * At the end both are put together in new tables, and one header sector makes the bitmaps valid again. Whoever opens
 * the image after a crash finds them in use and does not believe them.
 *
 * Bits are set while the plan of the change is open, so who closes the gate finds them all. Threads share chunks: a bit
 * is set by an atomic operation, and only where it is not set yet; no lock. Where memory cannot be had, or more than a
 * limit would be needed, the bitmap is lost: it records no more and stays in use. So does one whose table is damaged.
 */
#include "bitmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_WORDS 512u
#define CHUNK_BITS (CHUNK_WORDS * 64u)
#define MEMORY_LIMIT (256ull << 20) /* of all bitmaps of an image */

struct bitmap_record {
    unsigned granularity_bits;
    atomic_bool lost;
    uint64_t chunks;
    _Atomic(_Atomic uint64_t *) chunk[]; /* NULL: nothing is recorded there; `full`: everything */
};

struct recorder {
    _Atomic uint64_t bytes; /* of memory */
    size_t count;
    struct bitmap_record *list[];
};

static _Atomic uint64_t full[1];

/* ---- recording ---- */

static void *get_memory(struct recorder *r, size_t size) {
    bool fits = atomic_fetch_add_explicit(&r->bytes, size, memory_order_relaxed) + size <= MEMORY_LIMIT;
    void *memory = fits ? calloc(1, size) : NULL;
    if (!memory)
        atomic_fetch_sub_explicit(&r->bytes, size, memory_order_relaxed);
    return memory;
}

/* The chunk, which may be `full`; NULL: there is no memory. */
static _Atomic uint64_t *get_chunk(struct recorder *r, struct bitmap_record *b, uint64_t index, bool whole) {
    _Atomic uint64_t *there = atomic_load_explicit(&b->chunk[index], memory_order_acquire), *fresh;
    if (there)
        return there;
    fresh = whole ? full : get_memory(r, CHUNK_WORDS * sizeof *fresh);
    if (!fresh)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&b->chunk[index], &there, fresh, memory_order_acq_rel,
                                                memory_order_acquire))
        return fresh;
    if (fresh != full)
        free((void *)fresh);
    return there;
}

/* The bits of the word at `word` that are in [from, to). */
static uint64_t word_mask(uint64_t word, uint64_t from, uint64_t to) {
    uint64_t mask = UINT64_MAX, start = word * 64;
    if (from > start)
        mask &= UINT64_MAX << (from - start);
    if (to < start + 64)
        mask &= UINT64_MAX >> (start + 64 - to);
    return mask;
}

/* Bits [from, to) of a chunk. */
static void set_bits(_Atomic uint64_t *chunk, uint32_t from, uint32_t to) {
    for (uint32_t word = from / 64; word * 64 < to; word++) {
        uint64_t mask = word_mask(word, from, to);
        if ((atomic_load_explicit(&chunk[word], memory_order_relaxed) & mask) != mask)
            atomic_fetch_or_explicit(&chunk[word], mask, memory_order_relaxed);
    }
}

static void record(struct recorder *r, struct bitmap_record *b, uint64_t offset, uint64_t length) {
    uint64_t from = offset >> b->granularity_bits, to = ((offset + length - 1) >> b->granularity_bits) + 1;
    for (uint64_t end; from < to; from = end) {
        uint64_t index = from / CHUNK_BITS, start = index * CHUNK_BITS;
        end = to < start + CHUNK_BITS ? to : start + CHUNK_BITS;
        if (index >= b->chunks)
            return;
        _Atomic uint64_t *chunk = get_chunk(r, b, index, end - from == CHUNK_BITS);
        if (!chunk) {
            atomic_store_explicit(&b->lost, true, memory_order_relaxed);
            return;
        }
        if (chunk != full)
            set_bits(chunk, (uint32_t)(from - start), (uint32_t)(end - start));
    }
}

void record_change(struct recorder *r, uint64_t offset, uint64_t length) {
    for (size_t i = 0; length && i < r->count; i++)
        if (!atomic_load_explicit(&r->list[i]->lost, memory_order_relaxed))
            record(r, r->list[i], offset, length);
}

/* ---- beginning ---- */

static struct bitmap_record *new_record(struct qcow2 *q, struct recorder *r, const struct qcow2_bitmap *b) {
    uint64_t chunks = (bitmap_bits(b, q->header.size) + CHUNK_BITS - 1) / CHUNK_BITS;
    struct bitmap_record *record = NULL;
    if (bitmap_usable(q, b, NULL) == 0)
        record = get_memory(r, sizeof *record + chunks * sizeof record->chunk[0]);
    if (record) {
        record->granularity_bits = b->granularity_bits;
        record->chunks = chunks;
    }
    return record;
}

/* A recorder for those that are valid and enabled; without memory for it there is none. */
static struct recorder *new_recorder(struct qcow2 *q) {
    struct recorder *r = calloc(1, sizeof *r + q->bitmaps.count * sizeof r->list[0]);
    for (size_t i = 0; r && i < q->bitmaps.count; i++) {
        struct qcow2_bitmap *b = &q->bitmaps.list[i];
        if (!(b->flags & QCOW2_BITMAP_AUTO) || b->flags & QCOW2_BITMAP_IN_USE)
            continue;
        b->record = new_record(q, r, b);
        if (b->record)
            r->list[r->count++] = b->record;
    }
    if (r && r->count == 0) {
        free(r);
        r = NULL;
    }
    return r;
}

int record_begin(struct qcow2 *q, struct img_error *err) {
    struct recorder *recorder = atomic_load(&q->recorder) ? NULL : new_recorder(q);
    int r = bitmaps_mark_in_use(q->file, &q->bitmaps, err);
    if (recorder)
        atomic_store_explicit(&q->recorder, recorder, memory_order_release);
    return r;
}

void record_end(struct qcow2 *q) {
    struct recorder *r = atomic_exchange(&q->recorder, NULL);
    for (size_t i = 0; i < q->bitmaps.count; i++)
        q->bitmaps.list[i].record = NULL;
    for (size_t i = 0; r && i < r->count; i++) {
        struct bitmap_record *b = r->list[i];
        for (uint64_t k = 0; k < b->chunks; k++)
            if (b->chunk[k] != full)
                free((void *)b->chunk[k]);
        free(b);
    }
    free(r);
}

/* ---- storing ---- */

/* The recorded bits of one word, those in [from, to) of all. */
static uint64_t recorded(const struct bitmap_record *b, uint64_t word, uint64_t from, uint64_t to) {
    _Atomic uint64_t *chunk = atomic_load(&b->chunk[word / CHUNK_WORDS]);
    if (!chunk)
        return 0;
    return (chunk == full ? UINT64_MAX : atomic_load(&chunk[word % CHUNK_WORDS])) & word_mask(word, from, to);
}

static int any_recorded(void *opaque, uint64_t first, uint64_t count, struct img_error *err) {
    const struct bitmap_record *b = opaque;
    uint64_t to = first + count;
    (void)err;
    for (uint64_t word = first / 64; word * 64 < to; word++) {
        if (!atomic_load(&b->chunk[word / CHUNK_WORDS]))
            word |= CHUNK_WORDS - 1; /* nothing in all of the chunk */
        else if (recorded(b, word, first, to))
            return 1;
    }
    return 0;
}

static int add_recorded(void *opaque, uint64_t first, uint64_t count, uint8_t *data, struct img_error *err) {
    const struct bitmap_record *b = opaque;
    uint64_t to = first + count;
    (void)err;
    for (uint64_t word = first / 64; word * 64 < to; word++) {
        uint64_t bits = htole64(recorded(b, word, first, to)), there;
        uint8_t *at = data + (word * 64 - first) / 8;
        memcpy(&there, at, sizeof there);
        there |= bits;
        memcpy(at, &there, sizeof there);
    }
    return 0;
}

static int store(struct bitmap_change *c, struct qcow2_bitmap *b, struct img_error *err) {
    struct bitmap_addition addition = {any_recorded, add_recorded, b->record};
    uint64_t bits = bitmap_bits(b, c->size);
    int r = 0;
    if (bits && any_recorded(b->record, 0, bits, NULL))
        r = bitmap_write_table(c, b, b, &addition, err);
    b->flags &= ~QCOW2_BITMAP_IN_USE;
    b->record = NULL;
    return r;
}

int record_store(struct qcow2 *q, struct img_error *err) {
    struct recorder *recorder = atomic_load(&q->recorder);
    struct bitmap_change c;
    if (!recorder) {
        atomic_store(&q->changed, false);
        return 0;
    }
    int r = writes_allowed(q, err);
    if (r == 0)
        r = bitmap_change_begin(&c, q, err);
    if (r != 0)
        return r;
    for (size_t i = 0; r == 0 && i < c.next.count; i++) {
        struct qcow2_bitmap *b = &c.next.list[i];
        if (b->record && !atomic_load(&b->record->lost) && bitmap_table_is_sound(q, b))
            r = store(&c, b, err);
    }
    r = bitmap_change_end(&c, r, err);
    if (r < 0)
        return img_prefix(err, r, "Lost persistent bitmaps of '%s': ", q->image->path);
    record_end(q);
    atomic_store(&q->changed, false);
    return 0;
}
