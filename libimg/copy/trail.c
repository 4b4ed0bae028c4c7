/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* trail.c - see trail.h.
 *
 * Units come from several workers, so a chunk is what was written meanwhile: its bounds, whatever lies between them.
 * Who fills a chunk begins to write it out, and takes the oldest one to wait for; the lock is not held for that.
 */
#include "trail.h"

#define CHUNK_BYTES (16ull << 20)

void trail_begin(struct trail *t, struct storage *file) {
    *t = (struct trail){.file = file};
    pthread_mutex_init(&t->lock, NULL);
}

static void gather(struct trail *t, uint64_t offset, uint64_t length) {
    struct trail_chunk *c = &t->open;
    if (!t->gathered || offset < c->start)
        c->start = offset;
    if (!t->gathered || offset + length > c->end)
        c->end = offset + length;
    t->gathered += length;
}

/* Takes the oldest chunk off. */
static struct trail_chunk oldest(struct trail *t) {
    struct trail_chunk c = t->chunks[t->first];
    t->first = (t->first + 1) % TRAIL_CHUNKS;
    t->count--;
    return c;
}

int trail_wrote(struct trail *t, const struct storage *file, uint64_t offset, uint64_t length) {
    struct trail_chunk full, old = {0};
    if (file != t->file || !file->ops->drop_cache || !length)
        return 0;
    pthread_mutex_lock(&t->lock);
    gather(t, offset, length);
    if (t->gathered < CHUNK_BYTES) {
        pthread_mutex_unlock(&t->lock);
        return 0;
    }
    full = t->open;
    t->gathered = 0;
    if (t->count == TRAIL_CHUNKS)
        old = oldest(t);
    t->chunks[(t->first + t->count++) % TRAIL_CHUNKS] = full;
    pthread_mutex_unlock(&t->lock);
    file->ops->start_writeback(t->file, full.start, full.end - full.start);
    return old.end ? file->ops->drop_cache(t->file, old.start, old.end - old.start) : 0;
}

void trail_end(struct trail *t) {
    pthread_mutex_destroy(&t->lock);
}
