/* SPDX-License-Identifier: GPL-3.0-or-later */
/* room.c - where the next name of a directory goes (write.h). The library looks for room from the front each time,
 * which with many files takes most of the time. Here the block is remembered that had room last, and which names the
 * directory has; whatever is not plain there (an index, names in the inode) is left to the library.
 */
#include <stdlib.h>
#include <string.h>

#include "write.h"

static unsigned length_needed(unsigned name_length) {
    return (unsigned)(sizeof(struct ext2_dir_entry) - EXT2_NAME_LEN + name_length + 3) & ~3u;
}

/* Puts the entry into a block of names; false: there is no room, or it is no such block. */
static bool put_into(struct ext *ext, char *block, const char *name, ext2_ino_t ino, int type) {
    unsigned length = (unsigned)strlen(name), needed = length_needed(length), have;
    unsigned end = ext->block_size - (ext->checksums ? sizeof(struct ext2_dir_entry_tail) : 0);
    for (unsigned at = 0; at + 8 <= end; at += have) {
        struct ext2_dir_entry *entry = (struct ext2_dir_entry *)(block + at);
        if (ext2fs_get_rec_len(ext->lib, entry, &have) || have < 8 || have % 4 || have > end - at)
            return false;
        unsigned used = entry->inode ? length_needed((unsigned)ext2fs_dirent_name_len(entry)) : 0;
        if (used > have || have - used < needed)
            continue;
        if (used) {
            if (ext2fs_set_rec_len(ext->lib, used, entry))
                return false;
            entry = (struct ext2_dir_entry *)(block + at + used);
        }
        if (ext2fs_set_rec_len(ext->lib, have - used, entry))
            return false;
        entry->inode = ino;
        ext2fs_dirent_set_name_len(entry, (int)length);
        ext2fs_dirent_set_file_type(entry, ext2fs_has_feature_filetype(super_of(ext)) ? type : 0);
        memcpy(entry->name, name, length);
        return true;
    }
    return false;
}

/* EXT2_ET_DIR_NO_SPACE: from the remembered block on there is no room. */
static errcode_t link_from(struct ext *ext, ext2_ino_t dir, struct ext2_inode *inode, const char *name, ext2_ino_t ino,
                           int type) {
    struct writer *writer = writer_of(ext);
    uint64_t blocks = EXT2_I_SIZE(inode) >> ext->block_bits;
    char *block = malloc(ext->block_size);
    errcode_t code = block ? 0 : EXT2_ET_NO_MEMORY;
    bool put = false;
    for (; !code && !put && writer->room_block < blocks; writer->room_block += !put) {
        blk64_t at = 0;
        code = ext2fs_bmap2(ext->lib, dir, inode, NULL, 0, writer->room_block, NULL, &at);
        if (!code && at)
            code = ext2fs_read_dir_block4(ext->lib, at, block, 0, dir);
        if (!code && at && (put = put_into(ext, block, name, ino, type)))
            code = ext2fs_write_dir_block4(ext->lib, at, block, 0, dir);
    }
    free(block);
    return !code && !put ? EXT2_ET_DIR_NO_SPACE : code;
}

errcode_t room_link(struct ext *ext, ext2_ino_t dir, const char *name, ext2_ino_t ino, int type) {
    struct writer *writer = writer_of(ext);
    struct ext2_inode inode;
    errcode_t code = ext2fs_read_inode(ext->lib, dir, &inode);
    if (code)
        return code;
    bool plain = writer->room_dir == dir && !(inode.i_flags & (EXT2_INDEX_FL | EXT4_INLINE_DATA_FL));
    if (writer->room_dir != dir)
        room_forget(ext);
    writer->room_dir = dir;
    code = plain ? link_from(ext, dir, &inode, name, ino, type) : EXT2_ET_DIR_NO_SPACE;
    return code == EXT2_ET_DIR_NO_SPACE ? ext2fs_link(ext->lib, dir, name, ino, type) : code;
}

void room_forget(struct ext *ext) {
    writer_of(ext)->room_dir = 0;
    writer_of(ext)->room_block = 0;
}

/* ---- names ---- */

static int add_name(void *opaque, const struct fs_entry *entry) {
    names_add(opaque, entry->name, entry->length);
    return 0;
}

bool room_lacks(struct ext *ext, uint64_t dir, const char *name, size_t length) {
    struct writer *writer = writer_of(ext);
    struct names names = {0};
    if (writer->names.dir == dir || writer->room_dir != dir) /* the first file may be the last */
        return names_lack(&writer->names, dir, name, length);
    names_begin(&names, dir);
    names_add(&names, ".", 1);
    names_add(&names, "..", 2);
    if (ext_list(&ext->fs, dir, add_name, &names, NULL) < 0)
        names_free(&names);
    names_free(&writer->names);
    writer->names = names;
    return names_lack(&writer->names, dir, name, length);
}
