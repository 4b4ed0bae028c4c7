/* SPDX-License-Identifier: GPL-3.0-or-later */
/* nodes.h - images that are named by what they consist of: "json:{...}", "null-co://", and with --image-opts
 * "driver=qcow2,file.filename=...".
 *
 * The drivers are raw, qcow2 and luks, and under them, or as a qcow2 image's data file, file, host_device and null-co.
 * Keys that mean nothing here but do no harm are accepted and checked as QEMU does; unknown ones are refused. The words
 * of the refusals are QEMU's.
 */
#ifndef NODES_H
#define NODES_H

#include <stdbool.h>

#include "img.h"

struct nodes;

enum tristate { UNSAID, NO, YES };

/* What the image's own node says about how it is opened. */
struct node_flags {
    bool read_only, force_share, unlocked;
    enum tristate direct, no_flush; /* the cache mode's parts */
};

/* Finds a secret by its id; NULL: there is none. */
typedef const struct img_key *find_key(const char *id);

/* Is the argument such a name, also without --image-opts? */
bool nodes_is_name(const char *argument);
/* The image that an argument stands for. `format` (NULL: none was given) counts before what the name says. NULL with
 * the sentence in *wrong, malloc'ed. */
struct nodes *nodes_parse(const char *argument, bool image_opts, const char *format, find_key *find, char **wrong);
void nodes_free(struct nodes *n);

const struct img_node *nodes_root(const struct nodes *n);
const struct node_flags *nodes_flags(const struct nodes *n);
/* The mode that is made of `cache` by what the name says about it. */
enum img_cache nodes_cache(const struct nodes *n, enum img_cache cache);
/* How QEMU calls the image: the file's name where that says all, else "json:{...}". `format`: that of the image. The
 * caller frees. */
char *nodes_name(const struct nodes *n, const char *format);

#endif
