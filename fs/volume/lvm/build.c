/* SPDX-License-Identifier: GPL-3.0-or-later */
/* build.c - from the segments of a logical volume to its device. A segment's parts lie on physical volumes or on hidden
 * logical ones, which are built in turn; a budget for the whole group and a limit of the depth keep a text that refers
 * to itself from growing without end.
 *
 * What is read: "linear" and "striped", "raid0", "mirror" and "raid1", "zero". All others are refused by their names.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../error.h"
#include "lvm.h"

#define DEPTH_MOST 6
#define PARTS_MOST 128 /* of one segment: LVM's own limit */

struct build {
    struct lvm_group *group;
    const struct lvm_lv *lv;
    struct device *map;
    unsigned depth;
    bool *incomplete;
    struct img_error *err;
};

static int build(struct lvm_group *group, const struct lvm_lv *lv, unsigned depth, bool *incomplete,
                 struct device **device, struct img_error *err);

/* The device of a part, NULL if it is missing and may be. A hidden volume becomes the map's. */
static int open_part(struct build *b, const char *name, uint64_t extent, uint64_t length, bool may_miss,
                     struct map_part *part) {
    const struct lvm_pv *pv = lvm_find_pv(b->group, name);
    const struct lvm_lv *lv = pv ? NULL : lvm_find_lv(b->group, name);
    uint64_t at, end;
    int ret = 0;
    *part = (struct map_part){0};
    if (!pv && !lv)
        return fail(b->err, -EUCLEAN, "A segment of %s lies on '%s', which is not in the group", b->lv->name, name);
    if (__builtin_mul_overflow(extent, b->group->extent_size, &at) ||
        __builtin_add_overflow(at, pv ? pv->start : 0, &at) || __builtin_add_overflow(at, length, &end))
        return fail(b->err, -EUCLEAN, "A segment of %s begins at extent %" PRIu64 " of %s", b->lv->name, extent, name);
    if (pv && pv->volume)
        part->device = pv->volume->device;
    else if (pv)
        ret = fail(b->err, -ENODEV, "It lies on the physical volume %s (UUID %s), which is missing", name, pv->id);
    else
        ret = build(b->group, lv, b->depth + 1, b->incomplete, &part->device, b->err);
    if (ret == 0 && lv)
        ret = map_own(b->map, part->device, b->err);
    if (ret == 0 && end > part->device->size)
        ret = fail(b->err, pv ? -ENODEV : -EUCLEAN, "A segment ends at byte %" PRIu64 " of %s, which has %" PRIu64, end,
                   name, part->device->size);
    if (ret == -ENODEV && may_miss) {
        part->device = NULL;
        *b->incomplete = true;
        return 0;
    }
    part->at = at;
    return ret;
}

/* Parts as they are written: of each its name and, if the array has them, its first extent. */
static int open_parts(struct build *b, const struct text_node *segment, const char *key, bool with_extents,
                      uint64_t length, bool may_miss, struct map_part *parts, unsigned *count) {
    const struct text *text = &b->group->text;
    const struct text_node *array = text_get(text, segment, key), *node = NULL;
    int ret = 0;
    *count = 0;
    if (!array || array->kind != TEXT_ARRAY)
        return fail(b->err, -EUCLEAN, "A segment of %s has no '%s'", b->lv->name, key);
    while (ret == 0 && (node = text_walk(text, array, node))) {
        const struct text_node *extent = with_extents ? text_walk(text, array, node) : NULL;
        if (node->kind != TEXT_STRING || *count == PARTS_MOST ||
            (with_extents && (!extent || extent->kind != TEXT_NUMBER || extent->number < 0)))
            return fail(b->err, -EUCLEAN, "The '%s' of a segment of %s are not what they should be", key, b->lv->name);
        ret = open_part(b, node->string, extent ? (uint64_t)extent->number : 0, length, may_miss, &parts[(*count)++]);
        node = extent ? extent : node;
    }
    if (ret == 0 && *count == 0)
        ret = fail(b->err, -EUCLEAN, "The '%s' of a segment of %s are none", key, b->lv->name);
    return ret;
}

static unsigned count_parts(const struct build *b, const struct text_node *segment, const char *key) {
    const struct text *text = &b->group->text;
    const struct text_node *array = text_get(text, segment, key), *node = NULL;
    unsigned count = 0;
    while (array && array->kind == TEXT_ARRAY && (node = text_walk(text, array, node)))
        count += node->kind == TEXT_STRING;
    return count;
}

static int striped(struct build *b, const struct text_node *segment, const char *key, bool with_extents,
                   bool metadata_between, struct map_run *run) {
    unsigned written = count_parts(b, segment, key), count = metadata_between ? written / 2 : written, got;
    uint64_t sectors = 0, each = count ? run->length / count : 0;
    int ret = open_parts(b, segment, key, with_extents, metadata_between ? 0 : each, false, run->parts, &got);
    if (ret < 0)
        return ret;
    for (unsigned i = 0; metadata_between && i < count; i++)
        run->parts[i] = run->parts[2 * i + 1];
    if (count > 1 && (!text_number(&b->group->text, segment, "stripe_size", &sectors) || sectors == 0 ||
                      __builtin_mul_overflow(sectors, LVM_SECTOR, &run->chunk) || run->length % count != 0 ||
                      each % run->chunk != 0))
        return fail(b->err, -EUCLEAN, "%s has %u stripes of %" PRIu64 " sectors", b->lv->name, count, sectors);
    for (unsigned i = 0; i < count; i++)
        if (run->parts[i].at + each > run->parts[i].device->size)
            return fail(b->err, -EUCLEAN, "A stripe of %s is too short", b->lv->name);
    run->kind = MAP_STRIPED;
    run->nparts = count;
    return 0;
}

