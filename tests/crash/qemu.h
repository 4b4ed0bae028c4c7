/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qemu.h - qemu-img's opinion of one path, again and again.
 *
 * One qemu-img is kept for all questions (tests/preload/qemu_img_again.c). A fresh one is asked every so often beside
 * it, and whenever the kept one does not answer "good": a bad image is bad by the plain command, and the two must
 * agree. Belongs to one thread; a struct of zeroes asks nobody yet.
 */
#ifndef CRASH_QEMU_H
#define CRASH_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct qemu {
    char path[512];
    pid_t kept;     /* 0: none */
    int channel;    /* to the kept one */
    unsigned asked; /* times */
    unsigned fresh; /* of those, how many a fresh one answered */
};

/* Does `qemu-img check -f qcow2 PATH` find neither corruption nor error? Leaks are allowed. If not, `why` is its exit
 * code and the first line of what it said. The path is the same in every call. An encrypted image comes with a
 * passphrase, and a fresh one is asked each time. */
bool qemu_check(struct qemu *q, const char *path, const char *passphrase, char *why, size_t why_size);
/* Ends the kept one. */
void qemu_end(struct qemu *q);

#endif
