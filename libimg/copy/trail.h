/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* trail.h - a copy's trail in the page cache, which is kept short.
 *
 * A file that is written once and much larger than anybody's memory pushes out what others have in the page cache, and
 * leaves gigabytes to be written when it is flushed. So the write-out of what was written begins soon, and some way
 * behind its pages are given back. Where the cache mode promises anything it is waited for, which bounds what is dirty;
 * where it does not (unsafe), what is not yet clean stays.
 */
#ifndef LIBIMG_TRAIL_H
#define LIBIMG_TRAIL_H

#include <pthread.h>
#include <stdint.h>

#include "storage.h"

#define TRAIL_CHUNKS 4

struct trail_chunk {
    uint64_t start, end; /* of the file; others may lie between */
};

struct trail {
    struct storage *file;
    pthread_mutex_t lock;
    struct trail_chunk open; /* being gathered */
    uint64_t gathered;       /* bytes in it */
    struct trail_chunk chunks[TRAIL_CHUNKS];
    unsigned first, count; /* on their way, oldest first */
};

void trail_begin(struct trail *t, struct storage *file);
/* `length` bytes were written at `offset` of `file`. Any thread, with no plan open. -errno: earlier ones could not be
 * written out, and no flush will say so again. */
int trail_wrote(struct trail *t, const struct storage *file, uint64_t offset, uint64_t length);
/* The last chunks stay: a small image, and the end of a large one, may be wanted at once. */
void trail_end(struct trail *t);

#endif
