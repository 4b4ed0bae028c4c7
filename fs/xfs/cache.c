/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cache.c - the blocks of metadata that were last used, checked when they were read. Each is found by its first byte on
 * the device, its length and whether it was read as raw bytes. A block that somebody holds is never given up; of the
 * others those that were used last are kept, up to CACHE_BYTES.
 */
#include <errno.h>
#include <stdlib.h>

#include "../error.h"
#include "xfs.h"

enum { CACHE_BYTES = 8 << 20, CACHE_HASH = 1024 };

struct xfs_cache {
    struct xfs_block *hash[CACHE_HASH];
    struct xfs_age ends; /* of the ring of all blocks: `newer` is the oldest, `older` the newest */
    size_t bytes;
};

int xfs_cache_open(struct xfs *xfs, struct img_error *err) {
    struct xfs_cache *cache = calloc(1, sizeof(*cache));
    if (!cache)
        return fail_no_memory(err);
    cache->ends.newer = cache->ends.older = &cache->ends;
    xfs->cache = cache;
    return 0;
}

static struct xfs_block **chain(struct xfs_cache *cache, uint64_t address) {
    return &cache->hash[(address >> XFS_DADDR_SHIFT) * 0x9e3779b97f4a7c15ull >> 54];
}

static void make_newest(struct xfs_cache *cache, struct xfs_block *block) {
    block->age = (struct xfs_age){.older = cache->ends.older, .newer = &cache->ends};
    block->age.older->newer = &block->age;
    cache->ends.older = &block->age;
}

static void unlink_age(struct xfs_block *block) {
    block->age.newer->older = block->age.older;
    block->age.older->newer = block->age.newer;
}

static void drop(struct xfs_cache *cache, struct xfs_block *block) {
    struct xfs_block **link = chain(cache, block->address);
    while (*link != block)
        link = &(*link)->same_hash;
    *link = block->same_hash;
    unlink_age(block);
    cache->bytes -= block->length;
    free(block);
}

void xfs_cache_close(struct xfs *xfs) {
    struct xfs_cache *cache = xfs->cache;
    if (!cache)
        return;
    while (cache->ends.newer != &cache->ends)
        drop(cache, (struct xfs_block *)cache->ends.newer);
    free(cache);
    xfs->cache = NULL;
}

static struct xfs_block *find(struct xfs_cache *cache, uint64_t address, uint32_t length, bool raw) {
    for (struct xfs_block *block = *chain(cache, address); block; block = block->same_hash)
        if (block->address == address && block->length == length && !block->shape == raw)
            return block;
    return NULL;
}

static int load(struct xfs *xfs, const struct xfs_piece *pieces, size_t count, uint32_t length, unsigned kinds,
                struct xfs_block **result, struct img_error *err) {
    struct xfs_block *block = malloc(sizeof(*block) + length);
    uint32_t done = 0;
    int ret = 0;
    if (!block)
        return fail_no_memory(err);
    *block = (struct xfs_block){.address = pieces[0].address, .length = length};
    for (size_t i = 0; i < count && ret == 0; i++) {
        ret = device_read(xfs->device, block->bytes + done, pieces[i].length, pieces[i].address, err);
        done += pieces[i].length;
    }
    if (ret == 0 && kinds != XFS_KIND_RAW)
        ret = xfs_shape_check(xfs, block->bytes, length, block->address, kinds, &block->shape, err);
    if (ret < 0) {
        free(block);
        return ret;
    }
    *result = block;
    return 0;
}

static void insert(struct xfs_cache *cache, struct xfs_block *block) {
    struct xfs_age *old = cache->ends.newer;
    while (cache->bytes + block->length > CACHE_BYTES && old != &cache->ends) {
        struct xfs_age *next = old->newer;
        if (((struct xfs_block *)old)->users == 0)
            drop(cache, (struct xfs_block *)old);
        old = next;
    }
    struct xfs_block **link = chain(cache, block->address);
    block->same_hash = *link;
    *link = block;
    make_newest(cache, block);
    cache->bytes += block->length;
}

int xfs_block_get(struct xfs *xfs, const struct xfs_piece *pieces, size_t count, unsigned kinds, uint64_t owner,
                  struct xfs_block **result, struct img_error *err) {
    uint32_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += pieces[i].length;
    struct xfs_block *block = find(xfs->cache, pieces[0].address, length, kinds == XFS_KIND_RAW);
    if (block) {
        if (block->shape && !(block->shape->kind & kinds))
            return fail(err, -EUCLEAN, "The %s block at byte %llu is used as another kind of block", block->shape->name,
                        (unsigned long long)block->address);
        unlink_age(block);
        make_newest(xfs->cache, block);
    } else {
        int ret = load(xfs, pieces, count, length, kinds, &block, err);
        if (ret < 0)
            return ret;
        insert(xfs->cache, block);
    }
    if (block->shape) {
        int ret = xfs_owner_check(xfs, block->bytes, block->address, block->shape, owner, err);
        if (ret < 0)
            return ret;
    }
    block->users++;
    *result = block;
    return 0;
}

void xfs_block_put(struct xfs *xfs, struct xfs_block *block) {
    (void)xfs;
    if (block)
        block->users--;
}
