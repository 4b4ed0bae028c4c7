// SPDX-License-Identifier: GPL-3.0-or-later
/* find_ext.c - the metadata of ext2, ext3 and ext4, found by libext2fs in the base: every structure is a place to be
 * changed, and is signed afterwards (sign_ext.c) if it has a checksum. Of the journal it is the transactions that wait
 * to be replayed, copies of blocks as well, and fast commits. */
#include "ext.h"

#include <endian.h>
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JBD_MAGIC 0xc03b3998u
#define LOG_BLOCKS_MOST 4096

struct finder {
    struct base *base;
    struct items *items;
    ext2_filsys fs;
    ext2_ino_t ino; /* whose blocks are looked at */
    const struct ext2_inode *inode;
    uint64_t inode_at;
    uint32_t log[LOG_BLOCKS_MOST]; /* the journal's blocks */
    uint32_t log_count;
};

static _Noreturn void stop(const char *what) {
    printf("Bail out! ext: %s\n", what);
    exit(1);
}

static void add(struct finder *f, struct item item) {
    struct items *items = f->items;
    if (item.at + item.length > f->base->disks[0].size)
        return;
    if (items->count == ITEMS_MOST)
        stop("too many structures");
    item.home = item.at;
    items->list[items->count++] = item;
    base_place(f->base, 0, item.at, item.length);
}

static void add_block(struct finder *f, enum kind kind, uint64_t block, uint32_t extra) {
    add(f, (struct item){kind, block * f->fs->blocksize, 0, f->fs->blocksize, f->ino, f->inode_at, extra});
}

/* ---- inodes and what hangs on them ---- */

/* A block of a directory: of its index, or names. */
static void add_names(struct finder *f, uint64_t number) {
    const uint8_t *block = f->base->disks[0].base + number * f->fs->blocksize;
    const struct ext2_dir_entry *first = (const struct ext2_dir_entry *)block;
    const struct ext2_dir_entry *second = (const struct ext2_dir_entry *)(block + 12);
    if (f->inode->i_flags & EXT2_INDEX_FL && first->inode == 0 && first->rec_len == f->fs->blocksize)
        add_block(f, HASHED, number, 8);
    else if (f->inode->i_flags & EXT2_INDEX_FL && first->rec_len == 12 && second->rec_len == f->fs->blocksize - 12)
        add_block(f, HASHED, number, 32);
    else
        add_block(f, NAMES, number, 0);
}

static int look_at_block(ext2_filsys fs, blk64_t *block, e2_blkcnt_t count, blk64_t ref, int offset, void *opaque) {
    struct finder *f = opaque;
    (void)fs, (void)ref, (void)offset;
    if (count < 0)
        add_block(f, f->inode->i_flags & EXT4_EXTENTS_FL ? EXTENTS : PLAIN, *block, 0);
    else if (LINUX_S_ISDIR(f->inode->i_mode))
        add_names(f, *block);
    else if (f->ino == EXT2_JOURNAL_INO && f->log_count < LOG_BLOCKS_MOST)
        f->log[f->log_count++] = (uint32_t)*block;
    return 0;
}

static void look_at_inode(struct finder *f, ext2_ino_t ino, const struct ext2_inode *inode) {
    uint32_t size = EXT2_INODE_SIZE(f->fs->super), group = (ino - 1) / f->fs->super->s_inodes_per_group;
    uint64_t table = ext2fs_inode_table_loc(f->fs, group);
    f->ino = ino;
    f->inode = inode;
    f->inode_at = table * f->fs->blocksize + (uint64_t)((ino - 1) % f->fs->super->s_inodes_per_group) * size;
    add(f, (struct item){INODE, f->inode_at, 0, size, ino, f->inode_at, 0});
    if (ino != EXT2_RESIZE_INO)
        ext2fs_block_iterate3(f->fs, ino, BLOCK_FLAG_READ_ONLY, NULL, look_at_block, f);
    if (inode->i_file_acl)
        add_block(f, ATTRIBUTES, ext2fs_file_acl_block(f->fs, inode), 0);
}

static void look_at_inodes(struct finder *f) {
    ext2_inode_scan scan;
    struct ext2_inode inode;
    ext2_ino_t ino;
    if (ext2fs_open_inode_scan(f->fs, 0, &scan))
        stop("the inodes cannot be read");
    while (ext2fs_get_next_inode(scan, &ino, &inode) == 0 && ino != 0)
        if (inode.i_mode != 0 && inode.i_links_count != 0)
            look_at_inode(f, ino, &inode);
    ext2fs_close_inode_scan(scan);
}

/* ---- the journal ---- */

static uint32_t big(const uint8_t *p) {
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return be32toh(value);
}

