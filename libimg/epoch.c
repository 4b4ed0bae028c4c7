/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* epoch.c - pins and the gate (the idea is in epoch.h).
 *
 * Three pairs of accesses carry the whole, each a store followed by a load on either side, all sequentially consistent:
 *
 *   plan_open: publish oldest, then look entries up   |  reclaim: unlink entries, advance, then read every oldest
 *   plan_open: publish oldest, then read the gate     |  gate_close: set the gate, then read every oldest
 *   context_claim: claim, then read the holders       |  requests_hold: set holders, then read every claim
 *
 * So either the one side sees the plan, or the plan sees what the other side did before. Publishing is needed only when
 * the first plan of a kind opens: while another is open its older epoch protects the newer plan too.
 */
#include "epoch.h"

#include <string.h>

int epochs_init(struct img_epochs *e) {
    memset(e, 0, sizeof *e);
    atomic_init(&e->now, 1);
    for (unsigned i = 0; i < IMG_CONTEXTS; i++)
        pthread_mutex_init(&e->contexts[i].lock, NULL);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->opened, NULL);
    pthread_cond_init(&e->drained, NULL);
    return 0;
}

void epochs_destroy(struct img_epochs *e) {
    for (unsigned i = 0; i < IMG_CONTEXTS; i++)
        pthread_mutex_destroy(&e->contexts[i].lock);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->opened);
    pthread_cond_destroy(&e->drained);
}

/* ---- contexts ---- */

/* Threads start their search at different places, so that each tends to get the context, and the reserved clusters,
 * that it had before. */
unsigned thread_index(void) {
    static atomic_uint threads;
    static _Thread_local unsigned mine;
    if (!mine)
        mine = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
    return mine - 1;
}

static struct img_context *try_claim(struct img_epochs *e) {
    unsigned start = thread_index();
    for (unsigned i = 0; i < IMG_CONTEXTS; i++) {
        struct img_context *c = &e->contexts[(start + i) % IMG_CONTEXTS];
        if (!atomic_load_explicit(&c->claimed, memory_order_relaxed) && !atomic_exchange(&c->claimed, true))
            return c;
    }
    return NULL;
}

/* Claims first and looks then; requests_hold holds first and looks then. */
static struct img_context *try_request(struct img_epochs *e) {
    struct img_context *c = try_claim(e);
    if (c && atomic_load(&e->holders)) {
        atomic_store(&c->claimed, false);
        c = NULL;
    }
    return c;
}

static struct img_context *claim(struct img_epochs *e, struct img_context *(*attempt)(struct img_epochs *)) {
    struct img_context *c = attempt(e);
    if (c)
        return c;
    SCOPED_MUTEX(&e->lock);
    atomic_fetch_add(&e->wanted, 1);
    pthread_cond_broadcast(&e->drained); /* a claim that was taken back may have been seen */
    while (!(c = attempt(e)))
        pthread_cond_wait(&e->opened, &e->lock);
    atomic_fetch_sub(&e->wanted, 1);
    return c;
}

struct img_context *context_claim(struct img_epochs *e) {
    return claim(e, try_request);
}

struct img_context *context_claim_inner(struct img_epochs *e) {
    return claim(e, try_claim);
}

struct img_context *context_try_claim(struct img_epochs *e) {
    struct img_context *c = try_request(e);
    if (!c && atomic_load(&e->holders)) {
        SCOPED_MUTEX(&e->lock);
        pthread_cond_broadcast(&e->drained); /* a claim that was taken back may have been seen */
        pthread_cond_broadcast(&e->opened);
    }
    return c;
}

static struct img_context *claim_for_long(struct img_epochs *e, bool shared) {
    struct img_context *c = context_claim_inner(e);
    c->shared = shared;
    atomic_store(&c->queue, true);
    SCOPED_MUTEX(&e->lock);
    pthread_cond_broadcast(&e->drained); /* until now it looked like a request */
    return c;
}

