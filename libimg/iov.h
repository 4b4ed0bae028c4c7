/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* iov.h - walking over a caller's vector of buffers without changing it.
 *
 * A cursor stands somewhere in a vector. System calls that move less than was asked for, requests that are cut into
 * pieces and copies to and from a bounce buffer all go on from where the cursor stands.
 */
#ifndef LIBIMG_IOV_H
#define LIBIMG_IOV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct iov_cursor {
    const struct iovec *iov; /* the entry it stands in */
    int niov;                /* entries left, that one included */
    size_t skip;             /* bytes of that entry that are behind it */
};

static inline struct iov_cursor iov_begin(const struct iovec *iov, int niov) {
    return (struct iov_cursor){iov, niov, 0};
}

/* Bytes in all; SIZE_MAX when the sum overflows or no system call could take it. */
size_t iov_size(const struct iovec *iov, int niov);

/* Moves the cursor on by `count` bytes, at most to the end. */
void iov_advance(struct iov_cursor *c, size_t count);

/* Describes the next bytes, at most `limit` and at most `max` entries, in `out`; returns the number of entries. The
 * cursor stays. */
int iov_window_of_many(const struct iov_cursor *c, struct iovec *out, int max, size_t limit); /* for iov_window */
static inline int iov_window(const struct iov_cursor *c, struct iovec *out, int max, size_t limit) {
    if (max > 0 && limit > 0 && c->niov > 0 && c->skip < c->iov->iov_len && c->iov->iov_len - c->skip >= limit) {
        *out = (struct iovec){(uint8_t *)c->iov->iov_base + c->skip, limit}; /* the usual case: all in one buffer */
        return 1;
    }
    return iov_window_of_many(c, out, max, limit);
}

/* These move the cursor on by `count` bytes, which must be there. */
void iov_zero(struct iov_cursor *c, size_t count);                  /* fills the vector with zeroes */
void iov_put(struct iov_cursor *c, const void *from, size_t count); /* copies into the vector */
void iov_get(struct iov_cursor *c, void *to, size_t count);         /* copies out of the vector */

/* True when every buffer starts on a multiple of `memory` and is a multiple of `length` long (powers of two). */
bool iov_is_aligned(const struct iovec *iov, int niov, size_t memory, size_t length);

#endif
