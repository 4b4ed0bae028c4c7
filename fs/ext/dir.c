/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dir.c - directories: listing, and looking up a name.
 *
 * A directory is a file of blocks, each a chain of entries that fills it; an index of hashes, where there is one, lies
 * in blocks that look like one unused entry. So listing reads all blocks in order and needs no index. A small directory
 * may lie in its inode.
 *
 * The blocks of a directory must all be different: a map that leads to one block a million times would make a small
 * disk list without end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "changes.h"
#include "dir.h"
#include "write.h"

int dir_damaged(struct visit *visit, const char *what, uint64_t value) {
    return fail(visit->err, -EUCLEAN, "The directory of inode %" PRIu64 " is damaged: %s %" PRIu64, visit->node->ino,
                what, value);
}

/* ---- one block ---- */

/* With blocks of 64 KiB, lengths that do not fit into 16 bits are written in another way. */
static unsigned entry_length(const struct ext *ext, const struct ext2_dir_entry_2 *entry) {
    unsigned length = le16toh(entry->rec_len);
    if (ext->block_size < 65536)
        return length;
    return length == 65535 || length == 0 ? ext->block_size : (length & 65532) | (length & 3) << 16;
}

static int check_entry(struct visit *visit, const struct ext2_dir_entry_2 *entry, size_t left) {
    unsigned length;
    if (left < 8 || (length = entry_length(visit->ext, entry)) < 8 || length % 4 != 0 || length > left)
        return dir_damaged(visit, "an entry's length is", left < 8 ? left : le16toh(entry->rec_len));
    if (entry->inode == 0)
        return 0;
    if (entry->name_len == 0 || entry->name_len + 8u > length)
        return dir_damaged(visit, "a name's length is", entry->name_len);
    if (le32toh(entry->inode) > super_of(visit->ext)->s_inodes_count)
        return dir_damaged(visit, "an entry's inode is", le32toh(entry->inode));
    if (!node_has(visit->node, EXT4_ENCRYPT_FL) &&
        (memchr(entry->name, '\0', entry->name_len) || memchr(entry->name, '/', entry->name_len)))
        return dir_damaged(visit, "a name holds a byte that cannot be in one, and belongs to inode",
                           le32toh(entry->inode));
    return 0;
}

/* The entries of a block, or of the part of one that an inode has room for. */
static int visit_area(struct visit *visit, const unsigned char *area, size_t size) {
    for (size_t at = 0; at < size;) {
        const struct ext2_dir_entry_2 *entry = (const struct ext2_dir_entry_2 *)(area + at);
        int ret = check_entry(visit, entry, size - at);
        if (ret == 0 && entry->inode != 0)
            ret = visit->entry(visit, entry);
        if (ret != 0)
            return ret;
        at += entry_length(visit->ext, entry);
    }
    return 0;
}

/* Where an index's counts and hashes begin; 0: it is a block of names. Names leave room for a checksum behind them, the
 * entries that hide an index do not. */
static unsigned index_begins(const struct ext *ext, const unsigned char *block) {
    const struct ext2_dir_entry_2 *first = (const struct ext2_dir_entry_2 *)block;
    const struct ext2_dir_entry_2 *second = (const struct ext2_dir_entry_2 *)(block + 12);
    if (entry_length(ext, first) == ext->block_size)
        return 8;
    return entry_length(ext, first) == 12 && entry_length(ext, second) == ext->block_size - 12 ? 32 : 0;
}

static bool index_checksum_right(const struct visit *visit, const unsigned char *block, unsigned begin) {
    const struct ext2_dx_countlimit *counts = (const struct ext2_dx_countlimit *)(block + begin);
    size_t limit = le16toh(counts->limit), count = le16toh(counts->count), tail = begin + limit * 8;
    uint32_t stored, zero = 0;
    if (count > limit || tail + 8 > visit->ext->block_size)
        return false;
    uint32_t sum = ext2fs_crc32c_le(visit->node->seed, block, begin + count * 8);
    sum = ext2fs_crc32c_le(sum, block + tail, 4);
    sum = ext2fs_crc32c_le(sum, (const unsigned char *)&zero, 4);
    memcpy(&stored, block + tail + 4, sizeof(stored));
    return sum == le32toh(stored);
}

