// SPDX-License-Identifier: GPL-3.0-or-later
/* config.c - which image a seed means.
 *
 * The dimensions that must meet in every combination (cluster size, refcount width, mode, raw top) are taken from the
 * seed by counting with coprime periods, 13, 7, 4 and 17, so a stretch of seeds spreads over them evenly; the rest is
 * drawn. Only what QEMU itself can make is drawn: no compression with a data file, no preallocation over a backing
 * file, subclusters from 16 KiB on.
 */
#include "model.h"

#include <stdio.h>
#include <string.h>

static uint64_t draw_size(struct rng *r, unsigned cluster_bits) {
    uint64_t base = cluster_bits <= 12   ? 256u << 10
                    : cluster_bits <= 16 ? 2u << 20
                    : cluster_bits <= 19 ? 4u << 20
                                         : 12u << 20;
    uint64_t size = base + rng_below(r, base * (cluster_bits <= 12 ? 7 : 2));
    size -= size % (rng_one_in(r, 2) ? SECTOR : 64u << 10);
    return size;
}

static void draw_qcow2(struct layer *l, struct rng *r, unsigned cluster_bits, unsigned refcount_order) {
    l->cluster_bits = cluster_bits;
    l->version = rng_one_in(r, 5) ? 2 : 3;
    l->refcount_bits = 1u << (l->version == 2 ? 4 : refcount_order);
    l->data_file = rng_one_in(r, 9);
    if (l->version == 3) {
        l->extended_l2 = cluster_bits >= 14 && rng_one_in(r, 3);
        l->zstd = rng_one_in(r, 3);
        l->lazy = rng_one_in(r, 4);
    } else {
        l->data_file = false;
    }
    l->compressed = !l->data_file && !rng_one_in(r, 3);
    l->left_dirty = l->lazy && rng_one_in(r, 3);
    l->made_by_us = rng_one_in(r, 4);
    l->writes = 4 + rng_below(r, 16);
}

static void draw_chain(struct config *c, struct rng *r) {
    static const unsigned depths[] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4};
    struct layer *top = &c->layer[0];
    c->nlayers = 1 + (top->raw ? 0 : depths[rng_below(r, sizeof(depths) / sizeof(*depths))]);
    for (unsigned i = 1; i < c->nlayers; i++) {
        struct layer *l = &c->layer[i];
        /* only the lowest layer can be raw: a raw file has no backing file */
        l->raw = i == c->nlayers - 1 && rng_one_in(r, 2);
        if (!l->raw)
            draw_qcow2(l, r, 9 + rng_below(r, 13), rng_below(r, 7));
        l->left_dirty = false;
        l->writes = 3 + rng_below(r, 8);
        uint64_t percent = 30 + rng_below(r, 120);
        l->size = top->size * percent / 100 / SECTOR * SECTOR;
        if (l->size < 64 << 10)
            l->size = 64 << 10;
        if (l->raw && rng_one_in(r, 3))
            l->odd = 1 + rng_below(r, SECTOR - 1);
    }
    if (top->data_file)
        top->data_file_raw = c->nlayers == 1 && rng_one_in(r, 2);
    if (!top->raw && c->nlayers == 1 && rng_one_in(r, 3))
        top->preallocation = 1 + rng_below(r, 3);
    for (unsigned i = 0; i < c->nlayers; i++) {
        struct layer *l = &c->layer[i];
        snprintf(l->name, sizeof(l->name), "layer%u.%s", i, l->raw ? "raw" : "qcow2");
        if (l->data_file)
            snprintf(l->data_name, sizeof(l->data_name), "data%u.raw", i);
    }
}

static void draw_snapshots(struct config *c, struct rng *r) {
    const struct layer *top = &c->layer[0];
    if (top->raw || top->data_file || top->left_dirty || top->refcount_bits == 1 || !rng_one_in(r, 2))
        return;
    c->nsnapshots = 1 + rng_below(r, MAX_SNAPSHOTS);
    /* counts of small widths are soon full, and compressed clusters share a host cluster */
    if (top->refcount_bits <= 4 && top->compressed)
        c->nsnapshots = 0;
    else if (top->refcount_bits == 2)
        c->nsnapshots = 1;
}

