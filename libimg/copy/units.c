/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* units.c - cuts the source of a copy into units, in the order of its offsets.
 *
 * A unit is of one kind and ends on a cluster border of the target, so no two units meet in a cluster. What is no data,
 * and what the host copies, consists of whole clusters: the rest belongs to the data beside it.
 */
#include "copy.h"

#include "error.h"

static uint64_t round_down(const struct copy *c, uint64_t offset) {
    uint64_t end = (c->base + offset) & ~(c->grain - 1), start = c->base + c->first;
    return end > start ? end - c->base : c->first;
}

/* What the source has at c->next; kept until it is used up. */
static int look_ahead(struct copy *c, struct img_error *err) {
    struct img_extent *x = &c->extent;
    if (x->length && c->next >= x->start && c->next < x->start + x->length)
        return 0;
    int r = img_map(c->source, c->next, c->end - c->next, false, x, err);
    if (r == 0 || !c->options->salvage)
        return r;
    /* Whoever reads it finds out what is lost. What lies behind may be known again. */
    uint64_t least = target_round_up(c, c->next + 1), end = least < c->end ? least : c->end;
    *x = (struct img_extent){.start = c->next, .length = end - c->next, .flags = IMG_EXTENT_PRESENT | IMG_EXTENT_DATA};
    return 0;
}

static enum unit_kind kind_of(const struct copy *c, const struct img_extent *x) {
    bool below = x->depth >= c->options->layers || (!(x->flags & IMG_EXTENT_PRESENT) && x->start >= c->below_size);
    if (c->options->layers && below)
        return UNIT_SKIP;
    if (c->sparse && x->flags & IMG_EXTENT_ZERO)
        return UNIT_HOLE;
    return offload_takes(c, x) ? UNIT_OFFLOAD : UNIT_DATA;
}

/* The end of the whole clusters from c->next on, no further than `end`; c->next when there is none. A hole may end
 * with the source, as nothing is written for its last cluster. */
static uint64_t whole_end(const struct copy *c, enum unit_kind kind, uint64_t end) {
    if (target_round_up(c, c->next) != c->next)
        return c->next;
    uint64_t whole = end == c->end && kind != UNIT_OFFLOAD ? end : round_down(c, end);
    return whole > c->next ? whole : c->next;
}

static uint64_t unit_end(const struct copy *c, enum unit_kind *kind) {
    uint64_t end = c->extent.start + c->extent.length, least = target_round_up(c, c->next + 1);
    if (*kind == UNIT_OFFLOAD && end < c->end) /* the host copies holes as holes */
        end = target_round_up(c, end);
    if (*kind != UNIT_DATA) {
        uint64_t whole = whole_end(c, *kind, end < c->end ? end : c->end);
        uint64_t most = *kind == UNIT_OFFLOAD ? OFFLOAD_BYTES : HOLE_BYTES;
        if (whole - c->next > most)
            whole = round_down(c, c->next + most);
        if (whole > c->next)
            return whole;
        *kind = UNIT_DATA;
    }
    uint64_t most = round_down(c, c->next + UNIT_BYTES);
    end = target_round_up(c, end);
    if (end > most)
        end = most;
    return end < least ? least : end;
}

int copy_next_unit(struct copy *c, struct unit *u, struct img_error *err) {
    SCOPED_MUTEX(&c->claim);
    if (c->next >= c->end)
        return 0;
    int r = look_ahead(c, err);
    if (r < 0)
        return r;
    u->number = c->claimed++;
    u->offset = c->next;
    u->kind = kind_of(c, &c->extent);
    uint64_t end = unit_end(c, &u->kind);
    c->next = end < c->end ? end : c->end;
    u->length = c->next - u->offset;
    return 1;
}

int copy_count_data(const struct copy *c, uint64_t *bytes) {
    struct img_extent x;
    *bytes = 0;
    for (uint64_t at = c->first; at < c->end; at += x.length) {
        int r = img_map(c->source, at, c->end - at, false, &x, NULL);
        if (r < 0)
            return r;
        enum unit_kind kind = kind_of(c, &x);
        if (kind == UNIT_DATA || kind == UNIT_OFFLOAD)
            *bytes += x.length;
    }
    return 0;
}

uint64_t copy_grain_end(const struct copy *c, const struct unit *u, uint64_t at) {
    uint64_t end = target_round_up(c, u->offset + at + 1) - u->offset;
    return end < u->length ? end : u->length;
}
