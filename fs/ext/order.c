/* SPDX-License-Identifier: GPL-3.0-or-later */
/* order.c - a commit without a journal: the order in which blocks go to their places.
 *
 * A cut in the middle must leave what e2fsck mends by itself (-p), and lose nothing that was there before. So nothing
 * is on the disk before what it needs, and the disk is flushed between the phases:
 *
 *     file data; the superblock: not clean, so that e2fsck looks
 *   | what is taken now in the maps of what is free; blocks that nothing refers to yet
 *   | inner blocks of the maps of files, which refer to these
 *   | inodes that die
 *   | inodes that change: a directory has its new blocks, a file that is replaced in its own inode its new content
 *   | blocks of directories: names come and go
 *   | inodes that are born, a directory before what is in it
 *   | inodes that have lost one of their names
 *   | what is given up in the maps of what is free
 *   | the superblock: clean
 *
 * A name for an inode that is dead, or not born, e2fsck takes away by itself; for an inode without a name it would ask.
 * That is why names come before births and go after deaths. Bits in the maps may always be too many, counts of names
 * may be wrong: both it mends.
 *
 * One thing it does not mend without a question: a cut while a directory's index gets another leaf, of which the names
 * are in the old one, too.
 *
 * Inodes are written one by one, for those of one block may belong to different phases.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <linux/types.h> /* before the next */

#include <ext2fs/ext3_extents.h>

#include "write.h"

#define SUPER_AT 1024u

enum phase { TAKEN, TREES, DEATHS, CHANGES, NAMES, BIRTHS };
enum { LAST = 0xfffffffe, SEPARATE = 0xffffffff }; /* behind all births; not in a phase of its own */

struct slot {
    uint64_t ino, place; /* on the device */
    const unsigned char *bytes;
    unsigned phase;
    size_t parent; /* of one that is born: the directory that is born, too; SIZE_MAX: it is there */
    bool directory;
};

struct order {
    struct ext *ext;
    struct dirty_block *list;
    unsigned *phases; /* of each block */
    size_t count;
    struct slot *slots;
    size_t nslots, room;
    unsigned generations; /* of births */
    struct img_error *err;
};

