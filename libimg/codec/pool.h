/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pool.h - contexts of a compression library, kept between calls.
 *
 * Setting up a context costs more than compressing a small cluster. A pool keeps a few that nobody uses; who finds none
 * makes one, who finds no room on return frees it. So any number of threads may work at once and the memory that stays
 * is bounded. The pools are static and never emptied: what they keep is reachable until the process ends.
 */
#ifndef LIBIMG_CODEC_POOL_H
#define LIBIMG_CODEC_POOL_H

#include <pthread.h>
#include <stddef.h>

#define CODEC_POOL_ROOM 16

struct codec_pool {
    pthread_mutex_t lock;
    unsigned count;
    void *kept[CODEC_POOL_ROOM];
    void *(*make)(void); /* NULL: no memory */
    void (*destroy)(void *context);
};
#define CODEC_POOL(make_one, destroy_one)                                                                              \
    { .lock = PTHREAD_MUTEX_INITIALIZER, .make = (make_one), .destroy = (destroy_one) }

static inline void *codec_pool_take(struct codec_pool *pool) {
    void *context = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->count > 0)
        context = pool->kept[--pool->count];
    pthread_mutex_unlock(&pool->lock);
    return context != NULL ? context : pool->make();
}

static inline void codec_pool_give(struct codec_pool *pool, void *context) {
    pthread_mutex_lock(&pool->lock);
    if (pool->count < CODEC_POOL_ROOM) {
        pool->kept[pool->count++] = context;
        context = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    if (context != NULL)
        pool->destroy(context);
}

#endif
