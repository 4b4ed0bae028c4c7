/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ring.h - an io_uring as a queue needs it: vectored reads and writes, polls, and one wait for all of them.
 *
 * Belongs to the thread that calls ring_enter first; only ring_open and ring_close may be called from another. One that
 * is polled belongs to one thread at a time.
 */
#ifndef LIBIMG_RING_H
#define LIBIMG_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct ring;

struct ring_event {
    void *user;
    int result; /* bytes or poll events; -errno */
};

/* NULL: not allowed here, or no memory. `entries`: operations under way at once. `polled`: somebody will sleep on its
 * descriptor. Such a ring does without deferred task work: that wakes only who waits in the ring itself. */
struct ring *ring_open(unsigned entries, bool polled);
void ring_close(struct ring *ring);
/* Readable when there is something to reap; for a ring that was opened to be `polled`. */
int ring_fd(const struct ring *ring);

/* These prepare an operation; the kernel sees it with the next ring_enter, or before when there is no room. `iov` must
 * stand until its event. */
void ring_transfer(struct ring *ring, bool write, int fd, const struct iovec *iov, unsigned niov, uint64_t offset,
                   void *user);
void ring_poll(struct ring *ring, int fd, void *user); /* once, for input */
void ring_cancel_poll(struct ring *ring, void *user);  /* its event comes as -ECANCELED, or as it was */

/* Hands over what is prepared and, with `wait`, sleeps until there is an event or `timeout_ms` have passed (-1: for
 * ever). 0, -ETIME or -errno; -EINTR is 0. */
int ring_enter(struct ring *ring, bool wait, int timeout_ms);
/* The events there are, at most `max`; no system call unless the kernel has work to finish first. */
unsigned ring_reap(struct ring *ring, struct ring_event *events, unsigned max);

#endif