/* The last twelve bytes look like an unused entry of a kind that no file has. */
static bool checksum_right(const struct visit *visit, const unsigned char *block) {
    static const unsigned char head[8] = {0, 0, 0, 0, 12, 0, 0, 0xde};
    size_t size = visit->ext->block_size - sizeof(struct ext2_dir_entry_tail);
    unsigned index = index_begins(visit->ext, block);
    uint32_t stored;
    if (!visit->ext->checksums)
        return true;
    if (index > 0)
        return index_checksum_right(visit, block, index);
    memcpy(&stored, block + size + sizeof(head), sizeof(stored));
    return memcmp(block + size, head, sizeof(head)) == 0 &&
           ext2fs_crc32c_le(visit->node->seed, block, size) == le32toh(stored);
}

/* ---- all blocks ---- */

int dir_read_block(struct visit *visit, unsigned char *block, uint64_t number) {
    struct summed *summed = &visit->ext->summed[number % SUMMED];
    int ret = ext_read_block(visit->ext, visit->node->ino, number, block, visit->err);
    if (ret < 0 || (summed->block == number && summed->ino == visit->node->ino))
        return ret;
    if (!checksum_right(visit, block))
        return dir_damaged(visit, "the checksum is wrong in block", number);
    *summed = (struct summed){.block = number, .ino = visit->node->ino};
    return 0;
}

int dir_visit_block(struct visit *visit, unsigned char *block, uint64_t number) {
    visit->ext->visited++;
    int ret = dir_read_block(visit, block, number);
    return ret < 0 ? ret : visit_area(visit, block, visit->ext->block_size);
}

static int visit_blocks(struct visit *visit) {
    struct run *runs;
    size_t count;
    uint64_t blocks = (visit->node->size + visit->ext->block_size - 1) >> visit->ext->block_bits;
    int ret = map_gather(visit->ext, visit->node, blocks, &runs, &count, visit->err);
    unsigned char *block = malloc(visit->ext->block_size);
    if (ret == 0 && !block)
        ret = fail_no_memory(visit->err);
    for (size_t i = 0; i < count && ret == 0; i++)
        for (uint64_t j = 0; j < runs[i].length && ret == 0; j++)
            ret = dir_visit_block(visit, block, runs[i].physical + j);
    free(block);
    free(runs);
    return ret;
}

/* In the inode: the parent's number, entries in what is left of the 60 bytes, and more in an attribute. */
static int visit_inline(struct visit *visit) {
    const unsigned char *rest;
    size_t length;
    int ret = xattr_inline_rest(visit->ext, visit->node, &rest, &length, visit->err);
    if (ret == 0)
        ret = visit_area(visit, node_block(visit->node) + 4, sizeof(visit->node->inode->i_block) - 4);
    if (ret == 0 && length > 0)
        ret = visit_area(visit, rest, length);
    return ret;
}

/* What is looked for may be found by its hash. */
static int visit_contents(struct visit *visit) {
    int ret = -ENOTSUP;
    if (node_has(visit->node, EXT4_INLINE_DATA_FL))
        return visit_inline(visit);
    if (visit->name)
        ret = index_visit(visit);
    return ret == -ENOTSUP ? visit_blocks(visit) : ret;
}

static int visit_directory(struct visit *visit, uint64_t dir) {
    int ret = node_get(visit->ext, dir, &visit->node, visit->err);
    if (ret < 0)
        return ret;
    if (!S_ISDIR(visit->node->inode->i_mode))
        ret = fail(visit->err, -ENOTDIR, "Inode %" PRIu64 " is not a directory", dir);
    else if (!changed_entry(visit->ext, dir, "", 0))
        ret = visit_contents(visit);
    node_put(visit->ext, visit->node);
    return ret;
}

