/* SPDX-License-Identifier: GPL-3.0-or-later */
/* node.c - inodes: read by the library, checked once, the last few kept; and stat. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ext.h"

int ext_read_block(struct ext *ext, uint64_t ino, uint64_t block, void *buffer, struct img_error *err) {
    if (block <= ext->first_block || block >= ext->blocks)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " refers to block %" PRIu64 ", which is none of the filesystem's",
                    ino, block);
    return ext_io_read(ext->io, buffer, ext->block_size, block << ext->block_bits, err);
}

bool node_has(const struct node *node, uint32_t flag) {
    return node->inode->i_flags & flag;
}

/* ---- reading one ---- */

static int check_node(struct ext *ext, struct node *node, struct img_error *err) {
    const struct ext2_inode_large *inode = node->inode;
    if (inode->i_mode == 0 || (inode->i_links_count == 0 && inode->i_dtime != 0))
        return fail(err, -ENOENT, "Inode %" PRIu64 " is not in use", node->ino);
    node->size = inode->i_size;
    if (S_ISREG(inode->i_mode) || (S_ISDIR(inode->i_mode) && ext2fs_has_feature_largedir(super_of(ext))))
        node->size |= (uint64_t)inode->i_size_high << 32;
    if (node->size > INT64_MAX)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has a size of %" PRIu64 " bytes", node->ino, node->size);
    return 0;
}

static int read_node(struct ext *ext, struct node *node, struct img_error *err) {
    char what[64];
    errcode_t code =
        ext2fs_read_inode_full(ext->lib, (ext2_ino_t)node->ino, (struct ext2_inode *)node->inode, (int)ext->inode_size);
    if (code) {
        snprintf(what, sizeof(what), "Inode %" PRIu64 " cannot be read", node->ino);
        return ext_io_fail(ext->io, err, code, what);
    }
    uint32_t number = htole32((uint32_t)node->ino), generation = htole32(node->inode->i_generation);
    node->seed = ext2fs_crc32c_le(ext->lib->csum_seed, (const unsigned char *)&number, sizeof(number));
    node->seed = ext2fs_crc32c_le(node->seed, (const unsigned char *)&generation, sizeof(generation));
    return check_node(ext, node, err);
}

static struct node *new_node(struct ext *ext) {
    size_t size = ext->inode_size > sizeof(struct ext2_inode_large) ? ext->inode_size : sizeof(struct ext2_inode_large);
    struct node *node = calloc(1, sizeof(*node));
    if (node && !(node->inode = calloc(1, size))) {
        free(node);
        return NULL;
    }
    return node;
}

static void free_node(struct node *node) {
    if (!node)
        return;
    free(node->inode);
    free(node);
}

/* A node that nobody holds, the one that was not used for longest; a new one if all are held. */
static struct node *free_place(struct ext *ext) {
    struct node **oldest = NULL, *node;
    for (unsigned i = 0; i < NODES; i++) {
        struct node **place = &ext->nodes[i];
        if (!*place || ((*place)->users == 0 && (!oldest || (*place)->used < (*oldest)->used)))
            oldest = place;
        if (!*place)
            break;
    }
    if (oldest && *oldest) {
        (*oldest)->map = (struct map){0};
        return *oldest;
    }
    if ((node = new_node(ext)) && oldest) {
        node->kept = true;
        *oldest = node;
    }
    return node;
}

int node_get(struct ext *ext, uint64_t ino, struct node **node, struct img_error *err) {
    if (ino == 0 || ino > super_of(ext)->s_inodes_count)
        return fail(err, -EUCLEAN, "There is no inode %" PRIu64, ino);
    for (unsigned i = 0; i < NODES; i++) {
        struct node *kept = ext->nodes[i];
        if (kept && kept->ino == ino) {
            kept->users++;
            kept->used = ++ext->clock;
            *node = kept;
            return 0;
        }
    }
    struct node *new = free_place(ext);
    if (!new)
        return fail_no_memory(err);
    new->ino = ino;
    new->used = ++ext->clock;
    int ret = read_node(ext, new, err);
    if (ret < 0) {
        new->ino = 0; /* nobody finds it */
        if (!new->kept)
            free_node(new);
        return ret;
    }
    new->users = 1;
    *node = new;
    return 0;
}

