/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tar_attributes.h - a guest's extended attributes, and what its users are called, as a tar archive holds them. */
#ifndef TAR_ATTRIBUTES_H
#define TAR_ATTRIBUTES_H

#include "fs/guest.h"
#include "tar_entry.h"

struct tar_attributes {
    bool xattrs;  /* all, as SCHILY.xattr.NAME */
    bool acls;    /* ACLs as text, SCHILY.acl.access and .default */
    bool selinux; /* labels, RHT.security.selinux */
};

/* Adds the records of a file's attributes. */
int tar_add_attributes(const struct guest_node *node, const struct tar_attributes *wanted, struct tar_text *records,
                       struct img_error *err) IMG_WARN_UNUSED;

/* Names of the guest's own users and groups. */
struct tar_names {
    struct tar_name {
        uint32_t id;
        char *name;
    } * list;
    size_t count;
};
/* Reads /etc/passwd or /etc/group; a file that cannot be read has no names. */
void tar_read_names(struct guest *guest, const char *path, struct tar_names *names);
/* NULL: it has none. */
const char *tar_name_of(const struct tar_names *names, uint32_t id);
void tar_free_names(struct tar_names *names);

#endif
