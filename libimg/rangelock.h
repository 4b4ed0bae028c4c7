/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rangelock.h - locks on byte ranges, shared or exclusive, for many threads at once.
 *
 * Why: where the device's block is larger than what a caller may write, a small write reads the block, changes a part
 * and writes it back. Every other write of that block, whole ones too, must stay out meanwhile, or it would be undone
 * although it was acknowledged. Whole-block writes lock shared: they do not mind each other.
 *
 * How: the offsets are dealt by the MiB to a fixed number of shards, each with a mutex and a queue. A hold stands in
 * the queue of every shard that it touches and may go when nothing before it in that queue conflicts, so nobody
 * starves. Shards are entered in ascending order: who waits in one holds only lower ones, so there is no circle.
 */
#ifndef LIBIMG_RANGELOCK_H
#define LIBIMG_RANGELOCK_H

#include <stdbool.h>
#include <stdint.h>

#define RANGELOCK_SHARDS 16
#define RANGELOCK_SHARD_BYTES ((uint64_t)1 << 20)

struct rangelock;

/* One locked range; the caller's memory until rangelock_release. */
struct range_hold {
    uint64_t start, end; /* end is not in it */
    bool exclusive;
    uint32_t shards; /* bits: where it stands */
    struct range_hold *next[RANGELOCK_SHARDS];
};

struct rangelock *rangelock_new(void);
void rangelock_free(struct rangelock *l);

/* Waits until no conflicting range is held. A thread must not hold two that could conflict. */
void rangelock_acquire(struct rangelock *l, struct range_hold *hold, uint64_t start, uint64_t end, bool exclusive);
/* Shared, or false without waiting. Any thread may release it, perhaps much later: who acquires waits for that. */
bool rangelock_try(struct rangelock *l, struct range_hold *hold, uint64_t start, uint64_t end);
void rangelock_release(struct rangelock *l, struct range_hold *hold);

#endif
