/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* request.h - what every request is held against before it starts, whoever executes it. */
#ifndef LIBIMG_REQUEST_H
#define LIBIMG_REQUEST_H

#include "image.h"

/* The range lies inside the image, which is open for what is to be done. */
int request_check_range(struct img *image, uint64_t offset, uint64_t length, bool writes, struct img_error *err);
/* The bytes of a vector that a caller may give. */
int request_size(struct img *image, const struct iovec *iov, int niov, uint64_t *count, struct img_error *err);
/* A write is durable when it returns. */
bool request_writes_through(const struct img *image);
/* A write here must be looked at first: it could turn a raw image that was probed into something else. */
bool request_is_guarded(const struct img *image, uint64_t offset);
/* Looks at it: -EPERM when the bytes of `iov` (NULL: zeroes) at `offset` would. image->first_sector is held until they
 * are written. */
int request_guard(struct img *image, struct img_context *c, const struct iovec *iov, int niov, uint64_t count,
                  uint64_t offset, struct img_error *err);

/* What img_pwritev and img_write_zeroes do once the range is checked and a context is claimed. They block. */
int request_write(struct img *image, struct img_context *c, const struct iovec *iov, int niov, uint64_t count,
                  uint64_t offset, struct img_error *err);
int request_zero(struct img *image, struct img_context *c, bool may_unmap, uint64_t offset, uint64_t length,
                 struct img_error *err);

#endif