struct img_context *context_claim_queue(struct img_epochs *e) {
    pthread_mutex_lock(&e->lock);
    bool room = e->queues < IMG_QUEUES_MAX;
    e->queues += room;
    pthread_mutex_unlock(&e->lock);
    return room ? claim_for_long(e, false) : NULL;
}

struct img_context *context_claim_helpers(struct img_epochs *e) {
    return claim_for_long(e, true);
}

/* Only the queue's thread changes `running`, and who holds requests back waits until it is 0. So it is the first and
 * the last request that must be seen in time; between them a plain store does. */
static void set_running(struct img_context *c, unsigned now, bool edge) {
    if (edge)
        atomic_store(&c->running, now);
    else
        atomic_store_explicit(&c->running, now, memory_order_relaxed);
}

/* Counts first and looks then, as a claim does. */
bool request_enter(struct img_epochs *e, struct img_context *c) {
    unsigned before = atomic_load_explicit(&c->running, memory_order_relaxed);
    set_running(c, before + 1, before == 0);
    if (!atomic_load(&e->holders))
        return true;
    request_leave(e, c);
    return false;
}

void request_leave(struct img_epochs *e, struct img_context *c) {
    unsigned now = atomic_load_explicit(&c->running, memory_order_relaxed) - 1;
    set_running(c, now, now == 0);
    if (now || !atomic_load(&e->holders))
        return;
    SCOPED_MUTEX(&e->lock);
    pthread_cond_broadcast(&e->drained);
}

void context_release(struct img_epochs *e, struct img_context *c) {
    if (c->queue && !c->shared) {
        SCOPED_MUTEX(&e->lock);
        e->queues--;
    }
    c->shared = c->passes_gate = c->behind_end = false;
    c->queue = false;
    atomic_store(&c->claimed, false);
    if (atomic_load(&e->wanted) || atomic_load(&e->holders)) {
        SCOPED_MUTEX(&e->lock);
        pthread_cond_broadcast(&e->opened);
        pthread_cond_broadcast(&e->drained);
    }
}

static void wake_listeners(struct img_epochs *e) {
    for (struct img_waiter *l = e->listeners; l; l = l->next)
        l->wake(l);
}

static bool any_claimed(struct img_epochs *e) {
    for (unsigned i = 0; i < IMG_CONTEXTS; i++)
        if (atomic_load(&e->contexts[i].claimed) && (!e->contexts[i].queue || atomic_load(&e->contexts[i].running)))
            return true;
    return false;
}

void requests_hold(struct img_epochs *e) {
    SCOPED_MUTEX(&e->lock);
    atomic_fetch_add(&e->holders, 1);
    while (any_claimed(e))
        pthread_cond_wait(&e->drained, &e->lock);
}

void requests_release(struct img_epochs *e) {
    SCOPED_MUTEX(&e->lock);
    atomic_fetch_sub(&e->holders, 1);
    pthread_cond_broadcast(&e->opened);
    wake_listeners(e);
}

void context_lock(struct img_context *c) {
    if (c->shared)
        pthread_mutex_lock(&c->lock);
}

void context_unlock(struct img_context *c) {
    if (c->shared)
        pthread_mutex_unlock(&c->lock);
}

/* ---- plans ---- */

static void append(struct img_context *c, struct img_plan *plan) {
    unsigned kind = plan->writes;
    plan->context = c;
    plan->next = NULL;
    plan->prev = c->last[kind];
    if (plan->prev) {
        plan->prev->next = plan;
    } else {
        c->first[kind] = plan;
        atomic_store(&c->oldest[kind], plan->epoch);
    }
    c->last[kind] = plan;
}

