/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* move.h - the steps of a request (plan.h) that are the same for every executor. */
#ifndef LIBIMG_MOVE_H
#define LIBIMG_MOVE_H

#include "image.h"
#include "iov.h"

/* Asks the driver about an open plan. -EINVAL: it is not inside the image any more, which may have shrunk since its
 * request was checked. */
int plan_resolve(struct img *image, struct img_plan *plan, struct img_error *err);

/* How many bytes of a step from below the layer below has, from the front on: zeroes are behind its end. */
uint64_t step_bytes_below(const struct img *image, const struct img_step *step);

/* Moves the bytes of an open plan between the host and what the cursor stands on, which moves on (NULL: a plan of
 * zeroes or a discard). May block. `c` is a context of this thread, for reading the edges; the plan's own, or another.
 */
int move_plan(struct img *image, struct img_context *c, struct img_plan *plan, struct iov_cursor *data,
              struct img_error *err);

/* One step of a plan that reads. */
int move_step(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err);

/* Commits or aborts, by `result`, and closes the plan. Memory work. */
void plan_end(struct img *image, struct img_plan *plan, int result);

#endif