/* The first block of the list that is not before `block`. */
static size_t position(const struct order *order, uint64_t block) {
    size_t low = 0, high = order->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (order->list[middle].block < block)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- inodes ---- */

static unsigned phase_of_slot(const struct ext2_inode *before, const struct ext2_inode *after) {
    uint16_t old = le16toh(before->i_links_count), new = le16toh(after->i_links_count);
    if (old == 0)
        return new == 0 ? CHANGES : BIRTHS;
    if (new == 0)
        return DEATHS;
    return new < old && !S_ISDIR(le16toh(after->i_mode)) ? LAST : CHANGES;
}

static int add_slot(struct order *order, uint64_t ino, const struct dirty_block *block, size_t inside,
                    const unsigned char *before) {
    if (order->nslots == order->room) {
        size_t room = order->room ? 2 * order->room : 64;
        struct slot *more = realloc(order->slots, room * sizeof(*more));
        if (!more)
            return fail_no_memory(order->err);
        order->slots = more;
        order->room = room;
    }
    const struct ext2_inode *after = (const struct ext2_inode *)(block->bytes + inside);
    order->slots[order->nslots++] =
        (struct slot){.ino = ino,
                      .place = (block->block << order->ext->block_bits) + inside,
                      .bytes = block->bytes + inside,
                      .phase = phase_of_slot((const struct ext2_inode *)(before + inside), after),
                      .parent = SIZE_MAX,
                      .directory = S_ISDIR(le16toh(after->i_mode))};
    return 0;
}

/* A block of the table of inodes, the first of which is `ino`. */
static int compare_table(struct order *order, const struct dirty_block *block, uint64_t ino, unsigned char *before) {
    struct ext *ext = order->ext;
    int ret = device_read(ext->fs.device, before, ext->block_size, block->block << ext->block_bits, order->err);
    for (size_t inside = 0; inside < ext->block_size && ret == 0; inside += ext->inode_size, ino++)
        if (memcmp(before + inside, block->bytes + inside, ext->inode_size) != 0)
            ret = add_slot(order, ino, block, inside, before);
    return ret;
}

static int find_slots(struct order *order, unsigned char *before) {
    struct ext *ext = order->ext;
    unsigned in_block = ext->block_size / ext->inode_size;
    int ret = 0;
    for (dgrp_t group = 0; group < ext->lib->group_desc_count && ret == 0; group++) {
        uint64_t table = ext2fs_inode_table_loc(ext->lib, group);
        uint64_t first = (uint64_t)group * super_of(ext)->s_inodes_per_group + 1;
        for (size_t i = position(order, table); i < order->count && ret == 0; i++) {
            uint64_t behind = order->list[i].block - table;
            if (behind >= ext->lib->inode_blocks_per_group)
                break;
            order->phases[i] = SEPARATE;
            ret = compare_table(order, &order->list[i], first + behind * in_block, before);
        }
    }
    return ret;
}

/* ---- births: a directory before what is in it ---- */

static int by_ino(const void *key, const void *element) {
    uint64_t ino = *(const uint64_t *)key, other = ((const struct slot *)element)->ino;
    return (ino > other) - (ino < other);
}

struct family {
    struct order *order;
    size_t parent;
};

static int set_parent(void *opaque, const struct fs_entry *entry) {
    struct family *family = opaque;
    struct order *order = family->order;
    struct slot *child = bsearch(&entry->ino, order->slots, order->nslots, sizeof(*child), by_ino);
    if (child && child->phase == BIRTHS)
        child->parent = family->parent;
    return 0;
}

static int find_generations(struct order *order) {
    for (size_t i = 0; i < order->nslots; i++) {
        struct family family = {order, i};
        if (order->slots[i].phase != BIRTHS || !order->slots[i].directory)
            continue;
        int ret = ext_list(&order->ext->fs, order->slots[i].ino, set_parent, &family, order->err);
        if (ret < 0)
            return ret;
    }
    for (size_t i = 0; i < order->nslots; i++) {
        unsigned depth = 0;
        if (order->slots[i].phase < BIRTHS || order->slots[i].phase == LAST)
            continue;
        for (size_t at = order->slots[i].parent; at != SIZE_MAX && depth < order->nslots; at = order->slots[at].parent)
            depth++;
        order->slots[i].phase = BIRTHS + depth;
        order->generations = depth + 1 > order->generations ? depth + 1 : order->generations;
    }
    return 0;
}

/* ---- blocks ---- */

/* The blocks of a directory that was there before. */
static int find_names_of(struct order *order, uint64_t ino) {
    struct ext *ext = order->ext;
    struct node *node;
    struct run run;
    int ret = node_get(ext, ino, &node, order->err);
    if (ret < 0)
        return ret;
    uint64_t end = node_has(node, EXT4_INLINE_DATA_FL) ? 0 : (node->size + ext->block_size - 1) >> ext->block_bits;
    for (uint64_t block = 0; block < end && ret == 0; block += run.length) {
        ret = map_find(ext, node, block, &run, order->err);
        if (ret < 0 || !run.physical)
            continue;
        for (size_t i = position(order, run.physical);
             i < order->count && order->list[i].block < run.physical + run.length; i++)
            if (order->phases[i] == TREES)
                order->phases[i] = NAMES;
    }
    node_put(ext, node);
    return ret;
}

/* A block of extents that loses some to a new one would lack them until whoever names it names that, too. */
static int check_tree(struct order *order, const struct dirty_block *block, unsigned char *before) {
    struct ext *ext = order->ext;
    const struct ext3_extent_header *old = (const void *)before, *new = (const void *)block->bytes;
    int ret = device_read(ext->fs.device, before, ext->block_size, block->block << ext->block_bits, order->err);
    if (ret < 0 || le16toh(old->eh_magic) != EXT3_EXT_MAGIC || le16toh(new->eh_magic) != EXT3_EXT_MAGIC)
        return ret;
    return le16toh(new->eh_entries) >= le16toh(old->eh_entries)
               ? 0
               : fail(order->err, -ENOSPC,
                      "A directory is in so many pieces that it cannot grow safely without a journal");
}

static int find_phases(struct order *order, unsigned char *before) {
    struct unjournaled *unjournaled = writer_of(order->ext)->unjournaled;
    int ret = find_slots(order, before);
    for (size_t i = 0; i < order->count; i++) {
        uint64_t block = order->list[i].block;
        if (order->phases[i] == SEPARATE)
            continue;
        if (block == SUPER_AT >> order->ext->block_bits)
            order->phases[i] = SEPARATE;
        else if (block < order->ext->first_block || ext2fs_test_block_bitmap2(unjournaled->maps, block) ||
                 !ext2fs_test_block_bitmap2(unjournaled->begun, block))
            order->phases[i] = TAKEN;
        else
            order->phases[i] = TREES;
    }
    for (size_t i = 0; i < order->nslots && ret == 0; i++)
        if (order->slots[i].directory && order->slots[i].phase == CHANGES)
            ret = find_names_of(order, order->slots[i].ino);
    for (size_t i = 0; i < order->count && ret == 0; i++)
        if (order->phases[i] == TREES)
            ret = check_tree(order, &order->list[i], before);
    return ret < 0 ? ret : find_generations(order);
}

/* ---- writing ---- */

/* Inodes that lie next to one another go together. */
static int write_slots(struct order *order, unsigned phase, bool *any) {
    size_t size = order->ext->inode_size;
    int ret = 0;
    for (size_t i = 0, n; i < order->nslots && ret == 0; i += n) {
        const struct slot *slot = &order->slots[i];
        n = 1;
        if (slot->phase != phase)
            continue;
        while (i + n < order->nslots && slot[n].phase == phase && slot[n].bytes == slot->bytes + n * size)
            n++;
        ret = device_write(order->ext->fs.device, slot->bytes, n * size, slot->place, order->err);
        *any = true;
    }
    return ret;
}

static int write_phase(struct order *order, unsigned phase) {
    struct ext *ext = order->ext;
    bool any = false;
    int ret = 0;
    for (size_t i = 0; i < order->count && ret == 0; i++)
        if (order->phases[i] == phase) {
            ret = device_write(ext->fs.device, order->list[i].bytes, ext->block_size,
                               order->list[i].block << ext->block_bits, order->err);
            any = true;
        }
    if (ret == 0)
        ret = write_slots(order, phase, &any);
    return ret < 0 || !any ? ret : device_flush(ext->fs.device, order->err);
}

static int write_phases(struct order *order) {
    int ret = 0;
    for (unsigned phase = TAKEN; phase < BIRTHS + order->generations && ret == 0; phase++)
        ret = write_phase(order, phase);
    return ret < 0 ? ret : write_phase(order, LAST);
}

/* With it go the data, which are durable then. */
static int write_unclean(struct ext *ext, struct img_error *err) {
    struct ext2_super_block super;
    int ret = device_read(ext->fs.device, &super, sizeof(super), SUPER_AT, err);
    if (ret < 0)
        return ret;
    super.s_state = htole16(le16toh(super.s_state) & ~EXT2_VALID_FS);
    if (ext->checksums)
        super.s_checksum =
            htole32(ext2fs_crc32c_le(~0u, (unsigned char *)&super, offsetof(struct ext2_super_block, s_checksum)));
    ret = device_write(ext->fs.device, &super, sizeof(super), SUPER_AT, err);
    return ret < 0 ? ret : device_flush(ext->fs.device, err);
}

static int commit_all_but_frees(struct ext *ext, struct img_error *err) {
    struct order order = {.ext = ext, .err = err};
    unsigned char *before = malloc(ext->block_size);
    int ret = before ? commit_gather(ext, &order.list, &order.count, err) : fail_no_memory(err);
    if (ret == 0 && !(order.phases = calloc(order.count + 1, sizeof(order.phases[0]))))
        ret = fail_no_memory(err);
    if (ret == 0)
        ret = find_phases(&order, before);
    if (ret == 0)
        ret = write_unclean(ext, err);
    if (ret == 0)
        ret = write_phases(&order);
    free(before);
    free(order.list);
    free(order.phases);
    free(order.slots);
    return ret;
}

/* Maps, and then the superblock. */
static int commit_frees(struct ext *ext, struct img_error *err) {
    struct order order = {.ext = ext, .err = err};
    alloc_release(ext);
    int ret = commit_gather(ext, &order.list, &order.count, err);
    if (ret == 0 && !(order.phases = calloc(order.count + 1, sizeof(order.phases[0]))))
        ret = fail_no_memory(err);
    for (size_t i = 0; i < order.count && ret == 0; i++)
        order.phases[i] = order.list[i].block == SUPER_AT >> ext->block_bits ? LAST : TAKEN;
    if (ret == 0)
        ret = write_phases(&order);
    free(order.list);
    free(order.phases);
    return ret;
}

int ordered_commit(struct ext *ext, struct img_error *err) {
    int ret = commit_all_but_frees(ext, err);
    if (ret < 0)
        return ret;
    dirty_forget(writer_of(ext)->dirty);
    ext_io_forget(ext->io, 0, ext->fs.device->size);
    return commit_frees(ext, err);
}