/* ---- listing ---- */

static bool is_dot(const char *name, size_t length) {
    return name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.'));
}

/* The name as it is shown, with a NUL behind it. */
static int shown_name(struct visit *visit, const struct ext2_dir_entry_2 *entry, char name[NOKEY_MAX], size_t *length) {
    if (node_has(visit->node, EXT4_ENCRYPT_FL) && !is_dot(entry->name, entry->name_len)) {
        *length = nokey_entry(visit->ext, visit->node, entry->name, entry->name_len, name);
        return *length ? 0 : dir_damaged(visit, "the length of an encrypted name is", entry->name_len);
    }
    memcpy(name, entry->name, entry->name_len);
    name[entry->name_len] = '\0';
    *length = entry->name_len;
    return 0;
}

static int tell(struct visit *visit, const struct ext2_dir_entry_2 *entry) {
    static const uint32_t types[] = {
        [EXT2_FT_REG_FILE] = S_IFREG, [EXT2_FT_DIR] = S_IFDIR,   [EXT2_FT_CHRDEV] = S_IFCHR, [EXT2_FT_BLKDEV] = S_IFBLK,
        [EXT2_FT_FIFO] = S_IFIFO,     [EXT2_FT_SOCK] = S_IFSOCK, [EXT2_FT_SYMLINK] = S_IFLNK};
    char name[NOKEY_MAX];
    size_t length;
    bool typed =
        ext2fs_has_feature_filetype(super_of(visit->ext)) && entry->file_type < sizeof(types) / sizeof(types[0]);
    if (is_dot(entry->name, entry->name_len) ||
        changed_entry(visit->ext, visit->node->ino, entry->name, entry->name_len))
        return 0;
    int ret = shown_name(visit, entry, name, &length);
    if (ret < 0)
        return ret;
    return visit->call(visit->opaque, &(struct fs_entry){.name = name,
                                                         .length = length,
                                                         .ino = le32toh(entry->inode),
                                                         .type = typed ? types[entry->file_type] : 0});
}

/* Names that are not on the disk. */
static int tell_changes(struct visit *visit, uint64_t dir) {
    size_t count;
    struct change *const *changes = changes_of(visit->ext, dir, &count);
    int ret = 0;
    for (size_t i = 0; i < count && ret == 0; i++)
        if (changes[i]->ino)
            ret = visit->call(
                visit->opaque,
                &(struct fs_entry){.name = changes[i]->name, .length = changes[i]->length, .ino = changes[i]->ino});
    return ret;
}

int ext_list(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err) {
    struct visit visit = {.ext = ext_of(fs), .entry = tell, .call = call, .opaque = opaque, .err = err};
    int ret = visit_directory(&visit, dir);
    return ret == 0 ? tell_changes(&visit, dir) : ret;
}

/* ---- looking up ---- */

static int compare(struct visit *visit, const struct ext2_dir_entry_2 *entry) {
    char name[NOKEY_MAX];
    size_t length;
    int ret = shown_name(visit, entry, name, &length);
    if (ret < 0 || length != visit->length || memcmp(name, visit->name, length) != 0)
        return ret;
    visit->found = le32toh(entry->inode);
    return 1;
}

int ext_lookup(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err) {
    struct visit visit = {.ext = ext_of(fs), .entry = compare, .name = name, .length = length, .err = err};
    const struct change *change = changed_entry(visit.ext, dir, name, length);
    if (change)
        visit.found = change->ino;
    if (visit.ext->writer && room_lacks(visit.ext, dir, name, length))
        return fail(err, -ENOENT, "No such file or directory");
    int ret = change ? 0 : visit_directory(&visit, dir);
    if (ret < 0)
        return ret;
    if (!visit.found)
        return fail(err, -ENOENT, "No such file or directory");
    *ino = visit.found;
    return 0;
}
