/* SPDX-License-Identifier: GPL-3.0-or-later */
/* xattr.c - extended attributes: behind the fields of an inode, in a block of their own, or with a value in an inode of
 * its own.
 *
 * Both places hold entries that grow upwards and values that grow downwards. Names are kept without their prefix, ACLs
 * in a form of the disk; they come out as getxattr gives them. What has no such name (the rest of inline data, the
 * context of an encrypted file) stays inside.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ext.h"

enum {
    INDEX_USER = 1,
    INDEX_ACL_ACCESS,
    INDEX_ACL_DEFAULT,
    INDEX_TRUSTED,
    INDEX_SECURITY = 6,
    INDEX_SYSTEM,
    INDEX_HURD = 10
};

#define VALUE_MAX (64u << 10) /* XATTR_SIZE_MAX of Linux */
#define LARGE_MAX (4u << 20)  /* bytes of all values that lie in inodes: a few inodes could be named again and again */

/* A place with attributes: `size` bytes, entries from `first` on, values at offsets from `values`. */
struct place {
    const unsigned char *bytes;
    size_t size, first, values;
};

struct visit {
    struct ext *ext;
    struct node *node;
    int (*entry)(struct visit *visit, const struct place *place, const struct ext2_ext_attr_entry *entry);
    fs_xattr_call call;
    void *opaque;
    const unsigned char *rest; /* of inline data */
    size_t length;
    size_t large; /* bytes of values in inodes, so far */
    struct img_error *err;
};

static int damaged(struct visit *visit, const char *what, uint64_t value) {
    return fail(visit->err, -EUCLEAN, "The attributes of inode %" PRIu64 " are damaged: %s %" PRIu64, visit->node->ino,
                what, value);
}

/* ---- the entries of one place ---- */

static int check_value(struct visit *visit, const struct place *place, const struct ext2_ext_attr_entry *entry) {
    uint32_t size = le32toh(entry->e_value_size), offset = le16toh(entry->e_value_offs);
    if (entry->e_value_inum)
        return 0;
    if (place->values + offset > place->size || size > place->size - place->values - offset)
        return damaged(visit, "a value reaches out of its place, from offset", offset);
    return 0;
}

static int visit_place(struct visit *visit, const struct place *place) {
    for (size_t at = place->first;;) {
        const struct ext2_ext_attr_entry *entry = (const struct ext2_ext_attr_entry *)(place->bytes + at);
        uint32_t end;
        if (place->size - at < sizeof(end))
            return damaged(visit, "no entry is the last, up to offset", at);
        memcpy(&end, entry, sizeof(end));
        if (end == 0)
            return 0;
        if (place->size - at < sizeof(*entry) || place->size - at < EXT2_EXT_ATTR_LEN(entry->e_name_len))
            return damaged(visit, "an entry reaches out of its place, from offset", at);
        int ret = check_value(visit, place, entry);
        if (ret == 0)
            ret = visit->entry(visit, place, entry);
        if (ret != 0)
            return ret;
        at += EXT2_EXT_ATTR_LEN(entry->e_name_len);
    }
}

/* Behind the fields that the inode says it has. */
static int visit_inode(struct visit *visit) {
    const struct ext2_inode_large *inode = visit->node->inode;
    size_t size = visit->ext->inode_size, begin = EXT2_GOOD_OLD_INODE_SIZE;
    uint32_t magic;
    if (size == EXT2_GOOD_OLD_INODE_SIZE)
        return 0;
    begin += inode->i_extra_isize;
    if (begin > size || begin % 4 != 0)
        return damaged(visit, "the inode's extra size is", inode->i_extra_isize);
    if (size - begin < sizeof(magic))
        return 0;
    memcpy(&magic, (const unsigned char *)inode + begin, sizeof(magic));
    if (le32toh(magic) != EXT2_EXT_ATTR_MAGIC)
        return 0;
    begin += sizeof(magic);
    return visit_place(
        visit, &(struct place){.bytes = (const unsigned char *)inode, .size = size, .first = begin, .values = begin});
}

