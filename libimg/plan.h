/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plan.h - the contract between format drivers and executors: resolve, move, commit.
 *
 * A driver moves no guest data and never sleeps. `resolve` turns the front of a request into a plan: what it covers,
 * where those bytes are or go, and which edges must be filled. The executor moves the bytes and then calls `commit`,
 * which shows them, or `abort`, which gives back what was reserved. A resolve that would have to wait returns
 * IMG_WOULD_BLOCK with a `need`: the executor closes the plan, satisfies the need (`ready` blocks; io.c calls it in the
 * caller's thread, an asynchronous executor in a helper thread), and resolves again. So:
 *
 *   - no plan is open while anybody sleeps;
 *   - commit and abort are memory work: they do not allocate, sleep or fail;
 *   - an open plan pins every host cluster it may touch, through its context's epoch (epoch.h).
 */
#ifndef LIBIMG_PLAN_H
#define LIBIMG_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "img.h"

struct img_context;
struct storage;

/* resolve cannot answer without I/O or waiting; plan->need says for what. Not an errno. */
#define IMG_WOULD_BLOCK 1

enum img_op {
    IMG_OP_READ,
    IMG_OP_WRITE,
    IMG_OP_COMPRESSED, /* a whole cluster (or the image's last, short one) of `stored` bytes after compression */
    IMG_OP_ZERO,
    IMG_OP_DISCARD,
    IMG_OP_DROP, /* a driver's own: entries behind the end become unallocated */
};

enum img_action {
    IMG_MOVE_STEPS,     /* read: perform steps[0..nsteps); write: one step, with edges */
    IMG_MOVE_NOTHING,   /* the metadata said it all */
    IMG_MOVE_ZERO_HOST, /* zero or punch steps[0] in its storage, then commit */
    IMG_MOVE_AS_WRITE,  /* the executor writes zeroes over the covered range by ordinary writes */
};

enum img_step_kind {
    IMG_STEP_HOST,       /* `length` bytes at `host` in `file` */
    IMG_STEP_ZERO,       /* reads as zeroes */
    IMG_STEP_BELOW,      /* ask the backing image; behind its end: zeroes */
    IMG_STEP_COMPRESSED, /* part of a compressed cluster: `stored` bytes at `host` hold all of it */
};

struct img_step {
    enum img_step_kind kind;
    uint32_t stored; /* IMG_STEP_COMPRESSED: bytes on the host, an upper bound */
    uint64_t guest;  /* guest offset of its first byte */
    uint64_t length; /* guest bytes */
    struct storage *file;
    uint64_t host; /* offset in `file` */
};

/* How the parts of a freshly allocated unit that the write does not cover get their bytes. */
enum img_fill {
    IMG_FILL_NONE, /* nothing to write: the host already reads as zeroes there */
    IMG_FILL_ZERO, /* write zeroes */
    IMG_FILL_READ, /* write what the guest reads there now: this image, before the commit */
};

/* What a resolve waits for. The driver fills and reads it; `kind` and the numbers are the driver's. */
struct img_need {
    uint32_t kind;
    uint32_t ticket; /* for a wait on another request: the wait queue's sequence number */
    uint64_t index;
    uint64_t count;
    struct img_context *context; /* whose plan it was: what is its own (a run of clusters) is filled up for it */
};

#define IMG_PLAN_STEPS 8

/* One reservation of host clusters (qcow2/write.c), hung on the L2 slice that will name them. */
struct img_reservation {
    struct img_reservation *next;
    void *slice;
    uint32_t first, count; /* entries of the slice */
    uint64_t host;         /* host offset of the first */
    uint64_t start, end;   /* guest bytes its plan writes */
    uint32_t mask;         /* extended L2: subclusters that become allocated, all entries alike but first and last */
    bool hooked;           /* on the slice's list */
    bool linked;           /* the entry names `host`: nothing to give back */
    bool joinable;         /* known zero, nobody fills edges: disjoint writers may share it */
    bool zero;             /* `host` reads as zeroes */
    bool in_place;         /* `host` was in the entry before: nothing to give back on abort */
};

struct img_plan {
    /* the request, set by the executor before resolve */
    enum img_op op;
    bool may_unmap;
    uint32_t stored;         /* IMG_OP_COMPRESSED */
    uint64_t offset, length; /* in: the request; out: the front of it that this plan covers */

    /* the answer */
    enum img_action action;
    unsigned nsteps;
    struct img_step steps[IMG_PLAN_STEPS];
    uint64_t head, tail; /* write: bytes to fill in front of and behind the covered range, contiguous with it */
    enum img_fill head_fill, tail_fill;
    struct img_need need;

    /* the pin: epoch.c */
    struct img_context *context;
    struct img_plan *prev, *next;
    uint64_t epoch;
    bool writes; /* set before plan_open */
    bool inner;  /* passes a closed gate (epoch.h) */

    /* the driver's, between resolve and commit */
    struct img_reservation resv;
    void *freed;         /* clusters that lose a reference at commit */
    uint64_t compressed; /* the entry that names what is written compressed */
};

/* The front of the step is done. */
static inline void step_skip(struct img_step *step, uint64_t bytes) {
    step->guest += bytes;
    step->host += bytes;
    step->length -= bytes;
}

/* A plan to be opened and resolved. What an answer consists of (steps, fills, reservation) is the resolve's to set;
 * only what commit and abort look at in any case is cleared here, as this is done for every request. */
static inline void plan_begin(struct img_plan *plan, enum img_op op, uint64_t offset, uint64_t length) {
    plan->op = op;
    plan->writes = op != IMG_OP_READ;
    plan->may_unmap = plan->inner = false;
    plan->stored = 0;
    plan->offset = offset;
    plan->length = length;
    plan->action = IMG_MOVE_STEPS;
    plan->nsteps = 0;
    plan->head = plan->tail = 0;
    plan->head_fill = plan->tail_fill = IMG_FILL_NONE;
    plan->need = (struct img_need){0};
    plan->resv = (struct img_reservation){0};
    plan->freed = NULL;
    plan->compressed = 0;
}

#endif
