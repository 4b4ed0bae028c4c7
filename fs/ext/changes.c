/* SPDX-License-Identifier: GPL-3.0-or-later */
/* changes.c - see write.h. A hash table of blocks with open addresses, never more than half full. */
#include <stdlib.h>
#include <string.h>

#include "write.h"

#define FIRST_ROOM 1024

struct changes {
    unsigned block_size;
    size_t count, room; /* room is a power of two */
    struct change *table;
};

static struct change *slot(const struct changes *changes, uint64_t block) {
    size_t at = (size_t)(block * 0x9e3779b97f4a7c15u >> 20) & (changes->room - 1);
    while (changes->table[at].bytes && changes->table[at].block != block)
        at = (at + 1) & (changes->room - 1);
    return &changes->table[at];
}

int changes_new(unsigned block_size, struct changes **changes, struct img_error *err) {
    struct changes *new = calloc(1, sizeof(*new));
    if (new && (new->table = calloc(FIRST_ROOM, sizeof(new->table[0])))) {
        new->block_size = block_size;
        new->room = FIRST_ROOM;
        *changes = new;
        return 0;
    }
    free(new);
    return fail_no_memory(err);
}

void changes_forget(struct changes *changes) {
    for (size_t i = 0; i < changes->room; i++) {
        free(changes->table[i].bytes);
        changes->table[i].bytes = NULL;
    }
    changes->count = 0;
}

void changes_free(struct changes *changes) {
    if (!changes)
        return;
    changes_forget(changes);
    free(changes->table);
    free(changes);
}

size_t changes_count(const struct changes *changes) {
    return changes->count;
}

unsigned char *changes_find(const struct changes *changes, uint64_t block) {
    return changes->count ? slot(changes, block)->bytes : NULL;
}

static bool grow(struct changes *changes) {
    struct changes larger = *changes;
    larger.room = 2 * changes->room;
    larger.table = calloc(larger.room, sizeof(larger.table[0]));
    if (!larger.table)
        return false;
    for (size_t i = 0; i < changes->room; i++)
        if (changes->table[i].bytes)
            *slot(&larger, changes->table[i].block) = changes->table[i];
    free(changes->table);
    *changes = larger;
    return true;
}

unsigned char *changes_add(struct changes *changes, uint64_t block) {
    if (2 * (changes->count + 1) > changes->room && !grow(changes))
        return NULL;
    struct change *change = slot(changes, block);
    if (!change->bytes) {
        if (!(change->bytes = malloc(changes->block_size)))
            return NULL;
        change->block = block;
        changes->count++;
    }
    return change->bytes;
}

static int by_place(const void *a, const void *b) {
    const struct change *left = a, *right = b;
    return (left->block > right->block) - (left->block < right->block);
}

int changes_list(const struct changes *changes, struct change **list, struct img_error *err) {
    struct change *all = malloc((changes->count + 1) * sizeof(all[0]));
    size_t count = 0;
    if (!all)
        return fail_no_memory(err);
    for (size_t i = 0; i < changes->room; i++)
        if (changes->table[i].bytes)
            all[count++] = changes->table[i];
    qsort(all, count, sizeof(all[0]), by_place);
    *list = all;
    return 0;
}
