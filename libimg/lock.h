/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lock.h - the image locks that QEMU and its tools take, so that an image in use is refused both ways (lock.c). */
#ifndef LIBIMG_LOCK_H
#define LIBIMG_LOCK_H

#include "img.h"

/* What the opener does with the image and what it lets others do beside it. */
enum lock_mode {
    LOCK_MODE_NONE,   /* no locks at all */
    LOCK_MODE_SHARE,  /* reads, whatever others do (force-share) */
    LOCK_MODE_READ,   /* reads; nobody may write or resize */
    LOCK_MODE_WRITE,  /* reads, writes and resizes; nobody else may write or resize */
    LOCK_MODE_CREATE, /* fills a new file; nobody else may resize it */
};

/* Takes the locks of `mode` on the open file description behind `fd`, which needs read access. Never waits: -EAGAIN
 * when somebody else's use forbids it, with nothing left locked. A file system without such locks is no error.
 * `name` is for the message. */
int lock_take(int fd, enum lock_mode mode, const char *name, struct img_error *err);

/* Finds a process, as far as one may look, that has a lock on this byte of the file behind `fd`, by another descriptor
 * than this one: its name and number (holder.c). */
bool lock_find_holder(int fd, uint64_t byte, char *name, size_t size, int *pid);

/* Gives the locks of `mode` back. Closing the last descriptor of the description does the same; this is for a
 * description that somebody else still has open. */
void lock_drop(int fd, enum lock_mode mode);

#endif
