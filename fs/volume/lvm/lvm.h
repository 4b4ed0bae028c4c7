/* SPDX-License-Identifier: GPL-3.0-or-later */
/* lvm.h - what the files of this folder share. A physical volume has a label, and one or two areas that hold the whole
 * group's description as text (label.c, text.c). Of all copies the newest counts; from it come the group and its
 * logical volumes (group.c), whose devices map runs of extents (build.c). scheme.c brings both into the set of volumes.
 */
#ifndef FS_VOLUME_LVM_H
#define FS_VOLUME_LVM_H

#include "../map.h"
#include "../volume.h"
#include "text.h"

#define LVM_ID 33 /* 32 characters of a UUID, without dashes, and a zero */
#define LVM_NAME_MOST 127
#define LVM_AREAS_MOST 8
#define LVM_SECTOR 512u /* the unit of all sizes in the text */

/* ---- label.c ---- */

struct lvm_area {
    uint64_t offset, size; /* bytes */
};

struct lvm_label {
    char uuid[LVM_ID];
    uint64_t device_size; /* bytes */
    struct lvm_area data; /* where extents begin */
    struct lvm_area metadata[LVM_AREAS_MOST];
    unsigned nmetadata;
};

/* -ENOENT: there is none that is whole. */
int lvm_read_label(struct device *device, struct lvm_label *label);
/* The text in one of the areas, with a zero behind it, from malloc; *text is NULL if no group was made yet. -EUCLEAN
 * with what is wrong. */
int lvm_read_text(struct device *device, const struct lvm_area *area, char **text, size_t *length,
                  struct img_error *err);

/* ---- group.c ---- */

struct lvm_pv {
    const char *name; /* in the text: "pv0" */
    char id[LVM_ID];
    uint64_t start; /* bytes: where its first extent is */
    uint64_t extents;
    struct volume *volume; /* NULL: it is missing */
};

struct lvm_lv {
    const char *name;
    const struct text_node *node;
    bool visible;      /* a volume of the user's; the others are its parts */
    bool has_snapshot; /* which shares what was not changed since; who changes it must copy that first */
    const char *wrong; /* why it cannot be read although its extents could; NULL */
};

struct lvm_group {
    struct text text;
    const struct text_node *node;
    char name[LVM_NAME_MOST + 1], id[LVM_ID];
    uint64_t seqno, extent_size; /* bytes */
    struct lvm_pv *pvs;          /* sorted by name, as the next */
    size_t npvs;
    struct lvm_lv *lvs;
    size_t nlvs;
    uint32_t work_left; /* a budget for build.c: nodes of the text that it may go through */
};

/* Takes the text (from lvm_read_text). -EUCLEAN, -ENOMEM. */
int lvm_group_parse(char *text, size_t length, struct lvm_group *group, struct img_error *err);
void lvm_group_free(struct lvm_group *group);
struct lvm_pv *lvm_find_pv(const struct lvm_group *group, const char *name);
struct lvm_lv *lvm_find_lv(const struct lvm_group *group, const char *name);
/* A UUID of the text without its dashes; false: it is none. */
bool lvm_plain_id(const char *text, char out[LVM_ID]);
/* The segments of a logical volume, as text_walk. */
const struct text_node *lvm_next_segment(const struct lvm_group *group, const struct lvm_lv *lv,
                                         const struct text_node *at);
/* The type of its first segment; "" none. */
const char *lvm_type(const struct lvm_group *group, const struct lvm_lv *lv);
/* Bytes of all its segments; false: they do not follow one another. */
bool lvm_size(const struct lvm_group *group, const struct lvm_lv *lv, uint64_t *size);

/* ---- build.c ---- */

/* The device of a logical volume. -ENODEV: a part of it is missing; -ENOTSUP: it is of a type that is not read here;
 * -EUCLEAN, -ENOMEM. *incomplete: some of its copies are missing or out of date. */
int lvm_build(struct lvm_group *group, const struct lvm_lv *lv, struct device **device, bool *incomplete,
              struct img_error *err);

/* ---- raid.c ---- */

/* The copies of an array of type raid1, `metadata` and `data` of each. Orders both so that the best are first, and
 * returns how many of them may be read. NULL in data: that one is missing. */
unsigned lvm_order_copies(struct device **metadata, struct device **data, unsigned count);

#endif
