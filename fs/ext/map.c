/* SPDX-License-Identifier: GPL-3.0-or-later */
/* map.c - where on the device a file's blocks lie: trees of extents, and the older blocks of block numbers.
 *
 * A look at the map walks down from the block that is wanted and takes the runs behind it along, until the window in
 * the node is full or enough of the tree was read.
 *
 * A hostile tree may not cost more than it is large. In a tree of extents every entry must lie inside the range that
 * its parent gives it, and ranges of neighbours do not overlap; so no block of the tree is visited twice in one walk,
 * wherever its pointers lead. Block numbers have no such order, and one block of them may stand for many. They cost
 * nothing as long as they map something, which whoever reads pays for; so what is bounded is blocks that map nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h> /* before the next */

#include <ext2fs/ext3_extents.h>

#include "changes.h"

#define DEPTH_MAX 5    /* levels of blocks below an inode's root of extents */
#define LOOK_MAX 1024  /* blocks of the tree that one look reads; there is more than one run in most */
#define EMPTY_MAX 1024 /* blocks of numbers without one, in one look */

struct walk {
    struct ext *ext;
    struct node *node;
    uint64_t from; /* the block that is wanted */
    unsigned looked, empty;
    const struct trace *trace; /* who wants to know which blocks are read; NULL: nobody */
    struct img_error *err;
};

struct trace {
    fs_range_call call;
    void *opaque;
};

static int tell(const struct walk *walk, uint64_t block, uint64_t count) {
    unsigned bits = walk->ext->block_bits;
    return walk->trace ? walk->trace->call(walk->trace->opaque, block << bits, count << bits) : 0;
}

static int damaged(struct walk *walk, const char *what, uint64_t value) {
    return fail(walk->err, -EUCLEAN, "The map of inode %" PRIu64 " is damaged: %s %" PRIu64, walk->node->ino, what,
                value);
}

/* The window ends before `block`. */
static int stop_at(struct walk *walk, uint64_t block) {
    walk->node->map.to = block;
    return 1;
}

/* Takes a run along; what lies before the block that is wanted is cut off. 1: the window is full. */
static int add_run(struct walk *walk, uint64_t logical, uint64_t physical, uint64_t length) {
    struct map *map = &walk->node->map;
    struct run *last = map->count ? &map->runs[map->count - 1] : NULL;
    if (physical &&
        (physical <= walk->ext->first_block || physical >= walk->ext->blocks || length > walk->ext->blocks - physical))
        return damaged(walk, "data lie outside of the filesystem, in block", physical);
    if (logical + length <= walk->from)
        return 0;
    if (logical < walk->from) {
        physical += physical ? walk->from - logical : 0;
        length -= walk->from - logical;
        logical = walk->from;
    }
    if (last && last->logical + last->length == logical &&
        (physical ? last->physical && last->physical + last->length == physical : !last->physical)) {
        last->length += length;
        return 0;
    }
    if (map->count == MAP_RUNS)
        return stop_at(walk, logical);
    map->runs[map->count++] = (struct run){.logical = logical, .length = length, .physical = physical};
    return 0;
}

/* ---- extents ---- */

static int walk_extents(struct walk *walk, const unsigned char *bytes, size_t size, unsigned depth, uint64_t low,
                        uint64_t high);

