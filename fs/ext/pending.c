/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pending.c - fast commits, for real: before a filesystem is written, what they have changed becomes a transaction.
 *
 * When the filesystem was opened they were replayed into memory (fastcommit.c): inodes onto an overlay, maps and names
 * as differences. These are taken from there; the log is put to its places; then the inodes get their bytes and their
 * maps, and the directories their names. Until the transaction that does all that is committed, the notes stay where
 * they are, and whoever replays the journal finds them (log_park): so it must be one.
 *
 * Blocks are first all freed and then all taken, for one inode may have got what another one had. None may be taken
 * twice.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <linux/types.h> /* before the next */

#include <ext2fs/ext3_extents.h>

#include "changes.h"
#include "write.h"

#define EXTENT_MAX 32768u

struct pending {
    struct changes *changes;
    uint64_t *inodes; /* sorted, each once */
    size_t count;
    unsigned char *bytes; /* of all of them, as they are in the table */
};

static struct ext2_inode_large *bytes_of(const struct ext *ext, const struct pending *pending, size_t i) {
    return (struct ext2_inode_large *)(pending->bytes + i * ext->inode_size);
}

/* ---- taking ---- */

static int by_number(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void sort_inodes(struct pending *pending) {
    size_t kept = 0;
    if (pending->count > 1)
        qsort(pending->inodes, pending->count, sizeof(pending->inodes[0]), by_number);
    for (size_t i = 0; i < pending->count; i++)
        if (kept == 0 || pending->inodes[kept - 1] != pending->inodes[i])
            pending->inodes[kept++] = pending->inodes[i];
    pending->count = kept;
}

static int take_inodes(struct ext *ext, struct pending *pending, struct img_error *err) {
    const uint64_t *inodes = changes_inodes(ext->changes, &pending->count);
    pending->inodes = calloc(pending->count + 1, sizeof(pending->inodes[0]));
    if (!pending->inodes)
        return fail_no_memory(err);
    if (pending->count > 0)
        memcpy(pending->inodes, inodes, pending->count * sizeof(pending->inodes[0]));
    sort_inodes(pending);
    if (!(pending->bytes = calloc(pending->count + 1, ext->inode_size)))
        return fail_no_memory(err);
    int ret = 0;
    for (size_t i = 0; i < pending->count && ret == 0; i++) {
        uint64_t place = 0;
        ret = inode_place(ext, (uint32_t)pending->inodes[i], &place, err);
        if (ret == 0)
            ret = ext_io_read(ext->io, bytes_of(ext, pending, i), ext->inode_size, place, err);
    }
    return ret;
}

int pending_take(struct ext *ext, struct pending **pending, struct img_error *err) {
    struct pending *new = calloc(1, sizeof(*new));
    if (!new)
        return fail_no_memory(err);
    int ret = take_inodes(ext, new, err);
    if (ret < 0) {
        pending_free(new);
        return ret;
    }
    new->changes = ext->changes;
    ext->changes = NULL;
    *pending = new;
    return 0;
}

void pending_free(struct pending *pending) {
    if (!pending)
        return;
    changes_free(pending->changes);
    free(pending->inodes);
    free(pending->bytes);
    free(pending);
}

/* ---- inodes ---- */

static void empty_map(struct ext2_inode_large *inode) {
    struct ext3_extent_header header = {
        .eh_magic = htole16(EXT3_EXT_MAGIC),
        .eh_max = htole16((sizeof(inode->i_block) - sizeof(header)) / sizeof(struct ext3_extent))};
    memset(inode->i_block, 0, sizeof(inode->i_block));
    if (inode->i_flags & EXT4_EXTENTS_FL)
        memcpy(inode->i_block, &header, sizeof(header));
}

static int free_all(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    uint64_t end;
    int ret =
        ext2fs_inode_has_valid_blocks2(ext->lib, (struct ext2_inode *)inode) ? alloc_check(ext, ino, &end, err) : 0;
    return ret < 0 ? ret : free_content(ext, ino, inode, err);
}

/* What is there goes, for the inode goes, or another file has got it. */
static int clear_inode(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, bool lives,
                       struct img_error *err) {
    int ret = inode->i_links_count > 0 ? free_all(ext, ino, inode, err) : 0;
    return ret < 0 || lives ? ret : free_empty_inode(ext, ino, inode, err);
}

static int put_inode(struct ext *ext, uint64_t ino, const struct ext2_inode_large *bytes, struct img_error *err) {
    bool used = ext2fs_test_inode_bitmap2(ext->lib->inode_map, (ext2_ino_t)ino), lives = bytes->i_links_count > 0;
    struct ext2_inode_large *inode;
    if (ino < EXT2_FIRST_INO(super_of(ext)) && ino != EXT2_ROOT_INO)
        return fail(err, -EUCLEAN, "Fast commits change inode %" PRIu64 ", which is not a file's", ino);
    if (!lives && !used)
        return 0;
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    bool other = used && (!lives || inode->i_generation != bytes->i_generation), directory = S_ISDIR(bytes->i_mode);
    if (other)
        ret = clear_inode(ext, ino, inode, lives, err);
    if (ret == 0 && lives) {
        if (used && S_ISDIR(inode->i_mode) != directory)
            ret = fail(err, -EROFS,
                       "The filesystem cannot be written: fast commits make a directory of a file's inode, "
                       "or the other way round; mount it once");
        memcpy(inode, bytes, ext->inode_size);
        if (other && inode->i_flags & EXT4_EXTENTS_FL)
            empty_map(inode);
        if (!used)
            ext2fs_inode_alloc_stats2(ext->lib, (ext2_ino_t)ino, +1, directory);
        if (ret == 0)
            ret = inode_write(ext, ino, inode, err);
    }
    free(inode);
    return ret;
}

static int put_inodes(struct ext *ext, const struct pending *pending, struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < pending->count && ret == 0; i++)
        ret = put_inode(ext, pending->inodes[i], bytes_of(ext, pending, i), err);
    return ret;
}

