/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* freelist.c - extents of free host clusters (freelist.h): an array, searched by halves. */
#include "freelist.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int free_list_init(struct free_list *l) {
    l->used = 0;
    l->extent = calloc(FREE_EXTENTS, sizeof *l->extent);
    return l->extent ? 0 : -ENOMEM;
}

void free_list_destroy(struct free_list *l) {
    free(l->extent);
    l->extent = NULL;
    l->used = 0;
}

/* The first extent that ends behind `cluster`. */
static uint32_t extent_behind(const struct free_list *l, uint64_t cluster) {
    uint32_t low = 0, high = l->used;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (l->extent[middle].cluster + l->extent[middle].count <= cluster)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void remove_extent(struct free_list *l, uint32_t i) {
    memmove(&l->extent[i], &l->extent[i + 1], (--l->used - i) * sizeof *l->extent);
}

/* Nothing of it is on the list yet. False: the list is full. */
static bool insert(struct free_list *l, uint64_t cluster, uint64_t count, bool zero) {
    uint32_t i = extent_behind(l, cluster);
    struct free_extent *before = i ? &l->extent[i - 1] : NULL, *after = i < l->used ? &l->extent[i] : NULL;
    if (before && before->cluster + before->count == cluster && before->zero == zero) {
        before->count += count;
        if (after && after->cluster == cluster + count && after->zero == zero) {
            before->count += after->count;
            remove_extent(l, i);
        }
        return true;
    }
    if (after && after->cluster == cluster + count && after->zero == zero) {
        after->cluster = cluster;
        after->count += count;
        return true;
    }
    if (l->used == FREE_EXTENTS)
        return false;
    memmove(&l->extent[i + 1], &l->extent[i], (l->used++ - i) * sizeof *l->extent);
    l->extent[i] = (struct free_extent){cluster, count, zero};
    return true;
}

bool free_list_add(struct free_list *l, uint64_t cluster, uint64_t count, bool zero) {
    uint64_t end = cluster + count;
    while (cluster < end) {
        uint32_t i = extent_behind(l, cluster);
        uint64_t stop = end;
        if (i < l->used && l->extent[i].cluster < end) {
            if (l->extent[i].cluster <= cluster) {
                cluster = l->extent[i].cluster + l->extent[i].count;
                continue;
            }
            stop = l->extent[i].cluster;
        }
        if (!insert(l, cluster, stop - cluster, zero))
            return false;
        cluster = stop;
    }
    return true;
}

bool free_list_take(struct free_list *l, uint64_t want, struct free_extent *out) {
    uint32_t i = 0;
    if (!l->used)
        return false;
    while (i < l->used && l->extent[i].count < want)
        i++;
    if (i == l->used)
        i = 0;
    *out = l->extent[i];
    if (out->count > want) {
        out->count = want;
        l->extent[i].cluster += want;
        l->extent[i].count -= want;
    } else {
        remove_extent(l, i);
    }
    return true;
}

void free_list_cut(struct free_list *l, uint64_t cluster) {
    uint32_t i = extent_behind(l, cluster);
    if (i < l->used && l->extent[i].cluster < cluster) {
        l->extent[i].count = cluster - l->extent[i].cluster;
        i++;
    }
    l->used = i;
}
