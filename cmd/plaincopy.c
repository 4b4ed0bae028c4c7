/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plaincopy.c - see plaincopy.h.
 *
 * The target is written in pieces: whole clusters of it, and as many as the sparse size needs, so that a compressed
 * cluster is written once and a hole is never shorter than was asked for. What is wanted of the source is widened to
 * such pieces; the bytes beside it come from the source as well, so the target shows what the source shows.
 */
#include "plaincopy.h"

#include <errno.h>
#include <stdlib.h>

#include "report.h"

#define BUFFER_SIZE ((uint64_t)2 << 20)

struct run {
    const struct plain_copy *c;
    uint64_t piece, capacity; /* bytes; capacity is a multiple of piece */
    uint8_t *buffer;
};

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Must this extent of the source be in the target itself? */
static bool is_wanted(const struct plain_copy *c, const struct img_extent *extent) {
    if (extent->depth >= c->layers)
        return false;
    return (extent->flags & IMG_EXTENT_PRESENT) || extent->start < c->below_size;
}

/* Finds the next range from `at` on that is wanted; *start is the end of all when there is none. */
static int next_wanted(const struct run *r, uint64_t at, uint64_t *start, uint64_t *end, struct img_error *err) {
    uint64_t size = r->c->sources->size;
    if (r->c->layers == 0) {
        *start = at;
        *end = size;
        return 0;
    }
    struct img_extent extent;
    for (*start = *end = size; at < size; at = extent.start + extent.length) {
        int ret = img_map(r->c->sources->list[0].image, at, size - at, false, &extent, err);
        if (ret < 0)
            return ret;
        if (is_wanted(r->c, &extent)) {
            *start = extent.start - extent.start % r->piece;
            uint64_t last = extent.start + extent.length - 1;
            *end = smaller(size, last - last % r->piece + r->piece);
            return 0;
        }
    }
    return 0;
}

static int write_run(const struct run *r, const uint8_t *bytes, uint64_t offset, uint64_t length, bool zero,
                     struct img_error *err) {
    const struct plain_copy *c = r->c;
    if (zero)
        return c->target_is_zero ? 0 : img_write_zeroes(c->target, offset, length, IMG_ZERO_MAY_UNMAP, err);
    if (c->compress)
        return img_pwrite_compressed(c->target, bytes, length, offset, err);
    return img_pwrite(c->target, bytes, length, offset, err);
}

/* Writes the buffer's first `length` bytes to `offset`, in as few runs of data and of zeroes as there are. */
static int write_buffer(const struct run *r, uint64_t offset, uint64_t length, struct img_error *err) {
    bool sparse = r->c->sparse_size > 0, zero = false;
    uint64_t begun = 0;
    for (uint64_t at = 0; at < length; at += r->piece) {
        bool piece_zero = sparse && img_is_zero(r->buffer + at, smaller(r->piece, length - at));
        if (at > begun && piece_zero != zero) {
            int ret = write_run(r, r->buffer + begun, offset + begun, at - begun, zero, err);
            if (ret < 0)
                return ret;
            begun = at;
        }
        zero = piece_zero;
    }
    return write_run(r, r->buffer + begun, offset + begun, length - begun, zero, err);
}

static int copy_range(const struct run *r, uint64_t start, uint64_t end, struct img_error *err) {
    const struct plain_copy *c = r->c;
    for (uint64_t at = start; at < end;) {
        uint64_t length = smaller(r->capacity, end - at);
        int ret = sources_read(c->sources, r->buffer, length, at, err);
        if (ret == 0)
            ret = write_buffer(r, at, length, err);
        if (ret < 0)
            return ret;
        at += length;
        if (c->progress && c->progress(c->opaque, at, c->sources->size) != 0)
            return -ECANCELED;
    }
    return 0;
}

int plain_copy(const struct plain_copy *c, struct img_error *err) {
    struct run r = {.c = c, .piece = img_cluster_size(c->target)};
    if (r.piece < 512)
        r.piece = 512;
    if (c->sparse_size > r.piece)
        r.piece *= (c->sparse_size + r.piece - 1) / r.piece;
    r.capacity = r.piece * (r.piece < BUFFER_SIZE ? BUFFER_SIZE / r.piece : 1);
    if (posix_memalign((void **)&r.buffer, 4096, r.capacity) != 0)
        out_of_memory();

    int ret = 0;
    for (uint64_t at = 0, start, end; ret == 0 && at < c->sources->size; at = end) {
        ret = next_wanted(&r, at, &start, &end, err);
        if (ret == 0)
            ret = copy_range(&r, start, end, err);
    }
    free(r.buffer);
    return ret;
}
