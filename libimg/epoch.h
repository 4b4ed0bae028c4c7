/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* epoch.h - what keeps a host cluster in place while a plan points at it, and the gate.
 *
 * Every plan is opened in a context: a synchronous call claims one of 64, an asynchronous queue owns one. A context
 * publishes the epoch of its oldest open plan and of its oldest open plan that writes. A cluster that lost its last
 * reference is stamped with the epoch and may be handed out again once every context shows a later one: one number
 * protects readers, overwrites in flight, decompressors and copy-on-write alike.
 *
 * The gate makes a point at which no plan (or no plan that writes) is open: who closes it waits for the open ones, who
 * meets it closed withdraws and waits without a plan.
 *
 * Threads: a context belongs to one thread at a time, but for `shared` ones, whose plan list has a lock.
 */
#ifndef LIBIMG_EPOCH_H
#define LIBIMG_EPOCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "plan.h"
#include "sync.h"

#define IMG_CONTEXTS 64

struct img_context {
    /* the published words, on a cache line of their own */
    _Alignas(
        64) _Atomic uint64_t oldest[2]; /* epoch of the oldest open plan: [0] that reads, [1] that writes; 0: none */
    _Atomic uint64_t done;              /* completed data writes; raised after commit, before they are acknowledged */

    /* open plans by opening, the owner's: [0] those that read, [1] those that write */
    _Alignas(64) struct img_plan *first[2], *last[2];
    atomic_bool claimed;
    bool shared; /* several threads use it: `lock` guards the list and the driver's part */
    pthread_mutex_t lock;
    bool passes_gate;    /* its owner closed the gate */
    bool behind_end;     /* its requests are about what lies behind the disk's end (request.c) */
    atomic_bool queue;   /* a queue owns it for long: what counts is `running` */
    atomic_uint running; /* requests of the queue */
    void *driver;        /* the driver's part: reserved runs; freed by the driver's close */
};

struct img_epochs {
    _Atomic uint64_t now; /* starts at 1 */
    struct img_context contexts[IMG_CONTEXTS];

    atomic_uint gate;             /* 0 open, GATE_WRITES or GATE_ALL */
    pthread_mutex_t lock;         /* for sleepers and the counts of closers */
    pthread_cond_t opened;        /* the gate was opened, or a context became free */
    pthread_cond_t drained;       /* a context closed its last plan of a kind under a closed gate */
    unsigned closers[2];          /* of GATE_WRITES and of GATE_ALL */
    atomic_uint wanted;           /* threads that sleep for a context */
    atomic_uint holders;          /* who holds new requests back */
    struct img_waiter *listeners; /* woken each time something opens, until they leave */
    unsigned queues;
};

enum { GATE_OPEN = 0, GATE_WRITES = 1, GATE_ALL = 2 };

/* The calling thread's number, from 0; no two have the same. */
unsigned thread_index(void);

int epochs_init(struct img_epochs *e);
void epochs_destroy(struct img_epochs *e);

/* Claims a context for one request of this thread; sleeps while all are taken, or while requests are held back. A
 * request claims one context of an image and no second. */
struct img_context *context_claim(struct img_epochs *e);
void context_release(struct img_epochs *e, struct img_context *c);
/* For a thread that works for a request which is running already: not held back. */
struct img_context *context_claim_inner(struct img_epochs *e);

/* For work that nobody asked for, which can wait: NULL while requests are held back or all contexts are taken. */
struct img_context *context_try_claim(struct img_epochs *e);

/* A queue's context. NULL: there are IMG_QUEUES_MAX. */
struct img_context *context_claim_queue(struct img_epochs *e);
/* One that the helpers of an image's queues share, for plans of requests that have a plan open already: those must not
 * sleep for a context. */
struct img_context *context_claim_helpers(struct img_epochs *e);
/* A request of the queue begins. False: requests are held back; its listener (below) hears when not any more. */
bool request_enter(struct img_epochs *e, struct img_context *c);
void request_leave(struct img_epochs *e, struct img_context *c);

/* Holds new claims back and waits until no context is claimed: no request runs. Holds nest. */
void requests_hold(struct img_epochs *e);
void requests_release(struct img_epochs *e);
void context_lock(struct img_context *c);
void context_unlock(struct img_context *c);

/* Opens `plan` in the context: from here on nothing it may find is reused. False: the gate is closed and the plan is
 * not open; gate_wait (without any open plan), then try again. A plan with `inner` set belongs to a request that has a
 * plan open already, or to whoever closed the gate: the gate lets it pass. */
bool plan_open(struct img_epochs *e, struct img_context *c, struct img_plan *plan);
void plan_close(struct img_epochs *e, struct img_plan *plan);
/* Sleeps until the gate would let the plan through. */
void gate_wait(struct img_epochs *e, bool writes);

/* Closes the gate to plans that write (or to all) and waits until none is open. Closings nest; the last opening opens.
 */
void gate_close(struct img_epochs *e, bool all);
void gate_open(struct img_epochs *e, bool all);

/* Who cannot sleep listens instead: `wake` is called, with a lock held, each time the gate opens or requests are no
 * longer held back. */
void gate_listen(struct img_epochs *e, struct img_waiter *listener);
void gate_leave(struct img_epochs *e, struct img_waiter *listener);

/* Advances the epoch and returns the one that ended: what is stamped with it is free once epoch_passed. */
uint64_t epoch_advance(struct img_epochs *e);
/* The lowest epoch of any open plan; UINT64_MAX: none is open. */
uint64_t epoch_oldest(struct img_epochs *e);
static inline bool epoch_passed(struct img_epochs *e, uint64_t stamp) {
    return epoch_oldest(e) > stamp;
}
/* Sum over all contexts of `done`. */
uint64_t epochs_done(struct img_epochs *e);

#endif
