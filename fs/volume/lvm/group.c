/* SPDX-License-Identifier: GPL-3.0-or-later */
/* group.c - a volume group as its text describes it, checked as far as everything else relies on: names that are names,
 * UUIDs, a size of extents. What is inside the segments of a logical volume is looked at when it is mapped. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../error.h"
#include "lvm.h"

#define THINGS_MOST 16384u /* physical volumes, and logical ones with their hidden parts */
#define WORK_BUDGET (1u << 22)
#define EXTENT_MOST (UINT64_C(1) << 50)

bool lvm_plain_id(const char *text, char out[LVM_ID]) {
    size_t n = 0;
    char id[LVM_ID];
    for (; *text; text++) {
        bool plain = (*text >= '0' && *text <= '9') || (*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z');
        if (*text == '-')
            continue;
        if (!plain || n == LVM_ID - 1)
            return false;
        id[n++] = *text;
    }
    if (n != LVM_ID - 1)
        return false;
    id[n] = '\0';
    memcpy(out, id, LVM_ID);
    return true;
}

static bool is_name(const char *name) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_.-");
    return length > 0 && length <= LVM_NAME_MOST && !name[length] && name[0] != '-' && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* ---- finding by name ---- */

static int pv_order(const void *a, const void *b) {
    return strcmp(((const struct lvm_pv *)a)->name, ((const struct lvm_pv *)b)->name);
}
static int lv_order(const void *a, const void *b) {
    return strcmp(((const struct lvm_lv *)a)->name, ((const struct lvm_lv *)b)->name);
}

struct lvm_pv *lvm_find_pv(const struct lvm_group *group, const char *name) {
    struct lvm_pv wanted = {.name = name};
    return group->npvs ? bsearch(&wanted, group->pvs, group->npvs, sizeof(wanted), pv_order) : NULL;
}

struct lvm_lv *lvm_find_lv(const struct lvm_group *group, const char *name) {
    struct lvm_lv wanted = {.name = name};
    return group->nlvs ? bsearch(&wanted, group->lvs, group->nlvs, sizeof(wanted), lv_order) : NULL;
}

/* ---- segments ---- */

/* Segments of a logical volume are the sections in it. */
const struct text_node *lvm_next_segment(const struct lvm_group *group, const struct lvm_lv *lv,
                                         const struct text_node *at) {
    while ((at = text_walk(&group->text, lv->node, at)))
        if (at->kind == TEXT_SECTION && strncmp(at->key, "segment", 7) == 0)
            return at;
    return NULL;
}

const char *lvm_type(const struct lvm_group *group, const struct lvm_lv *lv) {
    const struct text_node *segment = lvm_next_segment(group, lv, NULL);
    const char *type = segment ? text_string(&group->text, segment, "type") : NULL;
    return type ? type : "";
}

bool lvm_size(const struct lvm_group *group, const struct lvm_lv *lv, uint64_t *size) {
    const struct text_node *segment = NULL;
    uint64_t extents = 0, start, count;
    while ((segment = lvm_next_segment(group, lv, segment))) {
        if (!text_number(&group->text, segment, "start_extent", &start) ||
            !text_number(&group->text, segment, "extent_count", &count) || start != extents || count == 0 ||
            __builtin_add_overflow(extents, count, &extents))
            return false;
    }
    return extents > 0 && !__builtin_mul_overflow(extents, group->extent_size, size) && *size <= INT64_MAX;
}

/* ---- reading the text ---- */

static size_t count_sections(const struct text *text, const struct text_node *in) {
    const struct text_node *node = NULL;
    size_t count = 0;
    while (in && (node = text_walk(text, in, node)))
        count += node->kind == TEXT_SECTION;
    return count;
}

static int read_pv(struct lvm_group *group, const struct text_node *node, struct img_error *err) {
    const struct text *text = &group->text;
    const char *id = text_string(text, node, "id");
    struct lvm_pv *pv = &group->pvs[group->npvs];
    uint64_t start = 0, bytes;
    if (!id || !lvm_plain_id(id, pv->id))
        return fail(err, -EUCLEAN, "Physical volume %s of group %s has no UUID", node->key, group->name);
    if (!text_number(text, node, "pe_start", &start) || !text_number(text, node, "pe_count", &pv->extents) ||
        __builtin_mul_overflow(start, LVM_SECTOR, &pv->start) ||
        __builtin_mul_overflow(pv->extents, group->extent_size, &bytes) || bytes > INT64_MAX ||
        pv->start > INT64_MAX - bytes)
        return fail(err, -EUCLEAN, "Physical volume %s of group %s has %" PRIu64 " extents at sector %" PRIu64,
                    node->key, group->name, pv->extents, start);
    pv->name = node->key;
    group->npvs++;
    return 0;
}

static int read_lv(struct lvm_group *group, const struct text_node *node, struct img_error *err) {
    if (!is_name(node->key))
        return fail(err, -EUCLEAN, "'%s' is no name for a logical volume of group %s", node->key, group->name);
    group->lvs[group->nlvs++] = (struct lvm_lv){
        .name = node->key, .node = node, .visible = text_lists(&group->text, node, "status", "VISIBLE")};
    return 0;
}

static int read_sections(struct lvm_group *group, const struct text_node *in,
                         int (*read)(struct lvm_group *, const struct text_node *, struct img_error *),
                         struct img_error *err) {
    const struct text_node *node = NULL;
    int ret = 0;
    while (ret == 0 && in && (node = text_walk(&group->text, in, node)))
        if (node->kind == TEXT_SECTION)
            ret = read(group, node, err);
    return ret;
}

static int read_things(struct lvm_group *group, struct img_error *err) {
    const struct text_node *pvs = text_section(&group->text, group->node, "physical_volumes");
    const struct text_node *lvs = text_section(&group->text, group->node, "logical_volumes");
    size_t npvs = count_sections(&group->text, pvs), nlvs = count_sections(&group->text, lvs);
    if (npvs > THINGS_MOST || nlvs > THINGS_MOST)
        return fail(err, -EUCLEAN, "Group %s has %zu physical and %zu logical volumes", group->name, npvs, nlvs);
    group->pvs = calloc(npvs + 1, sizeof(struct lvm_pv));
    group->lvs = calloc(nlvs + 1, sizeof(struct lvm_lv));
    if (!group->pvs || !group->lvs)
        return fail_no_memory(err);
    int ret = read_sections(group, pvs, read_pv, err);
    if (ret == 0)
        ret = read_sections(group, lvs, read_lv, err);
    qsort(group->pvs, group->npvs, sizeof(struct lvm_pv), pv_order);
    qsort(group->lvs, group->nlvs, sizeof(struct lvm_lv), lv_order);
    return ret;
}

static void set_wrong(struct lvm_group *group, const char *name, const char *why) {
    struct lvm_lv *lv = name ? lvm_find_lv(group, name) : NULL;
    if (lv && !lv->wrong)
        lv->wrong = why;
}

/* An old snapshot is a hidden volume that names two others. The origin has its own data in place; the other one has
 * what differs, in chunks; of the three users see these two, whatever the text says. */
static void mark_snapshots(struct lvm_group *group) {
    for (size_t i = 0; i < group->nlvs; i++) {
        const struct text_node *segment = NULL;
        while ((segment = lvm_next_segment(group, &group->lvs[i], segment))) {
            const char *type = text_string(&group->text, segment, "type");
            if (!type || strcmp(type, "snapshot") != 0)
                continue;
            group->lvs[i].visible = false;
            const char *merging = text_string(&group->text, segment, "merging_store");
            const char *store = text_string(&group->text, segment, "cow_store");
            const char *origin_name = text_string(&group->text, segment, "origin");
            struct lvm_lv *origin = origin_name ? lvm_find_lv(group, origin_name) : NULL;
            if (origin)
                origin->has_snapshot = true;
            struct lvm_lv *snapshot = store ? lvm_find_lv(group, store) : NULL;
            if (snapshot)
                snapshot->visible = true;
            set_wrong(group, store, "It is a snapshot, which is not read");
            set_wrong(group, merging, "It is a snapshot, which is not read");
            if (merging)
                set_wrong(group, origin_name, "A snapshot is being merged into it, which is not read");
        }
    }
}

/* The one section beside keys like "contents" is the group. */
static int find_group(struct lvm_group *group, struct img_error *err) {
    const struct text *text = &group->text;
    const struct text_node *node = NULL;
    uint64_t sectors;
    while ((node = text_walk(text, &text->nodes[0], node)) && node->kind != TEXT_SECTION)
        ;
    if (!node || !is_name(node->key))
        return fail(err, -EUCLEAN, "The metadata of LVM has no group with a name");
    group->node = node;
    snprintf(group->name, sizeof(group->name), "%s", node->key);
    const char *id = text_string(text, node, "id");
    if (!id || !lvm_plain_id(id, group->id) || !text_number(text, node, "seqno", &group->seqno))
        return fail(err, -EUCLEAN, "Group %s has no UUID or no number of its metadata", group->name);
    if (!text_number(text, node, "extent_size", &sectors) || sectors == 0 || sectors > EXTENT_MOST / LVM_SECTOR)
        return fail(err, -EUCLEAN, "Group %s has no size of its extents", group->name);
    group->extent_size = sectors * LVM_SECTOR;
    return 0;
}

int lvm_group_parse(char *text, size_t length, struct lvm_group *group, struct img_error *err) {
    *group = (struct lvm_group){.work_left = WORK_BUDGET};
    int ret = text_parse(text, length, &group->text, err);
    if (ret == 0)
        ret = find_group(group, err);
    if (ret == 0)
        ret = read_things(group, err);
    if (ret == 0)
        mark_snapshots(group);
    else
        lvm_group_free(group);
    return ret;
}

void lvm_group_free(struct lvm_group *group) {
    text_free(&group->text);
    free(group->pvs);
    free(group->lvs);
    *group = (struct lvm_group){0};
}
