/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* io.c - the synchronous executor: resolve, move, commit in the caller's thread (the public calls are in request.c).
 *
 * A call claims a context, holds one plan at a time, and does its own blocking work (ready) with no plan open. Guest
 * data goes straight between the caller's buffers and the host; only the edges of fresh clusters and compressed
 * clusters pass through a bounce buffer. Reads of a layer below go through the same function with the layer's own
 * context; the depth is bounded when the chain is opened.
 */
#include "io.h"

#include "debug.h"
#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ZERO_CHUNK (1u << 20) /* zeroes are written in pieces of this size */
#define SECTOR 512u           /* what a disk writes whole */
#define BOUNCE (64u << 10)

/* ---- plans ---- */

/* Opens and resolves. On success the plan is open; else it is closed. */
static int begin(struct img *image, struct img_context *c, struct img_plan *plan, struct img_error *err) {
    const struct img_plan request = *plan;
    for (;;) {
        plan->writes = request.op != IMG_OP_READ;
        while (!plan_open(&image->epochs, c, plan))
            gate_wait(&image->epochs, plan->writes);
        int r = image->driver->resolve(image, plan, err);
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

static void end(struct img *image, struct img_plan *plan, int result) {
    struct img_context *c = plan->context;
    if (plan->writes && result == 0) {
        image->driver->commit(image, plan);
        /* after the commit: a round that counts this write has its link in the slices it freezes */
        atomic_fetch_add_explicit(&c->done, 1, memory_order_release);
    } else if (plan->writes) {
        image->driver->abort(image, plan, true);
    }
    plan_close(&image->epochs, plan);
}

/* ---- reading ---- */

static int read_host(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err) {
    uint64_t left = step->length, host = step->host;
    while (left) {
        struct iovec window[64];
        int n = iov_window(to, window, 64, left);
        size_t bytes = iov_size(window, n);
        int r = storage_readv(step->file, window, n, host);
        if (r < 0)
            return img_fail_errno(err, r, "could not read %llu bytes at guest offset %llu of '%s' (host offset %llu)",
                                  (unsigned long long)step->length, (unsigned long long)step->guest, image->path,
                                  (unsigned long long)step->host);
        iov_advance(to, bytes);
        left -= bytes;
        host += bytes;
    }
    return 0;
}

static int read_compressed(struct img *image, const struct img_step *step, struct iov_cursor *to,
                           struct img_error *err) {
    uint64_t cluster = image->driver->cluster_size(image);
    uint8_t *buffer = malloc(cluster + step->stored);
    if (!buffer)
        return img_fail(err, -ENOMEM, "no memory to decompress a cluster of %llu bytes", (unsigned long long)cluster);
    int r = storage_read(step->file, buffer + cluster, step->stored, step->host);
    if (r == 0)
        r = image->driver->decompress(image, buffer + cluster, step->stored, buffer, cluster);
    if (r == 0)
        iov_put(to, buffer + (step->guest & (cluster - 1)), step->length);
    else
        img_fail_errno(err, r, "could not read the compressed cluster of guest offset %llu of '%s' (host offset %llu)",
                       (unsigned long long)step->guest, image->path, (unsigned long long)step->host);
    free(buffer);
    return r;
}

/* What lies below, zeroes behind its end. */
static int read_below(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err) {
    struct img *below = image->backing;
    uint64_t size = below ? img_size(below) : 0;
    uint64_t there = step->guest >= size ? 0 : step->guest + step->length > size ? size - step->guest : step->length;
    int r = 0;
    if (there) {
        struct img_context *c = context_claim(&below->epochs);
        r = io_read(below, c, to, there, step->guest, false, err);
        context_release(&below->epochs, c);
    }
    if (r == 0)
        iov_zero(to, step->length - there);
    return r;
}

static int perform_read(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err) {
    switch (step->kind) {
    case IMG_STEP_HOST:
        return read_host(image, step, to, err);
    case IMG_STEP_COMPRESSED:
        return read_compressed(image, step, to, err);
    case IMG_STEP_BELOW:
        return read_below(image, step, to, err);
    case IMG_STEP_ZERO:
        iov_zero(to, step->length);
        return 0;
    }
    return -EINVAL;
}

int io_read(struct img *image, struct img_context *c, struct iov_cursor *to, size_t count, uint64_t offset, bool inner,
            struct img_error *err) {
    while (count) {
        struct img_plan plan = {.op = IMG_OP_READ, .offset = offset, .length = count, .inner = inner};
        int r = begin(image, c, &plan, err);
        if (r < 0)
            return r;
        for (unsigned i = 0; r == 0 && i < plan.nsteps; i++)
            r = perform_read(image, &plan.steps[i], to, err);
        end(image, &plan, r);
        if (r < 0)
            return r;
        offset += plan.length;
        count -= plan.length;
    }
    return 0;
}

/* ---- writing ---- */

static int read_edge(struct img *image, struct img_plan *plan, uint8_t *buffer, uint64_t count, uint64_t offset,
                     struct img_error *err) {
    struct iovec iov = {buffer, count};
    struct iov_cursor to = iov_begin(&iov, 1);
    return io_read(image, plan->context, &to, count, offset, true, err);
}

/* The edges in front of and behind the data, in one buffer: [head][tail]. NULL and 0: none is written. */
static int fill_edges(struct img *image, struct img_plan *plan, uint64_t *head, uint64_t *tail, uint8_t **out,
                      struct img_error *err) {
    uint64_t size = atomic_load(&image->size), behind = plan->offset + plan->length;
    *head = plan->head_fill == IMG_FILL_NONE ? 0 : plan->head;
    *tail = plan->tail_fill == IMG_FILL_NONE ? 0 : plan->tail;
    *out = NULL;
    if (!*head && !*tail)
        return 0;
    uint8_t *buffer = calloc(1, *head + *tail);
    if (!buffer)
        return img_fail(err, -ENOMEM, "no memory for the edges of a cluster of '%s'", image->path);
    int r = 0;
    if (plan->head_fill == IMG_FILL_READ)
        r = read_edge(image, plan, buffer, *head, plan->offset - *head, err);
    if (r == 0 && plan->tail_fill == IMG_FILL_READ && behind < size) {
        uint64_t there = size - behind < *tail ? size - behind : *tail;
        r = read_edge(image, plan, buffer + *head, there, behind, err);
    }
    if (r < 0) {
        free(buffer);
        return r;
    }
    *out = buffer;
    return 0;
}

/* Describes in at most 64 entries what the next call writes at `host`. A vector that needs several calls is cut between
 * sectors, so that no sector is half of one writer and half of another; where 64 buffers are less than a sector, they
 * are copied together into *bounce. Returns the entries, or -ENOMEM. */
static int next_piece(const struct iov_cursor *from, struct iovec *iov, uint64_t left, uint64_t host,
                      uint8_t **bounce) {
    int n = iov_window(from, iov, 64, left);
    size_t bytes = iov_size(iov, n), over = (host + bytes) % SECTOR;
    if (bytes == left || over == 0)
        return n;
    if (over < bytes)
        return iov_window(from, iov, 64, bytes - over);
    if (!*bounce && !(*bounce = malloc(BOUNCE)))
        return -ENOMEM;
    struct iov_cursor at = *from;
    size_t count = BOUNCE - host % SECTOR;
    *iov = (struct iovec){*bounce, count < left ? count : left};
    iov_get(&at, *bounce, iov->iov_len);
    return 1;
}

/* [head][count bytes from the cursor][tail] to the plan's one step. */
static int move_write(struct img *image, struct img_plan *plan, struct iov_cursor *from, struct img_error *err) {
    const struct img_step *step = &plan->steps[0];
    uint64_t head, tail;
    uint8_t *edges;
    IMG_DEBUG_PAUSE("resolved");
    int r = fill_edges(image, plan, &head, &tail, &edges, err);
    uint64_t left = step->length, host = step->host - (r == 0 ? head : 0);
    uint8_t *bounce = NULL;
    bool first = true;
    while (r == 0 && left) {
        struct iovec iov[66];
        int n = 0;
        if (first && head)
            iov[n++] = (struct iovec){edges, head};
        int data = next_piece(from, iov + n, left, host + (first ? head : 0), &bounce);
        if (data < 0) {
            r = img_fail(err, data, "no memory for a write of many small buffers to '%s'", image->path);
            break;
        }
        size_t bytes = iov_size(iov + n, data), all = bytes + (first ? head : 0);
        n += data;
        left -= bytes;
        if (!left && tail) {
            iov[n++] = (struct iovec){edges + head, tail};
            all += tail;
        }
        r = storage_writev(step->file, iov, n, host);
        if (r < 0)
            img_fail_errno(err, r, "could not write %llu bytes at guest offset %llu of '%s'",
                           (unsigned long long)plan->length, (unsigned long long)plan->offset, image->path);
        iov_advance(from, bytes);
        host += all;
        first = false;
    }
    free(edges);
    free(bounce);
    IMG_DEBUG_PAUSE("moved");
    return r;
}

int io_write(struct img *image, struct img_context *c, struct iov_cursor *from, uint64_t count, uint64_t offset,
             struct img_error *err) {
    while (count) {
        struct img_plan plan = {.op = IMG_OP_WRITE, .offset = offset, .length = count};
        int r = begin(image, c, &plan, err);
        if (r < 0)
            return r;
        r = move_write(image, &plan, from, err);
        end(image, &plan, r);
        if (r < 0)
            return r;
        offset += plan.length;
        count -= plan.length;
    }
    return 0;
}

int io_write_compressed(struct img *image, struct img_context *c, const void *packed, uint32_t stored, uint64_t count,
                        uint64_t offset, struct img_error *err) {
    struct iovec iov = {(void *)packed, stored};
    struct iov_cursor from = iov_begin(&iov, 1);
    struct img_plan plan = {.op = IMG_OP_COMPRESSED, .offset = offset, .length = count, .stored = stored};
    int r = begin(image, c, &plan, err);
    if (r < 0)
        return r;
    r = move_write(image, &plan, &from, err);
    end(image, &plan, r);
    return r;
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

static int move_clear(struct img *image, struct img_plan *plan, struct img_error *err) {
    const struct img_step *step = &plan->steps[0];
    if (plan->action != IMG_MOVE_ZERO_HOST)
        return 0;
    bool unmap = plan->may_unmap || plan->op == IMG_OP_DISCARD;
    int r = storage_zero(step->file, step->host, step->length, unmap);
    if (r < 0)
        img_fail_errno(err, r, "could not zero %llu bytes at guest offset %llu of '%s'",
                       (unsigned long long)step->length, (unsigned long long)plan->offset, image->path);
    return r;
}

int io_clear(struct img *image, struct img_context *c, enum img_op op, bool may_unmap, uint64_t offset, uint64_t length,
             struct img_error *err) {
    while (length) {
        struct img_plan plan = {.op = op, .may_unmap = may_unmap, .offset = offset, .length = length};
        int r = begin(image, c, &plan, err);
        if (r < 0)
            return r;
        bool as_write = plan.action == IMG_MOVE_AS_WRITE;
        r = move_clear(image, &plan, err);
        end(image, &plan, r);
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
        int r = begin(image, c, &plan, err);
        if (r < 0)
            return r;
        if (plan.resv.slice) /* else it has clusters already */
            r = move_preallocation(&plan, preallocation);
        if (r < 0)
            img_fail_errno(err, r, "could not preallocate guest offset %llu of '%s'", (unsigned long long)offset,
                           image->path);
        end(image, &plan, r);
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
    int r = image->driver->resolve(image, plan, err);
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
    int r = plan->action == IMG_MOVE_STEPS ? move_write(image, plan, &from, err) : move_clear(image, plan, err);
    end(image, plan, r);
    return r;
}
