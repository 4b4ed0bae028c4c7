/* SPDX-License-Identifier: GPL-3.0-or-later */
/* beside.c - threads that act at a moment or are held there (beside.h). */
#include "beside.h"

#include <time.h>

#include "debug.h"
#include "who.h"

enum { ACTS = 4, THREADS = 256, PATIENCE_MS = 60, LONG_MS = 10000 };

struct helper {
    pthread_t thread;
    struct world *world;
    beside_function act;
    unsigned turn;
    bool done;
};

struct beside {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct {
        struct moment moment;
        unsigned turn, times;
        beside_function act;
    } acts[ACTS];
    unsigned nacts;
    struct helper helpers[THREADS];
    unsigned nhelpers;

    struct moment hold_moment;
    struct helper *holds; /* this one is to be held; NULL: nobody */
    bool held, released;
};

static struct timespec deadline(unsigned ms) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms % 1000 * 1000000l;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* Waits until *flag, or the time has passed. The lock is held. */
static bool wait_for(struct beside *b, const bool *flag, const bool *or_flag, unsigned ms) {
    struct timespec until = deadline(ms);
    while (!*flag && !(or_flag && *or_flag))
        if (pthread_cond_timedwait(&b->changed, &b->lock, &until))
            break;
    return *flag;
}

static void *helper_main(void *opaque) {
    struct helper *h = opaque;
    struct beside *b = h->world->beside;
    who.helper = h;
    h->act(h->world, h->turn);
    guest_leave(h->world);
    pthread_mutex_lock(&b->lock);
    h->done = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* The lock is held. */
static struct helper *helper_start(struct world *w, beside_function act, unsigned turn, bool hold) {
    struct beside *b = w->beside;
    if (b->nhelpers == THREADS)
        DIE("too many threads beside");
    struct helper *h = &b->helpers[b->nhelpers++];
    *h = (struct helper){.world = w, .act = act, .turn = turn};
    if (hold)
        b->holds = h;
    if (pthread_create(&h->thread, NULL, helper_main, h))
        DIE("cannot start a thread");
    return h;
}

/* `r` is NULL at a pause point, `pause` elsewhere. */
static bool meets(const struct moment *m, const struct record *r, enum record_stage stage, const char *pause) {
    if (!r || m->pause)
        return pause && m->pause && strcmp(pause, m->pause) == 0;
    return m->kind == r->kind && m->stage == stage && (m->by == BY_FLUSH) == who.flushing;
}

static void moment_comes(struct world *w, const struct record *r, enum record_stage stage, const char *pause) {
    struct beside *b = w->beside;
    pthread_mutex_lock(&b->lock);
    if (who.helper && who.helper == b->holds && !b->held && meets(&b->hold_moment, r, stage, pause)) {
        b->held = true;
        pthread_cond_broadcast(&b->changed);
        if (!wait_for(b, &b->released, NULL, LONG_MS))
            DIE("nobody released a held thread");
    }
    for (unsigned i = 0; i < b->nacts && !who.helper; i++) {
        if (!meets(&b->acts[i].moment, r, stage, pause) || b->acts[i].turn == b->acts[i].times)
            continue;
        struct helper *h = helper_start(w, b->acts[i].act, b->acts[i].turn++, false);
        wait_for(b, &h->done, NULL, PATIENCE_MS);
    }
    pthread_mutex_unlock(&b->lock);
}

static void hook(void *opaque, const struct record *r, enum record_stage stage) {
    moment_comes(opaque, r, stage, NULL);
}

#ifdef IMG_DEBUG
static struct world *paused_world; /* one scenario runs in a process */
static void pause_hook(const char *name) {
    moment_comes(paused_world, NULL, RECORD_STARTED, name);
}
#endif

static struct beside *begin(struct world *w) {
    if (!w->beside) {
        w->beside = xcalloc(1, sizeof(*w->beside));
        pthread_mutex_init(&w->beside->lock, NULL);
        pthread_cond_init(&w->beside->changed, NULL);
        w->log->opaque = w;
        w->log->hook = hook;
#ifdef IMG_DEBUG
        paused_world = w;
        img_debug_pause = pause_hook;
#endif
    }
    return w->beside;
}

void beside_begin(struct world *w) {
    (void)begin(w);
}

void beside_act(struct world *w, struct moment moment, unsigned times, beside_function act) {
    struct beside *b = begin(w);
    pthread_mutex_lock(&b->lock);
    if (b->nacts == ACTS)
        DIE("too many moments");
    b->acts[b->nacts].moment = moment;
    b->acts[b->nacts].times = times;
    b->acts[b->nacts].turn = 0;
    b->acts[b->nacts++].act = act;
    pthread_mutex_unlock(&b->lock);
}

bool beside_hold(struct world *w, struct moment moment, beside_function act) {
    struct beside *b = begin(w);
    pthread_mutex_lock(&b->lock);
    b->hold_moment = moment;
    b->held = b->released = false;
    struct helper *h = helper_start(w, act, 0, true);
    bool held = wait_for(b, &b->held, &h->done, LONG_MS);
    pthread_mutex_unlock(&b->lock);
    return held;
}

void beside_run(struct world *w, beside_function act, unsigned turn) {
    struct beside *b = begin(w);
    pthread_mutex_lock(&b->lock);
    struct helper *h = helper_start(w, act, turn, false);
    if (!wait_for(b, &h->done, NULL, LONG_MS))
        DIE("a thread does not come to its end");
    pthread_mutex_unlock(&b->lock);
}

void beside_start(struct world *w, beside_function act) {
    struct beside *b = begin(w);
    pthread_mutex_lock(&b->lock);
    struct helper *h = helper_start(w, act, 0, false);
    wait_for(b, &h->done, NULL, PATIENCE_MS);
    pthread_mutex_unlock(&b->lock);
}

void beside_release(struct world *w) {
    struct beside *b = w->beside;
    pthread_mutex_lock(&b->lock);
    b->released = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* The struct and the hook stay until the program ends: a thread of the engine may be just there. */
void beside_end(struct world *w) {
    struct beside *b = w->beside;
    if (!b)
        return;
    beside_release(w);
    pthread_mutex_lock(&b->lock);
    b->nacts = 0;
    pthread_mutex_unlock(&b->lock);
    for (unsigned i = 0; i < b->nhelpers; i++)
        pthread_join(b->helpers[i].thread, NULL);
    b->nhelpers = 0;
    b->holds = NULL;
}
