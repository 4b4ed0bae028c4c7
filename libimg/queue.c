/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* queue.c - queues: the calls of img.h, the waiting, and the way back from other threads.
 *
 * A queue's thread takes requests from its run list one after the other and each as far as it goes (execute.c). What
 * comes back from helper threads is pushed on the inbox, a list without a lock, and an eventfd tells; the ring has a
 * poll on it, so that one wait covers completions, the inbox and the caller's own descriptors. Without a ring poll(2)
 * does.
 *
 * Requests are the queue's, as many as its depth, so nothing is allocated after img_queue_create.
 */
#include "queue.h"

#include "error.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_DEFAULT 128
#define DEPTH_MOST 4096
#define MOVERS 8
#define LOADERS 8
#define EVENTS 64

/* ---- lists, inbox ---- */

void list_remove(struct request_list *list, struct request *r) {
    struct request **at = &list->first, *before = NULL;
    while (*at != r) {
        before = *at;
        at = &(*at)->next;
    }
    *at = r->next;
    if (list->last == r)
        list->last = before;
}

static void signal_queue(struct img_queue *q) {
    uint64_t one = 1;
    while (write(q->event, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void queue_post(struct request *r) {
    struct img_queue *q = r->queue;
    atomic_fetch_add(&q->posting, 1);
    struct request *head = atomic_load(&q->inbox);
    do
        r->next = head;
    while (!atomic_compare_exchange_weak(&q->inbox, &head, r));
    if (!head)
        signal_queue(q);
    atomic_fetch_sub(&q->posting, 1);
}

static void heard(struct img_waiter *listener) {
    struct layer *l = (struct layer *)((char *)listener - offsetof(struct layer, listener));
    atomic_store(&l->queue->opened, true);
    signal_queue(l->queue);
}

/* In the order in which they came. */
static void take_inbox(struct img_queue *q) {
    struct request *stack = atomic_exchange(&q->inbox, NULL), *first = NULL, *next;
    for (; stack; stack = next) {
        next = stack->next;
        stack->next = first;
        first = stack;
    }
    for (; first; first = next) {
        next = first->next;
        request_back(first);
        transfer_make_room(q);
    }
}

static void take_held(struct img_queue *q) {
    struct request_list held = q->held;
    q->held = (struct request_list){0};
    for (struct request *r; (r = list_take(&held));) {
        r->state = REQUEST_READY;
        list_append(&q->run, r);
    }
}

/* ---- the loop ---- */

static void take_event(struct img_queue *q, const struct ring_event *e) {
    uint64_t count;
    if (e->user == &q->event) {
        q->event_armed = false;
        (void)!read(q->event, &count, sizeof count);
        return;
    }
    uintptr_t at = (uintptr_t)e->user, first = (uintptr_t)q->watches;
    if (at < first || at >= first + sizeof q->watches) {
        q->on_ring--;
        request_moved(e->user, e->result);
        transfer_make_room(q);
        return;
    }
    struct watch *w = e->user;
    w->armed = false;
    if (w->closing) {
        w->closing = false;
        w->fd = -1;
    } else if (e->result != -ECANCELED) {
        w->events = e->result;
        q->fired++;
    }
}

static void take_ring(struct img_queue *q) {
    struct ring_event events[EVENTS];
    for (unsigned n; (n = ring_reap(q->ring, events, EVENTS));)
        for (unsigned i = 0; i < n; i++)
            take_event(q, &events[i]);
}

/* All that can be done without waiting. */
static void pump(struct img_queue *q) {
    do {
        if (q->ring)
            take_ring(q);
        if (atomic_load_explicit(&q->opened, memory_order_relaxed) && atomic_exchange(&q->opened, false))
            take_held(q);
        if (atomic_load_explicit(&q->inbox, memory_order_relaxed))
            take_inbox(q);
        for (unsigned i = 0; i < EVENTS; i++) {
            struct request *r = list_take(&q->run);
            if (!r)
                break;
            request_run(r);
            transfer_make_room(q);
        }
        transfer_collected(q);
        if (q->ring)
            ring_enter(q->ring, false, 0); /* what the next ones wait for must be on its way */
    } while (q->run.first || atomic_load_explicit(&q->inbox, memory_order_relaxed));
}

static void arm(struct img_queue *q) {
    if (!q->event_armed) {
        q->event_armed = true;
        ring_poll(q->ring, q->event, &q->event);
    }
    for (unsigned i = 0; i < QUEUE_WATCHES; i++) {
        struct watch *w = &q->watches[i];
        if (w->fd >= 0 && !w->armed && !w->events) {
            w->armed = true;
            ring_poll(q->ring, w->fd, w);
        }
    }
}

static int poll_without_ring(struct img_queue *q, int timeout_ms) {
    struct pollfd fds[1 + QUEUE_WATCHES] = {{.fd = q->event, .events = POLLIN}};
    uint64_t count;
    for (unsigned i = 0; i < QUEUE_WATCHES; i++)
        fds[1 + i] = (struct pollfd){.fd = q->watches[i].events ? -1 : q->watches[i].fd, .events = POLLIN};
    int n = poll(fds, 1 + QUEUE_WATCHES, timeout_ms);
    if (n <= 0)
        return n == 0 ? -ETIME : errno == EINTR ? 0 : -errno;
    if (fds[0].revents)
        (void)!read(q->event, &count, sizeof count);
    for (unsigned i = 0; i < QUEUE_WATCHES; i++)
        if (fds[1 + i].revents) {
            q->watches[i].events = fds[1 + i].revents;
            q->fired++;
        }
    return 0;
}

static int wait_for_more(struct img_queue *q, int timeout_ms) {
    int r;
    if (q->ring) {
        arm(q);
        r = ring_enter(q->ring, true, timeout_ms);
    } else {
        r = poll_without_ring(q, timeout_ms);
    }
    pump(q);
    return r;
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* ---- the ring and its thread ---- */

/* A ring in place of the one that is there, which nothing is on but polls. */
static void renew_ring(struct img_queue *q) {
    if (!q->ring)
        return;
    ring_close(q->ring);
    q->ring = ring_open(q->depth + QUEUE_WATCHES + 1, q->polled);
    q->event_armed = false;
    for (unsigned i = 0; i < QUEUE_WATCHES; i++) {
        struct watch *w = &q->watches[i];
        w->armed = false;
        if (w->closing)
            *w = (struct watch){.fd = -1};
    }
}

/* Whoever calls has the queue from now on. The kernel takes a ring's requests from one thread only. */
static void own(struct img_queue *q) {
    unsigned me = thread_index() + 1;
    if (q->owner == me || q->on_ring)
        return;
    if (q->owner && !q->polled)
        renew_ring(q);
    q->owner = me;
}

/* ---- making and unmaking ---- */

static void stop_helpers(struct img_helpers *h) {
    if (!h)
        return;
    helpers_stop(h->loaders);
    helpers_stop(h->movers);
    if (h->context)
        context_release(&h->image->epochs, h->context);
    free(h);
}

/* The image's helpers, with its `helping` held. */
static int join_helpers(struct img *image, struct img_error *err) {
    if (!image->helpers) {
        struct img_helpers *h = calloc(1, sizeof *h);
        if (h) {
            h->image = image;
            h->movers = helpers_start(MOVERS);
            h->loaders = helpers_start(LOADERS);
        }
        if (!h || !h->movers || !h->loaders) {
            stop_helpers(h);
            return img_fail(err, -ENOMEM, "no memory or threads for a queue of '%s'", image->path);
        }
        h->context = context_claim_helpers(&image->epochs);
        image->helpers = h;
    }
    image->helpers->queues++;
    return 0;
}

static void leave_helpers(struct img *image) {
    SCOPED_MUTEX(&image->helping);
    if (--image->helpers->queues)
        return;
    stop_helpers(image->helpers);
    image->helpers = NULL;
}

static int open_layers(struct img_queue *q, struct img *image, struct img_error *err) {
    unsigned n = 1;
    for (struct img *i = image->backing; i; i = i->backing)
        n++;
    q->layers = calloc(n, sizeof *q->layers);
    if (!q->layers)
        return img_fail(err, -ENOMEM, "no memory for a queue of '%s'", image->path);
    for (struct img *i = image; i; i = i->backing) {
        struct layer *l = &q->layers[q->nlayers];
        *l = (struct layer){.image = i, .queue = q, .listener.wake = heard};
        l->context = context_claim_queue(&i->epochs);
        if (!l->context)
            return img_fail(err, -EBUSY, "'%s' has %d queues already", i->path, IMG_QUEUES_MAX);
        gate_listen(&i->epochs, &l->listener);
        q->nlayers++;
    }
    return 0;
}

static void close_layers(struct img_queue *q) {
    for (unsigned i = 0; i < q->nlayers; i++) {
        struct layer *l = &q->layers[i];
        gate_leave(&l->image->epochs, &l->listener);
        context_release(&l->image->epochs, l->context);
    }
    free(q->layers);
}

int img_queue_create(struct img *image, const struct img_queue_options *options, struct img_queue **queue,
                     struct img_error *err) {
    static const struct img_queue_options defaults;
    const struct img_queue_options *o = options ? options : &defaults;
    unsigned depth = o->depth ? o->depth : DEPTH_DEFAULT;
    *queue = NULL;
    if (depth > DEPTH_MOST || o->flags & ~(uint32_t)IMG_QUEUE_THREADS)
        return img_fail(err, -EINVAL, "a queue of depth %u with flags 0x%x cannot be", depth, o->flags);
    if (image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    struct img_queue *q = calloc(1, sizeof *q + depth * sizeof *q->requests);
    if (!q)
        return img_fail(err, -ENOMEM, "no memory for a queue of '%s'", image->path);
    q->depth = depth;
    q->errors = calloc(depth, sizeof *q->errors);
    for (unsigned i = 0; q->errors && i < depth; i++) {
        q->requests[i].queue = q;
        q->requests[i].error = &q->errors[i];
        list_append(&q->idle, &q->requests[i]);
    }
    for (unsigned i = 0; i < QUEUE_WATCHES; i++)
        q->watches[i].fd = -1;
    q->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = !q->errors ? img_fail(err, -ENOMEM, "no memory for a queue of '%s'", image->path) : 0;
    if (r == 0)
        r = q->event < 0 ? img_fail_errno(err, -errno, "could not make a queue of '%s'", image->path) : 0;
    if (r == 0)
        r = open_layers(q, image, err);
    if (r == 0) {
        SCOPED_MUTEX(&image->helping);
        r = join_helpers(image, err);
        q->helpers = image->helpers;
    }
    if (r < 0) {
        close_layers(q);
        if (q->event >= 0)
            close(q->event);
        free(q->errors);
        free(q);
        return r;
    }
    if (!(o->flags & IMG_QUEUE_THREADS))
        q->ring = ring_open(depth + QUEUE_WATCHES + 1, false);
    *queue = q;
    return 0;
}

void img_queue_destroy(struct img_queue *q) {
    if (!q)
        return;
    img_queue_drain(q);
    leave_helpers(q->layers[0].image);
    while (atomic_load(&q->posting))
        sched_yield();
    ring_close(q->ring);
    close_layers(q);
    close(q->event);
    free(q->errors);
    free(q);
}

bool img_queue_has_ring(const struct img_queue *q) {
    return q->ring != NULL;
}

/* ---- requests ---- */

static void flush_ring(struct img_queue *q) {
    if (!q->ring)
        return;
    if (!q->event_armed && q->under_way) {
        q->event_armed = true;
        ring_poll(q->ring, q->event, &q->event);
    }
    ring_enter(q->ring, false, 0);
}

unsigned img_queue_submit(struct img_queue *q, const struct img_io *ios, unsigned n) {
    unsigned taken = 0;
    own(q);
    for (struct request *r; taken < n && (r = list_take(&q->idle)); taken++) {
        r->io = ios[taken];
        r->entered = r->cancelled = r->flushing = r->misses = false;
        r->layer = 0;
        r->followers = NULL;
        q->under_way++;
        request_start(r);
        transfer_make_room(q);
    }
    transfer_collected(q);
    flush_ring(q);
    return taken;
}

unsigned img_queue_reap(struct img_queue *q, struct img_completion *completions, unsigned max) {
    unsigned n = 0;
    uint64_t count;
    own(q);
    if (q->polled && !q->ring)
        (void)!read(q->event, &count, sizeof count); /* before looking: what comes later signals anew */
    pump(q);
    flush_ring(q);
    for (struct request *r; n < max && (r = list_take(&q->done)); n++) {
        completions[n] = (struct img_completion){.cookie = r->io.cookie, .result = r->result};
        r->state = REQUEST_FREE;
        list_append(&q->idle, r);
    }
    for (unsigned i = 0; q->fired && n < max && i < QUEUE_WATCHES; i++) {
        struct watch *w = &q->watches[i];
        if (!w->events)
            continue;
        completions[n++] = (struct img_completion){.cookie = w->cookie, .result = w->events};
        w->events = 0;
        q->fired--;
    }
    return n;
}

int img_queue_wait(struct img_queue *q, int timeout_ms) {
    int64_t end = timeout_ms < 0 ? 0 : now_ms() + timeout_ms;
    int r = 0;
    own(q);
    pump(q);
    while (!q->done.first && !q->fired && (r == 0 || r == -ETIME)) {
        int64_t left = timeout_ms < 0 ? -1 : end - now_ms();
        if (timeout_ms >= 0 && left < 0)
            return -ETIME;
        r = wait_for_more(q, (int)left);
    }
    return q->done.first || q->fired ? 0 : r;
}

int img_queue_fd(struct img_queue *q) {
    if (!q->polled) {
        own(q);
        q->polled = true;
        while (q->on_ring)
            wait_for_more(q, -1);
        renew_ring(q);
    }
    flush_ring(q);
    return q->ring ? ring_fd(q->ring) : q->event;
}

const struct img_error *img_queue_error(const struct img_queue *q) {
    return &q->error;
}

int img_queue_cancel(struct img_queue *q, uint64_t cookie) {
    own(q);
    pump(q);
    flush_ring(q);
    for (unsigned i = 0; i < q->depth; i++) {
        struct request *r = &q->requests[i];
        if (r->state == REQUEST_FREE || r->state == REQUEST_DONE || r->io.cookie != cookie)
            continue;
        if (r->state == REQUEST_HELD) {
            list_remove(&q->held, r);
            request_complete(r, -ECANCELED);
            return 0;
        }
        if (r->state == REQUEST_ON_RING || r->state == REQUEST_MOVING || r->state == REQUEST_WHOLE)
            return -EALREADY;
        r->cancelled = true;
        return 0;
    }
    return -ENOENT;
}

void img_queue_drain(struct img_queue *q) {
    own(q);
    pump(q);
    while (q->under_way)
        wait_for_more(q, -1);
}

/* ---- the caller's descriptors ---- */

static struct watch *find_watch(struct img_queue *q, int fd) {
    for (unsigned i = 0; i < QUEUE_WATCHES; i++)
        if (q->watches[i].fd == fd && !q->watches[i].closing)
            return &q->watches[i];
    return NULL;
}

int img_queue_watch(struct img_queue *q, int fd, uint64_t cookie) {
    if (fd < 0)
        return -EBADF;
    if (find_watch(q, fd))
        return -EEXIST;
    struct watch *w = find_watch(q, -1);
    if (!w)
        return -ENOSPC;
    *w = (struct watch){.fd = fd, .cookie = cookie};
    return 0;
}

int img_queue_unwatch(struct img_queue *q, int fd) {
    struct watch *w = fd < 0 ? NULL : find_watch(q, fd);
    if (!w)
        return -ENOENT;
    if (w->events) {
        w->events = 0;
        q->fired--;
    }
    if (!w->armed) {
        w->fd = -1;
        return 0;
    }
    w->closing = true; /* `own` may find it gone, with the ring that it was armed in */
    own(q);
    if (w->closing)
        ring_cancel_poll(q->ring, w);
    return 0;
}