static int check_header(struct walk *walk, const unsigned char *bytes, size_t size, unsigned depth, bool root) {
    const struct ext3_extent_header *header = (const struct ext3_extent_header *)bytes;
    unsigned entries = le16toh(header->eh_entries), max = le16toh(header->eh_max);
    size_t room = (size - sizeof(*header)) / sizeof(struct ext3_extent);
    if (le16toh(header->eh_magic) != EXT3_EXT_MAGIC)
        return damaged(walk, "the magic number of a tree of extents is", le16toh(header->eh_magic));
    if (le16toh(header->eh_depth) != depth)
        return damaged(walk, "a block's height in the tree of extents is", le16toh(header->eh_depth));
    if (max == 0 || max > room)
        return damaged(walk, "the room for extents is", max);
    if (entries > max || (entries == 0 && depth > 0))
        return damaged(walk, "the number of extents is", entries);
    if (walk->ext->checksums && !root) {
        size_t end = sizeof(*header) + max * sizeof(struct ext3_extent);
        uint32_t stored;
        if (end + sizeof(stored) > size)
            return damaged(walk, "the room for extents is", max);
        memcpy(&stored, bytes + end, sizeof(stored));
        if (ext2fs_crc32c_le(walk->node->seed, bytes, end) != le32toh(stored))
            return damaged(walk, "a block of extents has the wrong checksum", le32toh(stored));
    }
    return 0;
}

static int walk_leaf(struct walk *walk, const struct ext3_extent *extents, unsigned count, uint64_t low,
                     uint64_t high) {
    for (unsigned i = 0; i < count; i++) {
        uint64_t logical = le32toh(extents[i].ee_block), length = le16toh(extents[i].ee_len);
        uint64_t physical = le32toh(extents[i].ee_start) | (uint64_t)le16toh(extents[i].ee_start_hi) << 32;
        bool unwritten = length > EXT_INIT_MAX_LEN;
        if (unwritten)
            length -= EXT_INIT_MAX_LEN;
        if (length == 0 || logical < low || logical + length > high)
            return damaged(walk, "an extent is not where it should be, at block", logical);
        if (physical == 0)
            return damaged(walk, "an extent lies in block", physical);
        int ret = add_run(walk, logical, unwritten ? 0 : physical, length);
        if (ret != 0)
            return ret;
        low = logical + length;
    }
    return 0;
}

static int walk_child(struct walk *walk, const struct ext3_extent_idx *entry, unsigned depth, uint64_t low,
                      uint64_t high) {
    struct ext *ext = walk->ext;
    if (walk->looked++ == LOOK_MAX && low > walk->from)
        return stop_at(walk, low);
    unsigned char *bytes = malloc(ext->block_size);
    if (!bytes)
        return fail_no_memory(walk->err);
    uint64_t block = le32toh(entry->ei_leaf) | (uint64_t)le16toh(entry->ei_leaf_hi) << 32;
    int ret = ext_read_block(ext, walk->node->ino, block, bytes, walk->err);
    if (ret == 0)
        ret = tell(walk, block, 1);
    if (ret == 0)
        ret = check_header(walk, bytes, ext->block_size, depth, false);
    if (ret == 0)
        ret = walk_extents(walk, bytes, ext->block_size, depth, low, high);
    free(bytes);
    return ret;
}

static int walk_extents(struct walk *walk, const unsigned char *bytes, size_t size, unsigned depth, uint64_t low,
                        uint64_t high) {
    const struct ext3_extent_header *header = (const struct ext3_extent_header *)bytes;
    const struct ext3_extent_idx *entries = (const struct ext3_extent_idx *)(header + 1);
    unsigned count = le16toh(header->eh_entries);
    (void)size;
    if (depth == 0)
        return walk_leaf(walk, (const struct ext3_extent *)(header + 1), count, low, high);
    for (unsigned i = 0; i < count; i++) {
        uint64_t start = le32toh(entries[i].ei_block), end = i + 1 < count ? le32toh(entries[i + 1].ei_block) : high;
        if (start < low || start >= end || end > high)
            return damaged(walk, "an index is not where it should be, at block", start);
        int ret = end <= walk->from ? 0 : walk_child(walk, &entries[i], depth - 1, start, end);
        if (ret != 0)
            return ret;
        low = end;
    }
    return 0;
}

