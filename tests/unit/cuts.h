/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cuts.h - what a power cut leaves: a device in memory that records every write and flush, and the states that follow.
 */
#ifndef TESTS_CUTS_H
#define TESTS_CUTS_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/device.h"

struct cuts_op {
    uint64_t offset;
    size_t count;         /* 0: a flush */
    unsigned char *bytes; /* NULL: a flush */
    int committed;        /* what recorder.committed was before it */
};

struct recorder {
    struct device device;
    unsigned char *bytes; /* the caller's */
    struct cuts_op *ops;  /* NULL: nothing is recorded */
    size_t nops;
    int committed; /* the test's own number, of what has been acknowledged */
};

struct recorder recorder_on(unsigned char *bytes, size_t size);
void recorder_start(struct recorder *recorder);
void recorder_end(struct recorder *recorder);

/* May change the bytes. */
typedef void (*cuts_judge)(unsigned char *bytes, size_t size, int committed, const char *what);

/* Builds the states that a cut could leave of what was recorded since `durable`, which becomes the end of it: all that
 * was written before a flush, and of what came behind it nothing, all, and `subsets` random parts. `torn`: also a part
 * of a write, but for a superblock, whose checksum lies in its second sector. Returns how many states were judged. */
size_t cuts_try(unsigned char *durable, const struct recorder *recorder, unsigned subsets, bool torn, cuts_judge judge);

#endif
