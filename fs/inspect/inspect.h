/* SPDX-License-Identifier: GPL-3.0-or-later */
/* inspect.h - which volumes of a guest hold a system, what system that is, and what it mounts where.
 *
 * Every filesystem is looked into by itself, for the few files and directories that tell a root from other things. A
 * root is then read as the guest would see it, with its own /usr under it. All that is read are small text files and
 * the headers of programs; nothing of the guest is run. What is damaged or cannot be read makes a root poorer, not the
 * inspection fail: only a lack of memory ends it.
 */
#ifndef FS_INSPECT_H
#define FS_INSPECT_H

#include <stdbool.h>
#include <stddef.h>

#include "../guest.h"

/* A line of the guest's fstab whose device was found here. */
struct inspect_mount {
    char *path; /* canonical; without a leading '/' if nothing is to be mounted there: "swap", "none" */
    struct volume *volume;
};

struct inspect_root {
    struct volume *volume;
    /* In the words of libguestfs; what is not known is NULL or "". */
    const char *type;   /* "linux", "windows", "freebsd" ... */
    const char *distro; /* "debian", "rhel" ... */
    const char *arch;   /* "x86_64" ... */
    const char *package_format, *package_management;
    char *product_name, *product_variant, *hostname, *build_id;
    char osinfo[64]; /* what libosinfo calls it */
    bool versioned;
    unsigned major, minor;
    char *windows_systemroot;     /* "/Windows"; of Windows alone */
    struct inspect_mount *mounts; /* in the order of the file; the root itself on "/" is always one */
    size_t nmounts;
};

struct inspection {
    struct inspect_root *roots;
    size_t nroots;
    char **messages; /* filesystems that could not be looked into: a sentence each */
    size_t nmessages;
};

/* The caller frees *inspection with inspect_free, which NULL is allowed for. */
int inspect(struct volumes *volumes, struct inspection **inspection, struct img_error *err) IMG_WARN_UNUSED;
void inspect_free(struct inspection *inspection);

/* One sentence about something that was left out. */
typedef void (*inspect_warn_call)(void *opaque, const char *sentence);
/* Mounts what a root's fstab says, the root first. What else cannot be mounted is left out with a warning; of what
 * cannot be written, though that is wanted, there is a mount for reading, and where that fails too nobody comes in. The
 * caller closes *guest. */
int inspect_mount(const struct inspect_root *root, struct volumes *volumes, const struct fs_open_options *options,
                  inspect_warn_call warn, void *opaque, struct guest **guest, struct img_error *err) IMG_WARN_UNUSED;

/* A PNG that stands for the system, from where its distribution keeps it. The caller frees *bytes. False: there is
 * none. */
bool inspect_icon(struct guest *guest, const struct inspect_root *root, uint8_t **bytes, size_t *length);

/* The volumes that hold a filesystem or might: whole disks without partitions, then what keys opened, partitions,
 * arrays and logical volumes. Extended partitions, members of containers and partitions that never hold one are left
 * out. The caller frees *list. */
int inspect_filesystems(const struct volumes *volumes, struct volume ***list, size_t *count,
                        struct img_error *err) IMG_WARN_UNUSED;

#endif
