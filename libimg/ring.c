/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ring.c - see ring.h.
 *
 * One issuer, and completions only when it asks (deferred task work), where the kernel offers that; else a plain ring.
 * A ring is made disabled and enabled by its first user, so that who makes a queue need not be who uses it.
 */
#include "ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring {
    struct io_uring uring;
    bool enabled, deferred;
};

static int init(struct ring *ring, unsigned entries, unsigned flags) {
    struct io_uring_params p = {.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
                                .cq_entries = 2 * entries};
    return io_uring_queue_init_params(entries, &ring->uring, &p);
}

struct ring *ring_open(unsigned entries, bool polled) {
    struct ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return NULL;
    ring->deferred =
        !polled &&
        init(ring, entries, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG) == 0;
    if (!ring->deferred && init(ring, entries, 0) < 0) {
        free(ring);
        return NULL;
    }
    if (!(ring->uring.features & IORING_FEAT_EXT_ARG)) { /* a wait with a limit would be an event of its own */
        ring_close(ring);
        return NULL;
    }
    return ring;
}

void ring_close(struct ring *ring) {
    if (!ring)
        return;
    io_uring_queue_exit(&ring->uring);
    free(ring);
}

int ring_fd(const struct ring *ring) {
    return ring->uring.ring_fd;
}

/* Debian 12's liburing declares io_uring_enable_rings and does not export it. */
static void enable(struct ring *ring) {
    if (!ring->enabled)
        ring->enabled =
            syscall(__NR_io_uring_register, ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0;
}

static struct io_uring_sqe *next_sqe(struct ring *ring) {
    struct io_uring_sqe *sqe;
    enable(ring);
    while (!(sqe = io_uring_get_sqe(&ring->uring)))
        io_uring_submit(&ring->uring);
    return sqe;
}

void ring_transfer(struct ring *ring, bool write, int fd, const struct iovec *iov, unsigned niov, uint64_t offset,
                   void *user) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    if (write)
        io_uring_prep_writev(sqe, fd, iov, niov, offset);
    else
        io_uring_prep_readv(sqe, fd, iov, niov, offset);
    io_uring_sqe_set_data(sqe, user);
}

void ring_poll(struct ring *ring, int fd, void *user) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_poll_add(sqe, fd, POLLIN);
    io_uring_sqe_set_data(sqe, user);
}

void ring_cancel_poll(struct ring *ring, void *user) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_poll_remove(sqe, (uintptr_t)user);
    io_uring_sqe_set_data(sqe, NULL);
}

int ring_enter(struct ring *ring, bool wait, int timeout_ms) {
    struct io_uring_cqe *cqe;
    int r;
    enable(ring);
    if (!wait) {
        r = io_uring_sq_ready(&ring->uring) ? io_uring_submit(&ring->uring) : 0;
    } else if (timeout_ms < 0) {
        r = io_uring_submit_and_wait(&ring->uring, 1);
    } else {
        struct __kernel_timespec ts = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000ll};
        r = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &ts, NULL);
    }
    return r >= 0 || r == -EINTR ? 0 : r;
}

unsigned ring_reap(struct ring *ring, struct ring_event *events, unsigned max) {
    struct io_uring_cqe *cqe;
    unsigned head, n = 0, seen = 0;
    if (ring->deferred && ring->enabled && !io_uring_cq_ready(&ring->uring) &&
        *ring->uring.sq.kflags & IORING_SQ_TASKRUN)
        io_uring_get_events(&ring->uring);
    io_uring_for_each_cqe(&ring->uring, head, cqe) {
        if (n == max)
            break;
        seen++;
        if (cqe->user_data)
            events[n++] = (struct ring_event){.user = io_uring_cqe_get_data(cqe), .result = cqe->res};
    }
    io_uring_cq_advance(&ring->uring, seen);
    return n;
}
