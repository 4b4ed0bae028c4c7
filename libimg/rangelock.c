/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rangelock.c - locks on byte ranges (rangelock.h). */
#include "rangelock.h"

#include <pthread.h>
#include <stdlib.h>

#include "sync.h"

struct shard {
    _Alignas(64) pthread_mutex_t lock;
    pthread_cond_t left; /* somebody left the queue */
    unsigned waiting;
    struct range_hold *first;
};

struct rangelock {
    struct shard shards[RANGELOCK_SHARDS];
};

struct rangelock *rangelock_new(void) {
    struct rangelock *l = aligned_alloc(_Alignof(struct rangelock), sizeof *l);
    if (l == NULL)
        return NULL;
    for (int i = 0; i < RANGELOCK_SHARDS; i++) {
        pthread_mutex_init(&l->shards[i].lock, NULL);
        pthread_cond_init(&l->shards[i].left, NULL);
        l->shards[i].waiting = 0;
        l->shards[i].first = NULL;
    }
    return l;
}

void rangelock_free(struct rangelock *l) {
    if (l == NULL)
        return;
    for (int i = 0; i < RANGELOCK_SHARDS; i++) {
        pthread_cond_destroy(&l->shards[i].left);
        pthread_mutex_destroy(&l->shards[i].lock);
    }
    free(l);
}

static uint32_t shards_of(uint64_t start, uint64_t end) {
    uint64_t first = start / RANGELOCK_SHARD_BYTES, last = (end - 1) / RANGELOCK_SHARD_BYTES;
    if (last - first >= RANGELOCK_SHARDS - 1)
        return (1u << RANGELOCK_SHARDS) - 1;
    uint32_t shards = 0;
    for (uint64_t i = first; i <= last; i++)
        shards |= 1u << (i % RANGELOCK_SHARDS);
    return shards;
}

static bool conflict(const struct range_hold *a, const struct range_hold *b) {
    return (a->exclusive || b->exclusive) && a->start < b->end && b->start < a->end;
}

static bool must_wait(const struct shard *shard, int i, const struct range_hold *hold) {
    for (const struct range_hold *before = shard->first; before != hold; before = before->next[i])
        if (conflict(before, hold))
            return true;
    return false;
}

/* False: it would have to wait, and must not. */
static bool enter(struct shard *shard, int i, struct range_hold *hold, bool wait) {
    SCOPED_MUTEX(&shard->lock);
    struct range_hold **tail = &shard->first;
    while (*tail != NULL)
        tail = &(*tail)->next[i];
    hold->next[i] = NULL;
    *tail = hold;
    if (!wait && must_wait(shard, i, hold)) {
        *tail = NULL;
        return false;
    }
    while (must_wait(shard, i, hold)) {
        shard->waiting++;
        pthread_cond_wait(&shard->left, &shard->lock);
        shard->waiting--;
    }
    return true;
}

static void leave(struct shard *shard, int i, struct range_hold *hold) {
    SCOPED_MUTEX(&shard->lock);
    struct range_hold **link = &shard->first;
    while (*link != hold)
        link = &(*link)->next[i];
    *link = hold->next[i];
    if (shard->waiting > 0)
        pthread_cond_broadcast(&shard->left);
}

static bool acquire(struct rangelock *l, struct range_hold *hold, uint64_t start, uint64_t end, bool exclusive,
                    bool wait) {
    uint32_t wanted = start < end ? shards_of(start, end) : 0;
    *hold = (struct range_hold){.start = start, .end = end, .exclusive = exclusive};
    for (int i = 0; i < RANGELOCK_SHARDS; i++) {
        if (!(wanted & (1u << i)))
            continue;
        if (!enter(&l->shards[i], i, hold, wait)) {
            rangelock_release(l, hold);
            return false;
        }
        hold->shards |= 1u << i;
    }
    return true;
}

void rangelock_acquire(struct rangelock *l, struct range_hold *hold, uint64_t start, uint64_t end, bool exclusive) {
    (void)acquire(l, hold, start, end, exclusive, true);
}

bool rangelock_try(struct rangelock *l, struct range_hold *hold, uint64_t start, uint64_t end) {
    return acquire(l, hold, start, end, false, false);
}

void rangelock_release(struct rangelock *l, struct range_hold *hold) {
    for (int i = 0; i < RANGELOCK_SHARDS; i++)
        if (hold->shards & (1u << i))
            leave(&l->shards[i], i, hold);
}