/* ---- maps ---- */

enum step { FREE_OLD, TAKE_NEW, ENTER };

struct mapping {
    struct ext *ext;
    const struct changes *changes;
    enum step step;
    int ret;
    struct img_error *err;
};

static int free_one(ext2_filsys lib, blk64_t *block, e2_blkcnt_t number, blk64_t reference, int offset, void *opaque) {
    (void)number, (void)reference, (void)offset, (void)opaque;
    ext2fs_block_alloc_stats2(lib, *block, -1);
    return 0;
}

/* The inode without a map. Its attributes may have a block. */
static int free_old(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    uint64_t end;
    int ret = alloc_check(ext, ino, &end, err);
    if (ret < 0)
        return ret;
    errcode_t code = ext2fs_block_iterate3(ext->lib, (ext2_ino_t)ino, BLOCK_FLAG_READ_ONLY, NULL, free_one, NULL);
    if (code)
        return change_failed(ext, code, "A file's blocks cannot be given up", err);
    empty_map(inode);
    ext2fs_iblk_set(ext->lib, (struct ext2_inode *)inode,
                    ext2fs_file_acl_block(ext->lib, (struct ext2_inode *)inode) ? 1 : 0);
    return inode_write(ext, ino, inode, err);
}

static int take_new(struct ext *ext, const struct remap *map, struct img_error *err) {
    for (size_t i = 0; i < map->count; i++) {
        uint64_t first = map->runs[i].physical, length = map->runs[i].length;
        blk64_t used;
        if (first <= ext->first_block || first >= ext->blocks || length > ext->blocks - first || length == 0 ||
            ext2fs_find_first_set_block_bitmap2(ext->lib->block_map, first, first + length - 1, &used) == 0)
            return fail(err, -EUCLEAN, "Fast commits give inode %" PRIu64 " blocks that are in use", map->ino);
        ext2fs_block_alloc_stats_range(ext->lib, first, (blk_t)length, +1);
    }
    return 0;
}

