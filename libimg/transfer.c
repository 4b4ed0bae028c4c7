/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* transfer.c - how a queue moves the bytes of an open plan without waiting for them.
 *
 * What a page cache or memory holds is moved by calls that do not wait. What would wait goes to the ring; what is more
 * than one plain transfer (edges, compressed and encrypted clusters, parts of blocks past the page cache, storages
 * without a descriptor) to a mover.
 *
 * The calls that do not wait are collected and made together, when every request that can go on has come so far:
 * a system call may cost a processor all that it knew of our memory (where kernel and user have page tables of their
 * own, the translations), so between two calls of a row little more than the row is touched, and what resolve and
 * commit look at is looked at once for all. The plans stay open meanwhile, as they do while the kernel has a transfer.
 */
#include "queue.h"

#include "error.h"
#include "move.h"

#include <errno.h>
#include <unistd.h>

#define INLINE_MOST (64u << 10)

/* ---- the calls that do not wait ---- */

static ssize_t call(const struct transfer *t) {
    const struct iovec *iov = t->niov == 1 ? &t->one : t->request->window;
    ssize_t moved;
    if (t->niov == 1 && !t->flags)
        moved = t->write ? pwrite(t->fd, t->one.iov_base, t->one.iov_len, (off_t)t->host)
                         : pread(t->fd, t->one.iov_base, t->one.iov_len, (off_t)t->host);
    else
        moved = t->write ? pwritev2(t->fd, iov, t->niov, (off_t)t->host, t->flags)
                         : preadv2(t->fd, iov, t->niov, (off_t)t->host, t->flags);
    return moved < 0 ? -errno : moved;
}

void transfer_collected(struct img_queue *q) {
    for (unsigned n; (n = q->ntransfers) > 0;) {
        for (unsigned i = 0; i < n; i++)
            q->transfers[i].moved = call(&q->transfers[i]);
        /* each request adds one at most, in front of those that are still looked at */
        q->ntransfers = 0;
        for (unsigned i = 0; i < n; i++) {
            struct request *r = q->transfers[i].request;
            ssize_t moved = q->transfers[i].moved;
            if (moved == -EOPNOTSUPP) {
                q->no_inline[r->plan.writes] = true;
                moved = -EAGAIN;
            }
            r->misses = moved == -EAGAIN;
            request_moved(r, (int)moved);
        }
    }
}

static int collect(struct request *r, const struct storage_descriptor *d, const struct img_step *step, int niov) {
    struct transfer *t = &r->queue->transfers[r->queue->ntransfers++];
    r->state = REQUEST_COLLECTED;
    t->request = r;
    t->one = r->window[0];
    t->niov = niov;
    t->host = step->host;
    t->fd = d->fd;
    t->flags = d->in_memory ? 0 : RWF_NOWAIT;
    t->write = r->plan.writes;
    return TRANSFER_HANDED;
}

/* ---- one step ---- */

static int note(struct request *r, ssize_t moved) {
    struct img_step *step = &r->plan.steps[r->step];
    bool write = r->plan.writes;
    if (moved == 0 && write)
        moved = -ENOSPC;
    if (moved < 0)
        return img_fail_errno(
            r->error, (int)moved, "could not %s %llu bytes at guest offset %llu of '%s' (host offset %llu)",
            write ? "write" : "read", (unsigned long long)step->length, (unsigned long long)step->guest,
            layer_of(r)->image->path, (unsigned long long)step->host);
    if (moved == 0) { /* the end of the file, behind which there are zeroes */
        iov_zero(&r->data, step->length);
        step->length = 0;
        return 0;
    }
    iov_advance(&r->data, (size_t)moved);
    step_skip(step, (uint64_t)moved);
    if (write && step->file->ops->wrote)
        step->file->ops->wrote(step->file, step->host);
    return 0;
}

/* A block that is being rewritten in part is not written beside that. */
static bool hold_blocks(struct request *r, const struct img_step *step, size_t bytes) {
    if (!step->file->ops->hold(step->file, &r->hold, step->host, bytes))
        return false;
    r->holds = step->file;
    return true;
}

static void let_go_blocks(struct request *r, bool failed) {
    if (r->holds)
        r->holds->ops->let_go(r->holds, &r->hold, failed);
    r->holds = NULL;
}

int transfer_ended(struct request *r, ssize_t moved) {
    bool again = moved == -EAGAIN || moved == -EINTR;
    int e = again ? 0 : note(r, moved);
    let_go_blocks(r, e < 0);
    return e;
}

/* What is left of a step that is one stretch of a file. */
static int move_host(struct request *r, struct img_step *step) {
    struct img_queue *q = r->queue;
    struct storage_descriptor d;
    bool write = r->plan.writes;
    if (!step->length)
        return 0;
    if (layer_of(r)->image->crypto || !step->file->ops->descriptor || !step->file->ops->descriptor(step->file, &d))
        return request_to_mover(r);
    int n = iov_window(&r->data, r->window, REQUEST_WINDOW, step->length);
    size_t bytes = n == 1 ? r->window[0].iov_len : iov_size(r->window, n);
    if (write && bytes < step->length)
        return request_to_mover(r); /* many small buffers: no sector may be torn between two calls */
    if (!d.direct && !r->misses && !q->no_inline[write] && bytes <= INLINE_MOST)
        return collect(r, &d, step, n);
    if (!q->ring || (d.direct && !(step->host % d.block == 0 && iov_is_aligned(r->window, n, d.memory_align, d.block))))
        return request_to_mover(r);
    if (d.direct && write && !hold_blocks(r, step, bytes))
        return request_to_mover(r);
    r->state = REQUEST_ON_RING;
    q->on_ring++;
    ring_transfer(q->ring, write, d.fd, r->window, (unsigned)n, step->host, r);
    return TRANSFER_HANDED;
}

/* ---- all steps ---- */

/* The read goes on in the layer below, for as much of the step as that has. */
static void descend(struct request *r, const struct img_step *step) {
    struct img *image = layer_of(r)->image;
    uint64_t length = step->length, there = step_bytes_below(image, step);
    plan_end(image, &r->plan, 0);
    if (there) {
        r->layer++;
        r->in_layer = there;
        return;
    }
    iov_zero(&r->data, length);
    request_advance(r, length);
}

static int move_read(struct request *r) {
    struct img_plan *plan = &r->plan;
    for (; r->step < plan->nsteps; r->step++) {
        struct img_step *step = &plan->steps[r->step];
        int e = 0;
        switch (step->kind) {
        case IMG_STEP_ZERO:
            iov_zero(&r->data, step->length);
            break;
        case IMG_STEP_HOST:
            e = move_host(r, step);
            break;
        case IMG_STEP_COMPRESSED:
            return request_to_mover(r);
        case IMG_STEP_BELOW:
            if (r->step == 0) {
                descend(r, step);
                return TRANSFER_DESCENDED;
            }
            plan->length = step->guest - plan->offset; /* up to here; it begins the next plan */
            return 0;
        }
        if (e)
            return e;
    }
    return 0;
}

int transfer_plan(struct request *r) {
    const struct img_plan *plan = &r->plan;
    if (plan->op == IMG_OP_READ)
        return move_read(r);
    if (plan->op == IMG_OP_WRITE)
        return plan->head_fill || plan->tail_fill ? request_to_mover(r) : move_host(r, &r->plan.steps[0]);
    return plan->action == IMG_MOVE_ZERO_HOST ? request_to_mover(r) : 0;
}
