/* SPDX-License-Identifier: GPL-3.0-or-later */
/* alloc.c - the table as it will be: windows that changed stay in memory until the commit. A cluster that is given back
 * stays taken until then, so that nothing which the disk still shows is overwritten.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "write.h"

struct fat_window *fat_pinned_window(const struct fat *fat, uint64_t number) {
    const struct fat_writer *w = fat->writer;
    return w && number < w->windows && w->pinned[number] ? &w->pinned[number]->window : NULL;
}

static int pin(struct fat *fat, uint64_t at, struct fat_pinned **pinned, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    uint64_t number = at / FAT_WINDOW;
    if (!w->pinned[number]) {
        struct fat_window *window;
        struct fat_pinned *p = calloc(1, sizeof(*p));
        uint8_t *bytes = malloc(FAT_WINDOW);
        int ret = p && bytes ? fat_load_window(fat, at, &window, err) : fail_no_memory(err);
        if (ret < 0) {
            free(p);
            free(bytes);
            return ret;
        }
        p->window = (struct fat_window){.bytes = bytes, .at = window->at, .count = window->count};
        memcpy(bytes, window->bytes, window->count);
        w->pinned[number] = p;
    }
    *pinned = w->pinned[number];
    return 0;
}

static void change_byte(struct fat_pinned *p, size_t index, uint8_t value) {
    p->window.bytes[index] = value;
    p->changed[index / FAT_UNIT / 8] |= (uint8_t)(1u << index / FAT_UNIT % 8);
}

int fat_set_entry(struct fat *fat, uint32_t cluster, uint32_t value, struct img_error *err) {
    unsigned bits = fat->geometry.bits;
    uint64_t at = (uint64_t)cluster * bits / 8;
    struct fat_pinned *p;
    int ret = pin(fat, at, &p, err);
    if (ret < 0)
        return ret;
    size_t index = (size_t)(at - p->window.at);
    const uint8_t *old = p->window.bytes + index;
    if (bits == 32) /* the upper bits are not ours */
        value = (value & FAT32_MASK) | (fat_get32(old) & ~FAT32_MASK);
    else if (bits == 12)
        value = cluster % 2 ? (old[0] & 0x0fu) | (value & 0xfff) << 4 : (value & 0xfff) | (old[1] & 0xf0u) << 8;
    for (unsigned i = 0; i < (bits == 32 ? 4 : 2); i++)
        change_byte(p, index + i, (uint8_t)(value >> 8 * i));
    return 0;
}

static int find_free(struct fat *fat, uint32_t *cluster, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    uint32_t clusters = fat->geometry.clusters;
    for (uint32_t i = 0; w->free && i < clusters; i++) {
        uint32_t value, candidate = FAT_FIRST + (w->next_free - FAT_FIRST + i) % clusters;
        int ret = fat_read_entry(fat, candidate, &value, err);
        if (ret < 0)
            return ret;
        if (value == 0) {
            *cluster = candidate;
            return 0;
        }
    }
    return fail(err, -ENOSPC, "The filesystem is full");
}

int fat_take(struct fat *fat, uint32_t before, uint32_t *cluster, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    uint64_t at;
    int ret = find_free(fat, cluster, err);
    if (ret == 0)
        ret = fat_cluster_at(fat, *cluster, &at, err);
    if (ret == 0)
        ret = fat_set_entry(fat, *cluster, FAT32_MASK, err);
    if (ret == 0 && before)
        ret = fat_set_entry(fat, before, *cluster, err);
    if (ret < 0)
        return ret;
    w->next_free = FAT_FIRST + (*cluster - FAT_FIRST + 1) % fat->geometry.clusters;
    w->free--;
    return 0;
}

int fat_give_back(struct fat *fat, uint32_t first, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    if (!first)
        return 0;
    if (w->given_count == w->given_room) {
        size_t room = w->given_room ? 2 * w->given_room : 64;
        uint32_t *larger = realloc(w->given_back, room * sizeof(*larger));
        if (!larger)
            return fail_no_memory(err);
        w->given_back = larger;
        w->given_room = room;
    }
    w->given_back[w->given_count++] = first;
    return 0;
}

/* A chain is walked as far as it makes sense: what two files share is freed once. */
static int free_chain(struct fat *fat, uint32_t first, struct img_error *err) {
    uint32_t cluster = first, next;
    while (fat_is_cluster(fat, cluster)) {
        int ret = fat_read_entry(fat, cluster, &next, err);
        if (ret == 0 && next)
            ret = fat_set_entry(fat, cluster, 0, err);
        if (ret < 0)
            return ret;
        if (!next)
            break;
        fat->writer->free++;
        cluster = next;
    }
    return 0;
}

int fat_free_chains(struct fat *fat, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    int ret = 0;
    for (size_t i = 0; i < w->given_count && ret == 0; i++)
        ret = free_chain(fat, w->given_back[i], err);
    w->given_count = 0;
    memset(fat->places, 0, sizeof(fat->places));
    return ret;
}

/* ---- writing ---- */

static bool is_changed(const struct fat_pinned *p, size_t unit) {
    return p->changed[unit / 8] >> unit % 8 & 1;
}

/* A run of changed units into every copy of the table. */
static int write_units(struct fat *fat, const struct fat_pinned *p, size_t from, size_t count, struct img_error *err) {
    const struct fat_geometry *g = &fat->geometry;
    size_t bytes = count * FAT_UNIT;
    int ret = 0;
    if (bytes > p->window.count - from * FAT_UNIT)
        bytes = p->window.count - from * FAT_UNIT;
    for (unsigned copy = 0; copy < g->copies && ret == 0; copy++)
        ret = device_write(fat->fs.device, p->window.bytes + from * FAT_UNIT, bytes,
                           g->table + copy * g->copy_distance + p->window.at + from * FAT_UNIT, err);
    return ret;
}

static int write_window(struct fat *fat, struct fat_pinned *p, struct img_error *err) {
    size_t units = (p->window.count + FAT_UNIT - 1) / FAT_UNIT;
    for (size_t i = 0; i < units; i++) {
        size_t run = 0;
        while (i + run < units && is_changed(p, i + run))
            run++;
        int ret = run ? write_units(fat, p, i, run, err) : 0;
        if (ret < 0)
            return ret;
        i += run;
    }
    memset(p->changed, 0, sizeof(p->changed));
    return 0;
}

int fat_write_table(struct fat *fat, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    int ret = 0;
    for (size_t i = 0; i < w->windows && ret == 0; i++)
        if (w->pinned[i])
            ret = write_window(fat, w->pinned[i], err);
    return ret;
}

void fat_unpin(struct fat *fat) {
    struct fat_writer *writer = fat->writer;
    for (size_t i = 0; i < writer->windows; i++) {
        if (writer->pinned[i]) {
            free(writer->pinned[i]->window.bytes);
            free(writer->pinned[i]);
            writer->pinned[i] = NULL;
        }
    }
    for (unsigned i = 0; i < FAT_WINDOWS; i++)
        fat->windows[i].count = 0;
}
