/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* directory.c - reading a table of entries of different lengths through one window (directory.h). */
#include "directory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int directory_open(struct directory *d, struct storage *file, uint64_t start, uint64_t end) {
    *d = (struct directory){.file = file, .start = start, .position = start, .end = end, .window_start = start};
    d->window = malloc(DIRECTORY_WINDOW);
    return d->window != NULL ? 0 : -ENOMEM;
}

void directory_close(struct directory *d) {
    free(d->window);
    d->window = NULL;
}

/* Makes `window` begin at `position`. */
static int load(struct directory *d) {
    uint64_t left = directory_left(d);
    size_t count = left < DIRECTORY_WINDOW ? (size_t)left : DIRECTORY_WINDOW;
    d->window_size = 0;
    int r = storage_read(d->file, d->window, count, d->position);
    if (r < 0)
        return r;
    d->window_start = d->position;
    d->window_size = count;
    return 0;
}

int directory_take(struct directory *d, void *buffer, uint64_t count) {
    if (count > directory_left(d))
        return -ENODATA;
    if (buffer == NULL) {
        d->position += count;
        return 0;
    }
    uint8_t *out = buffer;
    while (count > 0) {
        uint64_t inside = d->position - d->window_start;
        if (inside >= d->window_size) {
            int r = load(d);
            if (r < 0)
                return r;
            inside = 0;
        }
        size_t piece = d->window_size - (size_t)inside;
        if (piece > count)
            piece = (size_t)count;
        memcpy(out, d->window + inside, piece);
        out += piece;
        d->position += piece;
        count -= piece;
    }
    return 0;
}

void directory_align(struct directory *d) {
    uint64_t padding = -(d->position - d->start) & 7;
    d->position += padding < directory_left(d) ? padding : directory_left(d);
}

int directory_take_name(struct directory *d, size_t count, char **out) {
    if (count > directory_left(d))
        return -ENODATA;
    char *name = malloc(count + 1);
    if (name == NULL)
        return -ENOMEM;
    int r = directory_take(d, name, count);
    if (r < 0) {
        free(name);
        return r;
    }
    name[count] = '\0';
    /* A name of NULs takes no memory, however long the image says it is. */
    size_t length = strlen(name);
    char *shorter = length < count ? realloc(name, length + 1) : NULL;
    *out = shorter != NULL ? shorter : name;
    return 0;
}
