// SPDX-License-Identifier: GPL-3.0-or-later
/* flow.c - the same operations through a queue: each thread has one, with several requests under way.
 *
 * Requests that are under way at once do not overlap, unless whoever asks says that they may, so the byte array can be
 * changed when a request is submitted and a read can be held against it when it is reaped. What a queue cannot do is an
 * ordinary call, made when nothing of this thread is under way.
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH 8
#define PATIENCE_MS 300000

struct pending {
    bool busy;
    struct img_io io;
    struct iovec *iov; /* owned */
    uint8_t *bytes;    /* owned */
    flow_read_end *end;
    void *opaque;
};

struct flow {
    struct img_queue *queue;
    struct pending pending[DEPTH];
    unsigned under_way;
};

static _Thread_local struct flow *mine;

static struct flow *flow_of(struct run *run) {
    struct img_error err = {0};
    struct img_queue_options options = {.depth = DEPTH};
    if (mine)
        return mine;
    mine = must_allocate(sizeof(*mine));
    memset(mine, 0, sizeof(*mine));
    if (run->config.executor == VIA_THREADS)
        options.flags = IMG_QUEUE_THREADS;
    if (img_queue_create(run->image, &options, &mine->queue, &err))
        model_fail("img_queue_create: %s", err.text);
    if (img_queue_has_ring(mine->queue) != (run->config.executor == VIA_RING))
        model_fail("there is no io_uring");
    return mine;
}

static void end(struct run *run, struct flow *f, const struct img_completion *c) {
    static const char *const names[] = {"read", "write", "zeroing", "discard", "flush"};
    struct pending *p = &f->pending[c->cookie];
    if (c->cookie >= DEPTH || !p->busy)
        model_fail("a request is complete that is not under way");
    if (c->result)
        model_fail("a %s of %llu at %llu through a queue: %d %s", names[p->io.op], (unsigned long long)p->io.length,
                   (unsigned long long)p->io.offset, c->result, img_queue_error(f->queue)->text);
    p->busy = false;
    f->under_way--;
    if (p->end)
        p->end(run, p->opaque, p->bytes, p->io.offset, p->io.length);
    free(p->iov);
    free(p->bytes);
}

/* Takes what is complete; with `wait` at least one. */
static void reap(struct run *run, bool wait) {
    struct flow *f = mine;
    struct img_completion done[DEPTH];
    unsigned n = img_queue_reap(f->queue, done, DEPTH);
    while (wait && n == 0) {
        int rc = img_queue_wait(f->queue, PATIENCE_MS);
        if (rc)
            model_fail("%u requests are under way and none ends (%d)", f->under_way, rc);
        n = img_queue_reap(f->queue, done, DEPTH);
    }
    for (unsigned i = 0; i < n; i++)
        end(run, f, &done[i]);
}

void flow_collect(struct run *run) {
    while (mine && mine->under_way)
        reap(run, true);
}

void flow_close(struct run *run) {
    if (!mine)
        return;
    flow_collect(run);
    img_queue_destroy(mine->queue);
    free(mine);
    mine = NULL;
}

void flow_apart(struct run *run, uint64_t start, uint64_t end) {
    for (unsigned i = 0; mine && i < DEPTH; i++) {
        const struct pending *p = &mine->pending[i];
        while (p->busy && p->io.length && start < p->io.offset + p->io.length && p->io.offset < end)
            reap(run, true);
    }
}

static struct pending *place(struct run *run) {
    struct flow *f = flow_of(run);
    unsigned i = 0;
    reap(run, f->under_way == DEPTH);
    while (f->pending[i].busy)
        i++;
    memset(&f->pending[i], 0, sizeof(f->pending[i]));
    f->pending[i].io.cookie = i;
    return &f->pending[i];
}

static void submit(struct pending *p, enum img_io_op op, uint64_t offset, uint64_t length) {
    p->io.op = op;
    p->io.offset = offset;
    p->io.length = length; /* a read or a write has its own in the vector */
    p->busy = true;
    mine->under_way++;
    if (img_queue_submit(mine->queue, &p->io, 1) != 1)
        model_fail("a queue with %u of %u requests takes no more", mine->under_way - 1, DEPTH);
}

void flow_transfer(struct run *run, enum img_io_op op, struct iovec *iov, unsigned niov, uint8_t *bytes,
                   uint64_t offset, uint64_t length, flow_read_end *at_end, void *opaque) {
    struct pending *p = place(run);
    p->iov = iov;
    p->bytes = bytes;
    p->end = at_end;
    p->opaque = opaque;
    p->io.iov = iov;
    p->io.niov = (int)niov;
    submit(p, op, offset, length);
}

void flow_clear(struct run *run, enum img_io_op op, uint32_t flags, uint64_t offset, uint64_t length) {
    struct pending *p = place(run);
    p->io.flags = flags;
    submit(p, op, offset, length);
}
