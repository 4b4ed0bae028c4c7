/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* range.c - a byte range of an open image as storage: a partition, or an image inside an image.
 *
 * Everything goes through the parent's public calls, so it gets the parent's backing chain, allocation and order on
 * disk. The range has a fixed size, like a block device: behind its end there is nothing to write and zeroes to read.
 *
 * Always holds: no call of the parent names a byte outside [offset, offset + length).
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "image.h"
#include "iov.h"
#include "storage.h"

#define WINDOW 64

struct range {
    struct storage base;
    struct img *parent;
    uint64_t offset, length;
    bool adopted; /* `parent` is closed with it */
};

static struct range *range_of(struct storage *s) {
    return (struct range *)s;
}

/* How many of `count` bytes at `at` are inside. */
static uint64_t inside(const struct range *r, uint64_t at, uint64_t count) {
    if (at >= r->length)
        return 0;
    return count < r->length - at ? count : r->length - at;
}

typedef int transfer(struct img *, const struct iovec *, int, uint64_t, struct img_error *);

/* Moves `count` bytes that are inside, in as few calls of the parent as its limit on vectors allows. */
static int move(const struct range *r, transfer *call, struct iov_cursor *at, uint64_t offset, size_t count) {
    while (count > 0) {
        struct iovec window[WINDOW];
        int n = iov_window(at, window, WINDOW, count);
        size_t size = iov_size(window, n);
        int result = call(r->parent, window, n, r->offset + offset, NULL);
        if (result < 0)
            return result;
        iov_advance(at, size);
        offset += size;
        count -= size;
    }
    return 0;
}

static int range_readv(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct range *r = range_of(s);
    size_t total = iov_size(iov, niov);
    if (total == SIZE_MAX)
        return -EINVAL;
    size_t count = (size_t)inside(r, offset, total);
    if (count == total && niov <= IOV_MAX)
        return total == 0 ? 0 : img_preadv(r->parent, iov, niov, r->offset + offset, NULL);
    struct iov_cursor at = iov_begin(iov, niov);
    int result = move(r, img_preadv, &at, offset, count);
    if (result == 0)
        iov_zero(&at, total - count);
    return result;
}

static int range_writev(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct range *r = range_of(s);
    size_t total = iov_size(iov, niov);
    if (total == SIZE_MAX)
        return -EINVAL;
    if (inside(r, offset, total) < total)
        return -ENOSPC;
    if (niov <= IOV_MAX)
        return total == 0 ? 0 : img_pwritev(r->parent, iov, niov, r->offset + offset, NULL);
    struct iov_cursor at = iov_begin(iov, niov);
    return move(r, img_pwritev, &at, offset, total);
}

static int range_flush(struct storage *s) {
    return img_flush(range_of(s)->parent, NULL);
}

static int range_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    struct range *r = range_of(s);
    if (inside(r, offset, length) < length)
        return -ENOSPC;
    return img_write_zeroes(r->parent, r->offset + offset, length, unmap ? IMG_ZERO_MAY_UNMAP : 0, NULL);
}

/* A discard of the parent would leave the parts of its clusters as they are; a punch promises zeroes. */
static int range_punch(struct storage *s, uint64_t offset, uint64_t length) {
    return range_zero(s, offset, length, true);
}

static int range_truncate(struct storage *s, uint64_t length) {
    (void)s;
    (void)length;
    return -ENOTSUP;
}

static int range_reserve(struct storage *s, uint64_t offset, uint64_t length) {
    (void)s;
    (void)offset;
    (void)length;
    return -ENOTSUP;
}

static int range_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *extent) {
    struct range *r = range_of(s);
    uint64_t count = inside(r, offset, length);
    *extent = (struct storage_extent){.length = length, .zero = true};
    if (count == 0)
        return length == 0 ? -EINVAL : 0;
    struct img_extent e;
    int result = img_map(r->parent, r->offset + offset, count, false, &e, NULL);
    if (result < 0)
        return result;
    extent->length = e.length < count ? e.length : count;
    extent->zero = (e.flags & IMG_EXTENT_ZERO) || !(e.flags & IMG_EXTENT_PRESENT);
    return 0;
}

static uint64_t range_size(struct storage *s) {
    return range_of(s)->length;
}

/* The parent's space cannot be told apart by ranges without walking all of them. */
static uint64_t range_allocated(struct storage *s) {
    const struct range *r = range_of(s);
    return r->adopted ? r->parent->file->ops->allocated(r->parent->file) : 0;
}

static void range_close(struct storage *s) {
    if (range_of(s)->adopted)
        img_close(range_of(s)->parent, NULL);
    free(s->name);
    free(s);
}

static const struct storage_ops range_ops = {
    .read = range_readv,
    .write = range_writev,
    .flush = range_flush,
    .zero = range_zero,
    .punch = range_punch,
    .truncate = range_truncate,
    .reserve = range_reserve,
    .extent = range_extent,
    .size = range_size,
    .allocated = range_allocated,
    .close = range_close,
};

int range_open(struct img *parent, uint64_t offset, uint64_t length, struct storage **out, struct img_error *err) {
    uint64_t size = img_size(parent), end;
    if (__builtin_add_overflow(offset, length, &end) || end > size)
        return img_fail(err, -EINVAL,
                        "Length %" PRIu64 " at offset %" PRIu64 " reaches behind the end of '%s', which has %" PRIu64
                        " bytes",
                        length, offset, parent->path, size);
    struct range *r = calloc(1, sizeof *r);
    if (r == NULL ||
        asprintf(&r->base.name, "%s (%" PRIu64 " bytes at %" PRIu64 ")", parent->path, length, offset) < 0) {
        free(r);
        return img_fail_errno(err, -ENOMEM, "Could not open a part of '%s'", parent->path);
    }
    r->base.ops = &range_ops;
    r->base.writable = parent->writable;
    r->base.fixed_size = true;
    r->parent = parent;
    r->offset = offset;
    r->length = length;
    *out = &r->base;
    return 0;
}

int range_adopt(struct img *parent, struct storage **out, struct img_error *err) {
    int r = range_open(parent, 0, img_size(parent), out, err);
    char *name = r == 0 ? strdup(parent->path) : NULL;
    if (r == 0 && name == NULL) {
        storage_close(*out);
        r = img_fail_errno(err, -ENOMEM, "Could not open '%s'", parent->path);
    }
    if (r < 0) {
        img_close(parent, NULL);
        return r;
    }
    free((*out)->name);
    (*out)->name = name;
    range_of(*out)->adopted = true;
    return 0;
}
