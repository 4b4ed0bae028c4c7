/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.c - names in directories, changed: files made, linked, taken away (write.h). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "write.h"

#define LINKS_MAX 65000

/* ---- directories ---- */

int type_in_directory(uint32_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return EXT2_FT_REG_FILE;
    case S_IFDIR:
        return EXT2_FT_DIR;
    case S_IFCHR:
        return EXT2_FT_CHRDEV;
    case S_IFBLK:
        return EXT2_FT_BLKDEV;
    case S_IFIFO:
        return EXT2_FT_FIFO;
    case S_IFSOCK:
        return EXT2_FT_SOCK;
    case S_IFLNK:
        return EXT2_FT_SYMLINK;
    default:
        return EXT2_FT_UNKNOWN;
    }
}

/* The kernel would see encrypted and folded names differently than we write them. */
int check_directory(struct ext *ext, uint64_t dir, struct img_error *err) {
    struct node *node;
    int ret = node_get(ext, dir, &node, err);
    if (ret < 0)
        return ret;
    if (!S_ISDIR(node->inode->i_mode))
        ret = fail(err, -ENOTDIR, "Inode %" PRIu64 " is not a directory", dir);
    else if (node_has(node, EXT4_ENCRYPT_FL | EXT4_CASEFOLD_FL))
        ret = fail(err, -EROFS, "The directory's names are encrypted or folded, and are not changed here");
    else if (node_has(node, EXT2_IMMUTABLE_FL | EXT2_APPEND_FL))
        ret = fail(err, -EPERM, "The directory is immutable");
    node_put(ext, node);
    return ret;
}

int touch_directory(struct ext *ext, uint64_t dir, int links, struct img_error *err) {
    struct ext2_inode_large *inode;
    struct fs_time now = time_now();
    int ret = inode_read(ext, dir, &inode, err);
    if (ret < 0)
        return ret;
    /* More than 65000 are written as 1: they are not counted any longer. */
    if (inode->i_links_count != 1)
        inode->i_links_count = (uint16_t)(inode->i_links_count + links > LINKS_MAX ? 1 : inode->i_links_count + links);
    inode_set_times(ext, inode, NULL, &now, &now);
    ret = inode_write(ext, dir, inode, err);
    free(inode);
    return ret;
}

int put_entry(struct ext *ext, uint64_t dir, const char *name, uint64_t ino, uint32_t mode, struct img_error *err) {
    errcode_t code = room_link(ext, (ext2_ino_t)dir, name, (ext2_ino_t)ino, type_in_directory(mode));
    if (code == EXT2_ET_DIR_NO_SPACE) {
        code = ext2fs_expand_dir(ext->lib, (ext2_ino_t)dir);
        if (!code)
            code = room_link(ext, (ext2_ino_t)dir, name, (ext2_ino_t)ino, type_in_directory(mode));
    }
    if (!code && writer_of(ext)->names.dir == dir)
        names_add(&writer_of(ext)->names, name, strlen(name));
    forget_nodes(ext);
    return code ? change_failed(ext, code, "A directory cannot be changed", err) : 0;
}

int take_entry(struct ext *ext, uint64_t dir, const char *name, struct img_error *err) {
    errcode_t code = ext2fs_unlink(ext->lib, (ext2_ino_t)dir, name, 0, 0);
    room_forget(ext);
    forget_nodes(ext);
    return code ? change_failed(ext, code, "A directory cannot be changed", err) : 0;
}

int separate(struct ext *ext, struct img_error *err) {
    return writer_of(ext)->journal ? 0 : ext_commit(&ext->fs, err);
}

static int any_entry(void *opaque, const struct fs_entry *entry) {
    (void)opaque, (void)entry;
    return 1;
}

/* ---- inodes that go ---- */

static int free_block(ext2_filsys lib, blk64_t *block, e2_blkcnt_t number, blk64_t reference, int offset,
                      void *opaque) {
    (void)number, (void)reference, (void)offset, (void)opaque;
    ext2fs_block_alloc_stats2(lib, *block, -1);
    return 0;
}

