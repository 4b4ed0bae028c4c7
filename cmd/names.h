/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.h - arithmetic on paths. All results are malloc'ed and never NULL. */
#ifndef NAMES_H
#define NAMES_H

#include <stdbool.h>

/* The path that an argument means: "file:PATH" is PATH, as in qemu-img. Inside `argument`. */
const char *path_of(const char *argument);

/* How `name`, found inside the image at `image`, is reached from here: beside the image unless it is absolute. */
char *path_beside(const char *image, const char *name);

/* The folder of `path`, "." when it names none. */
char *path_folder(const char *path);

/* The last part of `path`, inside `path`. */
const char *path_last(const char *path);

/* What `path` stands for when its last part is a symbolic link, to something that need not exist. NULL with errno set
 * when the links run in circles or cannot be read. */
char *path_follow_links(const char *path);

/* Are the two names, links followed, the same file, or will they be once it exists? */
bool names_same(const char *a, const char *b);

#endif