static void draw_caches(struct config *c, struct rng *r) {
    static const enum img_cache caches[] = {IMG_CACHE_WRITEBACK, IMG_CACHE_WRITEBACK,    IMG_CACHE_WRITEBACK,
                                            IMG_CACHE_NONE,      IMG_CACHE_NONE,         IMG_CACHE_UNSAFE,
                                            IMG_CACHE_UNSAFE,    IMG_CACHE_WRITETHROUGH, IMG_CACHE_DIRECTSYNC};
    c->cache = caches[rng_below(r, sizeof(caches) / sizeof(*caches))];
    if (rng_one_in(r, 2)) {
        c->l2_cache = 4096u << rng_below(r, 4);
        c->refcount_cache = 4096u << rng_below(r, 4);
    }
    /* real O_DIRECT costs real time: some of the seeds that use it at all */
    c->on_disk = (c->cache == IMG_CACHE_NONE || c->cache == IMG_CACHE_DIRECTSYNC) && rng_one_in(r, 2);
}

/* Drawn last, so that the other draws of a seed are what they were. QEMU stores compressed clusters of an encrypted
 * image as they are, which we refuse to. */
static void draw_encryption(struct config *c, struct rng *r) {
    struct layer *top = &c->layer[0];
    if (top->raw || top->data_file_raw || !rng_one_in(r, 5))
        return;
    top->encryption = rng_one_in(r, 4) ? "aes" : "luks";
    top->compressed = false;
    if (top->version == 2)
        top->preallocation = IMG_PREALLOCATION_OFF;
}

void config_make(struct config *c, uint64_t seed, unsigned ops) {
    struct layer *top = &c->layer[0];
    memset(c, 0, sizeof(*c));
    c->executor = (enum executor)(seed / EXECUTOR_SEEDS % EXECUTORS);
    c->seed = seed %= EXECUTOR_SEEDS;
    struct rng r = {mix64(seed ^ 0x6d6f64656cull)};
    c->ops = ops;
    c->mode = seed % 4 < 2 ? MODE_SINGLE : seed % 4 == 2 ? MODE_DISJOINT : MODE_OVERLAP;
    top->raw = seed % 17 == 16;
    top->size = draw_size(&r, 9 + seed % 13);
    if (top->raw) {
        top->writes = 4 + rng_below(&r, 16);
        if (rng_one_in(&r, 3))
            top->preallocation = IMG_PREALLOCATION_FALLOC + rng_below(&r, 2);
    } else {
        draw_qcow2(top, &r, 9 + seed % 13, seed % 7);
    }
    draw_chain(c, &r);
    draw_snapshots(c, &r);
    draw_caches(c, &r);
    c->byte_borders = rng_one_in(&r, 4);
    c->max_size = top->size * 3 / 2;
    draw_encryption(c, &r);
    c->bitmaps = !top->raw && top->version == 3 && rng_one_in(&r, 2);
}

uint64_t config_seed(const struct config *c) {
    return c->seed + (uint64_t)c->executor * EXECUTOR_SEEDS;
}

void config_describe(const struct config *c, char *text, size_t size) {
    static const char *const modes[] = {"1 thread", "4 threads apart", "4 threads together"};
    static const char *const executors[] = {"", " through queues", " through queues without io_uring"};
    static const char *const caches[] = {"writeback", "writethrough", "none", "directsync", "unsafe"};
    static const char *const preallocations[] = {"", ",metadata", ",falloc", ",full"};
    size_t used = (size_t)snprintf(text, size, "seed %llu: %s%s, cache %s", (unsigned long long)config_seed(c),
                                   modes[c->mode], executors[c->executor], caches[c->cache]);
    if (c->l2_cache && used < size)
        used += (size_t)snprintf(text + used, size - used, " l2 %uk", (unsigned)(c->l2_cache >> 10));
    if (c->bitmaps && used < size)
        used += (size_t)snprintf(text + used, size - used, ", bitmaps");
    if (c->nsnapshots && used < size)
        used += (size_t)snprintf(text + used, size - used, ", %u snapshots", c->nsnapshots);
    for (unsigned i = 0; i < c->nlayers && used < size; i++) {
        const struct layer *l = &c->layer[i];
        used += (size_t)snprintf(text + used, size - used, "%s", i ? " <- " : "; ");
        if (used < size && l->raw)
            used += (size_t)snprintf(text + used, size - used, "raw%s", preallocations[l->preallocation]);
        else if (used < size)
            used += (size_t)snprintf(
                text + used, size - used, "v%u c%llu rc%u%s%s%s%s%s%s%s%s%s%s", l->version, 1ull << l->cluster_bits,
                l->refcount_bits, l->extended_l2 ? " ext" : "", l->compressed ? l->zstd ? " zstd" : " zlib" : "",
                l->lazy ? " lazy" : "", l->left_dirty ? " dirty" : "", l->data_file ? " data" : "",
                l->data_file_raw ? "-raw" : "", preallocations[l->preallocation], l->made_by_us ? " ours" : "",
                l->encryption ? " " : "", l->encryption ? l->encryption : "");
    }
}
