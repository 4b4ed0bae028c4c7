/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* execute.c - one request of a queue: resolve, move, commit, without ever blocking the queue's thread.
 *
 * What can be moved without waiting is (transfer.c). A resolve that needs metadata goes to a loader and resolves anew.
 * A read of a layer below is the same request's next resolve in that layer, so the depth of a chain costs no memory.
 *
 * Always holds: a request has at most one plan open, and none when it is held, parked or blocked.
 */
#include "queue.h"

#include "error.h"
#include "move.h"
#include "request.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

static struct request *of_job(struct job *job) {
    return (struct request *)((char *)job - offsetof(struct request, job));
}

static struct request *of_waiter(struct img_waiter *waiter) {
    return (struct request *)((char *)waiter - offsetof(struct request, waiter));
}

/* ---- handing on ---- */

static int hand(struct request *r, enum request_state state, struct helpers *to, void (*work)(struct job *)) {
    r->state = state;
    r->job.run = work;
    helpers_post(to, &r->job);
    return TRANSFER_HANDED;
}

static void move_work(struct job *job) {
    struct request *r = of_job(job);
    struct img *image = layer_of(r)->image;
    if (r->plan.op == IMG_OP_READ)
        r->result = move_step(image, &r->plan.steps[r->step], &r->data, r->error);
    else
        r->result = move_plan(image, r->queue->helpers->context, &r->plan, &r->data, r->error);
    queue_post(r);
}

int request_to_mover(struct request *r) {
    return hand(r, REQUEST_MOVING, r->queue->helpers->movers, move_work);
}

static void ready_work(struct job *job) {
    struct request *r = of_job(job);
    struct img *image = layer_of(r)->image;
    struct img_context *c = context_claim_inner(&image->epochs);
    r->result = image->driver->ready(image, c, &r->plan.need, r->error);
    context_release(&image->epochs, c);
    queue_post(r);
}

static bool needs_the_same(const struct request *a, const struct request *b) {
    const struct img_need *x = &a->plan.need, *y = &b->plan.need;
    return a->layer == b->layer && x->kind == y->kind && x->index == y->index;
}

/* One loader for each need, whoever has it. */
static int to_loader(struct request *r) {
    struct img_queue *q = r->queue;
    for (struct request *other = q->blocked; other; other = other->next_blocked)
        if (needs_the_same(r, other)) {
            r->state = REQUEST_FOLLOWING;
            r->next = other->followers;
            other->followers = r;
            return TRANSFER_HANDED;
        }
    r->next_blocked = q->blocked;
    q->blocked = r;
    return hand(r, REQUEST_BLOCKED, q->helpers->loaders, ready_work);
}

static int whole_request(struct request *r, struct img *image, struct img_context *c) {
    const struct img_io *io = &r->io;
    if (r->flushing || io->op == IMG_IO_FLUSH)
        return image->driver->flush(image, r->error);
    if (io->op == IMG_IO_WRITE)
        return request_write(image, c, io->iov, io->niov, r->left, r->offset, r->error);
    return request_zero(image, c, io->flags & IMG_ZERO_MAY_UNMAP, r->offset, r->left, r->error);
}

static void whole_work(struct job *job) {
    struct request *r = of_job(job);
    struct img *image = r->queue->layers[0].image;
    struct img_context *c = context_claim_inner(&image->epochs);
    r->result = whole_request(r, image, c);
    context_release(&image->epochs, c);
    queue_post(r);
}

static int to_whole(struct request *r) {
    return hand(r, REQUEST_WHOLE, r->queue->helpers->loaders, whole_work);
}

static void wake_request(struct img_waiter *waiter) {
    queue_post(of_waiter(waiter));
}

static int hold(struct request *r) {
    r->state = REQUEST_HELD;
    list_append(&r->queue->held, r);
    return TRANSFER_HANDED;
}

/* ---- resolve ---- */

