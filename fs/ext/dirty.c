/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dirty.c - see write.h. A hash table of blocks with open addresses, never more than half full. */
#include <stdlib.h>
#include <string.h>

#include "write.h"

#define FIRST_ROOM 1024

struct dirty {
    unsigned block_size;
    size_t count, room; /* room is a power of two */
    struct dirty_block *table;
};

static struct dirty_block *slot(const struct dirty *dirty, uint64_t block) {
    size_t at = (size_t)(block * 0x9e3779b97f4a7c15u >> 20) & (dirty->room - 1);
    while (dirty->table[at].bytes && dirty->table[at].block != block)
        at = (at + 1) & (dirty->room - 1);
    return &dirty->table[at];
}

int dirty_new(unsigned block_size, struct dirty **dirty, struct img_error *err) {
    struct dirty *new = calloc(1, sizeof(*new));
    if (new && (new->table = calloc(FIRST_ROOM, sizeof(new->table[0])))) {
        new->block_size = block_size;
        new->room = FIRST_ROOM;
        *dirty = new;
        return 0;
    }
    free(new);
    return fail_no_memory(err);
}

void dirty_forget(struct dirty *dirty) {
    for (size_t i = 0; i < dirty->room; i++) {
        free(dirty->table[i].bytes);
        dirty->table[i].bytes = NULL;
    }
    dirty->count = 0;
}

void dirty_free(struct dirty *dirty) {
    if (!dirty)
        return;
    dirty_forget(dirty);
    free(dirty->table);
    free(dirty);
}

size_t dirty_count(const struct dirty *dirty) {
    return dirty->count;
}

unsigned char *dirty_find(const struct dirty *dirty, uint64_t block) {
    return dirty->count ? slot(dirty, block)->bytes : NULL;
}

static bool grow(struct dirty *dirty) {
    struct dirty larger = {.block_size = dirty->block_size, .count = dirty->count, .room = 2 * dirty->room};
    larger.table = calloc(larger.room, sizeof(larger.table[0]));
    if (!larger.table)
        return false;
    for (size_t i = 0; i < dirty->room; i++)
        if (dirty->table[i].bytes)
            *slot(&larger, dirty->table[i].block) = dirty->table[i];
    free(dirty->table);
    dirty->table = larger.table;
    dirty->room = larger.room;
    return true;
}

unsigned char *dirty_add(struct dirty *dirty, uint64_t block) {
    if (2 * (dirty->count + 1) > dirty->room && !grow(dirty))
        return NULL;
    struct dirty_block *change = slot(dirty, block);
    if (!change->bytes) {
        if (!(change->bytes = malloc(dirty->block_size)))
            return NULL;
        change->block = block;
        dirty->count++;
    }
    return change->bytes;
}

static int by_place(const void *a, const void *b) {
    const struct dirty_block *left = a, *right = b;
    return (left->block > right->block) - (left->block < right->block);
}

int dirty_list(const struct dirty *dirty, struct dirty_block **list, struct img_error *err) {
    struct dirty_block *all = malloc((dirty->count + 1) * sizeof(all[0]));
    size_t count = 0;
    if (!all)
        return fail_no_memory(err);
    for (size_t i = 0; i < dirty->room; i++)
        if (dirty->table[i].bytes)
            all[count++] = dirty->table[i];
    qsort(all, count, sizeof(all[0]), by_place);
    *list = all;
    return 0;
}
