/* SPDX-License-Identifier: GPL-3.0-or-later */
/* table.c - the file allocation table: an entry for each cluster, which names the next one of its file.
 *
 * The table can have a GiB, so it is read through a few windows. A chain is followed step by step; where a reader has
 * been is remembered, so that reading a file from front to back looks at each of its entries once. A chain that bites
 * its own tail is found by a mark that is set anew at steps 1, 2, 4, 8 ...: at most three times round.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "../error.h"
#include "fat.h"
#include "write.h"

int fat_load_window(struct fat *fat, uint64_t at, struct fat_window **found, struct img_error *err) {
    uint64_t number = at / FAT_WINDOW;
    struct fat_window *window = &fat->windows[number % FAT_WINDOWS];
    struct fat_window *pinned = fat_pinned_window(fat, number);
    *found = pinned ? pinned : window;
    if (pinned)
        return 0;
    if (window->count && window->at == number * FAT_WINDOW)
        return 0;
    if (!window->bytes && !(window->bytes = malloc(FAT_WINDOW)))
        return fail_no_memory(err);
    uint64_t left = fat->geometry.table_size - number * FAT_WINDOW;
    window->count = 0;
    size_t count = left < FAT_WINDOW ? (size_t)left : FAT_WINDOW;
    int ret = device_read(fat->fs.device, window->bytes, count, fat->geometry.table + number * FAT_WINDOW, err);
    if (ret < 0)
        return ret;
    window->at = number * FAT_WINDOW;
    window->count = count;
    return 0;
}

int fat_read_entry(struct fat *fat, uint32_t cluster, uint32_t *value, struct img_error *err) {
    struct fat_window *window;
    unsigned bits = fat->geometry.bits;
    uint64_t at = (uint64_t)cluster * bits / 8;
    int ret = fat_load_window(fat, at, &window, err);
    if (ret < 0)
        return ret;
    const uint8_t *entry = window->bytes + (at - window->at);
    if (bits == 32)
        *value = fat_get32(entry) & FAT32_MASK;
    else if (bits == 16)
        *value = fat_get16(entry);
    else /* two of them share three bytes */
        *value = cluster % 2 ? fat_get16(entry) >> 4 : fat_get16(entry) & 0xfffu;
    return 0;
}

bool fat_is_cluster(const struct fat *fat, uint32_t cluster) {
    return cluster >= FAT_FIRST && cluster - FAT_FIRST < fat->geometry.clusters;
}

static bool is_last(const struct fat *fat, uint32_t value) {
    unsigned bits = fat->geometry.bits;
    return value >= (bits == 32 ? FAT32_LAST : bits == 16 ? FAT16_LAST : FAT12_LAST);
}

int fat_cluster_at(const struct fat *fat, uint32_t cluster, uint64_t *at, struct img_error *err) {
    const struct fat_geometry *g = &fat->geometry;
    if (!fat_is_cluster(fat, cluster))
        return fail(err, -EUCLEAN, "FAT%u: cluster %" PRIu32 " of %" PRIu32, g->bits, cluster, g->clusters);
    *at = g->data + (uint64_t)(cluster - FAT_FIRST) * g->cluster_size;
    if (*at > fat->fs.device->size || fat->fs.device->size - *at < g->cluster_size)
        return fail(err, -EUCLEAN, "FAT%u: cluster %" PRIu32 " lies behind the end of the device", g->bits, cluster);
    return 0;
}

int fat_chain_start(const struct fat *fat, uint32_t first, struct fat_chain *chain, struct img_error *err) {
    uint64_t at;
    *chain = (struct fat_chain){.first = first, .cluster = first, .mark = first};
    return fat_cluster_at(fat, first, &at, err);
}

int fat_chain_step(struct fat *fat, struct fat_chain *chain, struct img_error *err) {
    uint32_t next;
    int ret = fat_read_entry(fat, chain->cluster, &next, err);
    if (ret < 0)
        return ret;
    if (is_last(fat, next))
        return 0;
    if (!fat_is_cluster(fat, next))
        return fail(err, -EUCLEAN, "FAT%u: cluster %" PRIu32 " is followed by %" PRIu32 " of %" PRIu32,
                    fat->geometry.bits, chain->cluster, next, fat->geometry.clusters);
    if (next == chain->mark)
        return fail(err, -EUCLEAN, "FAT%u: the chain from cluster %" PRIu32 " comes back to %" PRIu32,
                    fat->geometry.bits, chain->first, next);
    chain->cluster = next;
    chain->index++;
    if ((chain->index & (chain->index - 1)) == 0)
        chain->mark = next;
    return 1;
}

/* The remembered place nearest before `index`, or NULL. */
static const struct fat_chain *nearest_place(const struct fat *fat, uint32_t first, uint32_t index) {
    const struct fat_chain *best = NULL;
    for (unsigned i = 0; i < FAT_PLACES; i++) {
        const struct fat_chain *place = &fat->places[i];
        if (place->first == first && place->index <= index && (!best || place->index > best->index))
            best = place;
    }
    return best;
}

int fat_chain_at(struct fat *fat, uint32_t first, uint32_t index, struct fat_chain *chain, struct img_error *err) {
    const struct fat_chain *place = first ? nearest_place(fat, first, index) : NULL;
    int ret = 0;
    if (place)
        *chain = *place;
    else
        ret = fat_chain_start(fat, first, chain, err);
    while (ret >= 0 && chain->index < index) {
        ret = fat_chain_step(fat, chain, err);
        if (ret == 0)
            return fail(err, -EUCLEAN, "FAT%u: the chain from cluster %" PRIu32 " ends after %" PRIu32 " clusters",
                        fat->geometry.bits, first, chain->index + 1);
    }
    return ret < 0 ? ret : 0;
}

void fat_chain_remember(struct fat *fat, const struct fat_chain *chain) {
    for (unsigned i = 0; i < FAT_PLACES; i++) {
        if (fat->places[i].first == chain->first && fat->places[i].index <= chain->index) {
            fat->places[i] = *chain;
            return;
        }
    }
    fat->places[fat->next_place++ % FAT_PLACES] = *chain;
}

int fat_count_free(struct fat *fat, uint64_t *clusters, struct img_error *err) {
    *clusters = 0;
    for (uint32_t i = 0; i < fat->geometry.clusters; i++) {
        uint32_t value;
        int ret = fat_read_entry(fat, FAT_FIRST + i, &value, err);
        if (ret < 0)
            return ret;
        *clusters += value == 0;
    }
    return 0;
}
