/* SPDX-License-Identifier: GPL-3.0-or-later */
/* data.c - contents: of files, of links, of what lies in the inode itself.
 *
 * A run of blocks is read at once, into the caller's buffer. A size is a claim like any other: it bounds what is given
 * out and nothing is allocated by it. Inline data are cut at the size, whatever the inode has behind it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ext.h"

/* ---- bytes of an inode ---- */

static int read_inline(struct ext *ext, struct node *node, unsigned char *buffer, size_t count, uint64_t offset,
                       struct img_error *err) {
    const unsigned char *rest;
    size_t first = sizeof(node->inode->i_block), length;
    int ret = xattr_inline_rest(ext, node, &rest, &length, err);
    if (ret < 0)
        return ret;
    if (offset > first + length || count > first + length - offset)
        return fail(err, -EUCLEAN, "Inode %" PRIu64 " has a size of %" PRIu64 " and only %zu bytes in it", node->ino,
                    node->size, first + length);
    if (offset < first) {
        size_t piece = first - offset < count ? first - offset : count;
        memcpy(buffer, node_block(node) + offset, piece);
        buffer += piece;
        offset += piece;
        count -= piece;
    }
    if (count > 0)
        memcpy(buffer, rest + (offset - first), count);
    return 0;
}

static int read_blocks(struct ext *ext, struct node *node, unsigned char *buffer, size_t count, uint64_t offset,
                       struct img_error *err) {
    while (count > 0) {
        struct run run;
        uint64_t inside = offset & (ext->block_size - 1);
        int ret = map_find(ext, node, offset >> ext->block_bits, &run, err);
        if (ret < 0)
            return ret;
        size_t piece = count;
        if (run.length <= (inside + count) >> ext->block_bits)
            piece = (run.length << ext->block_bits) - inside;
        if (run.physical)
            ret = ext_io_read(ext->io, buffer, piece, (run.physical << ext->block_bits) + inside, err);
        else
            memset(buffer, 0, piece);
        if (ret < 0)
            return ret;
        buffer += piece;
        offset += piece;
        count -= piece;
    }
    return 0;
}

int node_read(struct ext *ext, struct node *node, void *buffer, size_t count, uint64_t offset, size_t *got,
              struct img_error *err) {
    uint64_t left = offset < node->size ? node->size - offset : 0;
    if (count > left)
        count = left;
    *got = count;
    if (count == 0)
        return 0;
    if (node_has(node, EXT4_INLINE_DATA_FL))
        return read_inline(ext, node, buffer, count, offset, err);
    return read_blocks(ext, node, buffer, count, offset, err);
}

/* ---- files ---- */

static int get_file(struct ext *ext, uint64_t ino, struct node **node, struct img_error *err) {
    int ret = node_get(ext, ino, node, err);
    if (ret < 0)
        return ret;
    if (S_ISDIR((*node)->inode->i_mode))
        ret = fail(err, -EISDIR, "Inode %" PRIu64 " is a directory", ino);
    else if (!S_ISREG((*node)->inode->i_mode))
        ret = fail(err, -EINVAL, "Inode %" PRIu64 " is not a regular file", ino);
    else if (node_has(*node, EXT4_ENCRYPT_FL))
        ret = fail(err, -ENOKEY, "The file is encrypted and there is no key for it");
    if (ret < 0)
        node_put(ext, *node);
    return ret;
}

