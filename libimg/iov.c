/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* iov.c - walking over a caller's vector of buffers without changing it (iov.h). */
#include "iov.h"

#include <limits.h>
#include <string.h>

size_t iov_size(const struct iovec *iov, int niov) {
    size_t sum = 0;
    for (int i = 0; i < niov; i++)
        if (__builtin_add_overflow(sum, iov[i].iov_len, &sum) || sum > SSIZE_MAX)
            return SIZE_MAX;
    return sum;
}

/* The bytes from the cursor to the end of its entry, after stepping over entries that are used up. */
static size_t next_run(struct iov_cursor *c, uint8_t **base) {
    while (c->niov > 0 && c->skip >= c->iov->iov_len) {
        c->iov++;
        c->niov--;
        c->skip = 0;
    }
    if (c->niov <= 0)
        return 0;
    *base = (uint8_t *)c->iov->iov_base + c->skip;
    return c->iov->iov_len - c->skip;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

void iov_advance(struct iov_cursor *c, size_t count) {
    uint8_t *base;
    size_t run;
    while (count > 0 && (run = next_run(c, &base)) > 0) {
        size_t n = smaller(run, count);
        c->skip += n;
        count -= n;
    }
}

int iov_window_of_many(const struct iov_cursor *c, struct iovec *out, int max, size_t limit) {
    struct iov_cursor at = *c;
    uint8_t *base;
    size_t run;
    int n = 0;
    while (n < max && limit > 0 && (run = next_run(&at, &base)) > 0) {
        out[n].iov_base = base;
        out[n].iov_len = smaller(run, limit);
        limit -= out[n].iov_len;
        at.skip += out[n].iov_len;
        n++;
    }
    return n;
}

void iov_zero(struct iov_cursor *c, size_t count) {
    uint8_t *base;
    size_t run;
    while (count > 0 && (run = next_run(c, &base)) > 0) {
        size_t n = smaller(run, count);
        memset(base, 0, n);
        c->skip += n;
        count -= n;
    }
}

void iov_put(struct iov_cursor *c, const void *from, size_t count) {
    const uint8_t *source = from;
    uint8_t *base;
    size_t run;
    while (count > 0 && (run = next_run(c, &base)) > 0) {
        size_t n = smaller(run, count);
        memcpy(base, source, n);
        source += n;
        c->skip += n;
        count -= n;
    }
}

void iov_get(struct iov_cursor *c, void *to, size_t count) {
    uint8_t *target = to, *base;
    size_t run;
    while (count > 0 && (run = next_run(c, &base)) > 0) {
        size_t n = smaller(run, count);
        memcpy(target, base, n);
        target += n;
        c->skip += n;
        count -= n;
    }
}

bool iov_is_aligned(const struct iovec *iov, int niov, size_t memory, size_t length) {
    for (int i = 0; i < niov; i++)
        if (((uintptr_t)iov[i].iov_base & (memory - 1)) != 0 || (iov[i].iov_len & (length - 1)) != 0)
            return false;
    return true;
}