static uint64_t log_at(const struct finder *f, uint32_t block) {
    return (uint64_t)f->log[block % f->log_count] * f->fs->blocksize;
}

/* A descriptor at `block` of the log, and the copies behind it, whose number is returned. */
static uint32_t add_copies(struct finder *f, uint32_t block, uint32_t sequence, uint32_t incompatible) {
    bool v3 = incompatible & 16;
    uint32_t tag = v3 ? 16 : incompatible & 2 ? 12 : 8, copies = 0, flags = 0;
    const uint8_t *bytes = f->base->disks[0].base + log_at(f, block);
    for (uint32_t at = 12; at + tag <= f->fs->blocksize && !(flags & 8); at += tag + (flags & 2 ? 0 : 16)) {
        flags = v3 ? big(bytes + at + 4) : big(bytes + at + 4) & 0xffff;
        copies++;
        add(f, (struct item){COPY, log_at(f, block + copies), 0, f->fs->blocksize, sequence, log_at(f, block) + at + 12,
                             big(bytes + at)});
    }
    add(f, (struct item){LOG_TAIL, log_at(f, block), 0, f->fs->blocksize, 0, 0, 0});
    return copies;
}

static void add_log(struct finder *f) {
    const uint8_t *disk = f->base->disks[0].base, *super = disk + log_at(f, 0);
    uint32_t incompatible = big(super + 0x28), sequence = big(super + 0x18), block = big(super + 0x1c), type;
    f->items->log_sums = incompatible & 16;
    f->items->log_super = log_at(f, 0);
    add(f, (struct item){LOG_SUPER, log_at(f, 0), 0, 1024, 0, 0, 0});
    for (uint32_t left = block ? f->log_count : 0; left > 0; left--, block++) {
        const uint8_t *head = disk + log_at(f, block);
        if (big(head) != JBD_MAGIC || big(head + 8) != sequence)
            break;
        type = big(head + 4);
        if (type == 1)
            block += add_copies(f, block, sequence, incompatible);
        else
            add(f, (struct item){type == 2 ? LOG_COMMIT : LOG_TAIL, log_at(f, block), 0, f->fs->blocksize, 0, 0, 0});
        sequence += type == 2;
    }
    uint32_t fast = incompatible & 32 ? big(super + 0x54) : 0;
    for (uint32_t i = 1; i < fast && fast < f->log_count; i++) {
        uint64_t at = log_at(f, big(super + 0x10) - fast + i);
        if (big(disk + at) != 0)
            add(f, (struct item){FAST, at, 0, f->fs->blocksize, i - 1, 0, 0});
    }
}

/* What is in a copy has sums as well; but an old copy of an inode may be from before it was used. */
static void add_inside(struct finder *f, const struct item *copy, size_t count) {
    struct items *items = f->items;
    uint64_t from = (uint64_t)copy->extra * f->fs->blocksize;
    for (size_t i = 0; i < count && items->count < ITEMS_MOST; i++) {
        struct item item = items->list[i];
        if (item.kind >= COPY || item.at < from || item.at + item.length > from + f->fs->blocksize)
            continue;
        item.at = copy->at + item.at - from;
        ext_sign_item(f->base, &item);
        if (memcmp(f->base->disks[0].bytes + item.at, f->base->disks[0].base + item.at, item.length) == 0)
            items->list[items->count++] = item;
        base_restore(f->base);
    }
}

/* ---- all ---- */

void ext_prepare(struct base *base, const char *path) {
    static struct finder finder;
    struct items *items = calloc(1, sizeof(*items));
    finder = (struct finder){.base = base, .items = items};
    if (!items || ext2fs_open(path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &finder.fs))
        stop(path);
    ext2_filsys fs = finder.fs;
    items->block_size = fs->blocksize;
    items->sums = ext2fs_has_feature_metadata_csum(fs->super);
    add(&finder, (struct item){SUPER, 1024, 0, 1024, 0, 0, 0});
    base_place(base, 0, 1024, 1024);
    for (uint32_t i = 0; i < fs->group_desc_count; i++) {
        uint64_t at = (uint64_t)(fs->super->s_first_data_block + 1) * fs->blocksize;
        uint32_t size = (uint32_t)EXT2_DESC_SIZE(fs->super);
        add(&finder, (struct item){GROUP, at + (uint64_t)i * size, 0, size, i, 0, 0});
    }
    look_at_inodes(&finder);
    if (finder.log_count > 0)
        add_log(&finder);
    base->signs = items;
    size_t count = items->count;
    for (size_t i = 0; items->sums && i < count; i++)
        if (items->list[i].kind == COPY)
            add_inside(&finder, &items->list[i], count);
    ext2fs_close_free(&fs);
    base->sign = ext_sign;
}
