/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* node.h - storages for the parts of an image that its user put together (node.c, null.c). */
#ifndef LIBIMG_NODE_H
#define LIBIMG_NODE_H

#include "storage.h"

/* Opens what a node with an image in it lies on, as `options` say for that image. An image on another image: only with
 * `nested`, which what a file names must not have, or two files could open each other for ever. */
int node_storage(const struct img_node *node, const struct img_open_options *options, bool nested, struct storage **out,
                 struct img_error *err);
/* What the options for the image in a node are, made of those for the whole. */
struct img_open_options node_options(const struct img_node *node, const struct img_open_options *options);

/* `length` bytes that nobody keeps; `zero`: says that it reads as zeroes. */
int null_open(uint64_t length, bool zero, bool writable, struct storage **out, struct img_error *err);

#endif