static int free_attributes(struct ext *ext, uint64_t ino, struct img_error *err) {
    struct ext2_xattr_handle *handle;
    errcode_t code = ext2fs_xattrs_open(ext->lib, (ext2_ino_t)ino, &handle);
    if (!code) {
        code = ext2fs_free_ext_attr(ext->lib, (ext2_ino_t)ino, NULL);
        ext2fs_xattrs_close(&handle);
    }
    return code ? change_failed(ext, code, "Attributes cannot be given up", err) : 0;
}

int free_content(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    errcode_t code = 0;
    int ret = 0;
    if (ext2fs_file_acl_block(ext->lib, (struct ext2_inode *)inode) || ext2fs_has_feature_ea_inode(super_of(ext)))
        ret = free_attributes(ext, ino, err);
    if (ret == 0 && ext2fs_inode_has_valid_blocks2(ext->lib, (struct ext2_inode *)inode))
        code = ext2fs_block_iterate3(ext->lib, (ext2_ino_t)ino, BLOCK_FLAG_READ_ONLY, NULL, free_block, NULL);
    return ret == 0 && code ? change_failed(ext, code, "A file's blocks cannot be given up", err) : ret;
}

int free_empty_inode(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    bool directory = S_ISDIR(inode->i_mode);
    memset(inode, 0, ext->inode_size);
    inode->i_dtime = (uint32_t)time_now().seconds;
    int ret = alloc_free_inode(ext, ino, directory, err);
    return ret < 0 ? ret : inode_write(ext, ino, inode, err);
}

/* The last name of an inode is gone. */
static int free_inode(struct ext *ext, uint64_t ino, struct ext2_inode_large *inode, struct img_error *err) {
    int ret = free_content(ext, ino, inode, err);
    return ret < 0 ? ret : free_empty_inode(ext, ino, inode, err);
}

int drop_link(struct ext *ext, uint64_t ino, struct img_error *err) {
    struct ext2_inode_large *inode;
    struct fs_time now = time_now();
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    if (S_ISDIR(inode->i_mode) || inode->i_links_count <= 1)
        ret = free_inode(ext, ino, inode, err);
    else {
        inode->i_links_count--;
        inode_set_times(ext, inode, NULL, NULL, &now);
        ret = inode_write(ext, ino, inode, err);
    }
    free(inode);
    return ret;
}

/* ---- taking names away ---- */

int find_victim(struct ext *ext, uint64_t dir, const char *name, size_t length, struct victim *victim,
                struct img_error *err) {
    struct node *node;
    int ret = ext_lookup(&ext->fs, dir, name, length, &victim->ino, err);
    if (ret == 0)
        ret = node_get(ext, victim->ino, &node, err);
    if (ret < 0)
        return ret;
    victim->mode = node->inode->i_mode;
    victim->links = node->inode->i_links_count;
    victim->directory = S_ISDIR(victim->mode);
    if (victim->ino < EXT2_FIRST_INO(super_of(ext)) || node_has(node, EXT2_IMMUTABLE_FL | EXT2_APPEND_FL))
        ret = fail(err, -EPERM, "Inode %" PRIu64 " may not be removed", victim->ino);
    node_put(ext, node);
    if (ret < 0 || !victim->directory)
        return ret;
    ret = ext_list(&ext->fs, victim->ino, any_entry, NULL, err);
    return ret == 1 ? fail(err, -ENOTEMPTY, "Directory not empty") : ret;
}

static int remove_victim(struct ext *ext, uint64_t dir, const char *name, const struct victim *victim,
                         struct img_error *err) {
    int ret = take_entry(ext, dir, name, err);
    if (ret == 0)
        ret = drop_link(ext, victim->ino, err);
    return ret < 0 ? ret : touch_directory(ext, dir, victim->directory ? -1 : 0, err);
}