void node_put(struct ext *ext, struct node *node) {
    (void)ext;
    if (--node->users == 0 && !node->kept)
        free_node(node);
}

void node_forget(struct ext *ext, uint64_t ino) {
    for (unsigned i = 0; i < NODES; i++)
        if (ext->nodes[i] && ext->nodes[i]->ino == ino && ext->nodes[i]->users == 0)
            ext->nodes[i]->ino = 0;
}

void node_free_all(struct ext *ext) {
    for (unsigned i = 0; i < NODES; i++) {
        free_node(ext->nodes[i]);
        ext->nodes[i] = NULL;
    }
}

/* ---- stat ---- */

/* Does the inode reach to the end of this field? Fields behind the first 128 bytes are there only if it says so. */
#define HAS_FIELD(ext, inode, field)                                                                                   \
    ((ext)->inode_size > EXT2_GOOD_OLD_INODE_SIZE &&                                                                   \
     offsetof(struct ext2_inode_large, field) + sizeof((inode)->field) <=                                              \
         (size_t)EXT2_GOOD_OLD_INODE_SIZE + (inode)->i_extra_isize)

/* The extra word has two more bits of seconds, below 30 of nanoseconds. */
static struct fs_time make_time(uint32_t seconds, uint32_t extra) {
    uint32_t nanoseconds = extra >> EXT4_EPOCH_BITS;
    return (struct fs_time){.seconds = (int64_t)(int32_t)seconds + ((int64_t)(extra & EXT4_EPOCH_MASK) << 32),
                            .nanoseconds = nanoseconds < 1000000000 ? nanoseconds : 999999999};
}

static void stat_times(const struct ext *ext, const struct ext2_inode_large *inode, struct fs_stat *stat) {
    stat->atime = make_time(inode->i_atime, HAS_FIELD(ext, inode, i_atime_extra) ? inode->i_atime_extra : 0);
    stat->mtime = make_time(inode->i_mtime, HAS_FIELD(ext, inode, i_mtime_extra) ? inode->i_mtime_extra : 0);
    stat->ctime = make_time(inode->i_ctime, HAS_FIELD(ext, inode, i_ctime_extra) ? inode->i_ctime_extra : 0);
    if (HAS_FIELD(ext, inode, i_crtime))
        stat->btime = make_time(inode->i_crtime, HAS_FIELD(ext, inode, i_crtime_extra) ? inode->i_crtime_extra : 0);
}

static void stat_device(const struct ext2_inode_large *inode, struct fs_stat *stat) {
    uint32_t old = inode->i_block[0], wide = inode->i_block[1];
    if (!S_ISCHR(inode->i_mode) && !S_ISBLK(inode->i_mode))
        return;
    stat->rdev_major = old ? (old >> 8) & 0xff : (wide >> 8) & 0xfff;
    stat->rdev_minor = old ? old & 0xff : (wide & 0xff) | ((wide >> 12) & 0xfff00);
}

static uint64_t stat_blocks(const struct ext *ext, const struct node *node) {
    const struct ext2_inode_large *inode = node->inode;
    uint64_t blocks = inode->i_blocks;
    if (ext2fs_has_feature_huge_file(super_of(ext))) {
        blocks |= (uint64_t)inode->osd2.linux2.l_i_blocks_hi << 32;
        if (node_has(node, EXT4_HUGE_FILE_FL))
            blocks <<= ext->block_bits - 9;
    }
    /* A file that has no blocks because it fits into its inode would look like one big hole. */
    if (S_ISREG(inode->i_mode) && node_has(node, EXT4_INLINE_DATA_FL))
        blocks += (node->size + 511) / 512;
    return blocks;
}

int ext_stat(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct node *node;
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    const struct ext2_inode_large *inode = node->inode;
    *stat = (struct fs_stat){.ino = ino,
                             .mode = inode->i_mode,
                             .nlink = inode->i_links_count,
                             .uid = inode->i_uid | (uint32_t)inode->i_uid_high << 16,
                             .gid = inode->i_gid | (uint32_t)inode->i_gid_high << 16,
                             .size = node->size,
                             .blocks = stat_blocks(ext, node)};
    stat_times(ext, inode, stat);
    stat_device(inode, stat);
    if (S_ISLNK(inode->i_mode))
        ret = target_length(ext, node, &stat->size, err);
    node_put(ext, node);
    return ret;
}
