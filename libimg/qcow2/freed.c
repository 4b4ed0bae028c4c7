/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* freed.c - lists of host clusters that lost a reference.
 *
 * A list is made with enough room before anything is unlinked, so that unlinking and committing need no memory. It goes
 * from the plan or slice that let go, through the round that makes it durable, into limbo.
 */
#include "qcow2.h"

#include <stdlib.h>

struct freed *freed_new(uint32_t room) {
    struct freed *f = malloc(sizeof *f + room * sizeof f->run[0]);
    if (f)
        *f = (struct freed){.room = room};
    return f;
}

void freed_add(struct freed *f, uint64_t cluster, uint64_t count) {
    struct freed_run *last = f->used ? &f->run[f->used - 1] : NULL;
    if (last && last->cluster + last->count == cluster)
        last->count += count;
    else
        f->run[f->used++] = (struct freed_run){cluster, count};
}

void freed_list_free(struct freed *f) {
    while (f) {
        struct freed *next = f->next;
        free(f);
        f = next;
    }
}

struct freed **freed_list_end(struct freed **list) {
    while (*list)
        list = &(*list)->next;
    return list;
}
