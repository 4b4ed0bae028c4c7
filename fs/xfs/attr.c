/* SPDX-License-Identifier: GPL-3.0-or-later */
/* attr.c - the extended attributes of an inode: in the inode, in one leaf, or in the leaves of a tree; long values lie
 * in blocks of their own.
 *
 * What is given is what the kernel's listxattr and getxattr show to root. An ACL is stored as trusted.SGI_ACL_FILE or
 * trusted.SGI_ACL_DEFAULT, and the kernel shows it twice, under that name as it is and as system.posix_acl_access or
 * _default in Linux's own form; so both are given here, the latter first, and who copies attributes takes one of them.
 * Parent pointers and attributes that were not written to the end are hidden.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "xfs.h"

struct walk {
    struct xfs *xfs;
    const struct xfs_inode *inode;
    fs_xattr_call call;
    void *opaque;
    uint8_t *value; /* room for a remote one, made when the first is met */
    struct img_error *err;
};

enum { ACL_VERSION = 2, ACL_USER = 0x02, ACL_GROUP = 0x08, ACL_ENTRIES_MAX = 8191 };

static void put_le(uint8_t **to, uint32_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++, value >>= 8)
        *(*to)++ = (uint8_t)value;
}

/* An ACL in the form of system.posix_acl_*. One that makes no sense is left out, as the kernel gives none. */
static int emit_acl(struct walk *walk, const char *name, const uint8_t *value, size_t length) {
    const struct xfs_disk_acl_entry *entries = (const struct xfs_disk_acl_entry *)(value + sizeof(be32));
    uint32_t count = length >= sizeof(be32) ? get32(*(const be32 *)value) : 0;
    if (count == 0 || count > ACL_ENTRIES_MAX || count > (length - sizeof(be32)) / sizeof(*entries))
        return 0;
    uint8_t *out = malloc(4 + 8 * (size_t)count), *to = out;
    if (!out)
        return fail_no_memory(walk->err);
    put_le(&to, ACL_VERSION, 4);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t tag = get32(entries[i].tag);
        put_le(&to, tag, 2);
        put_le(&to, get16(entries[i].permissions), 2);
        put_le(&to, tag == ACL_USER || tag == ACL_GROUP ? get32(entries[i].id) : UINT32_MAX, 4);
    }
    int ret = walk->call(walk->opaque, name, out, (size_t)(to - out));
    free(out);
    return ret;
}

static bool hidden(uint8_t flags) {
    return flags & (XFS_ATTR_PARENT | XFS_ATTR_INCOMPLETE);
}

static int emit(struct walk *walk, uint8_t flags, const char *name, size_t name_length, const uint8_t *value,
                size_t length) {
    const char *prefix = flags & XFS_ATTR_ROOT ? "trusted." : flags & XFS_ATTR_SECURE ? "security." : "user.";
    char full[sizeof("security.") + 255];
    int ret = 0;
    if (name_length == 0 || memchr(name, 0, name_length))
        return fail(walk->err, -EUCLEAN, "Inode %" PRIu64 " has an attribute without a name", walk->inode->ino);
    snprintf(full, sizeof(full), "%s%.*s", prefix, (int)name_length, name);
    if (strcmp(full, "trusted.SGI_ACL_FILE") == 0)
        ret = emit_acl(walk, "system.posix_acl_access", value, length);
    else if (strcmp(full, "trusted.SGI_ACL_DEFAULT") == 0)
        ret = emit_acl(walk, "system.posix_acl_default", value, length);
    return ret ? ret : walk->call(walk->opaque, full, value, length);
}

/* ---- in the inode ---- */

static int walk_short(struct walk *walk) {
    const struct xfs_fork *fork = &walk->inode->attr;
    const struct xfs_disk_attr_short *head = (const struct xfs_disk_attr_short *)fork->bytes;
    const uint8_t *at = fork->bytes + sizeof(*head);
    size_t left = fork->length - sizeof(*head);
    for (unsigned i = 0; i < head->count; i++) {
        const struct xfs_disk_attr_short_entry *entry = (const struct xfs_disk_attr_short_entry *)at;
        size_t size = left >= sizeof(*entry) ? sizeof(*entry) + entry->name_length + entry->value_length : SIZE_MAX;
        if (size > left)
            return fail(walk->err, -EUCLEAN, "Attribute %u of inode %" PRIu64 " is cut off", i, walk->inode->ino);
        if (!hidden(entry->flags)) {
            int ret = emit(walk, entry->flags, entry->name, entry->name_length,
                           (const uint8_t *)entry->name + entry->name_length, entry->value_length);
            if (ret)
                return ret;
        }
        at += size;
        left -= size;
    }
    return 0;
}

/* ---- in leaves ---- */

/* v5: each block of a value begins with a header, which tells how much of the value it has. */
static int take_part(struct walk *walk, const struct xfs_block *block, uint32_t done, uint32_t length, uint32_t *part) {
    const struct xfs_disk_remote *head = (const struct xfs_disk_remote *)block->bytes;
    uint32_t skip = walk->xfs->geo.v5 ? sizeof(*head) : 0, room = block->length - skip;
    *part = length - done < room ? length - done : room;
    if (skip && (get32(head->offset) != done || get32(head->bytes) != *part))
        return fail(walk->err, -EUCLEAN, "An attribute's value at byte %" PRIu64 " has %u bytes for byte %u",
                    block->address, get32(head->bytes), get32(head->offset));
    memcpy(walk->value + done, block->bytes + skip, *part);
    return 0;
}