static int walk_root(struct walk *walk) {
    const unsigned char *root = node_block(walk->node);
    unsigned depth = le16toh(((const struct ext3_extent_header *)root)->eh_depth);
    if (depth > DEPTH_MAX)
        return damaged(walk, "the height of the tree of extents is", depth);
    int ret = check_header(walk, root, sizeof(walk->node->inode->i_block), depth, true);
    return ret < 0 ? ret : walk_extents(walk, root, sizeof(walk->node->inode->i_block), depth, 0, 1ull << 32);
}

/* ---- block numbers ---- */

static int walk_numbers(struct walk *walk, const uint32_t *numbers, unsigned count, unsigned level, uint64_t logical);

static int walk_number(struct walk *walk, uint32_t number, unsigned level, uint64_t logical) {
    struct ext *ext = walk->ext;
    if (level == 0)
        return add_run(walk, logical, number, 1);
    if (walk->looked++ >= LOOK_MAX && logical > walk->from)
        return stop_at(walk, logical);
    uint32_t *numbers = malloc(ext->block_size);
    if (!numbers)
        return fail_no_memory(walk->err);
    unsigned before = walk->node->map.count, count = ext->block_size / sizeof(numbers[0]);
    int ret = ext_read_block(ext, walk->node->ino, number, numbers, walk->err);
    if (ret == 0)
        ret = tell(walk, number, 1);
    if (ret == 0)
        ret = walk_numbers(walk, numbers, count, level, logical);
    free(numbers);
    if (ret == 0 && walk->node->map.count == before && walk->empty++ == EMPTY_MAX)
        return damaged(walk, "too many blocks of block numbers map nothing, before block", logical);
    return ret;
}

/* `count` numbers of blocks that stand `level` levels above data. */
static int walk_numbers(struct walk *walk, const uint32_t *numbers, unsigned count, unsigned level, uint64_t logical) {
    unsigned bits = (walk->ext->block_bits - 2) * (level ? level - 1 : 0);
    uint64_t span = 1ull << bits, skipped = walk->from > logical ? (walk->from - logical) >> bits : 0;
    for (uint64_t i = skipped; i < count; i++) {
        int ret = numbers[i] ? walk_number(walk, le32toh(numbers[i]), level ? level - 1 : 0, logical + i * span) : 0;
        if (ret != 0)
            return ret;
    }
    return 0;
}

static int walk_blocks(struct walk *walk) {
    const uint32_t *numbers = (const uint32_t *)(const void *)node_block(walk->node);
    unsigned bits = walk->ext->block_bits - 2;
    uint64_t logical = EXT2_NDIR_BLOCKS;
    int ret = walk_numbers(walk, numbers, EXT2_NDIR_BLOCKS, 0, 0);
    for (unsigned level = 1; level <= 3 && ret == 0; level++) {
        uint64_t span = 1ull << (bits * level);
        uint32_t number = le32toh(numbers[EXT2_NDIR_BLOCKS + level - 1]);
        if (number && logical + span > walk->from)
            ret = walk_number(walk, number, level, logical);
        logical += span;
    }
    return ret;
}

/* ---- the window ---- */

static int walk_remap(struct walk *walk, const struct remap *remap) {
    int ret = 0;
    for (size_t i = 0; i < remap->count && ret == 0; i++)
        ret = add_run(walk, remap->runs[i].logical, remap->runs[i].physical, remap->runs[i].length);
    return ret;
}

static int look(struct ext *ext, struct node *node, uint64_t block, const struct trace *trace, struct img_error *err) {
    struct walk walk = {.ext = ext, .node = node, .from = block, .trace = trace, .err = err};
    node->map.count = 0;
    node->map.from = block;
    node->map.to = MAP_END;
    const struct remap *remap = remap_of(ext, node->ino);
    int ret = remap                             ? walk_remap(&walk, remap)
              : node_has(node, EXT4_EXTENTS_FL) ? walk_root(&walk)
                                                : walk_blocks(&walk);
    if (ret < 0)
        node->map.to = node->map.from;
    return ret < 0 ? ret : 0;
}

