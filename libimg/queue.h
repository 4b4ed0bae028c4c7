/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* queue.h - the asynchronous executor: what its three files share.
 *
 * queue.c has the calls of img.h, the waiting, and the way back from other threads; execute.c takes one request through
 * resolve, move and commit as far as it goes without blocking; transfer.c decides who moves its bytes, and moves what
 * takes no waiting.
 *
 * All of a queue belongs to its thread, but for `inbox` and `opened`, and for a request that somebody else has: its
 * state is one of the last five then.
 */
#ifndef LIBIMG_QUEUE_H
#define LIBIMG_QUEUE_H

#include "helpers.h"
#include "image.h"
#include "iov.h"
#include "rangelock.h"
#include "ring.h"

#define QUEUE_WATCHES 64
#define REQUEST_WINDOW 16
#define QUEUE_TRANSFERS 64

enum request_state {
    REQUEST_FREE,
    REQUEST_READY,     /* on the run list, or being executed */
    REQUEST_HELD,      /* on the held list: the gate is closed, or requests are held back */
    REQUEST_FOLLOWING, /* on the list of another that waits for the same */
    REQUEST_DONE,      /* on the done list */
    REQUEST_COLLECTED, /* one of the transfers that are made together */
    REQUEST_ON_RING,   /* the kernel has it */
    REQUEST_PARKED,    /* the driver wakes it */
    REQUEST_BLOCKED,   /* a loader satisfies its need */
    REQUEST_MOVING,    /* a mover moves bytes of its plan, which is open */
    REQUEST_WHOLE,     /* a loader does all that is left of it by the ordinary calls */
};

struct request {
    struct img_queue *queue;
    struct request *next; /* on the list that its state names */
    enum request_state state;
    bool entered;   /* counts as running */
    bool cancelled; /* ends when it comes back */
    bool flushing;  /* done but for the flush of a write-through mode */
    bool misses;    /* the page cache does not have what it reads, or would block its write */
    struct img_io io;
    struct iov_cursor data;
    uint64_t offset, left; /* what is still to do */
    unsigned layer;        /* where it reads; 0: the top */
    uint64_t in_layer;     /* below the top: bytes of this layer before it goes back there */

    struct img_plan plan;
    unsigned step; /* of a plan that reads: the one being moved, whose host and length go along */
    int result;    /* what somebody else made of it */
    struct iovec window[REQUEST_WINDOW];
    struct storage *holds; /* blocks of it are held by `hold`; NULL: none */
    struct range_hold hold;

    struct request *followers;
    struct request *next_blocked; /* `next` is the inbox's when it comes back */
    struct job job;
    struct img_waiter waiter;
    struct img_error *error; /* apart: it is large, and nothing of it is touched when all goes well */
};

struct request_list {
    struct request *first, *last;
};

/* One layer of the image's chain, as this queue uses it. */
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

/* One call that does not wait, and what came of it. */
struct transfer {
    struct request *request;
    struct iovec one; /* where there is one buffer */
    uint64_t host;
    ssize_t moved; /* or -errno */
    int fd, flags, niov;
    bool write;
};

/* Movers work with a plan open and wait for nothing but I/O. Loaders wait for what needs all plans closed. So a loader
 * never does a mover's work. */
struct img_helpers {
    unsigned queues;
    struct helpers *movers, *loaders;
    struct img *image;
    struct img_context *context; /* of all movers */
    struct job relief;           /* the driver's `relieve`, one at a time */
    atomic_bool relieving;
};

struct img_queue {
    struct img_helpers *helpers; /* the image's */
    struct layer *layers;
    unsigned nlayers;

    struct ring *ring; /* NULL: movers do what might block */
    unsigned on_ring;  /* requests that the kernel has */
    unsigned owner;    /* number of the thread whose the ring is; 0: none yet */
    bool polled;       /* img_queue_fd was asked for */
    int event;         /* eventfd: there is something in the inbox */
    bool event_armed;
    _Atomic(struct request *) inbox;
    atomic_uint posting; /* threads that are about to signal: the queue stands until they have */
    atomic_bool opened;  /* the held requests may try again */

    struct request_list run, held, done, idle;
    struct request *blocked;
    unsigned under_way; /* begun and not done */
    bool no_inline[2];  /* the file system cannot say that a read, or a write, would block */
    struct transfer transfers[QUEUE_TRANSFERS];
    unsigned ntransfers; /* 0 outside of the calls of img.h */

    struct watch watches[QUEUE_WATCHES];
    unsigned fired;

    struct img_error error;
    struct img_error *errors; /* of the requests */
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

/* From another thread: the request comes back to its queue. */
void queue_post(struct request *r);

/* ---- execute.c ---- */

/* Begins the request, whose io is set. */
void request_start(struct request *r);
/* Goes on from the run list. */
void request_run(struct request *r);
/* Goes on when it is back from the inbox. */
void request_back(struct request *r);
/* Goes on when the kernel has moved `result` bytes, or failed. */
void request_moved(struct request *r, int result);
void request_complete(struct request *r, int result);
/* A mover moves its plan, or a step of a plan that reads, and it comes back. */
int request_to_mover(struct request *r);

/* ---- transfer.c ---- */

/* Moves the bytes of the open plan. 0: all are moved; -errno. */
enum {
    TRANSFER_HANDED = 1,    /* somebody else has the request now, and it must not be touched any more */
    TRANSFER_DESCENDED = 2, /* the plan is closed; the request goes on in the layer below, or behind its zeroes */
};
int transfer_plan(struct request *r);
/* `moved` bytes of the request's step went over, or -errno. 0: on with what is left of it; -errno. */
int transfer_ended(struct request *r, ssize_t moved);
/* Makes the transfers that were collected, and goes on with their requests until no more are. */
void transfer_collected(struct img_queue *q);
/* After each request that went on: room for the next one's transfer. */
static inline void transfer_make_room(struct img_queue *q) {
    if (q->ntransfers == QUEUE_TRANSFERS)
        transfer_collected(q);
}

/* `length` bytes are done; at the end of what a layer below was asked for it goes on at the top. */
static inline void request_advance(struct request *r, uint64_t length) {
    r->offset += length;
    r->left -= length;
    if (r->layer && (r->in_layer -= length) == 0)
        r->layer = 0;
}

static inline struct layer *layer_of(const struct request *r) {
    return &r->queue->layers[r->layer];
}

#endif
