/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replace.c - without a journal: a file that is replaced keeps its inode.
 *
 * Its name stays as it is, and its inode goes from the old content to the new one in a single write: so a cut leaves
 * one of the two. That needs a file with one name; others are taken away first and made anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <linux/types.h> /* before the next */

#include <ext2fs/ext3_extents.h>

#include "write.h"

/* ---- the name's own word of what it names ---- */

struct typed {
    const char *name;
    size_t length;
    int type;
};

static int set_type(ext2_ino_t dir, int entry, struct ext2_dir_entry *dirent, int offset, int block_size, char *block,
                    void *opaque) {
    const struct typed *typed = opaque;
    (void)dir, (void)entry, (void)offset, (void)block_size, (void)block;
    if ((size_t)ext2fs_dirent_name_len(dirent) != typed->length ||
        memcmp(dirent->name, typed->name, typed->length) != 0)
        return 0;
    ext2fs_dirent_set_file_type(dirent, typed->type);
    return DIRENT_CHANGED | DIRENT_ABORT;
}

static int retype(struct ext *ext, uint64_t dir, const char *name, size_t length, uint32_t mode,
                  struct img_error *err) {
    struct typed typed = {name, length, type_in_directory(mode)};
    if (!ext2fs_has_feature_filetype(super_of(ext)))
        return 0;
    errcode_t code = ext2fs_dir_iterate2(ext->lib, (ext2_ino_t)dir, 0, NULL, set_type, &typed);
    forget_nodes(ext);
    return code ? change_failed(ext, code, "A directory cannot be changed", err) : 0;
}

/* ---- a new file ---- */

/* The only name of a file that is no directory? */
static int find_replaceable(struct ext *ext, uint64_t dir, const char *name, size_t length, struct victim *victim,
                            struct img_error *err) {
    int ret = find_victim(ext, dir, name, length, victim, err);
    return ret == -ENOENT ? 0 : ret < 0 ? ret : !victim->directory && victim->links == 1;
}

static int free_old(struct ext *ext, uint64_t ino, struct img_error *err) {
    struct ext2_inode_large *inode;
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    ret = free_content(ext, ino, inode, err);
    free(inode);
    return ret;
}

int replace_inside(struct ext *ext, uint64_t dir, const char *name, size_t length, const struct fs_new *file,
                   uint64_t *ino, struct img_error *err) {
    struct victim victim = {0};
    int ret = S_ISDIR(file->mode) ? 0 : find_replaceable(ext, dir, name, length, &victim, err);
    if (ret <= 0)
        return ret;
    *ino = victim.ino;
    ret = free_old(ext, victim.ino, err);
    if (ret == 0)
        ret = make_plain(ext, victim.ino, file, err);
    if (ret == 0 && S_ISLNK(file->mode) && strlen(file->target) >= sizeof(((struct ext2_inode *)0)->i_block))
        ret = ext_append(&ext->fs, victim.ino, file->target, strlen(file->target), 0, err);
    if (ret == 0 && (file->mode & S_IFMT) != (victim.mode & S_IFMT))
        ret = retype(ext, dir, name, length, file->mode, err);
    if (ret == 0)
        ret = touch_directory(ext, dir, 0, err);
    return ret < 0 ? ret : 1;
}

/* ---- one that is there already ---- */

/* Checksums of blocks of extents are those of an inode of a certain number. */
static bool can_move(const struct ext *ext, const struct ext2_inode_large *inode) {
    const struct ext3_extent_header *header = (const void *)inode->i_block;
    return S_ISREG(inode->i_mode) && inode->i_links_count == 1 &&
           !(ext->checksums && inode->i_flags & EXT4_EXTENTS_FL && le16toh(header->eh_depth) > 0);
}

int take_over(struct ext *ext, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err) {
    struct victim victim = {0};
    struct ext2_inode_large *inode;
    int ret = find_replaceable(ext, dir, name, length, &victim, err);
    if (ret <= 0 || !S_ISREG(victim.mode))
        return ret < 0 ? ret : 0;
    ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    bool can = can_move(ext, inode);
    if (can)
        ret = free_old(ext, victim.ino, err);
    if (can && ret == 0)
        ret = inode_write(ext, victim.ino, inode, err);
    if (can && ret == 0)
        ret = free_empty_inode(ext, ino, inode, err);
    free(inode);
    return ret < 0 ? ret : can;
}

bool is_born(struct ext *ext, uint64_t ino) {
    struct ext2_inode inode;
    uint32_t in_group = super_of(ext)->s_inodes_per_group;
    uint64_t table = ext2fs_inode_table_loc(ext->lib, (dgrp_t)((ino - 1) / in_group));
    uint64_t place = (table << ext->block_bits) + (ino - 1) % in_group * ext->inode_size;
    return device_read(ext->fs.device, &inode, sizeof(inode), place, NULL) == 0 && inode.i_links_count == 0;
}
