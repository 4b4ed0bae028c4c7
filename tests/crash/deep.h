/* SPDX-License-Identifier: GPL-3.0-or-later */
/* deep.h - a guest with several requests under way in one queue, as the model sees it.
 *
 * A request is asked for when it is submitted and acknowledged when it is reaped: what was reaped before a flush was
 * submitted, from whatever queue, is what that flush promises. Belongs to one thread.
 */
#ifndef CRASH_DEEP_H
#define CRASH_DEEP_H

#include "world.h"

enum { DEEP_MOST = 16 };

struct deep;

/* A queue by the world's executor; at most DEEP_MOST requests are under way in it. */
struct deep *deep_open(struct world *w);
/* Collects what is under way. */
void deep_close(struct deep *d);

/* One request: 'w' write, 'z' zeroes, 'u' zeroes with unmap, 'd' discard, 'f' flush. It is not submitted before
 * deep_submit. Returns its number. */
unsigned deep_ask(struct deep *d, char kind, uint64_t offset, uint64_t length);
/* Submits what was asked for since, in one call. */
void deep_submit(struct deep *d);
/* Reaps until at most `left` requests are under way. An error ends the scenario, unless it is `expected`. */
void deep_collect(struct deep *d, unsigned left);
void deep_expect(struct deep *d, int expected);
unsigned deep_under_way(const struct deep *d);
/* How many ended with the expected error so far. */
unsigned deep_failures(const struct deep *d);
/* img_queue_cancel of a request. */
int deep_cancel(struct deep *d, unsigned number);

/* `count` random requests out of `kinds` inside [from, to), several under way, a flush among them after each
 * `flush_every`. `apart`: those under way at once do not overlap, so what is there afterwards is known. */
void deep_mix(struct deep *d, struct rng *rng, const char *kinds, unsigned count, unsigned flush_every, bool apart,
              uint64_t from, uint64_t to);

#endif