static int read_remote(struct walk *walk, uint64_t block, uint32_t length) {
    struct xfs *xfs = walk->xfs;
    if (length > XFS_ATTR_VALUE_MAX)
        return fail(walk->err, -EUCLEAN, "Inode %" PRIu64 " has an attribute of %u bytes", walk->inode->ino, length);
    if (!walk->value && !(walk->value = malloc(XFS_ATTR_VALUE_MAX)))
        return fail_no_memory(walk->err);
    for (uint32_t done = 0, part; done < length; done += part, block++) {
        struct xfs_block *found = NULL;
        int ret = xfs_fork_block(xfs, walk->inode, &walk->inode->attr, block, xfs->geo.block_size,
                                 xfs->geo.v5 ? XFS_KIND_ATTR_REMOTE : XFS_KIND_RAW, &found, walk->err);
        if (ret < 0)
            return ret;
        ret = take_part(walk, found, done, length, &part);
        xfs_block_put(xfs, found);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int walk_entry(struct walk *walk, const struct xfs_block *leaf, const struct xfs_disk_attr_entry *entry) {
    uint32_t offset = get16(entry->name_offset), room = offset < leaf->length ? leaf->length - offset : 0;
    const struct xfs_disk_attr_local *local = (const struct xfs_disk_attr_local *)(leaf->bytes + offset);
    const struct xfs_disk_attr_remote *remote = (const struct xfs_disk_attr_remote *)local;
    if (hidden(entry->flags))
        return 0;
    bool is_local = entry->flags & XFS_ATTR_LOCAL;
    size_t size = is_local ? sizeof(*local) : sizeof(*remote);
    if (room >= size)
        size += is_local ? local->name_length + get16(local->value_length) : remote->name_length;
    if (room < size)
        return fail(walk->err, -EUCLEAN, "An attribute of inode %" PRIu64 " lies at byte %u of %u", walk->inode->ino,
                    offset, leaf->length);
    if (is_local)
        return emit(walk, entry->flags, local->name, local->name_length,
                    (const uint8_t *)local->name + local->name_length, get16(local->value_length));
    uint32_t length = get32(remote->value_length);
    int ret = read_remote(walk, get32(remote->value_block), length);
    return ret ? ret : emit(walk, entry->flags, remote->name, remote->name_length, walk->value, length);
}

static int walk_leaf(struct walk *walk, const struct xfs_block *leaf) {
    const struct xfs_disk_attr_leaf *head = (const struct xfs_disk_attr_leaf *)(leaf->bytes + leaf->shape->header);
    size_t header = xfs_da_header(walk->xfs, sizeof(*head));
    const struct xfs_disk_attr_entry *entries = (const struct xfs_disk_attr_entry *)(leaf->bytes + header);
    unsigned count = get16(head->count);
    if (count > (leaf->length - header) / sizeof(*entries))
        return fail(walk->err, -EUCLEAN, "The attribute leaf at byte %" PRIu64 " has %u entries", leaf->address, count);
    for (unsigned i = 0; i < count; i++) {
        int ret = walk_entry(walk, leaf, &entries[i]);
        if (ret)
            return ret;
    }
    return 0;
}

static int walk_leaves(struct walk *walk) {
    struct xfs *xfs = walk->xfs;
    const struct xfs_fork *fork = &walk->inode->attr;
    struct xfs_block *leaf = NULL;
    struct xfs_extent extent = {0};
    uint32_t leaf_block = 0;
    int ret = xfs_map(xfs, walk->inode, fork, 0, &extent, walk->err);
    if (ret < 0 || extent.hole) /* a fork whose last attribute was removed */
        return ret;
    ret = xfs_da_descend(xfs, walk->inode, fork, 0, xfs->geo.block_size, 0, XFS_KIND_ATTR_LEAF, &leaf, &leaf_block,
                         walk->err);
    if (ret == 0 && get32(((const struct xfs_disk_da_info *)leaf->bytes)->back) != 0) {
        ret = fail(walk->err, -EUCLEAN, "The first attribute leaf of inode %" PRIu64 " has one before it",
                   walk->inode->ino);
        xfs_block_put(xfs, leaf);
    }
    while (ret == 0 && leaf) {
        ret = walk_leaf(walk, leaf);
        if (ret) {
            xfs_block_put(xfs, leaf);
            break;
        }
        ret =
            xfs_da_next(xfs, walk->inode, fork, xfs->geo.block_size, XFS_KIND_ATTR_LEAF, &leaf, &leaf_block, walk->err);
    }
    return ret;
}

int xfs_xattrs(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    struct xfs_inode inode = {0};
    int ret = xfs_inode_get(xfs, ino, &inode, err);
    if (ret < 0 || !inode.attr.length)
        return ret;
    struct walk walk = {.xfs = xfs, .inode = &inode, .call = call, .opaque = opaque, .err = err};
    ret = inode.attr.format == XFS_FORMAT_LOCAL ? walk_short(&walk) : walk_leaves(&walk);
    free(walk.value);
    return ret;
}
