/* SPDX-License-Identifier: GPL-3.0-or-later */
/* alloc.c - free blocks for a transaction.
 *
 * File data is written before the commit, so it may only go to blocks that nothing on the disk refers to: what a change
 * of this transaction frees must wait for the next. So beside the library's bitmap of what is in use there is another,
 * in which blocks are taken and never given back until the commit. The library allocates by it too.
 *
 * Without a journal nothing may be free on the disk that the disk still uses: what is freed then is noted, in use
 * again at once, and freed when all else of the transaction is durable.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "write.h"

/* The first free run in [from, to), at most `want` long; false: there is none. */
static bool find_run(struct ext *ext, uint64_t from, uint64_t to, uint64_t want, uint64_t *block, uint64_t *got) {
    ext2fs_block_bitmap taken = writer_of(ext)->taken;
    blk64_t start, end;
    if (from >= to || ext2fs_find_first_zero_block_bitmap2(taken, from, to - 1, &start) != 0)
        return false;
    uint64_t last = to - start < want ? to - 1 : start + want - 1;
    if (ext2fs_find_first_set_block_bitmap2(taken, start, last, &end) != 0)
        end = last + 1;
    *block = start;
    *got = end - start;
    return true;
}

/* ---- the library asks ---- */

static errcode_t take_one(ext2_filsys lib, blk64_t goal, blk64_t *block) {
    struct ext *ext = lib->priv_data;
    struct img_error err;
    uint64_t found = 0, got;
    int ret = alloc_run(ext, goal, 1, &found, &got, &err);
    *block = found;
    return ret == -ENOSPC ? EXT2_ET_BLOCK_ALLOC_FAIL : ret < 0 ? EXT2_ET_NO_MEMORY : 0;
}

/* A run; directories that have an index grow so. Taken at once: before the library says that it has put the run into
 * use it takes blocks for the map that the run is entered into. If it does not use the run, that is free again with the
 * next transaction. */
static errcode_t take_range(ext2_filsys lib, int flags, blk64_t goal, blk64_t want, blk64_t *block, blk64_t *got) {
    struct ext *ext = lib->priv_data;
    bool fixed = flags & EXT2_NEWRANGE_FIXED_GOAL, all = flags & EXT2_NEWRANGE_MIN_LENGTH;
    uint64_t found = 0, length = 0;
    if (goal <= ext->first_block || goal >= ext->blocks)
        goal = ext->first_block + 1;
    for (uint64_t from = goal; find_run(ext, from, ext->blocks, want, &found, &length); from = found + length) {
        if ((!fixed || found == goal) && (!all || length >= want)) {
            ext2fs_mark_block_bitmap_range2(writer_of(ext)->taken, found, (unsigned)length);
            *block = found;
            *got = length;
            return 0;
        }
        if (fixed)
            break;
    }
    return fixed || goal == ext->first_block + 1 ? EXT2_ET_BLOCK_ALLOC_FAIL
                                                 : take_range(lib, flags, ext->first_block + 1, want, block, got);
}

/* The library says that it has put a block into use, or out of it. */
static void note(ext2_filsys lib, blk64_t block, int in_use) {
    struct writer *writer = writer_of(lib->priv_data);
    struct unjournaled *unjournaled = writer->unjournaled;
    if (in_use > 0)
        ext2fs_mark_block_bitmap2(writer->taken, block);
    else if (unjournaled && unjournaled->later) {
        ext2fs_mark_block_bitmap2(unjournaled->later, block);
        ext2fs_block_alloc_stats2(lib, block, +1);
    }
}

static void note_range(ext2_filsys lib, blk64_t block, blk_t count, int in_use) {
    for (blk_t i = 0; i < count; i++)
        note(lib, block + i, in_use);
}

static void mark(struct ext *ext, ext2fs_block_bitmap map, uint64_t block) {
    if (block >= ext->first_block && block < ext->blocks)
        ext2fs_mark_block_bitmap2(map, block);
}

static int open_unjournaled(struct ext *ext, struct img_error *err) {
    struct unjournaled *new = calloc(1, sizeof(*new));
    if (!new)
        return fail_no_memory(err);
    writer_of(ext)->unjournaled = new;
    errcode_t code = ext2fs_allocate_block_bitmap(ext->lib, "maps", &new->maps);
    if (!code)
        code = ext2fs_allocate_block_bitmap(ext->lib, "later", &new->later);
    if (code)
        return ext_io_fail(ext->io, err, code, "The order of writes cannot be kept");
    for (dgrp_t group = 0; group < ext->lib->group_desc_count; group++) {
        mark(ext, new->maps, ext2fs_block_bitmap_loc(ext->lib, group));
        mark(ext, new->maps, ext2fs_inode_bitmap_loc(ext->lib, group));
    }
    for (dgrp_t i = 0; i < ext->lib->desc_blocks; i++)
        mark(ext, new->maps, ext2fs_descriptor_block_loc2(ext->lib, ext->first_block, i));
    return 0;
}

