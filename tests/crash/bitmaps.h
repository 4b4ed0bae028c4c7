/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bitmaps.h - which of the guest's changes a bitmap must know at a power cut.
 *
 * A span is a time in which a bitmap surely recorded: from the moment at which its making, clearing or enabling was
 * done to that at which its clearing, disabling or removal was asked for. A merge gives a bitmap the spans of another
 * one. What was asked for inside a span and shows on the disk must be dirty in the bitmap, if it calls itself valid.
 */
#ifndef CRASH_BITMAPS_H
#define CRASH_BITMAPS_H

#include "img.h"
#include "util.h"

struct judge;
struct world;

enum { BITMAPS_MAX = 24, BITMAP_SPANS = 24 };

/* All are ticks. */
struct bitmap_span {
    uint64_t from, to;     /* of changes: when they were asked for */
    uint64_t since, until; /* of cuts at which the bitmap must know them */
};

struct bitmap_known {
    const char *name; /* the scenario's, or owned */
    char *owned;
    /* it is there from some moment in [asked, born] to some moment in [asked_away, gone] */
    uint64_t asked, born, asked_away, gone;
    struct bitmap_span spans[BITMAP_SPANS];
    unsigned nspans;
};

struct bitmaps_known {
    struct bitmap_known list[BITMAPS_MAX];
    unsigned count;
};

/* Those of the image as it was prepared: clean ones. */
void bitmaps_meet(struct bitmaps_known *b, struct img *image);
void bitmaps_forget(struct bitmaps_known *b);

/* The image of a state, open for information, whose windows hold `all`: are its bitmaps as they must be? If not, `why`
 * says what is wrong. */
bool bitmaps_hold(const struct judge *j, struct img *image, uint64_t cut, const uint8_t *all, uint64_t size, char *why,
                  size_t why_size);

/* The guest's image changes; the judge is told. */
void guest_bitmap_add(struct world *w, const char *name, uint64_t granularity, bool enabled);
void guest_bitmap_remove(struct world *w, const char *name);
void guest_bitmap_clear(struct world *w, const char *name);
void guest_bitmap_enable(struct world *w, const char *name, bool enabled);
void guest_bitmap_merge(struct world *w, const char *name, const char *source);

#endif
