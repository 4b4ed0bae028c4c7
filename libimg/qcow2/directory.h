/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* directory.h - a table of entries of different lengths, read once from front to back: the snapshot table and the
 * bitmap directory.
 *
 * Memory is one window, however long the table claims to be; nothing past `end` is ever read.
 */
#ifndef LIBIMG_QCOW2_DIRECTORY_H
#define LIBIMG_QCOW2_DIRECTORY_H

#include "img.h"
#include "storage.h"

#define DIRECTORY_WINDOW (64u << 10)

struct directory {
    struct storage *file;
    uint64_t start, position, end; /* host offsets; start <= position <= end */
    uint64_t window_start;
    size_t window_size; /* bytes of `window` that are valid */
    uint8_t *window;    /* owned */
};

/* The table lies in [start, end) of the file, which must be inside it. */
int directory_open(struct directory *d, struct storage *file, uint64_t start, uint64_t end);
void directory_close(struct directory *d);

static inline uint64_t directory_left(const struct directory *d) {
    return d->end - d->position;
}

/* Takes the next `count` bytes; -ENODATA: the table ends before them. NULL steps over them. */
int directory_take(struct directory *d, void *buffer, uint64_t count);
/* Steps over padding up to the next multiple of 8 from the table's start; stays at the end if that comes first. */
void directory_align(struct directory *d);
/* Takes `count` bytes as a string, which ends at its first NUL. *out is the caller's. */
int directory_take_name(struct directory *d, size_t count, char **out);

#endif
