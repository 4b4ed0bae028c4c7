/* SPDX-License-Identifier: GPL-3.0-or-later */
/* acl.h - POSIX ACLs of tar archives as the extended attributes that hold them in a filesystem. */
#ifndef ACL_H
#define ACL_H

#include <stddef.h>
#include <stdint.h>

struct archive_entry;

/* The value of system.posix_acl_access (`type` ARCHIVE_ENTRY_ACL_TYPE_ACCESS) or system.posix_acl_default of an entry,
 * in the form of setxattr(2). NULL: it has none. The caller frees. */
unsigned char *acl_of_entry(struct archive_entry *entry, int type, size_t *length);
/* The permissions that go with an access ACL: those of the group are its mask. */
uint32_t acl_mode(uint32_t mode, const unsigned char *acl, size_t length);

#endif
