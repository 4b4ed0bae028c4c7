/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guest.h - the files of a guest: filesystems of its volumes, mounted where the guest has them, under one root.
 *
 * Paths are the guest's: they begin with '/', ".." above the root stays at the root, a symbolic link is followed inside
 * the guest whatever it says, and a mount point stands for what is mounted there. No path of the host is ever touched.
 * A guest belongs to one thread at a time.
 */
#ifndef FS_GUEST_H
#define FS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vfs.h"
#include "volume/volume.h"

#define GUEST_PATH_MAX 65536 /* bytes; deeper than any kernel shows */
#define GUEST_LINKS_MAX 40   /* symbolic links in one resolution, as in Linux */

struct guest;

/* A file, as long as the guest is open. */
struct guest_node {
    struct fs *fs;
    uint64_t ino;
    size_t mount; /* of which mount: an index */
};

struct guest_mount {
    const struct volume *volume;
    const char *path; /* "/", "/boot" */
    struct fs *fs;
};

/* A guest with nothing mounted. The volumes stay the caller's and must stand longer. */
int guest_create(struct volumes *volumes, struct guest **guest, struct img_error *err) IMG_WARN_UNUSED;
void guest_close(struct guest *guest);
/* Mounts a volume: "/" first; other mount points must be directories there. Mounting over a mount point replaces it for
 * resolution. The same volume may be mounted at several places; it is opened once. */
int guest_mount(struct guest *guest, struct volume *volume, const char *path, const struct fs_open_options *options,
                struct img_error *err) IMG_WARN_UNUSED;
/* Lets nobody below a mount point whose volume cannot be mounted: whatever is wanted there is -EACCES, because of
 * `why`. */
int guest_bar(struct guest *guest, struct volume *volume, const char *path, const char *why,
              struct img_error *err) IMG_WARN_UNUSED;
size_t guest_mounts(const struct guest *guest, const struct guest_mount **mounts);

/* Finds a file. With `follow` the last part of the path is followed if it is a symbolic link. -ENOENT, -ENOTDIR,
 * -ELOOP, -ENAMETOOLONG; -EINVAL: the path is not absolute. The sentence is "PATH: what is wrong". */
int guest_resolve(struct guest *guest, const char *path, bool follow, struct guest_node *node,
                  struct img_error *err) IMG_WARN_UNUSED;
/* The same of a directory, or of a link to one: what else it is is -ENOTDIR. */
int guest_resolve_directory(struct guest *guest, const char *path, struct guest_node *dir,
                            struct img_error *err) IMG_WARN_UNUSED;
/* One step down: the entry `name` of a directory, mount points seen as what is mounted there. Links are not followed.
 */
int guest_step(struct guest *guest, const struct guest_node *dir, const char *name, size_t length,
               struct guest_node *node, struct img_error *err) IMG_WARN_UNUSED;
/* The same for an entry whose inode number a list has told. */
struct guest_node guest_entry(const struct guest *guest, const struct guest_node *dir, uint64_t ino);
int guest_stat(const struct guest_node *node, struct fs_stat *stat, struct img_error *err) IMG_WARN_UNUSED;
/* The target of a symbolic link, ended by a NUL; the caller frees. -E2BIG: longer than GUEST_PATH_MAX. */
int guest_readlink(const struct guest_node *node, char **target, struct img_error *err) IMG_WARN_UNUSED;

/* The names of a directory, sorted by their bytes. */
struct guest_names {
    struct guest_name {
        char *name; /* ends in a NUL */
        uint64_t ino;
        uint32_t type; /* S_IFMT bits, 0: not known */
    } * list;
    size_t count;
    size_t room;
};
/* Fills *names, which the caller frees with guest_names_free, after an error too. */
int guest_list(const struct guest_node *dir, struct guest_names *names, struct img_error *err) IMG_WARN_UNUSED;
/* Those that are wanted. NULL: all. */
typedef bool (*guest_wants)(void *opaque, const struct fs_entry *entry);
int guest_list_some(const struct guest_node *dir, guest_wants wants, void *opaque, struct guest_names *names,
                    struct img_error *err) IMG_WARN_UNUSED;
void guest_names_free(struct guest_names *names);

/* One file of a walk. */
struct guest_visit {
    const char *path; /* below where the walk began: "" for that itself, else without a leading '/' */
    const char *name; /* the last part of it */
    struct guest_node node;
    struct fs_stat stat;
    unsigned depth; /* 0: where the walk began */
};
enum guest_order { GUEST_GO_ON = 0, GUEST_SKIP = 1 /* what is below this directory */ };
/* A negative return ends the walk. */
typedef int (*guest_visit_call)(void *opaque, const struct guest_visit *visit);
/* Visits a file and, if it is a directory, all that is below it: depth first, each directory before its entries, these
 * sorted by their bytes. Goes through mount points. Directories that contain themselves, as only a damaged filesystem
 * has them, are -ELOOP. Memory follows the depth and the largest directories on the way. */
int guest_walk(struct guest *guest, const struct guest_node *from, guest_visit_call call, void *opaque,
               struct img_error *err) IMG_WARN_UNUSED;

/* Reads a whole small file: at most `max` bytes, -EFBIG beyond; a NUL is added that does not count. The caller frees.
 * After an error *length is what it was. */
int guest_read_small(struct guest *guest, const char *path, size_t max, char **content, size_t *length,
                     struct img_error *err) IMG_WARN_UNUSED;

#endif
