/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bitmaps.c - persistent bitmaps that the run makes, changes and checks; each is kept as a byte for each sector.
 *
 * MUST: the sector has changed for certain while the bitmap was enabled, since it was cleared. MAY: a request has named
 * it. The granule of a MUST is dirty, and a dirty granule has a MAY. Several threads may note changes at once; all else
 * is done while nobody writes. What is recorded is on the disk after each opening and after each edit, so there it is
 * compared; at the end by QEMU's reading too.
 */
#include "model.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAY = 1, MUST = 2 };

static uint8_t get(const struct own_bitmap *b, uint64_t sector) {
    return atomic_load_explicit(&b->sectors[sector], memory_order_relaxed);
}

static void set(struct own_bitmap *b, uint64_t sector, uint8_t what) {
    if ((get(b, sector) & what) != what)
        atomic_fetch_or_explicit(&b->sectors[sector], what, memory_order_relaxed);
}

static void name_of(const struct own_bitmap *b, char name[24]) {
    snprintf(name, 24, "bitmap%u", b->number);
}

bool bitmaps_are_there(const struct run *run) {
    for (unsigned i = 0; i < OWN_BITMAPS; i++)
        if (run->bitmaps[i].sectors)
            return true;
    return false;
}

/* ---- what the guest does ---------------------------------------------------------------------------- */

static void note(struct run *run, uint64_t start, uint64_t end, uint8_t what) {
    for (unsigned i = 0; i < OWN_BITMAPS; i++) {
        struct own_bitmap *b = &run->bitmaps[i];
        for (uint64_t s = start / SECTOR; b->sectors && b->enabled && s * SECTOR < end; s++)
            set(b, s, what);
    }
}

void bitmaps_changed(struct run *run, uint64_t offset, uint64_t length, bool certain) {
    if (length)
        note(run, offset, offset + length, certain ? MUST | MAY : MAY);
}

void bitmaps_cleared(struct run *run, struct range r) {
    struct shadow *s = &run->shadow;
    for (uint64_t at = r.start, next; at < r.end; at = next) {
        next = (at / SECTOR + 1) * SECTOR < r.end ? (at / SECTOR + 1) * SECTOR : r.end;
        if (!s->maybe[at / SECTOR] && !img_is_zero(s->bytes + at, next - at))
            note(run, at, next, MUST | MAY);
    }
}

void bitmaps_rewritten(struct run *run, struct range r, const uint8_t *now) {
    for (uint64_t at = r.start; at < r.end; at += SECTOR) {
        bool changed = !run->shadow.maybe[at / SECTOR] && memcmp(run->shadow.bytes + at, now + at, SECTOR) != 0;
        note(run, at, at + SECTOR, changed ? MUST | MAY : MAY);
    }
}

/* What is cut off is clean when it comes back, but for the rest of a granule. */
void bitmaps_resized(struct run *run, uint64_t size) {
    for (unsigned i = 0; i < OWN_BITMAPS; i++) {
        struct own_bitmap *b = &run->bitmaps[i];
        if (!b->sectors)
            continue;
        uint64_t last = (size - 1) / SECTOR,
                 granule_end = (size + b->granularity - 1) / b->granularity * b->granularity;
        for (uint64_t s = size / SECTOR; s < run->shadow.capacity / SECTOR; s++) {
            if (get(b, s) && s * SECTOR < granule_end)
                set(b, last, MAY);
            atomic_store_explicit(&b->sectors[s], 0, memory_order_relaxed);
        }
    }
}

/* ---- comparing -------------------------------------------------------------------------------------- */

/* The dirty sectors of a bitmap as the image says it; the caller's. */
static uint8_t *told_by(struct img *image, const char *name, uint64_t size) {
    struct img_error err = {0};
    uint8_t *told = must_allocate(size / SECTOR + 1);
    for (uint64_t at = 0, start, length; at < size; at = start + length) {
        if (img_bitmap_next(image, name, at, &start, &length, &err))
            model_fail("img_bitmap_next of %s at %llu: %s", name, (unsigned long long)at, err.text);
        if (length == 0)
            break;
        if (start < at || start + length > size)
            model_fail("img_bitmap_next of %s at %llu gives %llu+%llu", name, (unsigned long long)at,
                       (unsigned long long)start, (unsigned long long)length);
        memset(told + start / SECTOR, 1, (start + length + SECTOR - 1) / SECTOR - start / SECTOR);
    }
    return told;
}

static void compare(struct run *run, const struct own_bitmap *b) {
    char name[24];
    name_of(b, name);
    uint64_t size = run->shadow.size, per_granule = b->granularity / SECTOR;
    uint8_t *told = told_by(run->image, name, size);
    for (uint64_t first = 0; first * SECTOR < size; first += per_granule) {
        uint8_t all = 0;
        for (uint64_t s = first; s < first + per_granule && s * SECTOR < size; s++)
            all |= get(b, s);
        if (all & MUST && !told[first])
            model_fail("operation %llu: %s says nothing of a change in the granule at %llu",
                       (unsigned long long)run->operations, name, (unsigned long long)first * SECTOR);
        if (!all && told[first])
            model_fail("operation %llu: %s has a dirty granule at %llu, where nothing was changed",
                       (unsigned long long)run->operations, name, (unsigned long long)first * SECTOR);
    }
    free(told);
}