static int enter(struct ext *ext, const struct remap *map, bool extents, struct img_error *err) {
    struct ext2_inode_large *inode;
    uint64_t blocks = 0;
    int ret = 0;
    for (size_t i = 0; i < map->count && ret == 0; i++) {
        struct run rest = map->runs[i];
        while (rest.length > 0 && ret == 0) {
            struct run part = rest;
            part.length = rest.length < EXTENT_MAX ? rest.length : EXTENT_MAX;
            ret = map_blocks(ext, map->ino, extents, &part, err);
            rest.logical += part.length;
            rest.physical += part.length;
            rest.length -= part.length;
        }
        blocks += map->runs[i].length;
    }
    if (ret < 0 || (ret = inode_read(ext, map->ino, &inode, err)) < 0)
        return ret;
    ext2fs_iblk_add_blocks(ext->lib, (struct ext2_inode *)inode, blocks);
    ret = inode_write(ext, map->ino, inode, err);
    free(inode);
    return ret;
}

/* A directory that is new gets a block of its own (make_directory). */
static bool is_new_directory(const struct changes *changes, uint64_t ino) {
    struct ext holder = {.changes = (struct changes *)changes};
    return changed_entry(&holder, ino, "", 0) != NULL;
}

static void put_map(void *opaque, const struct remap *map) {
    struct mapping *mapping = opaque;
    struct ext *ext = mapping->ext;
    struct ext2_inode_large *inode;
    if (mapping->ret < 0)
        return;
    mapping->ret = inode_read(ext, map->ino, &inode, mapping->err);
    if (mapping->ret < 0)
        return;
    bool there = inode->i_links_count > 0 && !(inode->i_flags & EXT4_INLINE_DATA_FL),
         fresh = is_new_directory(mapping->changes, map->ino), extents = inode->i_flags & EXT4_EXTENTS_FL;
    if (there && mapping->step == FREE_OLD)
        mapping->ret = free_old(ext, map->ino, inode, mapping->err);
    else if (there && !fresh && mapping->step == TAKE_NEW)
        mapping->ret = take_new(ext, map, mapping->err);
    else if (there && !fresh)
        mapping->ret = enter(ext, map, extents, mapping->err);
    free(inode);
}

static int put_maps(struct ext *ext, const struct pending *pending, struct img_error *err) {
    struct mapping mapping = {.ext = ext, .changes = pending->changes, .err = err};
    for (mapping.step = FREE_OLD; mapping.step <= ENTER && mapping.ret == 0; mapping.step++)
        changes_each_map(pending->changes, put_map, &mapping);
    return mapping.ret;
}

/* ---- names ---- */

static int mode_of(struct ext *ext, uint64_t ino, uint32_t *mode, struct img_error *err) {
    struct node *node;
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    *mode = node->inode->i_mode;
    node_put(ext, node);
    return 0;
}

/* Entries in the inode itself are those of fast commits, too; they get a block. */
static int leave_inline(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    struct ext2_xattr_handle *handle;
    errcode_t code = ext2fs_xattrs_open(ext->lib, (ext2_ino_t)ino, &handle);
    if (!code) {
        code = ext2fs_xattrs_read(handle);
        if (!code)
            code = ext2fs_xattr_remove(handle, "system.data");
        ext2fs_xattrs_close(&handle);
    }
    if (!code || code == EXT2_ET_EA_KEY_NOT_FOUND)
        code = ext2fs_read_inode_full(ext->lib, (ext2_ino_t)ino, (struct ext2_inode *)inode, (int)ext->inode_size);
    inode->i_flags &= ~(uint32_t)EXT4_INLINE_DATA_FL;
    if (ext2fs_has_feature_extents(super_of(ext)))
        inode->i_flags |= EXT4_EXTENTS_FL;
    empty_map(inode);
    int ret = code ? change_failed(ext, code, "A directory cannot be made", err) : 0;
    return ret < 0 ? ret : inode_write(ext, ino, inode, err);
}

