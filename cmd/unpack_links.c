/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unpack_links.c - links in an archive (unpack_parts.h).
 *
 * A symbolic link that leads out of the directory could send later entries of its archive there. So it is made at the
 * end, and until then an empty file that nobody may read stands in its place, as GNU tar has it: no way goes through
 * that. It becomes the link only if it is there still; an entry of the same name may have taken its place. A hard link
 * to one that waits has to wait too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "report.h"
#include "unpack_parts.h"

struct late_link {
    struct guest_node parent;
    const char *path; /* owned */
    const char *name; /* the end of the path */
    uint64_t ino;     /* of what stands in its place, and then its own */
    bool made;
    size_t of;                        /* of which it is another name: its place in the list, or this one's own */
    struct fs_new link;               /* its target is owned */
    struct archive_entry *attributes; /* NULL: it has none */
};

/* ---- symbolic links that wait ---- */

bool unpack_is_late(const struct unpacking *u, const char *target) {
    if (*u->dir == '\0') /* nothing leads out of the guest */
        return false;
    return target && (target[0] == '/' || unpack_climbs(target));
}

/* An empty file that stands for the link. */
static int hold_place(struct unpacking *u, const struct late_link *link) {
    const struct fs_new file = {.mode = S_IFREG, .replace = true, .atime = link->link.atime, .mtime = link->link.mtime};
    struct guest_node node = link->parent;
    bool is_new;
    int ret = write_ops(&node)->create(node.fs, node.ino, link->name, strlen(link->name), &file, &node.ino, &u->err);
    if (ret < 0)
        return ret;
    struct late_links *links = &u->links;
    if (links->count == links->room) {
        links->room = links->room ? 2 * links->room : 64;
        links->list = realloc(links->list, links->room * sizeof(links->list[0]));
        if (!links->list)
            out_of_memory();
    }
    struct late_link *kept = &links->list[links->count++];
    *kept = *link;
    kept->ino = node.ino;
    kept->path = text_copy(link->path);
    kept->name = kept->path + (link->name - link->path);
    seen_file(&links->places, &node, &is_new)->number = links->count;
    return 0;
}

int unpack_late_symlink(struct unpacking *u, struct archive_entry *entry, const struct fs_new *link,
                        const struct guest_node *parent, const char *path, const char *name) {
    struct late_link late = {.parent = *parent, .path = path, .name = name, .of = u->links.count, .link = *link};
    int ret = hold_place(u, &late);
    if (ret < 0)
        return ret;
    struct late_link *kept = &u->links.list[u->links.count - 1];
    kept->link.target = text_copy(link->target);
    if (la.archive_entry_xattr_count(entry) > 0)
        kept->attributes = la.archive_entry_clone(entry);
    return 0;
}

/* Does what was put there for the link have its name still? */
static bool holds_place(struct unpacking *u, const struct late_link *link) {
    struct guest_node there;
    struct fs_stat stat;
    return guest_step(u->guest, &link->parent, link->name, strlen(link->name), &there, NULL) == 0 &&
           there.fs == link->parent.fs && there.ino == link->ino && guest_stat(&there, &stat, NULL) == 0 &&
           stat.mode == S_IFREG && stat.size == 0;
}

/* The link that waits behind this file; NULL: it is no link. */
static struct late_link *waits_behind(struct unpacking *u, const struct guest_node *node) {
    bool is_new;
    if (u->links.count == 0)
        return NULL;
    size_t number = seen_file(&u->links.places, node, &is_new)->number;
    struct late_link *link = number > 0 ? &u->links.list[number - 1] : NULL;
    return link && holds_place(u, link) ? link : NULL;
}

static int make_link(struct unpacking *u, struct late_link *link) {
    struct guest_node node = link->parent;
    const struct late_link *first = &u->links.list[link->of];
    size_t length = strlen(link->name);
    int ret;
    if (first != link) {
        if (!first->made)
            return 0;
        ret = write_ops(&node)->unlink(node.fs, node.ino, link->name, length, &u->err);
        return ret < 0 ? ret : write_ops(&node)->link(node.fs, node.ino, link->name, length, first->ino, &u->err);
    }
    ret = write_ops(&node)->create(node.fs, node.ino, link->name, length, &link->link, &node.ino, &u->err);
    if (ret == 0 && link->attributes)
        ret = unpack_xattrs(u, &node, link->path, link->attributes);
    link->ino = node.ino;
    link->made = true;
    return ret;
}

int unpack_finish_links(struct unpacking *u) {
    int ret = 0;
    for (size_t i = 0; i < u->links.count && ret == 0; i++)
        if (holds_place(u, &u->links.list[i]))
            ret = make_link(u, &u->links.list[i]);
    return ret;
}

void unpack_free_links(struct late_links *links) {
    for (size_t i = 0; i < links->count; i++) {
        if (links->list[i].of == i)
            free((char *)links->list[i].link.target);
        if (links->list[i].attributes)
            la.archive_entry_free(links->list[i].attributes);
        free((char *)links->list[i].path);
    }
    free(links->list);
    seen_free(&links->places);
}

