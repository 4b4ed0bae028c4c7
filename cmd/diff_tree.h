/* SPDX-License-Identifier: GPL-3.0-or-later */
/* diff_tree.h - which files of two guests differ, by what is known of them without their contents. */
#ifndef DIFF_TREE_H
#define DIFF_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/guest.h"
#include "fs/twins.h"

struct diff_options {
    bool atime;           /* times of access count */
    bool dir_times;       /* times of directories count; they are 0 otherwise */
    bool dir_links;       /* the same with their numbers of links */
    bool xattrs;          /* attributes count although nothing else differs */
    const char *checksum; /* of regular files counts; NULL: does not */
};

/* A file that is in one guest alone, or differs. */
struct change {
    char *path;
    struct changed_file {
        bool there;
        struct guest_node node;
        struct fs_stat stat; /* what does not count is 0 */
    } file[2];
    bool xattrs, checksum; /* these differ */
};

struct changes {
    struct change *list; /* sorted by the bytes of their paths */
    size_t count, room;
};

/* Compares all below the roots. With `twins`, what is known of their disks saves work. The caller frees the changes,
 * after an error too. */
int diff_trees(struct guest *const guests[2], struct twins *twins, const struct diff_options *options,
               struct changes *changes, struct img_error *err) IMG_WARN_UNUSED;
void diff_free(struct changes *changes);

/* A file's attributes, sorted by their names. The caller frees. */
struct attributes {
    struct attribute {
        char *name;
        unsigned char *value;
        size_t length;
    } * list;
    size_t count, room;
};
int read_attributes(const struct guest_node *node, struct attributes *attributes,
                    struct img_error *err) IMG_WARN_UNUSED;
void free_attributes(struct attributes *attributes);

#endif