int ext_unlink(struct fs *fs, uint64_t dir, const char *name, size_t length, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct victim victim = {0};
    int ret = change_begin(ext, err);
    if (ret == 0)
        ret = check_directory(ext, dir, err);
    if (ret == 0)
        ret = find_victim(ext, dir, name, length, &victim, err);
    if (ret == 0 && victim.directory)
        ret = separate(ext, err);
    if (ret == 0)
        ret = remove_victim(ext, dir, name, &victim, err);
    return ret < 0 || !victim.directory ? ret : separate(ext, err);
}

int make_place(struct ext *ext, uint64_t dir, const char *name, size_t length, bool replace, bool by_directory,
               struct img_error *err) {
    struct victim victim = {0};
    if (length == 0 || length > EXT2_NAME_LEN || memchr(name, '/', length))
        return fail(err, length > EXT2_NAME_LEN ? -ENAMETOOLONG : -EINVAL, "File name too long, or none");
    int ret = find_victim(ext, dir, name, length, &victim, err);
    if (ret == -ENOENT)
        return 0;
    if (ret == 0 && (!replace || victim.directory != by_directory))
        ret = fail(err, -EEXIST, "File exists");
    return ret < 0 ? ret : remove_victim(ext, dir, name, &victim, err);
}

/* ---- new names ---- */

