/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* null.c - a storage that keeps nothing: what is written is lost, what is read is zero. For timing what lies above it,
 * and for images that are read only to see whether they can be read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "iov.h"
#include "node.h"

struct null {
    struct storage base;
    uint64_t length;
    bool zero; /* tell that it reads as zeroes */
};

static struct null *null_of(struct storage *s) {
    return (struct null *)s;
}

static int null_readv(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct iov_cursor at = iov_begin(iov, niov);
    size_t total = iov_size(iov, niov);
    (void)s;
    (void)offset;
    if (total == SIZE_MAX)
        return -EINVAL;
    iov_zero(&at, total);
    return 0;
}

static int null_writev(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    size_t total = iov_size(iov, niov);
    if (total == SIZE_MAX)
        return -EINVAL;
    return offset > null_of(s)->length || total > null_of(s)->length - offset ? -ENOSPC : 0;
}

static int null_flush(struct storage *s) {
    (void)s;
    return 0;
}

static int null_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    (void)unmap;
    return offset > null_of(s)->length || length > null_of(s)->length - offset ? -ENOSPC : 0;
}

static int null_punch(struct storage *s, uint64_t offset, uint64_t length) {
    return null_zero(s, offset, length, true);
}

static int null_truncate(struct storage *s, uint64_t length) {
    (void)s;
    (void)length;
    return -ENOTSUP;
}

static int null_reserve(struct storage *s, uint64_t offset, uint64_t length) {
    return null_zero(s, offset, length, false);
}

static int null_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *extent) {
    uint64_t end = null_of(s)->length;
    bool behind = offset >= end;
    if (!behind && length > end - offset)
        length = end - offset;
    *extent = (struct storage_extent){.length = length, .zero = behind || null_of(s)->zero};
    return 0;
}

static uint64_t null_size(struct storage *s) {
    return null_of(s)->length;
}

static uint64_t null_allocated(struct storage *s) {
    (void)s;
    return 0;
}

static void null_close(struct storage *s) {
    free(s->name);
    free(s);
}

static const struct storage_ops null_ops = {
    .read = null_readv,
    .write = null_writev,
    .flush = null_flush,
    .zero = null_zero,
    .punch = null_punch,
    .truncate = null_truncate,
    .reserve = null_reserve,
    .extent = null_extent,
    .size = null_size,
    .allocated = null_allocated,
    .close = null_close,
};

int null_open(uint64_t length, bool zero, bool writable, struct storage **out, struct img_error *err) {
    if (length > INT64_MAX)
        return img_fail(err, -EINVAL, "A size of %" PRIu64 " bytes is too large", length);
    struct null *n = calloc(1, sizeof *n);
    if (n == NULL || asprintf(&n->base.name, "null-co://") < 0) {
        free(n);
        return img_fail_errno(err, -ENOMEM, "Could not open nothing");
    }
    n->base.ops = &null_ops;
    n->base.writable = writable;
    n->base.fixed_size = true;
    n->length = length;
    n->zero = zero;
    *out = &n->base;
    return 0;
}