static bool checksum_right(const struct ext *ext, const unsigned char *block, uint64_t number) {
    const struct ext2_ext_attr_header *header = (const struct ext2_ext_attr_header *)block;
    size_t at = offsetof(struct ext2_ext_attr_header, h_checksum), behind = at + sizeof(header->h_checksum);
    uint64_t place = htole64(number);
    uint32_t zero = 0, sum;
    if (!ext->checksums)
        return true;
    sum = ext2fs_crc32c_le(ext->lib->csum_seed, (const unsigned char *)&place, sizeof(place));
    sum = ext2fs_crc32c_le(sum, block, at);
    sum = ext2fs_crc32c_le(sum, (const unsigned char *)&zero, sizeof(zero));
    sum = ext2fs_crc32c_le(sum, block + behind, ext->block_size - behind);
    return sum == le32toh(header->h_checksum);
}

static int visit_block_of(struct visit *visit, unsigned char *block, uint64_t number) {
    const struct ext2_ext_attr_header *header = (const struct ext2_ext_attr_header *)block;
    int ret = ext_read_block(visit->ext, visit->node->ino, number, block, visit->err);
    if (ret < 0)
        return ret;
    if (le32toh(header->h_magic) != EXT2_EXT_ATTR_MAGIC)
        return damaged(visit, "the magic number of their block is", le32toh(header->h_magic));
    if (!checksum_right(visit->ext, block, number))
        return damaged(visit, "the checksum is wrong in block", number);
    return visit_place(visit,
                       &(struct place){.bytes = block, .size = visit->ext->block_size, .first = sizeof(*header)});
}

static int visit_block(struct visit *visit) {
    const struct ext2_inode_large *inode = visit->node->inode;
    uint64_t number = inode->i_file_acl;
    if (ext2fs_has_feature_64bit(super_of(visit->ext)))
        number |= (uint64_t)inode->osd2.linux2.l_i_file_acl_high << 32;
    if (number == 0)
        return 0;
    unsigned char *block = malloc(visit->ext->block_size);
    int ret = block ? visit_block_of(visit, block, number) : fail_no_memory(visit->err);
    free(block);
    return ret;
}

/* ---- inline data ---- */

static int find_data(struct visit *visit, const struct place *place, const struct ext2_ext_attr_entry *entry) {
    if (entry->e_name_index != INDEX_SYSTEM || entry->e_name_len != 4 || memcmp(entry + 1, "data", 4) != 0)
        return 0;
    if (entry->e_value_inum)
        return damaged(visit, "inline data lie in inode", le32toh(entry->e_value_inum));
    visit->rest = place->bytes + place->values + le16toh(entry->e_value_offs);
    visit->length = le32toh(entry->e_value_size);
    return 1;
}

int xattr_inline_rest(struct ext *ext, struct node *node, const unsigned char **rest, size_t *length,
                      struct img_error *err) {
    struct visit visit = {.ext = ext, .node = node, .entry = find_data, .err = err};
    int ret = visit_inode(&visit);
    *rest = visit.rest;
    *length = visit.length;
    return ret < 0 ? ret : 0;
}

/* ---- names and values as the kernel shows them ---- */