static void fill_inode(const struct ext *ext, struct ext2_inode_large *inode, const struct fs_new *file) {
    struct fs_time now = time_now();
    inode->i_mode = (uint16_t)file->mode;
    inode->i_uid = (uint16_t)file->uid;
    inode->i_uid_high = (uint16_t)(file->uid >> 16);
    inode->i_gid = (uint16_t)file->gid;
    inode->i_gid_high = (uint16_t)(file->gid >> 16);
    if (ext->inode_size > EXT2_GOOD_OLD_INODE_SIZE) {
        size_t room = ext->inode_size - EXT2_GOOD_OLD_INODE_SIZE;
        size_t extra = sizeof(struct ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
        inode->i_extra_isize = (uint16_t)(extra < room ? extra : room);
        inode->i_crtime = (uint32_t)now.seconds;
        inode->i_crtime_extra = now.nanoseconds << 2;
    }
    inode_set_times(ext, inode, &file->atime, &file->mtime, &now);
}

static void fill_device(struct ext2_inode_large *inode, const struct fs_new *file) {
    uint32_t major = file->rdev_major, minor = file->rdev_minor;
    if (major < 256 && minor < 256)
        inode->i_block[0] = major << 8 | minor;
    else
        inode->i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

int make_plain(struct ext *ext, uint64_t ino, const struct fs_new *file, struct img_error *err) {
    size_t size = ext->inode_size > sizeof(struct ext2_inode_large) ? ext->inode_size : sizeof(struct ext2_inode_large);
    struct ext2_inode_large *inode = calloc(1, size);
    if (!inode)
        return fail_no_memory(err);
    fill_inode(ext, inode, file);
    inode->i_links_count = 1;
    /* Part of the checksums of all that the inode will have, so it comes first. */
    if (getrandom(&inode->i_generation, sizeof(inode->i_generation), GRND_NONBLOCK) < 0)
        inode->i_generation = time_now().nanoseconds;
    if (S_ISCHR(file->mode) || S_ISBLK(file->mode))
        fill_device(inode, file);
    else if (S_ISLNK(file->mode) && strlen(file->target) < sizeof(inode->i_block)) {
        memcpy(inode->i_block, file->target, strlen(file->target));
        inode->i_size = (uint32_t)strlen(file->target);
    } else if ((S_ISREG(file->mode) || S_ISLNK(file->mode)) && ext2fs_has_feature_extents(super_of(ext))) {
        struct ext3_extent_header header = {
            .eh_magic = htole16(EXT3_EXT_MAGIC),
            .eh_max = htole16((sizeof(inode->i_block) - sizeof(header)) / sizeof(struct ext3_extent))};
        memcpy(inode->i_block, &header, sizeof(header));
        inode->i_flags |= EXT4_EXTENTS_FL;
    }
    int ret = inode_write(ext, ino, inode, err);
    free(inode);
    return ret;
}

/* The library makes the inode and its blocks; owners, the rest and the entry come after it. */
static int make_by_library(struct ext *ext, uint64_t dir, const char *name, uint64_t ino, const struct fs_new *file,
                           struct img_error *err) {
    bool directory = S_ISDIR(file->mode);
    errcode_t code = directory ? ext2fs_mkdir(ext->lib, (ext2_ino_t)dir, (ext2_ino_t)ino, NULL)
                               : ext2fs_symlink(ext->lib, (ext2_ino_t)dir, (ext2_ino_t)ino, NULL, file->target);
    if (directory && writer_of(ext)->names.dir == ino)
        names_free(&writer_of(ext)->names);
    forget_nodes(ext);
    if (code)
        return change_failed(ext, code, directory ? "A directory cannot be made" : "A link cannot be made", err);
    struct ext2_inode_large *inode;
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    fill_inode(ext, inode, file);
    ret = inode_write(ext, ino, inode, err);
    free(inode);
    return ret < 0 ? ret : put_entry(ext, dir, name, ino, file->mode, err);
}

int ext_create(struct fs *fs, uint64_t dir, const char *name, size_t length, const struct fs_new *file, uint64_t *ino,
               struct img_error *err) {
    struct ext *ext = ext_of(fs);
    ext2_ino_t new;
    int ret = change_begin(ext, err);
    if (ret == 0)
        ret = check_directory(ext, dir, err);
    if (ret == 0 && S_ISLNK(file->mode) && (!file->target || !*file->target || strlen(file->target) >= ext->block_size))
        ret = fail(err, -ENAMETOOLONG, "A symbolic link's target is empty or too long");
    if (ret == 0 && file->replace && !writer_of(ext)->journal)
        ret = replace_inside(ext, dir, name, length, file, ino, err);
    if (ret == 0)
        ret = make_place(ext, dir, name, length, file->replace, S_ISDIR(file->mode), err);
    if (ret != 0)
        return ret < 0 ? ret : 0;
    errcode_t code = ext2fs_new_inode(ext->lib, (ext2_ino_t)dir, (int)file->mode, NULL, &new);
    if (code)
        return change_failed(ext, code, "No inode can be had", err);
    *ino = new;
    if (S_ISDIR(file->mode) || S_ISLNK(file->mode))
        ret = make_by_library(ext, dir, name, new, file, err);
    else {
        ext2fs_inode_alloc_stats2(ext->lib, new, +1, 0);
        ret = make_plain(ext, new, file, err);
        if (ret == 0)
            ret = put_entry(ext, dir, name, new, file->mode, err);
    }
    /* ext2fs_mkdir has counted the new directory's ".." */
    return ret < 0 ? ret : touch_directory(ext, dir, 0, err);
}

int add_link(struct ext *ext, uint64_t ino, uint32_t *mode, struct img_error *err) {
    struct ext2_inode_large *inode;
    struct fs_time now = time_now();
    int ret = inode_read(ext, ino, &inode, err);
    if (ret < 0)
        return ret;
    *mode = inode->i_mode;
    if (inode->i_mode == 0 || inode->i_links_count == 0)
        ret = fail(err, -ENOENT, "Inode %" PRIu64 " is not in use", ino);
    else if (S_ISDIR(inode->i_mode))
        ret = fail(err, -EPERM, "A directory has one name only");
    else if (inode->i_links_count >= LINKS_MAX)
        ret = fail(err, -EMLINK, "Too many links");
    if (ret == 0) {
        inode->i_links_count++;
        inode_set_times(ext, inode, NULL, NULL, &now);
        ret = inode_write(ext, ino, inode, err);
    }
    free(inode);
    return ret;
}

int ext_link(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    uint32_t mode;
    int ret = change_begin(ext, err);
    if (ret == 0)
        ret = check_directory(ext, dir, err);
    if (ret == 0)
        ret = make_place(ext, dir, name, length, false, false, err);
    if (ret == 0)
        ret = add_link(ext, ino, &mode, err);
    if (ret == 0)
        ret = put_entry(ext, dir, name, ino, mode, err);
    return ret < 0 ? ret : touch_directory(ext, dir, 0, err);
}
