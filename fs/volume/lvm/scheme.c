/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scheme.c - LVM in the set of volumes: labels make physical volumes; when all are known, the newest description of
 * each group makes the group and its logical volumes. A group with physical volumes missing waits until nothing more
 * will come. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../error.h"
#include "lvm.h"

/* ---- physical volumes ---- */

static int look(struct volumes *volumes, struct volume *volume, struct img_error *err) {
    struct lvm_label label;
    (void)err;
    if (!volume_holds(volume, "LVM2_member"))
        return 0;
    if (lvm_read_label(volume->device, &label) < 0) {
        volumes_note(volumes, "The label of LVM on %s is damaged", volume->name);
        return 0;
    }
    volume->is_pv = true;
    volume->pv_size = label.device_size < volume->size ? label.device_size : volume->size;
    snprintf(volume->pv_uuid, sizeof(volume->pv_uuid), "%s", label.uuid);
    return 0;
}

/* A physical volume that is not yet in a group. */
static bool is_free(const struct volumes *volumes, const struct volume *pv) {
    if (!pv->is_pv || pv->divided)
        return false;
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        const struct volume *group = volumes_get(volumes, i);
        for (size_t p = 0; group->kind == VOLUME_GROUP && p < group->nparents; p++)
            if (group->parents[p] == pv)
                return false;
    }
    return true;
}

static struct volume *find_free(struct volumes *volumes, const char *id) {
    struct volume *found = NULL;
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        if (!volume->is_pv || strcmp(volume->pv_uuid, id) != 0 || !is_free(volumes, volume))
            continue;
        if (found)
            volumes_note(volumes, "%s and %s are the same physical volume; the first is used", found->name,
                         volume->name);
        else
            found = volume;
    }
    return found;
}

/* ---- descriptions of groups ---- */

struct groups {
    struct lvm_group *list;
    size_t count;
};

static bool is_known(const struct volumes *volumes, const char *id) {
    for (size_t i = 0; i < volumes_count(volumes); i++)
        if (volumes_get(volumes, i)->kind == VOLUME_GROUP && strcmp(volumes_get(volumes, i)->uuid, id) == 0)
            return true;
    return false;
}

/* Keeps the newest of each group. */
static int keep(struct groups *groups, struct lvm_group *group, struct img_error *err) {
    for (size_t i = 0; i < groups->count; i++) {
        struct lvm_group *other = &groups->list[i];
        if (strcmp(other->id, group->id) != 0)
            continue;
        if (group->seqno > other->seqno) {
            struct lvm_group older = *other;
            *other = *group;
            *group = older;
        }
        lvm_group_free(group);
        return 0;
    }
    struct lvm_group *list = realloc(groups->list, (groups->count + 1) * sizeof(*list));
    if (!list) {
        lvm_group_free(group);
        return fail_no_memory(err);
    }
    groups->list = list;
    groups->list[groups->count++] = *group;
    return 0;
}

static int read_area(struct volumes *volumes, struct volume *pv, const struct lvm_area *area, struct groups *groups,
                     struct img_error *err) {
    struct img_error why = {0};
    struct lvm_group group = {0};
    char *text;
    size_t length;
    int ret = lvm_read_text(pv->device, area, &text, &length, &why);
    if (ret == 0 && !text)
        return 0;
    if (ret == 0)
        ret = lvm_group_parse(text, length, &group, &why);
    if (ret == -ENOMEM)
        return fail_no_memory(err);
    if (ret < 0) {
        volumes_note(volumes, "%s: %s", pv->name, why.text);
        return 0;
    }
    if (is_known(volumes, group.id)) {
        lvm_group_free(&group);
        return 0;
    }
    return keep(groups, &group, err);
}

static int read_groups(struct volumes *volumes, struct groups *groups, struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < volumes_count(volumes) && ret == 0; i++) {
        struct volume *pv = volumes_get(volumes, i);
        struct lvm_label label;
        if (!is_free(volumes, pv) || lvm_read_label(pv->device, &label) < 0)
            continue;
        for (unsigned a = 0; a < label.nmetadata && ret == 0; a++)
            ret = read_area(volumes, pv, &label.metadata[a], groups, err);
    }
    return ret;
}

static int by_name(const void *a, const void *b) {
    const struct lvm_group *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->id, y->id);
}

/* ---- groups and logical volumes ---- */

