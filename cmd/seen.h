/* SPDX-License-Identifier: GPL-3.0-or-later */
/* seen.h - files with several names that a walk has met, so that each is copied, packed or counted once. */
#ifndef SEEN_H
#define SEEN_H

#include <stdint.h>

#include "fs/guest.h"

struct seen_file {
    const struct fs *fs;
    uint64_t ino;
    uint64_t number; /* the caller's: 0 when it is new */
    char *text;      /* the same: NULL when it is new; freed with the rest */
};

struct seen {
    void *tree;
    uint64_t count;
};

/* The one of this file, made if it is new (*is_new). Running out of memory ends the program. */
struct seen_file *seen_file(struct seen *seen, const struct guest_node *node, bool *is_new);
void seen_free(struct seen *seen);

#endif
