/* SPDX-License-Identifier: GPL-3.0-or-later */
/* acl.c - see acl.h. The form is that of linux/posix_acl_xattr.h: a version, and for each entry a tag, permissions and
 * an id, sorted, all little-endian. */
#include "acl.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "libarchive.h"
#include "report.h"

#define VERSION 2
#define NO_ID UINT32_MAX

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct acl_entry {
    uint16_t tag, permissions;
    uint32_t id;
};

static uint16_t tag_of(int tag) {
    switch (tag) {
    case ARCHIVE_ENTRY_ACL_USER:
        return USER;
    case ARCHIVE_ENTRY_ACL_USER_OBJ:
        return USER_OBJ;
    case ARCHIVE_ENTRY_ACL_GROUP:
        return GROUP;
    case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
        return GROUP_OBJ;
    case ARCHIVE_ENTRY_ACL_MASK:
        return MASK;
    default:
        return OTHER;
    }
}

static int by_tag(const void *a, const void *b) {
    const struct acl_entry *left = a, *right = b;
    if (left->tag != right->tag)
        return left->tag < right->tag ? -1 : 1;
    return (left->id > right->id) - (left->id < right->id);
}

unsigned char *acl_of_entry(struct archive_entry *entry, int type, size_t *length) {
    int count = la.archive_entry_acl_reset(entry, type), found, permissions, tag, id;
    const char *name;
    if (count <= 0)
        return NULL;
    struct acl_entry *list = memory((size_t)count + 1, sizeof(list[0]));
    size_t n = 0;
    while (n < (size_t)count &&
           la.archive_entry_acl_next(entry, type, &found, &permissions, &tag, &id, &name) == ARCHIVE_OK)
        if (found == type) {
            uint16_t kind = tag_of(tag);
            list[n++] = (struct acl_entry){.tag = kind,
                                           .permissions = (uint16_t)(permissions & 7),
                                           .id = kind == USER || kind == GROUP ? (uint32_t)id : NO_ID};
        }
    qsort(list, n, sizeof(list[0]), by_tag);
    unsigned char *value = memory(1, 4 + 8 * n);
    uint32_t version = htole32(VERSION);
    memcpy(value, &version, sizeof(version));
    for (size_t i = 0; i < n; i++) {
        uint16_t words[2] = {htole16(list[i].tag), htole16(list[i].permissions)};
        uint32_t number = htole32(list[i].id);
        memcpy(value + 4 + 8 * i, words, sizeof(words));
        memcpy(value + 8 + 8 * i, &number, sizeof(number));
    }
    free(list);
    *length = 4 + 8 * n;
    return value;
}

uint32_t acl_mode(uint32_t mode, const unsigned char *acl, size_t length) {
    for (size_t at = 4; at + 8 <= length; at += 8) {
        uint16_t words[2];
        memcpy(words, acl + at, sizeof(words));
        if (le16toh(words[0]) == MASK)
            return (mode & ~070u) | (uint32_t)(le16toh(words[1]) & 7) << 3;
    }
    return mode;
}