static uint32_t get32(const unsigned char *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void put32(unsigned char *bytes, uint32_t value) {
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
}

/* An ACL of the disk: its version 1, then a tag and permissions for each entry, with an id for named users and groups
 * alone. Outside: version 2, and an id everywhere. */
static int tell_acl(struct visit *visit, const char *name, const unsigned char *value, size_t size) {
    enum { USER = 2, GROUP = 8, WITHOUT_ID = 0x01 | 0x04 | 0x10 | 0x20 };
    if (size < 4 || get32(value) != 1)
        return damaged(visit, "the version of an ACL is", size < 4 ? 0 : get32(value));
    unsigned char *acl = malloc(4 + 2 * size);
    size_t length = 4;
    int ret = acl ? 0 : fail_no_memory(visit->err);
    if (acl)
        put32(acl, 2);
    for (size_t at = 4, step; at < size && ret == 0; at += step, length += 8) {
        unsigned tag = size - at < 4 ? 0 : value[at] | value[at + 1] << 8;
        step = tag == USER || tag == GROUP ? 8 : 4;
        if (size - at < step || (step == 4 && (tag & (tag - 1) || !(tag & WITHOUT_ID)))) {
            ret = damaged(visit, "the kind of an ACL's entry is", tag);
            break;
        }
        memcpy(acl + length, value + at, 4);
        put32(acl + length + 4, step == 8 ? get32(value + at + 4) : UINT32_MAX);
    }
    if (ret == 0)
        ret = visit->call(visit->opaque, name, acl, length);
    free(acl);
    return ret;
}

static int tell_value(struct visit *visit, const struct ext2_ext_attr_entry *entry, const unsigned char *value,
                      size_t size) {
    static const char *const prefixes[] = {
        [INDEX_USER] = "user.", [INDEX_TRUSTED] = "trusted.", [INDEX_SECURITY] = "security.", [INDEX_HURD] = "gnu."};
    char name[16 + 256], *end;
    if (entry->e_name_index == INDEX_ACL_ACCESS)
        return tell_acl(visit, "system.posix_acl_access", value, size);
    if (entry->e_name_index == INDEX_ACL_DEFAULT)
        return tell_acl(visit, "system.posix_acl_default", value, size);
    if (entry->e_name_index >= sizeof(prefixes) / sizeof(prefixes[0]) || !prefixes[entry->e_name_index])
        return 0;
    if (memchr(entry + 1, '\0', entry->e_name_len))
        return damaged(visit, "a name holds a NUL, and its index is", entry->e_name_index);
    end = stpcpy(name, prefixes[entry->e_name_index]);
    memcpy(end, entry + 1, entry->e_name_len);
    end[entry->e_name_len] = '\0';
    return visit->call(visit->opaque, name, value, size);
}

static int read_value(struct visit *visit, const struct ext2_ext_attr_entry *entry, unsigned char *value) {
    struct ext *ext = visit->ext;
    size_t size = le32toh(entry->e_value_size), got = 0;
    struct node *node;
    int ret = node_get(ext, le32toh(entry->e_value_inum), &node, visit->err);
    if (ret < 0)
        return ret == -ENOENT ? damaged(visit, "a value lies in an inode not in use,", le32toh(entry->e_value_inum))
                              : ret;
    if (!S_ISREG(node->inode->i_mode) || !node_has(node, EXT4_EA_INODE_FL) || node->size != size)
        ret = damaged(visit, "a value does not lie where it should, in inode", node->ino);
    else
        ret = node_read(ext, node, value, size, 0, &got, visit->err);
    node_put(ext, node);
    return ret;
}

static int tell(struct visit *visit, const struct place *place, const struct ext2_ext_attr_entry *entry) {
    size_t size = le32toh(entry->e_value_size);
    if (!entry->e_value_inum)
        return tell_value(visit, entry, place->bytes + place->values + le16toh(entry->e_value_offs), size);
    if (!ext2fs_has_feature_ea_inode(super_of(visit->ext)) || size > VALUE_MAX || (visit->large += size) > LARGE_MAX)
        return damaged(visit, "a value in an inode has the size", size);
    unsigned char *value = calloc(1, size + 1);
    if (!value)
        return fail_no_memory(visit->err);
    int ret = read_value(visit, entry, value);
    if (ret == 0)
        ret = tell_value(visit, entry, value, size);
    free(value);
    return ret;
}

int ext_xattrs(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err) {
    struct ext *ext = ext_of(fs);
    struct visit visit = {.ext = ext, .entry = tell, .call = call, .opaque = opaque, .err = err};
    int ret = node_get(ext, ino, &visit.node, err);
    if (ret < 0)
        return ret;
    ret = visit_inode(&visit);
    if (ret == 0)
        ret = visit_block(&visit);
    node_put(ext, visit.node);
    return ret;
}
