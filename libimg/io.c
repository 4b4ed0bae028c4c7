/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* io.c - the synchronous executor: resolve, move, commit in the caller's thread (the public calls are in request.c).
 *
 * A call claims a context, holds one plan at a time, and does its own blocking work (ready) with no plan open.
 */
#include "io.h"

#include "error.h"
#include "move.h"

#include <errno.h>
#include <stdlib.h>

#define ZERO_CHUNK (1u << 20) /* zeroes are written in pieces of this size */

/* ---- plans ---- */

int io_open(struct img *image, struct img_context *c, struct img_plan *plan, struct img_error *err) {
    const struct img_plan request = *plan;
    for (;;) {
        plan->writes = request.op != IMG_OP_READ;
        while (!plan_open(&image->epochs, c, plan))
            gate_wait(&image->epochs, plan->writes);
        int r = plan_resolve(image, plan, err);
        if (r == 0)
            return 0;
        plan_close(&image->epochs, plan);
        if (r != IMG_WOULD_BLOCK)
            return r;
        struct img_need need = plan->need;
        if ((r = image->driver->ready(image, c, &need, err)) < 0)
            return r;
        *plan = request;
    }
}

/* ---- reading and writing ---- */

/* Any number of plans, one after the other. */
static int transfer(struct img *image, struct img_context *c, struct img_plan request, struct iov_cursor *data,
                    struct img_error *err) {
    while (request.length) {
        struct img_plan plan = request;
        int r = io_open(image, c, &plan, err);
        if (r < 0)
            return r;
        r = move_plan(image, c, &plan, data, err);
        plan_end(image, &plan, r);
        if (r < 0)
            return r;
        request.offset += plan.length;
        request.length -= plan.length;
    }
    return 0;
}

int io_read(struct img *image, struct img_context *c, struct iov_cursor *to, size_t count, uint64_t offset, bool inner,
            struct img_error *err) {
    struct img_plan request = {.op = IMG_OP_READ, .offset = offset, .length = count, .inner = inner};
    return transfer(image, c, request, to, err);
}

int io_write(struct img *image, struct img_context *c, struct iov_cursor *from, uint64_t count, uint64_t offset,
             struct img_error *err) {
    struct img_plan request = {.op = IMG_OP_WRITE, .offset = offset, .length = count};
    return transfer(image, c, request, from, err);
}

int io_write_compressed(struct img *image, struct img_context *c, const void *packed, uint32_t stored, uint64_t count,
                        uint64_t offset, struct img_error *err) {
    struct iovec iov = {(void *)packed, stored};
    struct iov_cursor from = iov_begin(&iov, 1);
    struct img_plan request = {.op = IMG_OP_COMPRESSED, .offset = offset, .length = count, .stored = stored};
    return transfer(image, c, request, &from, err);
}

/* ---- zeroes and discards ---- */

static int write_zero_bytes(struct img *image, struct img_context *c, uint64_t offset, uint64_t length,
                            struct img_error *err) {
    size_t chunk = length < ZERO_CHUNK ? length : ZERO_CHUNK;
    void *zeroes = calloc(1, chunk ? chunk : 1);
    int r = zeroes ? 0 : img_fail(err, -ENOMEM, "no memory for zeroes");
    while (r == 0 && length) {
        size_t n = length < chunk ? length : chunk;
        struct iovec iov = {zeroes, n};
        struct iov_cursor from = iov_begin(&iov, 1);
        r = io_write(image, c, &from, n, offset, err);
        offset += n;
        length -= n;
    }
    free(zeroes);
    return r;
}

int io_clear(struct img *image, struct img_context *c, enum img_op op, bool may_unmap, uint64_t offset, uint64_t length,
             struct img_error *err) {
    while (length) {
        struct img_plan plan = {.op = op, .may_unmap = may_unmap, .offset = offset, .length = length};
        int r = io_open(image, c, &plan, err);
        if (r < 0)
            return r;
        bool as_write = plan.action == IMG_MOVE_AS_WRITE;
        r = move_plan(image, c, &plan, NULL, err);
        plan_end(image, &plan, r);
        if (r == 0 && as_write)
            r = write_zero_bytes(image, c, offset, plan.length, err);
        if (r < 0)
            return r;
        offset += plan.length;
        length -= plan.length;
    }
    return 0;
}

/* ---- preallocation ---- */

/* Host space for a plan's cluster that is to read as zeroes. */
static int move_preallocation(struct img_plan *plan, enum img_preallocation preallocation) {
    const struct img_step *step = &plan->steps[0];
    uint64_t head = plan->head, host = step->host - head, length = head + step->length + plan->tail;
    int r = 0;
    if (preallocation == IMG_PREALLOCATION_FALLOC)
        r = step->file->ops->reserve(step->file, host, length);
    if (r == 0 && (preallocation == IMG_PREALLOCATION_FULL || !plan->resv.zero))
        r = storage_zero(step->file, host, length, false);
    return r;
}

int io_preallocate(struct img *image, struct img_context *c, uint64_t offset, uint64_t length,
                   enum img_preallocation preallocation, struct img_error *err) {
    while (length) {
        struct img_plan plan = {.op = IMG_OP_WRITE, .offset = offset, .length = length};
        int r = io_open(image, c, &plan, err);
        if (r < 0)
            return r;
        if (plan.resv.slice) /* else it has clusters already */
            r = move_preallocation(&plan, preallocation);
        if (r < 0)
            img_fail_errno(err, r, "could not preallocate guest offset %llu of '%s'", (unsigned long long)offset,
                           image->path);
        plan_end(image, &plan, r);
        if (r < 0)
            return r;
        offset += plan.length;
        length -= plan.length;
    }
    return 0;
}

/* ---- two halves ---- */

int io_begin(struct img *image, struct img_context *c, struct img_plan *plan, struct img_error *err) {
    plan->writes = plan->op != IMG_OP_READ;
    plan->need = (struct img_need){0};
    if (!plan_open(&image->epochs, c, plan))
        return IMG_WOULD_BLOCK; /* an empty need: io_ready waits for the gate */
    int r = plan_resolve(image, plan, err);
    if (r)
        plan_close(&image->epochs, plan);
    return r;
}

int io_ready(struct img *image, struct img_context *c, const struct img_plan *plan, struct img_error *err) {
    gate_wait(&image->epochs, true);
    return image->driver->ready ? image->driver->ready(image, c, &plan->need, err) : 0;
}

int io_end(struct img *image, struct img_plan *plan, const void *buffer, struct img_error *err) {
    struct iovec iov = {(void *)buffer, plan->steps[0].length};
    struct iov_cursor from = iov_begin(&iov, 1);
    int r = move_plan(image, plan->context, plan, &from, err);
    plan_end(image, plan, r);
    return r;
}
