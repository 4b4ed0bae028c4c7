/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* helpers.h - threads that block so that others need not.
 *
 * A queue hands them what it must not do itself: loading metadata, and moving bytes in ways that may wait. A job is the
 * caller's memory until it has run. Threads are started when there is work and nobody idle, up to a limit; the first is
 * there from the beginning, so a posted job always runs.
 *
 * Thread-safe but for helpers_stop.
 */
#ifndef LIBIMG_HELPERS_H
#define LIBIMG_HELPERS_H

struct helpers;

struct job {
    struct job *next;
    void (*run)(struct job *); /* the job may be posted again, or be gone, when it returns */
};

/* NULL: no memory, or no thread to be had. */
struct helpers *helpers_start(unsigned most);
void helpers_post(struct helpers *h, struct job *job);
/* Waits for the jobs that were posted. NULL is allowed. */
void helpers_stop(struct helpers *h);

#endif