/* ---- hard links ---- */

/* What else has the name goes, but no directory: its attributes are still to come. 1: it is the target's name already.
 */
static int clear_name(struct unpacking *u, const struct guest_node *parent, const char *name,
                      const struct guest_node *target) {
    struct guest_node there;
    struct fs_stat stat;
    int ret = guest_step(u->guest, parent, name, strlen(name), &there, &u->err);
    if (ret == -ENOENT)
        return 0;
    if (ret == 0 && there.fs == target->fs && there.ino == target->ino)
        return 1;
    if (ret == 0)
        ret = guest_stat(&there, &stat, &u->err);
    if (ret == 0 && S_ISDIR(stat.mode))
        return set_error(&u->err, -EISDIR, "is there and is a directory");
    return ret < 0 ? ret : write_ops(parent)->unlink(parent->fs, parent->ino, name, strlen(name), &u->err);
}

static int copy_data(struct unpacking *u, const struct guest_node *from, const struct guest_node *to, uint64_t size) {
    static unsigned char bytes[UNPACK_PIECE];
    uint64_t at = 0, start = 0, length = size;
    int ret = 0;
    while (at < size && ret == 0) {
        if (from->fs->ops->next_data)
            ret = from->fs->ops->next_data(from->fs, from->ino, at, &start, &length, &u->err);
        if (ret < 0 || start >= size)
            break;
        size_t count = length < sizeof(bytes) ? (size_t)length : sizeof(bytes), got = 0;
        ret = from->fs->ops->read(from->fs, from->ino, bytes, count, start, &got, &u->err);
        if (ret == 0 && got == 0)
            break;
        if (ret == 0)
            ret = write_ops(to)->append(to->fs, to->ino, bytes, got, start, &u->err);
        at = start += got;
        length = size - at;
    }
    return ret == 0 || ret == -ENXIO ? write_ops(to)->set_size(to->fs, to->ino, size, &u->err) : ret;
}

struct copying {
    struct unpacking *u;
    const struct guest_node *to;
    const char *path;
};

static int copy_xattr(void *opaque, const char *name, const void *value, size_t length) {
    const struct copying *c = opaque;
    return unpack_xattr(c->u, c->to, c->path, name, value, length);
}

/* What stands for a hard link that cannot be. */
static int copy_file(struct unpacking *u, const struct guest_node *from, const struct guest_node *parent,
                     const char *path, const char *name) {
    struct guest_node node = *parent;
    struct copying copying = {u, &node, path};
    struct fs_stat stat;
    int ret = guest_stat(from, &stat, &u->err);
    if (ret == 0 && !S_ISREG(stat.mode))
        ret = set_error(&u->err, -EXDEV, "a hard link to what is no regular file cannot be had there");
    if (ret < 0)
        return ret;
    const struct fs_new file = {.mode = stat.mode,
                                .uid = stat.uid,
                                .gid = stat.gid,
                                .size = stat.size,
                                .replace = true,
                                .atime = stat.atime,
                                .mtime = stat.mtime};
    ret = write_ops(parent)->create(parent->fs, parent->ino, name, strlen(name), &file, &node.ino, &u->err);
    if (ret == 0)
        ret = copy_data(u, from, &node, stat.size);
    return ret == 0 && from->fs->ops->xattrs ? from->fs->ops->xattrs(from->fs, from->ino, copy_xattr, &copying, &u->err)
                                             : ret;
}

static int link_to(struct unpacking *u, const struct guest_node *target, const struct guest_node *parent,
                   const char *path, const char *name) {
    const struct late_link *waiting = waits_behind(u, target);
    if (waiting && target->fs == parent->fs) {
        const struct late_link link = {
            .parent = *parent, .path = path, .name = name, .of = waiting->of, .link = waiting->link};
        return hold_place(u, &link);
    }
    int ret = -EPERM;
    if (target->fs == parent->fs)
        ret = write_ops(parent)->link(parent->fs, parent->ino, name, strlen(name), target->ino, &u->err);
    return ret == -EPERM ? copy_file(u, target, parent, path, name) : ret;
}

int unpack_hardlink(struct unpacking *u, struct archive_entry *entry, const struct guest_node *parent, const char *path,
                    const char *name) {
    struct guest_node target;
    char *old = unpack_place(u, la.archive_entry_hardlink(entry));
    if (!old)
        return set_error(&u->err, -EINVAL, "the link to '%s' leads out of the archive",
                         la.archive_entry_hardlink(entry));
    int ret = guest_resolve(u->guest, old, false, &target, &u->err);
    if (ret == 0)
        ret = clear_name(u, parent, name, &target);
    if (ret == 0)
        ret = link_to(u, &target, parent, path, name);
    free(old);
    return ret < 0 ? ret : 0;
}
