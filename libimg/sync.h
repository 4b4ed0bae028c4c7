/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sync.h - the small locks of the engine.
 *
 * spin_t guards a few dozen instructions and is never held across a system call; it yields instead of burning a core
 * when the holder was preempted. Mutexes are pthread's. SCOPED_* release at the end of the scope on every path.
 */
#ifndef LIBIMG_SYNC_H
#define LIBIMG_SYNC_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct {
    atomic_uint held;
} spin_t;

static inline bool spin_try(spin_t *s) {
    return atomic_load_explicit(&s->held, memory_order_relaxed) == 0 &&
           atomic_exchange_explicit(&s->held, 1, memory_order_acquire) == 0;
}

static inline void spin_lock(spin_t *s) {
    for (unsigned tries = 1; !spin_try(s); tries++)
        if (tries % 64 == 0)
            sched_yield();
}

static inline void spin_unlock(spin_t *s) {
    atomic_store_explicit(&s->held, 0, memory_order_release);
}

static inline void spin_unlock_scope(spin_t **s) {
    spin_unlock(*s);
}
static inline void mutex_unlock_scope(pthread_mutex_t **m) {
    pthread_mutex_unlock(*m);
}

/* One who cannot sleep and is told instead. `wake` is called from any thread; where it is called once, the waiter may
 * be gone when it returns. It must not call back into what woke it. */
struct img_waiter {
    struct img_waiter *next;
    void (*wake)(struct img_waiter *);
};
static inline void waiters_wake(struct img_waiter *list) {
    while (list) {
        struct img_waiter *waiter = list;
        list = list->next;
        waiter->wake(waiter);
    }
}

#define SCOPE_NAME_(name, line) name##line
#define SCOPE_NAME(name, line) SCOPE_NAME_(name, line)
#define SCOPED_SPIN(lock)                                                                                              \
    __attribute__((cleanup(spin_unlock_scope), unused)) spin_t *SCOPE_NAME(scoped_spin_, __LINE__) =                   \
        (spin_lock(lock), (lock))
#define SCOPED_MUTEX(lock)                                                                                             \
    __attribute__((cleanup(mutex_unlock_scope), unused)) pthread_mutex_t *SCOPE_NAME(scoped_mutex_, __LINE__) =        \
        (pthread_mutex_lock(lock), (lock))

#endif
