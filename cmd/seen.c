/* SPDX-License-Identifier: GPL-3.0-or-later */
/* seen.c - see seen.h. A balanced tree, so that no choice of inode numbers makes it slow. */
#include "seen.h"

#include <search.h>
#include <stdlib.h>

#include "report.h"

static int by_number(const void *a, const void *b) {
    const struct seen_file *x = a, *y = b;
    if (x->fs != y->fs)
        return (uintptr_t)x->fs < (uintptr_t)y->fs ? -1 : 1;
    return (x->ino > y->ino) - (x->ino < y->ino);
}

struct seen_file *seen_file(struct seen *seen, const struct guest_node *node, bool *is_new) {
    const struct seen_file wanted = {.fs = node->fs, .ino = node->ino};
    struct seen_file **found = tfind(&wanted, &seen->tree, by_number);
    *is_new = !found;
    if (found)
        return *found;
    struct seen_file *file = memory(1, sizeof(*file));
    *file = wanted;
    if (!tsearch(file, &seen->tree, by_number))
        out_of_memory();
    seen->count++;
    return file;
}

static void free_file(void *opaque) {
    struct seen_file *file = opaque;
    free(file->text);
    free(file);
}

void seen_free(struct seen *seen) {
    tdestroy(seen->tree, free_file);
    *seen = (struct seen){0};
}
