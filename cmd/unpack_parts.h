/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unpack_parts.h - what the files that unpack an archive share.
 *
 *   unpack.c   the archive, entry by entry     unpack_links.c   entries that name other files
 */
#ifndef UNPACK_PARTS_H
#define UNPACK_PARTS_H

#include "fs/vfs_write.h"
#include "libarchive.h"
#include "seen.h"
#include "unpack.h"

#define UNPACK_PIECE (1u << 20) /* of data, on their way into a file */

struct late_directory {
    struct guest_node node;
    struct fs_attributes attributes;
};

struct late_links {
    struct late_link *list;
    size_t count, room;
    struct seen places; /* the files that stand in their places; number: which link, from 1 on */
};

struct unpacking {
    struct guest *guest;
    struct archive *archive;
    bool show;
    const char *dir;          /* the directory of the guest, without '/' at its end */
    struct guest_node parent; /* the directory of the last entry, */
    char *parent_path;        /* ... and its path; NULL: not known */
    struct late_directory *late;
    size_t nlate, room;
    struct late_links links;
    size_t done, durable; /* entries: put; and on the disk already, since a filesystem had to commit */
    uint64_t commits;     /* of all filesystems, so far */
    struct img_error err; /* without the entry's own path, which is put in front at the end */
};

static inline const struct fs_write_ops *write_ops(const struct guest_node *node) {
    return node->fs->write_ops;
}

/* ---- unpack.c ---- */

/* Is one of the parts of the path ".."? */
bool unpack_climbs(const char *path);
/* "DIR/NAME" of the guest for a name in the archive; NULL: the name has a ".." in it. The caller frees. */
char *unpack_place(const struct unpacking *u, const char *name);
/* One that cannot be kept there is left out, and said if it is only too long. `path`: the file's. */
int unpack_xattr(struct unpacking *u, const struct guest_node *node, const char *path, const char *name,
                 const void *value, size_t length);
/* All but the access ACL. */
int unpack_xattrs(struct unpacking *u, const struct guest_node *node, const char *path, struct archive_entry *entry);

/* ---- unpack_links.c ---- */

/* A hard link, or a copy where the filesystem cannot have one. `path`, `name`: the new name, the whole and its end. */
int unpack_hardlink(struct unpacking *u, struct archive_entry *entry, const struct guest_node *parent, const char *path,
                    const char *name);
/* Must the symbolic link wait for the end? */
bool unpack_is_late(const struct unpacking *u, const char *target);
int unpack_late_symlink(struct unpacking *u, struct archive_entry *entry, const struct fs_new *link,
                        const struct guest_node *parent, const char *path, const char *name);
/* Makes what had to wait. */
int unpack_finish_links(struct unpacking *u);
void unpack_free_links(struct late_links *links);

#endif