static void withdraw(struct img_epochs *e, struct img_context *c, struct img_plan *plan) {
    unsigned kind = plan->writes;
    struct img_plan *next = plan->next;
    bool was_first = c->first[kind] == plan;

    if (next)
        next->prev = plan->prev;
    else
        c->last[kind] = plan->prev;
    if (plan->prev)
        plan->prev->next = next;
    else
        c->first[kind] = next;
    plan->context = NULL;

    if (!was_first)
        return;
    if (next) {
        atomic_store_explicit(&c->oldest[kind], next->epoch, memory_order_release);
        return;
    }
    atomic_store(&c->oldest[kind], 0);
    if (atomic_load(&e->gate) != GATE_OPEN) {
        SCOPED_MUTEX(&e->lock);
        pthread_cond_broadcast(&e->drained);
    }
}

static bool gate_stops(struct img_epochs *e, bool writes) {
    unsigned gate = atomic_load(&e->gate);
    return gate == GATE_ALL || (gate == GATE_WRITES && writes);
}

bool plan_open(struct img_epochs *e, struct img_context *c, struct img_plan *plan) {
    context_lock(c);
    plan->epoch = atomic_load_explicit(&e->now, memory_order_acquire);
    append(c, plan);
    bool stopped = !plan->inner && !c->passes_gate && gate_stops(e, plan->writes);
    if (stopped)
        withdraw(e, c, plan);
    context_unlock(c);
    return !stopped;
}

void plan_close(struct img_epochs *e, struct img_plan *plan) {
    struct img_context *c = plan->context;
    context_lock(c);
    withdraw(e, c, plan);
    context_unlock(c);
}

/* ---- the gate ---- */

void gate_wait(struct img_epochs *e, bool writes) {
    SCOPED_MUTEX(&e->lock);
    while (gate_stops(e, writes))
        pthread_cond_wait(&e->opened, &e->lock);
}

static bool drained(struct img_epochs *e, bool all) {
    for (unsigned i = 0; i < IMG_CONTEXTS; i++) {
        struct img_context *c = &e->contexts[i];
        if (atomic_load(&c->oldest[1]) || (all && atomic_load(&c->oldest[0])))
            return false;
    }
    return true;
}

static void set_gate(struct img_epochs *e) {
    atomic_store(&e->gate, e->closers[1] ? GATE_ALL : e->closers[0] ? GATE_WRITES : GATE_OPEN);
}

void gate_close(struct img_epochs *e, bool all) {
    SCOPED_MUTEX(&e->lock);
    e->closers[all]++;
    set_gate(e);
    while (!drained(e, all))
        pthread_cond_wait(&e->drained, &e->lock);
}

void gate_open(struct img_epochs *e, bool all) {
    SCOPED_MUTEX(&e->lock);
    e->closers[all]--;
    set_gate(e);
    pthread_cond_broadcast(&e->opened);
    wake_listeners(e);
}

void gate_listen(struct img_epochs *e, struct img_waiter *listener) {
    SCOPED_MUTEX(&e->lock);
    listener->next = e->listeners;
    e->listeners = listener;
}

void gate_leave(struct img_epochs *e, struct img_waiter *listener) {
    SCOPED_MUTEX(&e->lock);
    struct img_waiter **at = &e->listeners;
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
}

/* ---- epochs ---- */

uint64_t epoch_advance(struct img_epochs *e) {
    return atomic_fetch_add(&e->now, 1);
}

uint64_t epoch_oldest(struct img_epochs *e) {
    uint64_t oldest = UINT64_MAX;
    for (unsigned i = 0; i < IMG_CONTEXTS; i++)
        for (unsigned kind = 0; kind < 2; kind++) {
            uint64_t mine = atomic_load(&e->contexts[i].oldest[kind]);
            if (mine && mine < oldest)
                oldest = mine;
        }
    return oldest;
}

uint64_t epochs_done(struct img_epochs *e) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < IMG_CONTEXTS; i++)
        sum += atomic_load_explicit(&e->contexts[i].done, memory_order_acquire);
    return sum;
}
