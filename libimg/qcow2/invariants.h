/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* invariants.h - checks that exist in builds with IMG_DEBUG only (invariants.c). */
#ifndef LIBIMG_QCOW2_INVARIANTS_H
#define LIBIMG_QCOW2_INVARIANTS_H

#include "qcow2.h"

#ifdef IMG_DEBUG
/* Slice lock held; a round is about to copy it. */
void invariant_frozen(const struct qcow2 *q, const struct slice *s);
/* Slice lock held; its buffer is about to be used for something else. */
void invariant_evicted(struct qcow2 *q, const struct slice *s);
/* After the last step of closing. */
void invariant_closed(const struct qcow2 *q);
#else
#define invariant_frozen(q, s) ((void)0)
#define invariant_evicted(q, s) ((void)0)
#define invariant_closed(q) ((void)0)
#endif

#endif