void bitmaps_check(struct run *run) {
    for (unsigned i = 0; i < OWN_BITMAPS; i++)
        if (run->bitmaps[i].sectors)
            compare(run, &run->bitmaps[i]);
}

/* QEMU merges it into one of its own, which must be the same. */
static void compare_with_qemu(struct run *run, const struct own_bitmap *b) {
    const struct layer *top = &run->config.layer[0];
    char name[24], theirs[32];
    struct args a = {0};
    name_of(b, name);
    snprintf(theirs, sizeof(theirs), "theirs%u", b->number);
    args_add(&a, "qemu-img");
    args_add(&a, "bitmap");
    args_add(&a, "--add");
    args_add(&a, "--disable");
    args_add(&a, "--merge");
    args_add(&a, "%s", name);
    args_add(&a, "-g");
    args_add(&a, "%llu", (unsigned long long)b->granularity);
    args_format(&a, top);
    args_file(&a, top);
    args_add(&a, "%s", theirs);
    must_run(a.argv);
    args_free(&a);
    struct img_open_options options = {.flags = IMG_OPEN_INFO};
    struct img_error err = {0};
    struct img *image;
    if (img_open(top->name, &options, &image, &err))
        model_fail("img_open after QEMU's merge: %s", err.text);
    uint8_t *ours = told_by(image, name, run->shadow.size), *other = told_by(image, theirs, run->shadow.size);
    if (memcmp(ours, other, run->shadow.size / SECTOR))
        model_fail("QEMU reads %s differently", name);
    img_close(image, NULL);
    free(ours);
    free(other);
}

void bitmaps_finish(struct run *run) {
    for (unsigned i = 0; i < OWN_BITMAPS; i++) {
        if (run->bitmaps[i].sectors)
            compare_with_qemu(run, &run->bitmaps[i]);
        free((void *)run->bitmaps[i].sectors);
        run->bitmaps[i].sectors = NULL;
    }
}

/* ---- edits ------------------------------------------------------------------------------------------ */

static void must(struct run *run, int rc, const char *what, const struct own_bitmap *b, const struct img_error *err) {
    model_note("%llu: %s bitmap%u", (unsigned long long)run->operations, what, b->number);
    if (rc)
        model_fail("%s of bitmap%u: %s", what, b->number, err->text);
}

static void add(struct run *run, struct own_bitmap *b) {
    struct img_error err = {0};
    char name[24];
    b->number = ++run->bitmaps_made;
    b->granularity = SECTOR << rng_below(&run->rng, 9);
    b->enabled = !rng_one_in(&run->rng, 4);
    b->sectors = must_allocate(run->shadow.capacity / SECTOR + 1);
    name_of(b, name);
    must(run, img_bitmap_add(run->image, name, b->granularity, b->enabled, &err), "making", b, &err);
}

static void drop(struct run *run, struct own_bitmap *b, const char *name) {
    struct img_error err = {0};
    must(run, img_bitmap_remove(run->image, name, &err), "removal", b, &err);
    free((void *)b->sectors);
    b->sectors = NULL;
}

static void clear(struct run *run, struct own_bitmap *b, const char *name) {
    struct img_error err = {0};
    must(run, img_bitmap_clear(run->image, name, &err), "clearing", b, &err);
    memset((void *)b->sectors, 0, run->shadow.capacity / SECTOR + 1);
}

/* A granule that is dirty in part is dirty as a whole. */
static void merge(struct run *run, struct own_bitmap *b, const char *name, const struct own_bitmap *from) {
    struct img_error err = {0};
    char source[24];
    uint64_t per_granule = from->granularity / SECTOR, sectors = run->shadow.size / SECTOR;
    name_of(from, source);
    must(run, img_bitmap_merge(run->image, name, run->image, source, &err), "merging into", b, &err);
    for (uint64_t s = 0; s < sectors; s++) {
        uint64_t first = s / per_granule * per_granule;
        set(b, s, get(from, s));
        for (uint64_t i = first; get(from, s) && i < first + per_granule && i < sectors; i++)
            set(b, i, MAY);
    }
}

void bitmaps_start(struct run *run) {
    if (run->config.bitmaps && !run->bitmaps_made)
        add(run, &run->bitmaps[0]);
}

void op_bitmap(struct run *run) {
    unsigned which = (unsigned)rng_below(&run->rng, OWN_BITMAPS);
    unsigned next = (which + 1 + (unsigned)rng_below(&run->rng, OWN_BITMAPS - 1)) % OWN_BITMAPS;
    struct own_bitmap *b = &run->bitmaps[which], *other = &run->bitmaps[next];
    struct img_error err = {0};
    unsigned dice = (unsigned)rng_below(&run->rng, 8);
    char name[24];
    flow_collect(run);
    name_of(b, name);
    if (!b->sectors)
        add(run, b);
    else if (dice == 0)
        drop(run, b, name);
    else if (dice == 1)
        clear(run, b, name);
    else if (dice < 5 && other->sectors)
        merge(run, b, name, other);
    else {
        b->enabled = !b->enabled;
        must(run, img_bitmap_set_enabled(run->image, name, b->enabled, &err), "enabling", b, &err);
    }
    bitmaps_check(run);
}
