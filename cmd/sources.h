/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sources.h - the images that `convert` reads, one behind the other as one row of bytes. */
#ifndef SOURCES_H
#define SOURCES_H

#include <stdbool.h>
#include <stddef.h>

#include "img.h"

struct source {
    const char *file;
    struct img *image;
    uint64_t start, size; /* in the row */
};

struct sources {
    struct source *list;
    size_t count;
    uint64_t size; /* of the row */
};

/* How all of them are opened. */
struct source_options {
    const char *format;
    const char *snapshot; /* as -l has it; NULL: none */
    enum img_cache cache;
    bool force_share;
};

/* Opens them; false after reporting, and sources_close() is to be called then too. */
bool sources_open(struct sources *s, char *const *files, size_t count, const struct source_options *options);
void sources_close(struct sources *s);

/* Is the file one of them, of the layers below them, or a data file of these? */
bool sources_include(const struct sources *s, const char *path);
/* The same for the data file of an image. */
bool sources_include_data_of(const struct sources *s, struct img *image);

/* The layer (0: the image itself) of the image's chain that is the file at `path`, -1 when none is. */
int layer_of_file(struct img *image, const char *path);

#endif
