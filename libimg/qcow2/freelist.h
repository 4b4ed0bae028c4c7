/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* freelist.h - extents of free host clusters: sorted, disjoint, bounded. The caller has the lock. */
#ifndef LIBIMG_QCOW2_FREELIST_H
#define LIBIMG_QCOW2_FREELIST_H

#include <stdbool.h>
#include <stdint.h>

struct free_extent {
    uint64_t cluster, count;
    bool zero; /* they read as zeroes: punched, or never written */
};

struct free_list {
    struct free_extent *extent;
    uint32_t used;
};

#define FREE_EXTENTS 4096 /* the most that one list holds */

int free_list_init(struct free_list *l); /* 0 or -ENOMEM */
void free_list_destroy(struct free_list *l);

/* Parts that are on the list already stay as they are. False: the list is full and does not hold all of it. */
bool free_list_add(struct free_list *l, uint64_t cluster, uint64_t count, bool zero);
/* Takes `want` clusters of the first extent that has as many, else all of the first. False: the list is empty. */
bool free_list_take(struct free_list *l, uint64_t want, struct free_extent *out);
/* Forgets what lies at `cluster` and behind it. */
void free_list_cut(struct free_list *l, uint64_t cluster);

#endif
