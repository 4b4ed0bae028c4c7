/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* output.h - a file that appears under its name only when it is complete.
 *
 * It is made under a temporary name beside the real one and renamed at the end. What stood under the name before is
 * locked from the beginning, so an image in use is refused before anything has happened, and it stays as it was until
 * the rename. A symbolic link is followed: what it points at is replaced. A block device is written in place.
 */
#ifndef LIBIMG_OUTPUT_H
#define LIBIMG_OUTPUT_H

#include "img.h"
#include "storage.h"

struct output {
    struct storage *file; /* to be written; `fixed_size`: a block device with anything on it, else an empty file */
    /* private */
    char *path;          /* the real name, links resolved */
    char *temporary;     /* NULL: written in place */
    struct storage *old; /* what the rename will replace, locked; NULL: nothing */
};

int output_open(const char *path, struct output *out, struct img_error *err);
/* Makes the content durable and the name show it. Whatever the result, `out` is closed; on failure before the rename
 * nothing is left. */
int output_commit(struct output *out, struct img_error *err);
/* Gives up; nothing is left (but what was written to a block device). */
void output_abandon(struct output *out);

#endif