int ext_read(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
             struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct node *node;
    int ret = get_file(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    ret = node_read(ext, node, buffer, count, offset, got, err);
    node_put(ext, node);
    return ret;
}

static int next_run(struct ext *ext, struct node *node, uint64_t offset, uint64_t *start, uint64_t *length,
                    struct img_error *err) {
    uint64_t block = offset >> ext->block_bits, end = ((node->size - 1) >> ext->block_bits) + 1;
    struct run run;
    do {
        int ret = map_find(ext, node, block, &run, err);
        if (ret < 0)
            return ret;
        if (!run.physical)
            block += run.length;
    } while (!run.physical && block < end);
    if (!run.physical)
        return fail(err, -ENXIO, "No data behind byte %" PRIu64, offset);
    uint64_t at = block << ext->block_bits, to = at + (run.length << ext->block_bits);
    *start = at > offset ? at : offset;
    *length = (to < node->size ? to : node->size) - *start;
    return 0;
}

int ext_next_data(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t *start, uint64_t *length,
                  struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct node *node;
    int ret = get_file(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    if (offset >= node->size)
        ret = fail(err, -ENXIO, "No data behind byte %" PRIu64, offset);
    else if (node_has(node, EXT4_INLINE_DATA_FL)) {
        *start = offset;
        *length = node->size - offset;
    } else
        ret = next_run(ext, node, offset, start, length, err);
    node_put(ext, node);
    return ret;
}

/* ---- links ---- */

/* A short target lies in the inode, where a map would be: it has no blocks but that of its attributes. */
static bool lies_in_inode(const struct ext *ext, const struct node *node) {
    const struct ext2_inode_large *inode = node->inode;
    unsigned cluster_bits = ext->block_bits;
    if (ext2fs_has_feature_bigalloc(super_of(ext)))
        cluster_bits = 10 + super_of(ext)->s_log_cluster_size;
    uint32_t attributes = inode->i_file_acl ? 1u << (cluster_bits - 9) : 0;
    return inode->i_blocks == attributes;
}

/* The target's bytes as they lie on the disk. */
static int read_target(struct ext *ext, struct node *node, char *target, size_t size, struct img_error *err) {
    size_t got;
    if (node->size == 0 || node->size > ext->block_size)
        return fail(err, -EUCLEAN, "The symbolic link of inode %" PRIu64 " has a target of %" PRIu64 " bytes",
                    node->ino, node->size);
    if (size > node->size)
        size = node->size;
    if (node_has(node, EXT4_INLINE_DATA_FL) || !lies_in_inode(ext, node))
        return node_read(ext, node, target, size, 0, &got, err);
    if (node->size >= sizeof(node->inode->i_block))
        return fail(err, -EUCLEAN, "The symbolic link of inode %" PRIu64 " has a target of %" PRIu64 " bytes in it",
                    node->ino, node->size);
    memcpy(target, node_block(node), size);
    return 0;
}

static int read_encrypted(struct ext *ext, struct node *node, char text[NOKEY_MAX], size_t *length,
                          struct img_error *err) {
    unsigned char *bytes = malloc(ext->block_size);
    int ret = bytes ? read_target(ext, node, (char *)bytes, ext->block_size, err) : fail_no_memory(err);
    if (ret == 0 && !(*length = nokey_target(bytes, node->size, text)))
        ret = fail(err, -EUCLEAN, "The encrypted target of inode %" PRIu64 " is damaged", node->ino);
    free(bytes);
    return ret;
}

int target_length(struct ext *ext, struct node *node, uint64_t *length, struct img_error *err) {
    char text[NOKEY_MAX];
    size_t shown = node->size;
    int ret = node_has(node, EXT4_ENCRYPT_FL) ? read_encrypted(ext, node, text, &shown, err) : 0;
    *length = shown;
    return ret;
}

static int get_target(struct ext *ext, struct node *node, char *target, size_t size, size_t *length,
                      struct img_error *err) {
    char text[NOKEY_MAX];
    if (!S_ISLNK(node->inode->i_mode))
        return fail(err, -EINVAL, "Inode %" PRIu64 " is not a symbolic link", node->ino);
    *length = node->size;
    if (!node_has(node, EXT4_ENCRYPT_FL))
        return read_target(ext, node, target, size, err);
    int ret = read_encrypted(ext, node, text, length, err);
    if (ret == 0)
        memcpy(target, text, size < *length ? size : *length);
    return ret;
}

int ext_readlink(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct node *node;
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    ret = get_target(ext, node, target, size, length, err);
    node_put(ext, node);
    return ret;
}
