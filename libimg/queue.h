/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* queue.h - the asynchronous executor: what its two files share.
 *
 * queue.c has the calls of img.h, the waiting and the way back from other threads; execute.c takes one request through
 * resolve, move and commit, as far as it goes without blocking.
 *
 * All of a queue belongs to its thread but for `inbox`, `gate_opened` and what a helper was handed: a request whose
 * state is one of the last three below.
 */
#ifndef LIBIMG_QUEUE_H
#define LIBIMG_QUEUE_H

#include "helpers.h"
#include "image.h"
#include "iov.h"
#include "ring.h"

#define QUEUE_WATCHES 64
#define REQUEST_WINDOW 16

enum request_state {
    REQUEST_FREE,
    REQUEST_RUNNING,   /* on the run list, or in execute() */
    REQUEST_AT_GATE,   /* on the gate list */
    REQUEST_FOLLOWING, /* on another's list: that one waits for the same */
    REQUEST_DONE,      /* on the done list */
    REQUEST_ON_RING,   /* the kernel has it */
    REQUEST_PARKED,    /* the driver will wake it */
    REQUEST_BLOCKED,   /* a loader makes ready what it needs */
    REQUEST_MOVING,    /* a mover moves its bytes: its plan is open */
    REQUEST_WHOLE,     /* a loader does all that is left of it by the ordinary calls */
};

struct request {
    struct img_queue *queue;
    struct request *next; /* on whatever list it is */
    enum request_state state;
    struct img_io io;
    struct iov_cursor data;
    uint64_t offset, left; /* of the request */
    unsigned layer;        /* in which its plan is, or is to be, opened; 0: the top */
    uint64_t in_layer;     /* below the top: bytes that are asked of this layer */

    struct img_plan plan;
    unsigned step;     /* of a read: which is being moved; its `host` and `length` shrink as it goes */
    bool no_inline;    /* the page cache does not have it */
    uint64_t host_end; /* of a write, for storage_ops.wrote */
    bool flushing, failed_flush;
    int result; /* of what somebody else did for it */
    bool cancelled;

    struct request *followers;
    struct job job;
    struct img_waiter waiter;
    struct iovec window[REQUEST_WINDOW];
    struct img_error error;
};

/* Threads that an image's queues share. Movers work with a plan open and never wait for a loader, since those may wait
 * for all plans to close. */
struct img_pool {
    unsigned queues;
    struct helpers *movers, *loaders;
    struct img *image;
    struct job relief; /* the driver's relieve, one at a time */
    atomic_bool relieving;
};

struct layer {
    struct img *image;
    struct img_context *context;
    struct img_waiter listener; /* at the image's gate */
    struct img_queue *queue;
};

struct watch {
    int fd; /* -1: a free place */
    uint64_t cookie;
    bool armed, closing;
    int events; /* to be reaped */
};

struct request_list {
    struct request *first, *last;
};

struct img_queue {
    struct img_pool *pool;
    struct layer *layers;
    unsigned nlayers;
    bool writes_through;

    struct ring *ring; /* NULL: the movers do all that would block */
    int event;         /* eventfd: something is in the inbox */
    bool event_armed;
    _Atomic(struct request *) inbox;
    atomic_bool gate_opened;

    struct request_list run, done, gate, blocked, idle;
    unsigned under_way;
    bool no_nowait[2]; /* the host's file system has no RWF_NOWAIT, for reads and writes */
    unsigned misses[2], sq_pending;

    struct watch watches[QUEUE_WATCHES];
    unsigned fired;

    struct img_error error;
    unsigned depth;
    struct request requests[];
};

static inline void list_append(struct request_list *list, struct request *r) {
    r->next = NULL;
    if (list->last)
        list->last->next = r;
    else
        list->first = r;
    list->last = r;
}
static inline struct request *list_take(struct request_list *list) {
    struct request *r = list->first;
    if (r && !(list->first = r->next))
        list->last = NULL;
    return r;
}
void list_remove(struct request_list *list, struct request *r);

/* ---- queue.c ---- */

/* From another thread: the request goes on. */
void queue_post(struct request *r);

/* ---- execute.c ---- */

/* Begins a request whose io is set. */
void request_start(struct request *r);
/* Goes on until it is done, or somebody else has it. */
void request_execute(struct request *r);
/* It is back: from the driver, a helper, or the kernel with `result` bytes. */
void request_resume(struct request *r);
void request_moved(struct request *r, int result);
void request_complete(struct request *r, int result);

#endif
