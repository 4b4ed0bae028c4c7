/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* helpers.c - see helpers.h. One list of jobs under one lock: who comes here is about to block anyway. */
#include "helpers.h"

#include "sync.h"

#include <stdlib.h>

struct helpers {
    pthread_mutex_t lock;
    pthread_cond_t posted;
    struct job *first, **end;
    unsigned waiting; /* jobs */
    unsigned idle, started, most;
    bool stop;
    pthread_t threads[];
};

static struct job *next_job(struct helpers *h) {
    SCOPED_MUTEX(&h->lock);
    h->idle++;
    while (!h->first && !h->stop)
        pthread_cond_wait(&h->posted, &h->lock);
    h->idle--;
    struct job *job = h->first;
    if (job) {
        h->first = job->next;
        h->waiting--;
        if (!h->first)
            h->end = &h->first;
    }
    return job;
}

static void *helper(void *opaque) {
    struct helpers *h = opaque;
    for (struct job *job; (job = next_job(h));)
        job->run(job);
    return NULL;
}

/* Lock held, or nobody else knows `h`. */
static bool start_thread(struct helpers *h) {
    if (h->started == h->most || pthread_create(&h->threads[h->started], NULL, helper, h) != 0)
        return false;
    h->started++;
    return true;
}

struct helpers *helpers_start(unsigned most) {
    struct helpers *h = calloc(1, sizeof *h + most * sizeof *h->threads);
    if (!h)
        return NULL;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->posted, NULL);
    h->end = &h->first;
    h->most = most;
    if (!start_thread(h)) {
        helpers_stop(h);
        return NULL;
    }
    return h;
}

void helpers_post(struct helpers *h, struct job *job) {
    SCOPED_MUTEX(&h->lock);
    job->next = NULL;
    *h->end = job;
    h->end = &job->next;
    h->waiting++;
    if (h->waiting > h->idle)
        start_thread(h);
    pthread_cond_signal(&h->posted);
}

void helpers_stop(struct helpers *h) {
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_broadcast(&h->posted);
    pthread_mutex_unlock(&h->lock);
    for (unsigned i = 0; i < h->started; i++)
        pthread_join(h->threads[i], NULL);
    pthread_cond_destroy(&h->posted);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
