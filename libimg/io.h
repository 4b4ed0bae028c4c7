/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* io.h - the synchronous executor, for the engine's own use. Public calls are in img.h.
 *
 * Each takes the context in which its plans are opened; the range must lie inside the image unless a function says so.
 */
#ifndef LIBIMG_IO_H
#define LIBIMG_IO_H

#include "image.h"
#include "iov.h"

/* Reads `count` bytes, which the cursor moves on by. `inner`: a plan of the context is open around it. */
int io_read(struct img *image, struct img_context *c, struct iov_cursor *to, size_t count, uint64_t offset, bool inner,
            struct img_error *err);
int io_write(struct img *image, struct img_context *c, struct iov_cursor *from, uint64_t count, uint64_t offset,
             struct img_error *err);
/* One cluster of `count` guest bytes (the image's last may be short), compressed to `stored` bytes at `packed`. */
int io_write_compressed(struct img *image, struct img_context *c, const void *packed, uint32_t stored, uint64_t count,
                        uint64_t offset, struct img_error *err);
/* Zeroes or discards (IMG_OP_ZERO, IMG_OP_DISCARD). The driver decides what may lie behind the end. */
int io_clear(struct img *image, struct img_context *c, enum img_op op, bool may_unmap, uint64_t offset, uint64_t length,
             struct img_error *err);
/* Gives the range host clusters that read as zeroes; what has data already is left alone. */
int io_preallocate(struct img *image, struct img_context *c, uint64_t offset, uint64_t length,
                   enum img_preallocation preallocation, struct img_error *err);

/* Opens a plan and resolves it, waiting for whatever it needs. On failure it is closed. */
int io_open(struct img *image, struct img_context *c, struct img_plan *plan, struct img_error *err);

/* A write in two halves, for the copy engine. io_begin resolves and reserves in the order in which it is called, and
 * does not sleep: IMG_WOULD_BLOCK leaves the plan closed, and io_ready, called with no plan of the caller open, does
 * what it waits for. It may cover a part of the request only (plan->length). io_end moves the bytes, commits and
 * closes, in any order and thread. The context is `shared`. */
int io_begin(struct img *image, struct img_context *c, struct img_plan *plan, struct img_error *err);
int io_ready(struct img *image, struct img_context *c, const struct img_plan *plan, struct img_error *err);
int io_end(struct img *image, struct img_plan *plan, const void *buffer, struct img_error *err);

#endif
