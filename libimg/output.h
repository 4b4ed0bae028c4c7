/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* output.h - a file that appears under its name only when it is complete.
 *
 * It is made under a temporary name beside the real one and renamed at the end. What stood under the name before is
 * locked from the beginning, so an image in use is refused before anything has happened, and it stays as it was until
 * the rename. A symbolic link is followed: what it points at is replaced. A block device is written in place, and so is
 * a file that the caller will rename by itself.
 */
#ifndef LIBIMG_OUTPUT_H
#define LIBIMG_OUTPUT_H

#include "img.h"
#include "storage.h"

/* What the caller of img_create wants to have a say in. */
struct output_options {
    const char *write_to;             /* img_create_options.write_to; NULL: none */
    int (*interrupted)(void *opaque); /* asked before each piece of the work: -ECANCELED; NULL: never */
    void *opaque;
    bool nocow; /* and the next: as in img_create_options */
    uint32_t extent_size_hint;
};

struct output {
    struct storage *file; /* to be written; `fixed_size`: a block device with anything on it, else an empty file */
    /* private */
    char *path;          /* the real name, links resolved */
    char *temporary;     /* NULL: written in place */
    struct storage *old; /* what the rename will replace, locked; NULL: nothing */
    bool callers;        /* who renames it and makes it durable */
    struct output_options options;
};

int output_open(const char *path, const struct output_options *options, struct output *out, struct img_error *err);
/* Empties the file and tells the file system what is wished: to be called when nothing can be refused any more. */
int output_begin(struct output *out, struct img_error *err);
/* Makes the content durable and the name show it. Whatever the result, `out` is closed; on failure before the rename
 * nothing is left. */
int output_commit(struct output *out, struct img_error *err);
/* Gives up; nothing is left (but what was written in place). An output of zeroes is allowed. */
void output_abandon(struct output *out);

/* Are the two names, links followed, the same file, or will they be once it exists? */
bool output_same_name(const char *a, const char *b);

#endif