static int wait_for_need(struct request *r, struct img *image) {
    r->state = REQUEST_PARKED; /* before the driver knows: it may be woken at once */
    r->waiter.wake = wake_request;
    switch (image->driver->park(image, &r->plan.need, &r->waiter)) {
    case IMG_PARK_PARKED:
        return TRANSFER_HANDED;
    case IMG_PARK_RETRY:
        r->state = REQUEST_READY;
        list_append(&r->queue->run, r);
        return TRANSFER_HANDED;
    case IMG_PARK_WORK:
        break;
    }
    return to_loader(r);
}

static enum img_op op_of(const struct request *r) {
    static const enum img_op ops[] = {
        [IMG_IO_READ] = IMG_OP_READ,
        [IMG_IO_WRITE] = IMG_OP_WRITE,
        [IMG_IO_ZERO] = IMG_OP_ZERO,
        [IMG_IO_DISCARD] = IMG_OP_DISCARD,
    };
    return ops[r->io.op];
}

/* Opens a plan for the front of what is left. */
static int resolve(struct request *r) {
    struct layer *l = layer_of(r);
    enum img_op op = op_of(r);
    r->step = 0;
    plan_begin(&r->plan, op, r->offset, r->layer ? r->in_layer : r->left);
    r->plan.may_unmap = r->io.flags & IMG_ZERO_MAY_UNMAP || op == IMG_OP_DISCARD;
    if (!plan_open(&l->image->epochs, l->context, &r->plan))
        return hold(r);
    int e = plan_resolve(l->image, &r->plan, r->error);
    if (e == 0)
        return 0;
    plan_close(&l->image->epochs, &r->plan);
    return e == IMG_WOULD_BLOCK ? wait_for_need(r, l->image) : e;
}

/* ---- from plan to plan ---- */

static void finish_plan(struct request *r, int result) {
    bool as_write = r->plan.action == IMG_MOVE_AS_WRITE;
    uint64_t length = r->plan.length;
    plan_end(layer_of(r)->image, &r->plan, result);
    if (result < 0 || as_write)
        return;
    request_advance(r, length);
    r->misses = false;
}

/* Moves what the open plan says, and on to the next plans until it is all done or handed on. */
static void go_on(struct request *r, bool plan_is_open) {
    while (plan_is_open || r->left) {
        if (r->cancelled && !plan_is_open) {
            request_complete(r, -ECANCELED);
            return;
        }
        int e = plan_is_open ? 0 : resolve(r);
        if (e == 0)
            e = transfer_plan(r);
        else if (e < 0) {
            request_complete(r, e);
            return;
        }
        if (e == TRANSFER_HANDED)
            return;
        plan_is_open = false;
        if (e == TRANSFER_DESCENDED)
            continue;
        bool as_write = r->plan.action == IMG_MOVE_AS_WRITE;
        finish_plan(r, e);
        if (e < 0) {
            request_complete(r, e);
            return;
        }
        if (as_write) {
            (void)to_whole(r);
            return;
        }
    }
    request_complete(r, 0);
}

void request_moved(struct request *r, int result) {
    r->state = REQUEST_READY;
    result = transfer_ended(r, result);
    if (result < 0) {
        finish_plan(r, result);
        request_complete(r, result);
    } else {
        go_on(r, true);
    }
}

/* Its need is satisfied, for those who had the same as well. */
static void unblock(struct request *r) {
    struct request *next, **at = &r->queue->blocked;
    while (*at != r)
        at = &(*at)->next_blocked;
    *at = r->next_blocked;
    for (struct request *f = r->followers; f; f = next) {
        next = f->next;
        f->state = REQUEST_READY;
        list_append(&r->queue->run, f);
    }
    r->followers = NULL;
}