static int keep_copies(struct build *b, struct map_run *run, unsigned readable, unsigned count) {
    if (readable == 0)
        return fail(b->err, -ENODEV, "All %u copies of it are missing or out of date", count);
    run->kind = MAP_COPIES;
    run->nparts = readable;
    if (readable < count)
        *b->incomplete = true;
    return 0;
}

/* An old mirror: the first copy is as good as any once it has run, and better while it is filled. */
static int mirror(struct build *b, const struct text_node *segment, struct map_run *run) {
    unsigned count, readable = 0;
    int ret = open_parts(b, segment, "mirrors", true, run->length, true, run->parts, &count);
    for (unsigned i = 0; ret == 0 && i < count; i++)
        if (run->parts[i].device)
            run->parts[readable++] = run->parts[i];
    return ret < 0 ? ret : keep_copies(b, run, readable, count);
}

/* Metadata and data of each copy take turns. */
static int raid1(struct build *b, const struct text_node *segment, struct map_run *run) {
    struct device *metadata[PARTS_MOST / 2], *data[PARTS_MOST / 2];
    unsigned written, count;
    int ret = open_parts(b, segment, "raids", false, 0, true, run->parts, &written);
    if (ret < 0)
        return ret;
    count = written / 2;
    for (unsigned i = 0; i < count; i++) {
        metadata[i] = run->parts[2 * i].device;
        data[i] = run->parts[2 * i + 1].device;
        if (data[i] && data[i]->size < run->length)
            return fail(b->err, -EUCLEAN, "A copy of %s is too short", b->lv->name);
    }
    unsigned readable = lvm_order_copies(metadata, data, count);
    for (unsigned i = 0; i < readable; i++)
        run->parts[i] = (struct map_part){.device = data[i]};
    return keep_copies(b, run, readable, count);
}

static int add_segment(struct build *b, const struct text_node *segment) {
    const char *type = text_string(&b->group->text, segment, "type");
    struct map_part parts[PARTS_MOST];
    struct map_run run = {.parts = parts};
    uint64_t extents = 0;
    int ret = 0;
    text_number(&b->group->text, segment, "extent_count", &extents);
    run.length = extents * b->group->extent_size; /* lvm_size has looked */
    if (!type)
        type = "";
    if (strcmp(type, "linear") == 0 || strcmp(type, "striped") == 0)
        ret = striped(b, segment, "stripes", true, false, &run);
    else if (strcmp(type, "raid0") == 0)
        ret = striped(b, segment, "raid0_lvs", false, false, &run);
    else if (strcmp(type, "raid0_meta") == 0)
        ret = striped(b, segment, "raids", false, true, &run);
    else if (strcmp(type, "mirror") == 0)
        ret = mirror(b, segment, &run);
    else if (strcmp(type, "raid1") == 0)
        ret = raid1(b, segment, &run);
    else if (strcmp(type, "zero") != 0)
        ret = fail(b->err, -ENOTSUP, "It is made of segments of type '%s', which are not read", type);
    return ret < 0 ? ret : map_append(b->map, &run, b->err);
}

static int build(struct lvm_group *group, const struct lvm_lv *lv, unsigned depth, bool *incomplete,
                 struct device **device, struct img_error *err) {
    struct build b = {.group = group, .lv = lv, .depth = depth, .incomplete = incomplete, .err = err};
    const struct text_node *segment = NULL;
    uint64_t size;
    if (depth > DEPTH_MOST)
        return fail(err, -EUCLEAN, "The parts of %s are nested too deep", lv->name);
    if (lv->node->total > group->work_left)
        return fail(err, -EUCLEAN, "The parts of the logical volumes of group %s are too many", group->name);
    group->work_left -= lv->node->total;
    if (!lvm_size(group, lv, &size))
        return fail(err, -EUCLEAN, "The segments of %s do not follow one another", lv->name);
    int ret = map_new(&b.map, err);
    if (ret < 0)
        return ret;
    while (ret == 0 && (segment = lvm_next_segment(group, lv, segment)))
        ret = add_segment(&b, segment);
    if (ret < 0)
        device_close(b.map);
    else
        *device = b.map;
    return ret;
}

int lvm_build(struct lvm_group *group, const struct lvm_lv *lv, struct device **device, bool *incomplete,
              struct img_error *err) {
    *incomplete = false;
    if (lv->wrong)
        return fail(err, -ENOTSUP, "%s", lv->wrong);
    int ret = build(group, lv, 0, incomplete, device, err);
    /* the copies that are not here would not follow, and a snapshot would */
    if (ret == 0 && (*incomplete || lv->has_snapshot))
        (*device)->writable = false;
    return ret;
}