/* Its only block, with nothing in it; its parent is who has its name. */
static int make_directory(struct ext *ext, const struct pending *pending, uint64_t ino, struct img_error *err) {
    size_t count;
    struct change *const *names = changes_names(pending->changes, &count);
    struct run run = {0};
    struct ext2_inode_large *inode;
    uint64_t parent = 0, got;
    char *block = NULL;
    for (size_t i = 0; i < count && !parent; i++)
        parent = names[i]->ino == ino ? names[i]->dir : 0;
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    if (!parent || inode->i_links_count == 0) { /* gone again */
        free(inode);
        return 0;
    }
    if (inode->i_flags & EXT4_INLINE_DATA_FL)
        ret = leave_inline(ext, ino, inode, err);
    if (ret == 0 && inode->i_flags & (EXT4_ENCRYPT_FL | EXT4_CASEFOLD_FL))
        ret = fail(err, -EROFS,
                   "The filesystem cannot be written: fast commits make a directory of a kind that is not "
                   "made here; mount it once");
    inode->i_flags &= ~(uint32_t)EXT2_INDEX_FL;
    inode->i_size = ext->block_size;
    inode->i_links_count = 2; /* of those in it each counts itself */
    if (ret == 0)
        ret = free_old(ext, ino, inode, err);
    if (ret == 0)
        ret = alloc_run(ext, ext2fs_find_inode_goal(ext->lib, (ext2_ino_t)ino, (struct ext2_inode *)inode, 0), 1,
                        &run.physical, &got, err);
    run.length = 1;
    if (ret == 0) {
        struct remap map = {.ino = ino, .runs = &run, .count = 1};
        ext2fs_block_alloc_stats2(ext->lib, run.physical, +1);
        ret = enter(ext, &map, inode->i_flags & EXT4_EXTENTS_FL, err);
    }
    free(inode);
    if (ret < 0)
        return ret;
    errcode_t code = ext2fs_new_dir_block(ext->lib, (ext2_ino_t)ino, (ext2_ino_t)parent, &block);
    if (!code)
        code = ext2fs_write_dir_block4(ext->lib, run.physical, block, 0, (ext2_ino_t)ino);
    free(block);
    return code ? change_failed(ext, code, "A directory cannot be made", err) : 0;
}

static int put_name(struct ext *ext, const struct pending *pending, const struct change *change,
                    struct img_error *err) {
    uint64_t there = 0;
    uint32_t mode;
    int ret = check_directory(ext, change->dir, err);
    if (ret == 0)
        ret = ext_lookup(&ext->fs, change->dir, change->name, change->length, &there, err);
    if (ret == -ENOENT)
        ret = 0;
    if (ret < 0 || there == change->ino)
        return ret;
    if (there)
        ret = take_entry(ext, change->dir, change->name, err);
    if (ret < 0 || !change->ino)
        return ret;
    ret = mode_of(ext, change->ino, &mode, err);
    if (ret == 0)
        ret = put_entry(ext, change->dir, change->name, change->ino, mode, err);
    /* Directories that were there are not among the inodes of fast commits. */
    if (ret == 0 && S_ISDIR(mode) && is_new_directory(pending->changes, change->ino))
        ret = touch_directory(ext, change->dir, +1, err);
    return ret;
}

static int put_names(struct ext *ext, const struct pending *pending, struct img_error *err) {
    size_t count;
    struct change *const *names = changes_names(pending->changes, &count);
    int ret = 0;
    for (size_t i = 0; i < count && ret == 0; i++)
        if (names[i]->length == 0)
            ret = make_directory(ext, pending, names[i]->dir, err);
    for (size_t i = 0; i < count && ret == 0; i++)
        if (names[i]->length > 0)
            ret = put_name(ext, pending, names[i], err);
    return ret;
}

int pending_apply(struct ext *ext, const struct pending *pending, struct img_error *err) {
    int ret = put_inodes(ext, pending, err);
    if (ret == 0)
        ret = put_maps(ext, pending, err);
    if (ret == 0)
        ret = put_names(ext, pending, err);
    return ret < 0 ? ret : ext_commit(&ext->fs, err);
}
