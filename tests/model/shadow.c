// SPDX-License-Identifier: GPL-3.0-or-later
/* shadow.c - the byte array that an image must equal, random content, and random numbers.
 *
 * Nearly everything that an operation may do is certain. The one freedom is a discard over a part of a cluster: with
 * subclusters, or in a raw file, smaller pieces may become zero. Such a sector is "maybe" until the first read of it,
 * and from then on it is what was read.
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t mix64(uint64_t v) {
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ull;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebull;
    return v ^ (v >> 31);
}

uint64_t rng_next(struct rng *r) {
    return mix64(r->state += 0x9e3779b97f4a7c15ull);
}

uint64_t rng_below(struct rng *r, uint64_t bound) {
    return bound ? rng_next(r) % bound : 0;
}

bool rng_one_in(struct rng *r, unsigned n) {
    return rng_below(r, n) == 0;
}

void *must_allocate(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p)
        model_fail("out of memory for %zu bytes", size);
    return p;
}

void shadow_make(struct shadow *s, uint64_t capacity) {
    s->bytes = must_allocate(capacity);
    s->maybe = must_allocate(capacity / SECTOR + 1);
    s->capacity = capacity;
    s->size = 0;
}

/* A sector on the border of two threads' ranges is never "maybe" and must not be stored to: hence the test. */
static void settle_sectors(struct shadow *s, uint64_t offset, uint64_t length) {
    for (uint64_t i = offset / SECTOR; i * SECTOR < offset + length; i++)
        if (s->maybe[i])
            s->maybe[i] = false;
}

void shadow_write(struct shadow *s, const void *bytes, uint64_t offset, uint64_t length) {
    memcpy(s->bytes + offset, bytes, length);
    settle_sectors(s, offset, length);
}

void shadow_zero(struct shadow *s, uint64_t offset, uint64_t length) {
    memset(s->bytes + offset, 0, length);
    settle_sectors(s, offset, length);
}

/* Version 2 cannot say "zeroes" over a backing file: a discard does nothing there. */
static bool discard_does_nothing(const struct config *c) {
    return !c->layer[0].raw && c->layer[0].version == 2 && c->nlayers > 1;
}

struct range discard_certain(const struct config *c, uint64_t size, uint64_t offset, uint64_t length) {
    uint64_t unit = layer_cluster(&c->layer[0]), end = offset + length;
    struct range r = {(offset + unit - 1) / unit * unit, end / unit * unit};
    (void)size;
    if (r.end <= r.start || discard_does_nothing(c))
        return (struct range){0, 0};
    return r;
}

bool discard_maybe(const struct config *c, uint64_t size, uint64_t offset, uint64_t length, uint64_t sector) {
    const struct layer *top = &c->layer[0];
    uint64_t end = offset + length, start = sector * SECTOR, unit = layer_cluster(top);
    if (start < offset || start + SECTOR > end || discard_does_nothing(c))
        return false;
    if (top->raw || top->extended_l2)
        return true;
    /* the image's last cluster may be a short one, covered as far as it goes */
    return end == size && start >= size / unit * unit && offset <= size / unit * unit;
}

void shadow_discard(struct shadow *s, const struct config *c, uint64_t offset, uint64_t length) {
    struct range certain = discard_certain(c, s->size, offset, length);
    for (uint64_t i = offset / SECTOR; i * SECTOR < offset + length; i++)
        if (discard_maybe(c, s->size, offset, length, i))
            s->maybe[i] = true;
    shadow_zero(s, certain.start, certain.end - certain.start);
}

void shadow_resize(struct shadow *s, uint64_t size) {
    if (size < s->size)
        shadow_zero(s, size, s->size - size);
    s->size = size;
}

bool shadow_unsettled(const struct shadow *s, uint64_t offset, uint64_t length) {
    for (uint64_t i = offset / SECTOR; i * SECTOR < offset + length; i++)
        if (s->maybe[i])
            return true;
    return false;
}

static bool check_sector(struct shadow *s, const uint8_t *bytes, uint64_t offset, uint64_t length) {
    uint64_t sector = offset / SECTOR;
    bool same = memcmp(bytes, s->bytes + offset, length) == 0;
    if (!s->maybe[sector])
        return same;
    bool zero = img_is_zero(bytes, length);
    if (same && zero) { /* a part that tells nothing, or a whole sector that was zero before */
        s->maybe[sector] = length != SECTOR;
        return true;
    }
    if (!same && !zero)
        return false;
    s->maybe[sector] = false;
    if (zero)
        memset(s->bytes + sector * SECTOR, 0, SECTOR);
    return true;
}

bool shadow_check(struct shadow *s, const void *bytes, uint64_t offset, uint64_t length, uint64_t *where) {
    const uint8_t *p = bytes;
    uint64_t done = 0;
    if (memcmp(p, s->bytes + offset, length) == 0 && !shadow_unsettled(s, offset, length))
        return true;
    while (done < length) {
        uint64_t piece = SECTOR - (offset + done) % SECTOR;
        if (piece > length - done)
            piece = length - done;
        if (!check_sector(s, p + done, offset + done, piece)) {
            while (p[done] == s->bytes[offset + done])
                done++;
            *where = offset + done;
            return false;
        }
        done += piece;
    }
    return true;
}

static void fill_noise(struct rng *r, uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i += 8) {
        uint64_t word = rng_next(r);
        memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
    }
}

void fill_random(struct rng *r, uint8_t *bytes, size_t count) {
    switch (rng_below(r, 12)) {
    case 0:
        memset(bytes, 0, count);
        return;
    case 1:
    case 2:
    case 3:
        memset(bytes, 1 + (int)rng_below(r, 255), count);
        return;
    case 4:
    case 5:
    case 6:
    case 7:
        fill_noise(r, bytes, count);
        return;
    }
    /* stretches of all kinds, so that clusters are partly zero and shrink by half or so */
    for (size_t i = 0; i < count;) {
        size_t piece = 1 + rng_below(r, 3000);
        if (piece > count - i)
            piece = count - i;
        if (rng_one_in(r, 3))
            fill_noise(r, bytes + i, piece);
        else
            memset(bytes + i, rng_one_in(r, 2) ? 0 : (int)rng_below(r, 256), piece);
        i += piece;
    }
}

void fill_sector(uint8_t *bytes, uint64_t id, uint64_t sector) {
    uint64_t word = id ? mix64(id * 0x10001 ^ sector << 24) | 1 : 0;
    for (size_t i = 0; i < SECTOR; i += 8) {
        memcpy(bytes + i, &word, 8);
        if (id % 2)
            word = mix64(word) | 1;
    }
}
