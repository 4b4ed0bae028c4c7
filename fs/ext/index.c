/* SPDX-License-Identifier: GPL-3.0-or-later */
/* index.c - the hashed index of a directory (htree): which block a name is in.
 *
 * Block 0 and the blocks below it hold pairs of a hash and a block, sorted. Names that share a hash may go on in the
 * next block; its pair then has the lowest bit of the hash set. An index that is not as it should be is not used: the
 * directory can be read without.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dir.h"

#define LEVELS 3
#define LEAVES_MAX 1000 /* with names of one hash; a disk that has more is read without its index */

struct pair {
    uint32_t hash, block; /* of the first one, `hash` is two numbers: room for pairs, and how many there are */
};

struct level {
    unsigned char *bytes; /* a block */
    const struct pair *pairs;
    unsigned count, at;
};

struct search {
    struct visit *visit;
    struct level levels[LEVELS];
    unsigned depth; /* levels in use */
    uint32_t hash;
};

/* Where a block of the directory lies. */
static int place(struct search *search, uint32_t block, uint64_t *number) {
    struct run run = {0};
    uint64_t blocks = search->visit->node->size >> search->visit->ext->block_bits;
    int ret = map_find(search->visit->ext, search->visit->node, block, &run, search->visit->err);
    if (ret == 0 && (block >= blocks || !run.physical))
        ret = -ENOTSUP;
    *number = run.physical;
    return ret;
}

/* The last pair whose hash is not behind the one that is wanted. */
static unsigned find_pair(const struct search *search, const struct level *level) {
    unsigned low = 0, high = level->count;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (le32toh(level->pairs[middle].hash) <= search->hash)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Reads a block of pairs into a level and stands on the first one. */
static int read_level(struct search *search, struct level *level, uint32_t block, size_t begin) {
    size_t size = search->visit->ext->block_size;
    uint64_t number = 0;
    uint16_t counts[2] = {0};
    if (!level->bytes && !(level->bytes = calloc(1, size)))
        return fail_no_memory(search->visit->err);
    int ret = place(search, block, &number);
    if (ret == 0)
        ret = dir_read_block(search->visit, level->bytes, number);
    if (ret < 0)
        return ret;
    memcpy(counts, level->bytes + begin, sizeof(counts));
    level->count = le16toh(counts[1]);
    level->pairs = (const struct pair *)(level->bytes + begin);
    if (level->count == 0 || level->count > le16toh(counts[0]) || level->count > (size - begin) / sizeof(struct pair))
        return -ENOTSUP;
    level->at = 0;
    return 0;
}

static uint32_t child(const struct level *level) {
    return le32toh(level->pairs[level->at].block) & 0x0fffffff;
}

/* From the level `from` down to the pair of a leaf: that of the hash, or the first. */
static int descend(struct search *search, unsigned from, bool first) {
    int ret = 0;
    for (unsigned i = from; i < search->depth && ret == 0; i++) {
        struct level *level = &search->levels[i];
        ret = read_level(search, level, child(&search->levels[i - 1]), 8);
        if (ret == 0 && !first)
            level->at = find_pair(search, level);
    }
    return ret;
}

/* 1: the next leaf may have more names of this hash, and the search stands on it. */
static int go_on(struct search *search) {
    unsigned i = search->depth;
    while (i > 0 && search->levels[i - 1].at + 1 == search->levels[i - 1].count)
        i--;
    if (i == 0)
        return 0;
    struct level *level = &search->levels[i - 1];
    if (le32toh(level->pairs[level->at + 1].hash) != (search->hash | 1))
        return 0;
    level->at++;
    int ret = descend(search, i, true);
    return ret < 0 ? ret : 1;
}

/* What the root says of the index, behind the entries of "." and "..". */
static int read_root(struct search *search) {
    struct visit *visit = search->visit;
    struct ext2_super_block *super = super_of(visit->ext);
    const struct ext2_dx_root_info *info;
    int ret = read_level(search, &search->levels[0], 0, 24 + sizeof(*info));
    if (ret < 0)
        return ret;
    info = (const struct ext2_dx_root_info *)(search->levels[0].bytes + 24);
    int version = info->hash_version;
    if (info->reserved_zero || info->info_length != sizeof(*info) || version > EXT2_HASH_TEA ||
        info->indirect_levels >= (ext2fs_has_feature_largedir(super) ? LEVELS : LEVELS - 1))
        return -ENOTSUP;
    if (super->s_flags & EXT2_FLAGS_UNSIGNED_HASH)
        version += EXT2_HASH_LEGACY_UNSIGNED;
    search->depth = info->indirect_levels + 1u;
    if (ext2fs_dirhash2(version, visit->name, (int)visit->length, NULL, 0, super->s_hash_seed, &search->hash, NULL))
        return -ENOTSUP;
    search->levels[0].at = find_pair(search, &search->levels[0]);
    return 0;
}

static int visit_leaves(struct search *search, unsigned char *block) {
    for (unsigned i = 0; i < LEAVES_MAX; i++) {
        uint64_t number = 0;
        int ret = place(search, child(&search->levels[search->depth - 1]), &number);
        if (ret == 0)
            ret = dir_visit_block(search->visit, block, number);
        if (ret != 0)
            return ret;
        ret = go_on(search);
        if (ret <= 0)
            return ret;
    }
    return -ENOTSUP;
}

int index_visit(struct visit *visit) {
    struct search search = {.visit = visit};
    bool dots = visit->name[0] == '.' && (visit->length == 1 || (visit->length == 2 && visit->name[1] == '.'));
    if (dots || !ext2fs_has_feature_dir_index(super_of(visit->ext)) || !node_has(visit->node, EXT2_INDEX_FL) ||
        node_has(visit->node, EXT4_ENCRYPT_FL) || node_has(visit->node, EXT4_CASEFOLD_FL))
        return -ENOTSUP;
    unsigned char *block = malloc(visit->ext->block_size);
    int ret = block ? read_root(&search) : fail_no_memory(visit->err);
    if (ret == 0)
        ret = descend(&search, 1, false);
    if (ret == 0)
        ret = visit_leaves(&search, block);
    for (unsigned i = 0; i < LEVELS; i++)
        free(search.levels[i].bytes);
    free(block);
    return ret == -EUCLEAN ? -ENOTSUP : ret;
}
