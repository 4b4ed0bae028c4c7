/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rename.c - a file gets another name, or place (write.h).
 *
 * With a journal the new name comes and the old one goes in one change. Without one the old name must stay on the disk
 * until the new one is there: so a file has both for a moment. A directory cannot have two names; a cut in its move is
 * the one that e2fsck asks about.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "write.h"

struct move {
    struct ext *ext;
    uint64_t from, to;
    const char *old, *new;
    size_t new_length;
    uint64_t ino;
    uint32_t mode;
};

/* ---- directories ---- */

static int set_parent(ext2_ino_t dir, int entry, struct ext2_dir_entry *dirent, int offset, int block_size, char *block,
                      void *opaque) {
    (void)dir, (void)entry, (void)offset, (void)block_size, (void)block;
    if (ext2fs_dirent_name_len(dirent) != 2 || memcmp(dirent->name, "..", 2) != 0)
        return 0;
    dirent->inode = *(const ext2_ino_t *)opaque;
    return DIRENT_CHANGED | DIRENT_ABORT;
}

static int move_directory(const struct move *move, struct img_error *err) {
    struct ext *ext = move->ext;
    ext2_ino_t parent = (ext2_ino_t)move->to;
    errcode_t code =
        ext2fs_dir_iterate2(ext->lib, (ext2_ino_t)move->ino, DIRENT_FLAG_INCLUDE_EMPTY, NULL, set_parent, &parent);
    if (code)
        return change_failed(ext, code, "A directory cannot be moved", err);
    int ret = touch_directory(ext, move->from, -1, err);
    return ret < 0 ? ret : touch_directory(ext, move->to, +1, err);
}

/* A directory may not come into itself. */
static int check_no_circle(struct ext *ext, uint64_t ino, uint64_t dir, struct img_error *err) {
    ext2_ino_t at = (ext2_ino_t)dir;
    for (unsigned depth = 0; at != EXT2_ROOT_INO && depth < 4096; depth++) {
        if (at == ino)
            return fail(err, -EINVAL, "A directory cannot be moved into itself");
        errcode_t code = ext2fs_lookup(ext->lib, at, "..", 2, NULL, &at);
        if (code)
            return ext_io_fail(ext->io, err, code, "A directory has no parent");
    }
    return 0;
}

/* ---- the ways to do it ---- */

static int touch_both(const struct move *move, struct img_error *err) {
    int ret = touch_directory(move->ext, move->from, 0, err);
    return ret < 0 || move->from == move->to ? ret : touch_directory(move->ext, move->to, 0, err);
}

static int move_at_once(const struct move *move, struct img_error *err) {
    int ret = put_entry(move->ext, move->to, move->new, move->ino, move->mode, err);
    if (ret == 0)
        ret = take_entry(move->ext, move->from, move->old, err);
    if (ret == 0 && S_ISDIR(move->mode) && move->from != move->to)
        ret = move_directory(move, err);
    return ret < 0 ? ret : touch_both(move, err);
}

static int move_apart(const struct move *move, struct img_error *err) {
    int ret = separate(move->ext, err);
    if (ret == 0)
        ret = move_at_once(move, err);
    return ret < 0 ? ret : separate(move->ext, err);
}

static int move_by_link(const struct move *move, struct img_error *err) {
    uint32_t mode;
    int ret = add_link(move->ext, move->ino, &mode, err);
    if (ret == 0)
        ret = put_entry(move->ext, move->to, move->new, move->ino, mode, err);
    if (ret == 0)
        ret = touch_both(move, err);
    if (ret == 0)
        ret = separate(move->ext, err);
    if (ret == 0)
        ret = take_entry(move->ext, move->from, move->old, err);
    return ret < 0 ? ret : drop_link(move->ext, move->ino, err);
}

static int do_move(const struct move *move, struct img_error *err) {
    struct ext *ext = move->ext;
    bool journal = writer_of(ext)->journal;
    int ret = journal ? 0 : take_over(ext, move->to, move->new, move->new_length, move->ino, err);
    if (ret > 0) {
        ret = take_entry(ext, move->from, move->old, err);
        return ret < 0 ? ret : touch_both(move, err);
    }
    if (ret == 0)
        ret = make_place(ext, move->to, move->new, move->new_length, true, S_ISDIR(move->mode), err);
    if (ret < 0)
        return ret;
    if (journal || is_born(ext, move->ino))
        return move_at_once(move, err);
    return S_ISDIR(move->mode) ? move_apart(move, err) : move_by_link(move, err);
}

int ext_rename(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t new_dir, const char *new_name,
               size_t new_length, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct move move = {.ext = ext, .from = dir, .to = new_dir, .old = name, .new = new_name, .new_length = new_length};
    struct fs_stat stat = {0};
    uint64_t there = 0;
    int ret = change_begin(ext, err);
    if (ret == 0)
        ret = check_directory(ext, dir, err);
    if (ret == 0)
        ret = check_directory(ext, new_dir, err);
    if (ret == 0)
        ret = ext_lookup(fs, dir, name, length, &move.ino, err);
    if (ret == 0)
        ret = ext_stat(fs, move.ino, &stat, err);
    if (ret == 0 && S_ISDIR(stat.mode))
        ret = check_no_circle(ext, move.ino, new_dir, err);
    if (ret < 0)
        return ret;
    if (ext_lookup(fs, new_dir, new_name, new_length, &there, NULL) == 0 && there == move.ino)
        return 0; /* as rename(2) has it for two names of one file */
    move.mode = stat.mode;
    return do_move(&move, err);
}