void request_back(struct request *r) {
    enum request_state was = r->state;
    r->state = REQUEST_READY;
    switch (was) {
    case REQUEST_BLOCKED:
        unblock(r);
        break;
    case REQUEST_MOVING:
        if (r->result < 0 || r->plan.op != IMG_OP_READ) {
            finish_plan(r, r->result);
            break;
        }
        r->step++;
        go_on(r, true);
        return;
    case REQUEST_WHOLE:
        request_complete(r, r->result);
        return;
    default: /* parked: the result is an old one */
        r->result = 0;
        break;
    }
    if (r->result < 0)
        request_complete(r, r->cancelled ? -ECANCELED : r->result);
    else
        go_on(r, false);
}

void request_run(struct request *r) {
    if (!r->entered) {
        request_start(r);
        return;
    }
    go_on(r, false);
}

/* ---- beginning and end ---- */

static int check(struct request *r) {
    struct img *image = r->queue->layers[0].image;
    const struct img_io *io = &r->io;
    bool vector = io->op == IMG_IO_READ || io->op == IMG_IO_WRITE;
    uint32_t known = io->op == IMG_IO_ZERO ? IMG_ZERO_MAY_UNMAP : 0;
    if (io->op > IMG_IO_FLUSH || io->flags & ~known)
        return img_fail(r->error, -EINVAL, "request %d with flags 0x%x is unknown", (int)io->op, io->flags);
    r->offset = io->offset;
    r->left = io->length;
    int e = vector ? request_size(image, io->iov, io->niov, &r->left, r->error) : 0;
    if (e == 0 && io->op != IMG_IO_FLUSH)
        e = request_check_range(image, r->offset, r->left, io->op != IMG_IO_READ, r->error);
    if (vector)
        r->data = iov_begin(io->iov, io->niov);
    return e;
}

void request_start(struct request *r) {
    struct layer *top = &r->queue->layers[0];
    struct img *image = top->image;
    r->state = REQUEST_READY;
    if (r->cancelled) {
        request_complete(r, -ECANCELED);
        return;
    }
    if (!request_enter(&image->epochs, top->context)) {
        (void)hold(r);
        return;
    }
    r->entered = true;
    int e = check(r);
    if (e < 0)
        request_complete(r, e);
    else if (r->io.op == IMG_IO_FLUSH && image->writable)
        (void)to_whole(r);
    else if (r->io.op == IMG_IO_FLUSH)
        request_complete(r, 0);
    else if ((r->io.op == IMG_IO_WRITE || r->io.op == IMG_IO_ZERO) && r->left && request_is_guarded(image, r->offset))
        (void)to_whole(r);
    else
        go_on(r, false);
}

/* The request that saw the need has ended, so this counts as one: nothing moves in an image that is drained. */
static void relieve_work(struct job *job) {
    struct img_helpers *h = (struct img_helpers *)((char *)job - offsetof(struct img_helpers, relief));
    struct img_context *c = context_try_claim(&h->image->epochs);
    if (c) {
        h->image->driver->relieve(h->image);
        context_release(&h->image->epochs, c);
    }
    atomic_store(&h->relieving, false);
}

static void relieve(struct img_queue *q) {
    struct img *image = q->layers[0].image;
    if (!image->driver->strained || !image->driver->strained(image) || atomic_exchange(&q->helpers->relieving, true))
        return;
    q->helpers->relief.run = relieve_work;
    helpers_post(q->helpers->loaders, &q->helpers->relief);
}

void request_complete(struct request *r, int result) {
    struct img_queue *q = r->queue;
    struct layer *top = &q->layers[0];
    bool wrote = r->io.op == IMG_IO_WRITE || r->io.op == IMG_IO_ZERO || r->io.op == IMG_IO_DISCARD;
    if (wrote && r->entered && result == 0 && !r->flushing && request_writes_through(top->image)) {
        r->flushing = true;
        (void)to_whole(r);
        return;
    }
    if (wrote)
        relieve(q);
    if (r->entered)
        request_leave(&top->image->epochs, top->context);
    if (result < 0)
        q->error = *r->error;
    if (result == -ECANCELED)
        img_fail(&q->error, result, "the request was cancelled");
    r->result = result;
    r->state = REQUEST_DONE;
    q->under_way--;
    list_append(&q->done, r);
}