int alloc_open(struct ext *ext, struct img_error *err) {
    errcode_t code = ext2fs_read_bitmaps(ext->lib);
    if (code)
        return ext_io_fail(ext->io, err, code, "The maps of free blocks and inodes cannot be read");
    ext->lib->priv_data = ext;
    ext2fs_set_alloc_block_callback(ext->lib, take_one, NULL);
    ext2fs_set_new_range_callback(ext->lib, take_range, NULL);
    ext2fs_set_block_alloc_stats_callback(ext->lib, note, NULL);
    ext2fs_set_block_alloc_stats_range_callback(ext->lib, note_range, NULL);
    int ret = writer_of(ext)->journal ? 0 : open_unjournaled(ext, err);
    return ret < 0 ? ret : alloc_committed(ext, err);
}

static void free_map(ext2fs_block_bitmap *map) {
    if (*map)
        ext2fs_free_block_bitmap(*map);
    *map = NULL;
}

void alloc_close(struct ext *ext) {
    struct unjournaled *unjournaled = writer_of(ext)->unjournaled;
    free_map(&writer_of(ext)->taken);
    if (!unjournaled)
        return;
    free_map(&unjournaled->maps);
    free_map(&unjournaled->begun);
    free_map(&unjournaled->later);
    free(unjournaled->gone);
    free(unjournaled);
    writer_of(ext)->unjournaled = NULL;
}

static int copy_map(struct ext *ext, ext2fs_block_bitmap *copy, struct img_error *err) {
    free_map(copy);
    errcode_t code = ext2fs_copy_bitmap(ext->lib->block_map, copy);
    return code ? ext_io_fail(ext->io, err, code, "The map of free blocks cannot be copied") : 0;
}

int alloc_committed(struct ext *ext, struct img_error *err) {
    struct writer *writer = writer_of(ext);
    int ret = copy_map(ext, &writer->taken, err);
    return ret < 0 || !writer->unjournaled ? ret : copy_map(ext, &writer->unjournaled->begun, err);
}

/* ---- what is freed ---- */

int alloc_check(struct ext *ext, uint64_t ino, uint64_t *end, struct img_error *err) {
    struct node *node;
    struct run *runs;
    size_t count;
    blk64_t unused;
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    ret = map_gather(ext, node, MAP_END, &runs, &count, err);
    node_put(ext, node);
    *end = 0;
    for (size_t i = 0; i < count && ret == 0; i++) {
        uint64_t last = runs[i].physical + runs[i].length - 1;
        if (runs[i].physical <= ext->first_block || last >= ext->blocks ||
            ext2fs_find_first_zero_block_bitmap2(ext->lib->block_map, runs[i].physical, last, &unused) == 0)
            ret = fail(err, -EUCLEAN, "Inode %" PRIu64 " has blocks that are not in use; run e2fsck", ino);
        *end = runs[i].logical + runs[i].length;
    }
    free(runs);
    return ret;
}

int alloc_free_inode(struct ext *ext, uint64_t ino, bool directory, struct img_error *err) {
    struct unjournaled *unjournaled = writer_of(ext)->unjournaled;
    if (!unjournaled) {
        ext2fs_inode_alloc_stats2(ext->lib, (ext2_ino_t)ino, -1, directory);
        return 0;
    }
    if (unjournaled->count == unjournaled->room) {
        size_t room = unjournaled->room ? 2 * unjournaled->room : 16;
        struct gone_inode *more = realloc(unjournaled->gone, room * sizeof(*more));
        if (!more)
            return fail_no_memory(err);
        unjournaled->gone = more;
        unjournaled->room = room;
    }
    unjournaled->gone[unjournaled->count++] = (struct gone_inode){ino, directory};
    return 0;
}

void alloc_release(struct ext *ext) {
    struct unjournaled *unjournaled = writer_of(ext)->unjournaled;
    ext2fs_block_bitmap later = unjournaled->later;
    blk64_t block = ext->first_block;
    unjournaled->later = NULL; /* from here on what is freed is free */
    while (ext2fs_find_first_set_block_bitmap2(later, block, ext->blocks - 1, &block) == 0) {
        ext2fs_block_alloc_stats2(ext->lib, block, -1);
        if (++block >= ext->blocks)
            break;
    }
    ext2fs_clear_block_bitmap(later);
    unjournaled->later = later;
    for (size_t i = 0; i < unjournaled->count; i++)
        ext2fs_inode_alloc_stats2(ext->lib, (ext2_ino_t)unjournaled->gone[i].ino, -1, unjournaled->gone[i].directory);
    unjournaled->count = 0;
}

/* ---- what is taken ---- */

int alloc_run(struct ext *ext, uint64_t goal, uint64_t want, uint64_t *block, uint64_t *got, struct img_error *err) {
    if (goal <= ext->first_block || goal >= ext->blocks)
        goal = ext->first_block + 1;
    if (!find_run(ext, goal, ext->blocks, want, block, got) &&
        !find_run(ext, ext->first_block + 1, goal, want, block, got))
        return fail(err, -ENOSPC, "No space left on the guest's filesystem");
    for (uint64_t i = 0; i < *got; i++)
        ext2fs_mark_block_bitmap2(writer_of(ext)->taken, *block + i);
    return 0;
}
