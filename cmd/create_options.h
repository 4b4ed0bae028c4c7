/* SPDX-License-Identifier: GPL-3.0-or-later */
/* create_options.h - what the -o list of a new image says, in img.h's terms.
 *
 * Which options go together, and the words when they do not, are qemu-img's.
 */
#ifndef CREATE_OPTIONS_H
#define CREATE_OPTIONS_H

#include "options.h"

/* Fills in what img_create needs for an image at `path`. The strings stay owned by `options`, keys by secret.h. */
int create_options_from(const struct options *options, const char *path, struct img_create_options *create,
                        struct img_error *err);
/* Its part that concerns encryption; create->format is set (encryption.c). */
int create_options_encryption(const struct options *options, const char *path, struct img_create_options *create,
                              struct img_error *err);

#endif
