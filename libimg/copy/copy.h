/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* copy.h - one copy under way: what the files of the copy engine share.
 *
 *   units.c    cuts the source into units, in the order of its offsets
 *   salvage.c  reads a unit's data, past what cannot be read if that is wanted
 *   pack.c     compresses the clusters of a unit
 *   copy.c     the workers, and their turns at reserving
 *   offload.c  has the host copy or share a unit's bytes
 *   trail.c    keeps the page cache from filling up with what was written
 */
#ifndef LIBIMG_COPY_H
#define LIBIMG_COPY_H

#include "image.h"
#include "trail.h"

#define UNIT_BYTES (1ull << 20)
#define HOLE_BYTES (1ull << 30)     /* a hole is cut only so that progress shows */
#define OFFLOAD_BYTES (64ull << 20) /* and what the host copies so that it is shared among the workers */
#define PLANS 32

struct copy {
    struct img *source, *target;
    const struct img_copy_options *options;
    struct img_context *context; /* of the target, shared */
    uint64_t first, end;         /* the part of the source that is copied */
    uint64_t base;               /* what is added to an offset of the source (modulo 2^64) to have the target's */
    uint64_t grain;              /* cluster of the target, or 4 KiB: what a unit ends on and a zero is looked for in */
    uint64_t below_size;         /* of the layer that is not copied any more: behind it nothing shows through */
    uint64_t sparse;             /* runs of zeroes from this length on become holes; 0: none does */
    struct offload *offload;     /* NULL: every byte passes through a worker */

    pthread_mutex_t claim; /* the next unit */
    uint64_t next, claimed;
    struct img_extent extent; /* of the source, known from `next` on */

    pthread_mutex_t lock; /* the rest */
    pthread_cond_t moved;
    uint64_t turn, done, written;
    int result;
    struct img_error *err;

    struct trail trail;
};

enum unit_kind {
    UNIT_DATA,
    UNIT_OFFLOAD, /* data that the host can copy or share by itself */
    UNIT_HOLE,    /* reads as zeroes */
    UNIT_SKIP,    /* the target's backing file has it */
};

/* A unit and the worker's buffers, which live as long as the worker. */
struct unit {
    uint64_t number, offset, length; /* in the source */
    enum unit_kind kind;
    uint8_t *data;
    uint8_t *packed;  /* compressed clusters, one behind the other, `cluster` bytes apart */
    uint32_t *stored; /* bytes of each; 0: as it is */
    struct img_plan plans[PLANS];
    const uint8_t *from[PLANS]; /* the bytes of each; NULL: the source's, by offload.c */
    unsigned nplans;
    uint64_t written; /* bytes of it that were no hole */
    /* salvage: the sectors of `data` that could not be read, a bit for each */
    uint8_t *lost;
    bool any_lost;
    int lost_code; /* why, of the last one */
};

static inline uint64_t target_round_up(const struct copy *c, uint64_t offset) {
    return ((c->base + offset + c->grain - 1) & ~(c->grain - 1)) - c->base;
}

/* ---- units.c ---- */

/* 1 with the next unit in *u, 0 at the end, -errno. */
int copy_next_unit(struct copy *c, struct unit *u, struct img_error *err);
/* Bytes that the source stores, holes and what is skipped left out; some may turn out to be zeroes. */
int copy_count_data(const struct copy *c, uint64_t *bytes);
/* Where the grain that holds byte `at` of the unit ends, in the unit. */
uint64_t copy_grain_end(const struct copy *c, const struct unit *u, uint64_t at);

/* ---- salvage.c ---- */

/* Bytes of u->lost for a buffer of so many. */
#define LOST_BYTES(bytes) ((bytes) / SALVAGE_SECTOR / 8 + 1)
#define SALVAGE_SECTOR 512u
/* Reads the unit's data. With `salvage` what cannot be read is zero, and noted. */
int copy_read(const struct copy *c, struct unit *u, struct img_error *err);
/* Tells the caller of what copy_read noted; in turn. */
void copy_tell_lost(const struct copy *c, const struct unit *u);

/* ---- pack.c ---- */

#define STORED_HOLE UINT32_MAX
/* Fills u->packed and u->stored. */
int copy_pack(struct copy *c, struct unit *u, struct img_error *err);

/* ---- offload.c ---- */

/* Which layers of the source the host can copy from. 0 with c->offload NULL: none. */
int offload_begin(struct copy *c, struct img_error *err);
void offload_end(struct copy *c);
/* Can the extent's data be copied by the host into the target? */
bool offload_takes(const struct copy *c, const struct img_extent *x);
/* Moves the source's bytes to where the plan, which is open and covers whole clusters, has its place for them. `buffer`
 * holds UNIT_BYTES. */
int offload_move(struct copy *c, const struct img_plan *plan, uint8_t *buffer, struct img_error *err);

#endif
