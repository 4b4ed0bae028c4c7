/* SPDX-License-Identifier: GPL-3.0-or-later */
/* alloc.c - free blocks for a transaction.
 *
 * File data is written before the commit, so it may only go to blocks that nothing on the disk refers to: what a change
 * of this transaction frees must wait for the next. So beside the library's bitmap of what is in use there is another,
 * in which blocks are taken and never given back until the commit. The library allocates by it too.
 */
#include <errno.h>
#include <inttypes.h>

#include "write.h"

static errcode_t take_one(ext2_filsys lib, blk64_t goal, blk64_t *block) {
    struct ext *ext = lib->priv_data;
    struct img_error err;
    uint64_t found = 0, got;
    int ret = alloc_run(ext, goal, 1, &found, &got, &err);
    *block = found;
    return ret == -ENOSPC ? EXT2_ET_BLOCK_ALLOC_FAIL : ret < 0 ? EXT2_ET_NO_MEMORY : 0;
}

/* The library says that it has put a block into use. */
static void note(ext2_filsys lib, blk64_t block, int in_use) {
    if (in_use > 0)
        ext2fs_mark_block_bitmap2(writer_of(lib->priv_data)->taken, block);
}

int alloc_open(struct ext *ext, struct img_error *err) {
    errcode_t code = ext2fs_read_bitmaps(ext->lib);
    if (code)
        return ext_io_fail(ext->io, err, code, "The maps of free blocks and inodes cannot be read");
    ext->lib->priv_data = ext;
    ext2fs_set_alloc_block_callback(ext->lib, take_one, NULL);
    ext2fs_set_block_alloc_stats_callback(ext->lib, note, NULL);
    return alloc_committed(ext, err);
}

void alloc_close(struct ext *ext) {
    if (writer_of(ext)->taken)
        ext2fs_free_block_bitmap(writer_of(ext)->taken);
    writer_of(ext)->taken = NULL;
}

int alloc_committed(struct ext *ext, struct img_error *err) {
    alloc_close(ext);
    errcode_t code = ext2fs_copy_bitmap(ext->lib->block_map, &writer_of(ext)->taken);
    return code ? ext_io_fail(ext->io, err, code, "The map of free blocks cannot be copied") : 0;
}

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
