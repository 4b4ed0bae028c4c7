/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* count.c - the sparse counters of count.h.
 *
 * Both tables are open addressing with linear probing, doubled at three quarters full. Leaves come from chunks that
 * never move, so a pointer to a leaf stands until counts_free.
 */
#include "count.h"

#include "../hash.h"

#include <errno.h>
#include <stdlib.h>

enum {
    COUNT_ESCAPE = (1 << 13) - 1, /* the count is in the second table */
    CHUNK_LEAVES = 512,
    FIRST_SLOTS = 64,
};

struct count_chunk {
    struct count_chunk *next;
    uint16_t leaves[CHUNK_LEAVES][COUNT_LEAF];
};

int counts_init(struct counts *c) {
    *c = (struct counts){
        .mask = FIRST_SLOTS - 1, .large_mask = FIRST_SLOTS - 1, .last_number = UINT64_MAX, .factor = hash_factor(c)};
    c->slots = calloc(FIRST_SLOTS, sizeof *c->slots);
    c->large = calloc(FIRST_SLOTS, sizeof *c->large);
    if (c->slots && c->large)
        return 0;
    counts_free(c);
    return -ENOMEM;
}

void counts_free(struct counts *c) {
    while (c->chunks) {
        struct count_chunk *next = c->chunks->next;
        free(c->chunks);
        c->chunks = next;
    }
    free(c->slots);
    free(c->large);
    *c = (struct counts){0};
}

/* ---- leaves ---------------------------------------------------------------------------------- */

static struct count_slot *find_slot(const struct counts *c, struct count_slot *slots, uint64_t mask, uint64_t key) {
    uint64_t i = hash_number(c->factor, key) & mask;
    while (slots[i].key && slots[i].key != key)
        i = (i + 1) & mask;
    return &slots[i];
}

static int grow_slots(struct counts *c) {
    uint64_t mask = c->mask * 2 + 1;
    struct count_slot *slots = calloc(mask + 1, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (uint64_t i = 0; i <= c->mask; i++)
        if (c->slots[i].key)
            *find_slot(c, slots, mask, c->slots[i].key) = c->slots[i];
    free(c->slots);
    c->slots = slots;
    c->mask = mask;
    return 0;
}

static uint16_t *new_leaf(struct counts *c) {
    if (c->chunk_left == 0) {
        struct count_chunk *chunk = calloc(1, sizeof *chunk);
        if (!chunk)
            return NULL;
        chunk->next = c->chunks;
        c->chunks = chunk;
        c->chunk_left = CHUNK_LEAVES;
    }
    return c->chunks->leaves[CHUNK_LEAVES - c->chunk_left--];
}

static uint16_t *make_leaf(struct counts *c, uint64_t number) {
    if (number == c->last_number)
        return c->last_leaf;
    struct count_slot *slot = find_slot(c, c->slots, c->mask, number + 1);
    if (!slot->key) {
        if ((c->used + 1) * 4 > (c->mask + 1) * 3) {
            if (grow_slots(c))
                return NULL;
            slot = find_slot(c, c->slots, c->mask, number + 1);
        }
        uint16_t *leaf = new_leaf(c);
        if (!leaf)
            return NULL;
        *slot = (struct count_slot){number + 1, leaf};
        c->used++;
    }
    c->last_number = number;
    c->last_leaf = slot->leaf;
    return slot->leaf;
}

const uint16_t *counts_leaf(const struct counts *c, uint64_t cluster) {
    uint64_t number = cluster >> COUNT_LEAF_BITS;
    return find_slot(c, c->slots, c->mask, number + 1)->leaf;
}

static int compare_numbers(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int counts_leaves(const struct counts *c, uint64_t **out, size_t *n) {
    uint64_t *numbers = malloc((c->used + 1) * sizeof *numbers);
    if (!numbers)
        return -ENOMEM;
    *n = 0;
    for (uint64_t i = 0; i <= c->mask; i++)
        if (c->slots[i].key)
            numbers[(*n)++] = c->slots[i].key - 1;
    qsort(numbers, *n, sizeof *numbers, compare_numbers);
    *out = numbers;
    return 0;
}

/* ---- counts that do not fit a cell -------------------------------------------------------------- */

static struct count_large *find_large(const struct counts *c, struct count_large *large, uint64_t mask, uint64_t key) {
    uint64_t i = hash_number(c->factor, key) & mask;
    while (large[i].key && large[i].key != key)
        i = (i + 1) & mask;
    return &large[i];
}

static int grow_large(struct counts *c) {
    uint64_t mask = c->large_mask * 2 + 1;
    struct count_large *large = calloc(mask + 1, sizeof *large);
    if (!large)
        return -ENOMEM;
    for (uint64_t i = 0; i <= c->large_mask; i++)
        if (c->large[i].key)
            *find_large(c, large, mask, c->large[i].key) = c->large[i];
    free(c->large);
    c->large = large;
    c->large_mask = mask;
    return 0;
}

/* Moves the count to the second table, or adds to it there. */
static int add_large(struct counts *c, uint16_t *cell, uint64_t cluster, uint64_t weight) {
    struct count_large *large = find_large(c, c->large, c->large_mask, cluster + 1);
    if (!large->key) {
        if ((c->large_used + 1) * 4 > (c->large_mask + 1) * 3) {
            if (grow_large(c))
                return -ENOMEM;
            large = find_large(c, c->large, c->large_mask, cluster + 1);
        }
        *large = (struct count_large){cluster + 1, *cell & COUNT_ESCAPE};
        c->large_used++;
    }
    if (__builtin_add_overflow(large->count, weight, &large->count))
        large->count = UINT64_MAX;
    *cell |= COUNT_ESCAPE;
    return 0;
}

/* ---- adding and asking ----------------------------------------------------------------------------- */

int counts_add(struct counts *c, uint64_t first, uint64_t n, uint64_t weight, unsigned marks) {
    while (n) {
        uint16_t *leaf = make_leaf(c, first >> COUNT_LEAF_BITS);
        if (!leaf)
            return -ENOMEM;
        uint64_t i = first & (COUNT_LEAF - 1), end = n < COUNT_LEAF - i ? i + n : COUNT_LEAF;
        n -= end - i;
        for (; i < end; i++, first++) {
            if (weight >= COUNT_ESCAPE - (uint64_t)(leaf[i] & COUNT_ESCAPE)) {
                if (add_large(c, &leaf[i], first, weight))
                    return -ENOMEM;
            } else {
                leaf[i] += weight;
            }
            leaf[i] |= marks;
        }
    }
    return 0;
}

uint64_t counts_cell(const struct counts *c, uint16_t cell, uint64_t cluster) {
    uint64_t count = cell & COUNT_ESCAPE;
    return count < COUNT_ESCAPE ? count : find_large(c, c->large, c->large_mask, cluster + 1)->count;
}

uint64_t counts_get(const struct counts *c, uint64_t cluster) {
    const uint16_t *leaf = counts_leaf(c, cluster);
    return leaf ? counts_cell(c, leaf[cluster & (COUNT_LEAF - 1)], cluster) : 0;
}

unsigned counts_marks(const struct counts *c, uint64_t cluster) {
    const uint16_t *leaf = counts_leaf(c, cluster);
    return leaf ? leaf[cluster & (COUNT_LEAF - 1)] & COUNT_MARKS : 0;
}
