/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* move.c - the bytes of an open plan, moved by the thread that calls.
 *
 * Guest data goes straight between the caller's buffers and the host; only the edges of fresh clusters and compressed
 * clusters pass through a bounce buffer. Reads of a layer below go through io_read with the layer's own context; the
 * depth is bounded when the chain is opened.
 */
#include "move.h"

#include "crypto.h"
#include "debug.h"
#include "error.h"
#include "io.h"
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u /* what a disk writes whole */
#define BOUNCE (64u << 10)

/* The size stands still while a plan is open. What goes behind the disk's end was looked at by who began it. */
int plan_resolve(struct img *image, struct img_plan *plan, struct img_error *err) {
    int r = 0;
    if (plan->op != IMG_OP_DROP && !plan->context->behind_end)
        r = request_check_range(image, plan->offset, plan->length, plan->writes, err);
    return r < 0 ? r : image->driver->resolve(image, plan, err);
}

/* ---- reading ---- */

static int read_host(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err) {
    uint64_t left = step->length, host = step->host;
    if (image->crypto)
        return crypto_read(image, step, to, err);
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

uint64_t step_bytes_below(const struct img *image, const struct img_step *step) {
    uint64_t size = image->backing ? img_size(image->backing) : 0;
    if (step->guest >= size)
        return 0;
    return step->length < size - step->guest ? step->length : size - step->guest;
}

/* What lies below, zeroes behind its end. */
static int read_below(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err) {
    struct img *below = image->backing;
    uint64_t there = step_bytes_below(image, step);
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

int move_step(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err) {
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

/* ---- writing ---- */

static int read_edge(struct img *image, struct img_context *c, uint8_t *buffer, uint64_t count, uint64_t offset,
                     struct img_error *err) {
    struct iovec iov = {buffer, count};
    struct iov_cursor to = iov_begin(&iov, 1);
    return io_read(image, c, &to, count, offset, true, err);
}

/* The edges in front of and behind the data, in one buffer: [head][tail]. NULL and 0: none is written. */
static int fill_edges(struct img *image, struct img_context *c, struct img_plan *plan, uint64_t *head, uint64_t *tail,
                      uint8_t **out, struct img_error *err) {
    uint64_t size = c->behind_end ? UINT64_MAX : atomic_load(&image->size), behind = plan->offset + plan->length;
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
        r = read_edge(image, c, buffer, *head, plan->offset - *head, err);
    if (r == 0 && plan->tail_fill == IMG_FILL_READ && behind < size) {
        uint64_t there = size - behind < *tail ? size - behind : *tail;
        r = read_edge(image, c, buffer + *head, there, behind, err);
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
static int move_write(struct img *image, struct img_context *c, struct img_plan *plan, struct iov_cursor *from,
                      struct img_error *err) {
    const struct img_step *step = &plan->steps[0];
    uint64_t head, tail;
    uint8_t *edges;
    IMG_DEBUG_PAUSE("resolved");
    int r = fill_edges(image, c, plan, &head, &tail, &edges, err);
    uint64_t left = step->length, host = step->host - (r == 0 ? head : 0);
    uint8_t *bounce = NULL;
    bool first = true;
    if (r == 0 && image->crypto) {
        r = crypto_write(image, plan, edges, head, tail, from, err);
        left = 0;
    }
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

/* ---- zeroes and discards ---- */

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

/* ---- any plan ---- */

int move_plan(struct img *image, struct img_context *c, struct img_plan *plan, struct iov_cursor *data,
              struct img_error *err) {
    int r = 0;
    if (plan->op == IMG_OP_ZERO || plan->op == IMG_OP_DISCARD || plan->op == IMG_OP_DROP)
        return move_clear(image, plan, err);
    if (plan->op != IMG_OP_READ)
        return move_write(image, c, plan, data, err);
    for (unsigned i = 0; r == 0 && i < plan->nsteps; i++)
        r = move_step(image, &plan->steps[i], data, err);
    return r;
}

void plan_end(struct img *image, struct img_plan *plan, int result) {
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