static void dashed(const char *id, char out[64]) {
    static const unsigned parts[] = {6, 4, 4, 4, 4, 4, 6};
    size_t n = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (i > 0)
            out[n++] = '-';
        memcpy(out + n, id, parts[i]);
        n += parts[i];
        id += parts[i];
    }
    out[n] = '\0';
}

static int add_logical(struct volumes *volumes, struct volume *group_volume, struct lvm_group *group,
                       const struct lvm_lv *lv, struct img_error *err) {
    struct device *device = NULL;
    struct img_error why = {0};
    struct volume *volume;
    const char *id = text_string(&group->text, lv->node, "id");
    char name[sizeof("/dev//") + 2 * LVM_NAME_MOST], plain[LVM_ID];
    bool incomplete = false;
    uint64_t size = 0;
    int ret = lvm_build(group, lv, &device, &incomplete, &why);
    if (ret == -ENOMEM)
        return fail_no_memory(err);
    snprintf(name, sizeof(name), "/dev/%s/%s", group->name, lv->name);
    ret = volumes_add(volumes, VOLUME_LOGICAL, name, ret < 0 ? NULL : device, group_volume, &volume, err);
    if (ret < 0)
        return ret;
    if (lvm_size(group, lv, &size))
        volume->size = size;
    if (id && lvm_plain_id(id, plain))
        dashed(plain, volume->uuid);
    if (why.code && !volume->device)
        volume_trouble(volume, "%s", why.text);
    else if (incomplete)
        volume_trouble(volume, "Some of its copies are missing or out of date");
    else if (lv->has_snapshot)
        volume_trouble(volume, "A snapshot of it would change with it: it can only be read");
    return 0;
}

/* Pools are not for users: what is in them has volumes of its own. */
static bool is_pool(const struct lvm_group *group, const struct lvm_lv *lv) {
    const char *type = lvm_type(group, lv);
    return strcmp(type, "thin-pool") == 0 || strcmp(type, "cache-pool") == 0 || strcmp(type, "vdo-pool") == 0;
}

static int add_group(struct volumes *volumes, struct lvm_group *group, struct img_error *err) {
    char name[sizeof("/dev/") + LVM_NAME_MOST];
    struct volume *volume;
    snprintf(name, sizeof(name), "/dev/%s", group->name);
    if (volumes_find(volumes, name))
        volumes_note(volumes, "There are two groups with the name %s", group->name);
    int ret = volumes_add(volumes, VOLUME_GROUP, name, NULL, NULL, &volume, err);
    if (ret < 0)
        return ret;
    snprintf(volume->uuid, sizeof(volume->uuid), "%s", group->id);
    for (size_t i = 0; i < group->npvs && ret == 0; i++) {
        struct lvm_pv *pv = &group->pvs[i];
        uint64_t bytes = pv->extents * group->extent_size;
        if (__builtin_add_overflow(volume->size, bytes, &volume->size))
            volume->size = UINT64_MAX;
        if (!pv->volume) {
            volume_trouble(volume, "The physical volume %s (UUID %s) is missing", pv->name, pv->id);
            continue;
        }
        pv->volume->pv_size = bytes;
        ret = volume_add_parent(volume, pv->volume, err);
    }
    for (size_t i = 0; i < group->nlvs && ret == 0; i++)
        if (group->lvs[i].visible && !is_pool(group, &group->lvs[i]))
            ret = add_logical(volumes, volume, group, &group->lvs[i], err);
    return ret;
}

/* Looks for its physical volumes. */
static void find_members(struct volumes *volumes, struct lvm_group *group, size_t *found) {
    *found = 0;
    for (size_t i = 0; i < group->npvs; i++) {
        group->pvs[i].volume = find_free(volumes, group->pvs[i].id);
        *found += group->pvs[i].volume != NULL;
    }
}

static int gather(struct volumes *volumes, bool last, struct img_error *err) {
    struct groups groups = {0};
    int ret = read_groups(volumes, &groups, err);
    if (ret == 0 && groups.count > 0)
        qsort(groups.list, groups.count, sizeof(struct lvm_group), by_name);
    for (size_t i = 0; i < groups.count && ret == 0; i++) {
        size_t found;
        find_members(volumes, &groups.list[i], &found);
        if (found == groups.list[i].npvs ? found > 0 : last && found > 0)
            ret = add_group(volumes, &groups.list[i], err);
    }
    for (size_t i = 0; i < groups.count; i++)
        lvm_group_free(&groups.list[i]);
    free(groups.list);
    return ret;
}

const struct volume_scheme lvm_scheme = {.name = "LVM2", .look = look, .gather = gather};
