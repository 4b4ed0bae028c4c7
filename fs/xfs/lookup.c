/* SPDX-License-Identifier: GPL-3.0-or-later */
/* lookup.c - one name in a directory, by its hash where the directory has hashes: in the tail of a single block, or in
 * leaves that a tree leads to. An entry that a hash leads to may still have another name.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "../error.h"
#include "xfs.h"

struct wanted {
    const char *name;
    size_t length;
    uint32_t hash;
    uint64_t ino; /* found */
};

enum { FOUND = 1 };

/* ASCII: the way a caseless filesystem hashes. */
static uint32_t hash_of(const struct xfs *xfs, const char *name, size_t length) {
    char lower[256];
    if (!xfs->geo.caseless)
        return xfs_name_hash(name, length);
    for (size_t i = 0; i < length; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 'a' - 'A' : name[i]);
    return xfs_name_hash(lower, length);
}

static int compare(void *opaque, const struct fs_entry *entry) {
    struct wanted *wanted = opaque;
    if (entry->length != wanted->length || memcmp(entry->name, wanted->name, wanted->length) != 0)
        return 0;
    wanted->ino = entry->ino;
    return FOUND;
}

/* The entry at `address` (in 8 bytes, as if all data blocks lay side by side): FOUND if it is the one. */
static int try_address(struct xfs *xfs, const struct xfs_inode *inode, uint32_t address, struct wanted *wanted,
                       struct img_error *err) {
    uint64_t byte = (uint64_t)address * XFS_DIR_ALIGN;
    uint64_t first = byte / xfs->geo.dir_size * (xfs->geo.dir_size >> xfs->geo.block_log);
    const struct xfs_disk_dir_entry *entry = NULL;
    struct xfs_block *block = NULL;
    uint32_t end = 0, size = 0;
    int ret = xfs_fork_block(xfs, inode, &inode->data, first, xfs->geo.dir_size, XFS_KIND_DIR_DATA, &block, err);
    if (ret < 0)
        return ret;
    if ((ret = xfs_dir_data_end(xfs, block, &end, err)) == 0)
        ret = xfs_dir_entry_at(xfs, block, byte % xfs->geo.dir_size, end, &entry, &size, err);
    if (ret == 0 && entry && entry->length == wanted->length &&
        memcmp(entry->name, wanted->name, wanted->length) == 0) {
        wanted->ino = get64(entry->ino);
        ret = FOUND;
    }
    xfs_block_put(xfs, block);
    return ret;
}

/* All entries with the hash, of which *more says whether they may go on in the next leaf. */
static int try_entries(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_disk_dir_leaf_entry *entries,
                       size_t count, struct wanted *wanted, bool *more, struct img_error *err) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (get32(entries[middle].hash) < wanted->hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < count && get32(entries[low].hash) == wanted->hash; low++) {
        uint32_t address = get32(entries[low].address);
        int ret = address ? try_address(xfs, inode, address, wanted, err) : 0;
        if (ret)
            return ret;
    }
    *more = low == count;
    return 0;
}

/* `block` is the only one of the directory: its own entries lead into it. */
static int try_tail(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_block *block,
                    struct wanted *wanted, struct img_error *err) {
    uint32_t end = 0;
    bool more = false;
    int ret = xfs_dir_data_end(xfs, block, &end, err);
    if (ret < 0)
        return ret;
    size_t count = (block->length - end) / sizeof(struct xfs_disk_dir_leaf_entry) - 1;
    return try_entries(xfs, inode, (const struct xfs_disk_dir_leaf_entry *)(block->bytes + end), count, wanted, &more,
                       err);
}

static int try_leaf(struct xfs *xfs, const struct xfs_inode *inode, const struct xfs_block *leaf, struct wanted *wanted,
                    bool *more, struct img_error *err) {
    const struct xfs_disk_dir_leaf *head = (const struct xfs_disk_dir_leaf *)(leaf->bytes + leaf->shape->header);
    size_t header = xfs_da_header(xfs, sizeof(*head));
    const struct xfs_disk_dir_leaf_entry *entries = (const struct xfs_disk_dir_leaf_entry *)(leaf->bytes + header);
    unsigned count = get16(head->count);
    if (count > (leaf->length - header) / sizeof(*entries))
        return fail(err, -EUCLEAN, "The directory leaf at byte %" PRIu64 " has %u entries", leaf->address, count);
    return try_entries(xfs, inode, entries, count, wanted, more, err);
}

static int try_leaves(struct xfs *xfs, const struct xfs_inode *inode, struct wanted *wanted, struct img_error *err) {
    uint64_t root = XFS_DIR_LEAF_OFFSET >> xfs->geo.block_log;
    struct xfs_block *leaf = NULL;
    uint32_t leaf_block = 0;
    bool more = true;
    int ret = xfs_da_descend(xfs, inode, &inode->data, root, xfs->geo.dir_size, wanted->hash, XFS_KIND_DIR_LEAF, &leaf,
                             &leaf_block, err);
    while (ret == 0 && leaf) {
        ret = try_leaf(xfs, inode, leaf, wanted, &more, err);
        if (ret || !more) {
            xfs_block_put(xfs, leaf);
            break;
        }
        ret = xfs_da_next(xfs, inode, &inode->data, xfs->geo.dir_size, XFS_KIND_DIR_LEAF, &leaf, &leaf_block, err);
    }
    return ret;
}

static int try_blocks(struct xfs *xfs, const struct xfs_inode *inode, struct wanted *wanted, struct img_error *err) {
    struct xfs_block *first = NULL;
    int ret = xfs_fork_block(xfs, inode, &inode->data, 0, xfs->geo.dir_size, XFS_KIND_DIR_DATA, &first, err);
    if (ret < 0)
        return ret;
    bool alone = first->shape->magic == XFS_DIR_BLOCK_MAGIC || first->shape->magic == XFS_DIR_BLOCK_V5_MAGIC;
    if (alone)
        ret = try_tail(xfs, inode, first, wanted, err);
    xfs_block_put(xfs, first);
    return alone ? ret : try_leaves(xfs, inode, wanted, err);
}

int xfs_lookup(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    struct wanted wanted = {.name = name, .length = length};
    struct xfs_inode inode = {0};
    int ret = xfs_inode_get(xfs, dir, &inode, err);
    if (ret < 0)
        return ret;
    if (!S_ISDIR(inode.mode))
        return fail(err, -ENOTDIR, "Inode %" PRIu64 " is not a directory", dir);
    if (length > 0 && length < 256) {
        wanted.hash = hash_of(xfs, name, length);
        ret = inode.data.format == XFS_FORMAT_LOCAL ? xfs_dir_short(xfs, &inode, compare, &wanted, err)
                                                    : try_blocks(xfs, &inode, &wanted, err);
    }
    if (ret < 0)
        return ret;
    if (ret != FOUND)
        return fail(err, -ENOENT, "There is no such file in the directory %" PRIu64, dir);
    *ino = wanted.ino;
    return 0;
}