int map_find(struct ext *ext, struct node *node, uint64_t block, struct run *run, struct img_error *err) {
    struct map *map = &node->map;
    if (block < map->from || block >= map->to) {
        int ret = look(ext, node, block, NULL, err);
        if (ret < 0)
            return ret;
    }
    /* The first run that ends behind the block. */
    unsigned low = 0, high = map->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (map->runs[middle].logical + map->runs[middle].length <= block)
            low = middle + 1;
        else
            high = middle;
    }
    *run = (struct run){.logical = block, .length = (low < map->count ? map->runs[low].logical : map->to) - block};
    if (low < map->count && map->runs[low].logical <= block) {
        const struct run *found = &map->runs[low];
        run->length = found->logical + found->length - block;
        run->physical = found->physical ? found->physical + (block - found->logical) : 0;
    }
    return 0;
}

/* ---- the whole map ---- */

static int by_place(const void *a, const void *b) {
    const struct run *left = a, *right = b;
    return (left->physical > right->physical) - (left->physical < right->physical);
}

/* Sorts a copy of the runs, for which there is room behind them. */
static int check_disjoint(struct node *node, struct run *runs, size_t count, size_t room, struct img_error *err) {
    struct run *sorted = runs + room;
    memcpy(sorted, runs, count * sizeof(runs[0]));
    qsort(sorted, count, sizeof(sorted[0]), by_place);
    for (size_t i = 1; i < count; i++)
        if (sorted[i - 1].physical + sorted[i - 1].length > sorted[i].physical)
            return fail(err, -EUCLEAN, "Inode %" PRIu64 " has block %" PRIu64 " twice", node->ino, sorted[i].physical);
    return 0;
}

static int add_to_list(struct node *node, const struct run *run, struct run **runs, size_t *count, size_t *room,
                       struct img_error *err) {
    if (*count == *room) {
        /* Looked at whenever there are twice as many, so that memory is not spent on repetitions. */
        size_t more = *room ? 2 * *room : 8;
        struct run *list = realloc(*runs, 2 * more * sizeof(*list));
        if (!list)
            return fail_no_memory(err);
        *runs = list;
        *room = more;
        int ret = check_disjoint(node, list, *count, more, err);
        if (ret < 0)
            return ret;
    }
    (*runs)[(*count)++] = *run;
    return 0;
}

int map_gather(struct ext *ext, struct node *node, uint64_t blocks, struct run **runs, size_t *count,
               struct img_error *err) {
    size_t room = 0;
    int ret = 0;
    struct run run = {0};
    *runs = NULL;
    *count = 0;
    for (uint64_t block = 0; block < blocks && ret == 0; block += run.length) {
        ret = map_find(ext, node, block, &run, err);
        if (ret < 0 || !run.physical)
            continue;
        if (run.length > blocks - block)
            run.length = blocks - block;
        ret = add_to_list(node, &run, runs, count, &room, err);
    }
    if (ret == 0 && *count > 1)
        ret = check_disjoint(node, *runs, *count, room, err);
    if (ret < 0) {
        free(*runs);
        *runs = NULL;
        *count = 0;
    }
    return ret;
}

int map_trace(struct ext *ext, struct node *node, fs_range_call call, void *opaque, struct img_error *err) {
    const struct trace trace = {call, opaque};
    uint64_t blocks = 0;
    int ret = 0;
    for (uint64_t from = 0; from < MAP_END && ret == 0; from = node->map.to) {
        ret = look(ext, node, from, &trace, err);
        for (unsigned i = 0; i < node->map.count && ret == 0; i++) {
            const struct run *run = &node->map.runs[i];
            if (!run->physical)
                continue;
            if ((blocks += run->length) > ext->blocks)
                return fail(err, -EUCLEAN, "Inode %" PRIu64 " has blocks twice", node->ino);
            ret = call(opaque, run->physical << ext->block_bits, run->length << ext->block_bits);
        }
    }
    return ret;
}
