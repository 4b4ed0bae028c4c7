/* SPDX-License-Identifier: GPL-3.0-or-later */
/* md.c - Linux software arrays (MD): mirrors, stripes and linear ones, of superblock versions 0.90 and 1.
 *
 * Every member tells its array's UUID, its own role, and how many events the array has had; those of the newest count.
 * A mirror is read from members that are as new and not still being filled. Stripes and linear arrays need all of
 * theirs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "../ondisk.h"
#include "map.h"
#include "volume.h"

#define MAGIC 0xa92b4efcu
#define SUPERBLOCK 4096
#define MEMBERS_MOST 64
#define HAS_RECOVERY 2u /* feature: it is still being filled */
#define RESHAPES 4u
#define FIRST_MINOR 127 /* of an array that has no number of its own; the next one has the number below */

enum level { LINEAR = -1, STRIPES = 0, MIRROR = 1 };

struct member {
    struct volume *volume;
    uint8_t uuid[16];
    int32_t level;
    uint32_t disks, role;
    uint64_t start, length; /* of its data, bytes */
    uint64_t size;          /* of a mirror, bytes */
    uint64_t chunk;         /* bytes */
    uint64_t events;
    bool filling, reshaping;
    int minor; /* -1: it has none */
};

struct array {
    struct member members[MEMBERS_MOST];
    unsigned count;
};

/* ---- superblocks ---- */

static uint32_t sum_words(const uint8_t *sb, size_t bytes, size_t sum_at) {
    uint64_t sum = 0;
    for (size_t at = 0; at + 4 <= bytes; at += 4)
        if (at != sum_at)
            sum += get_le32(sb + at);
    if (bytes % 4 == 2)
        sum += get_le16(sb + bytes - 2);
    return (uint32_t)sum + (uint32_t)(sum >> 32);
}

static bool read_version_1(struct volume *v, uint64_t at, struct member *m) {
    uint8_t sb[SUPERBLOCK];
    if (device_read(v->device, sb, sizeof(sb), at, NULL) < 0 || get_le32(sb) != MAGIC || get_le32(sb + 4) != 1 ||
        get_le64(sb + 144) != at / 512)
        return false;
    uint32_t roles = get_le32(sb + 220), number = get_le32(sb + 160), features = get_le32(sb + 8);
    if (roles > (SUPERBLOCK - 256) / 2 || number >= roles ||
        sum_words(sb, 256 + 2 * (size_t)roles, 216) != get_le32(sb + 216))
        return false;
    *m = (struct member){.volume = v,
                         .level = (int32_t)get_le32(sb + 72),
                         .disks = get_le32(sb + 92),
                         .role = get_le16(sb + 256 + 2 * (size_t)number),
                         .chunk = (uint64_t)get_le32(sb + 88) * 512,
                         .events = get_le64(sb + 200),
                         .filling = features & HAS_RECOVERY,
                         .reshaping = features & RESHAPES,
                         .minor = -1};
    memcpy(m->uuid, sb + 16, sizeof(m->uuid));
    return !__builtin_mul_overflow(get_le64(sb + 128), UINT64_C(512), &m->start) &&
           !__builtin_mul_overflow(get_le64(sb + 136), UINT64_C(512), &m->length) &&
           !__builtin_mul_overflow(get_le64(sb + 80), UINT64_C(512), &m->size);
}

static bool read_version_0(struct volume *v, uint64_t at, struct member *m) {
    uint8_t sb[SUPERBLOCK];
    if (device_read(v->device, sb, sizeof(sb), at, NULL) < 0 || get_le32(sb) != MAGIC || get_le32(sb + 4) != 0 ||
        sum_words(sb, sizeof(sb), 152) != get_le32(sb + 152))
        return false;
    *m = (struct member){.volume = v,
                         .level = (int32_t)get_le32(sb + 28),
                         .disks = get_le32(sb + 40),
                         .role = get_le32(sb + 3968 + 12),
                         .length = at,
                         .size = (uint64_t)get_le32(sb + 32) * 1024,
                         .chunk = get_le32(sb + 260),
                         .events = get_le64(sb + 156),
                         .reshaping = get_le32(sb + 8) > 90,
                         .minor = (int)(get_le32(sb + 44) & 0xffff)};
    memcpy(m->uuid, sb + 20, 4);
    memcpy(m->uuid + 4, sb + 52, 12);
    return true;
}

static bool read_member(struct volume *v, struct member *m) {
    uint64_t size = v->size;
    if (size < 128 << 10)
        return false;
    return (read_version_1(v, 0, m) || read_version_1(v, 4096, m) ||
            read_version_1(v, (size / 512 - 16) / 8 * 8 * 512, m) ||
            read_version_0(v, size / 65536 * 65536 - 65536, m)) &&
           m->start <= size && m->length <= size - m->start;
}

/* ---- arrays ---- */

static bool is_free(const struct volumes *volumes, const struct volume *member) {
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        const struct volume *v = volumes_get(volumes, i);
        for (size_t p = 0; v->kind == VOLUME_RAID && p < v->nparents; p++)
            if (v->parents[p] == member)
                return false;
    }
    return true;
}

static bool is_known(const struct volumes *volumes, const struct member *member) {
    char uuid[37];
    uuid_text(member->uuid, uuid);
    for (size_t i = 0; i < volumes_count(volumes); i++)
        if (volumes_get(volumes, i)->kind == VOLUME_RAID && strcmp(volumes_get(volumes, i)->uuid, uuid) == 0)
            return true;
    return false;
}

/* Do both say the same of their array? */
static bool same_shape(const struct member *a, const struct member *b) {
    return a->disks == b->disks && a->level == b->level;
}

/* All free members of the array that has `first`, each role once, none that is older than the newest, or that says
 * something else of the array than the first. */
static void find_members(const struct volumes *volumes, size_t first, struct array *array) {
    uint64_t newest = 0;
    array->count = 0;
    for (size_t i = first; i < volumes_count(volumes) && array->count < MEMBERS_MOST; i++) {
        struct member *m = &array->members[array->count];
        struct volume *v = volumes_get(volumes, i);
        if (!volume_holds(v, "linux_raid_member") || !is_free(volumes, v) || !read_member(v, m) ||
            memcmp(m->uuid, array->members[0].uuid, sizeof(m->uuid)) != 0)
            continue;
        if (m->events > newest)
            newest = m->events;
        array->count++;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < array->count; i++) {
        bool twice = false;
        for (unsigned k = 0; k < kept; k++)
            twice |= array->members[k].role == array->members[i].role;
        if (kept > 0 && !same_shape(&array->members[0], &array->members[i]))
            continue;
        if (array->members[i].events == newest && array->members[i].role < array->members[i].disks && !twice)
            array->members[kept++] = array->members[i];
    }
    array->count = kept;
}

static struct member *with_role(struct array *array, uint32_t role) {
    for (unsigned i = 0; i < array->count; i++)
        if (array->members[i].role == role)
            return &array->members[i];
    return NULL;
}

static int map_mirror(struct array *array, struct device *map, struct img_error *err) {
    struct map_part parts[MEMBERS_MOST];
    struct map_run run = {.kind = MAP_COPIES, .parts = parts, .length = array->members[0].size};
    for (uint32_t role = 0; role < array->members[0].disks; role++) {
        struct member *m = with_role(array, role);
        if (m && !m->filling && m->length >= run.length)
            parts[run.nparts++] = (struct map_part){m->volume->device, m->start};
    }
    if (run.nparts == 0 || run.length == 0)
        return fail(err, -ENODEV, "None of its copies is complete");
    return map_append(map, &run, err);
}

static int map_stripes(struct array *array, struct device *map, struct img_error *err) {
    struct map_part parts[MEMBERS_MOST];
    uint32_t disks = array->members[0].disks;
    struct map_run run = {.kind = MAP_STRIPED, .parts = parts, .nparts = disks, .chunk = array->members[0].chunk};
    uint64_t each = 0;
    if (run.chunk == 0 || run.chunk % 512 != 0)
        return fail(err, -EUCLEAN, "It has chunks of %" PRIu64 " bytes", run.chunk);
    for (uint32_t role = 0; role < disks; role++) {
        struct member *m = with_role(array, role);
        uint64_t length = m->length / run.chunk * run.chunk;
        if (role > 0 && length != each)
            return fail(err, -ENOTSUP, "Its stripes have different lengths, which is not read");
        each = length;
        parts[role] = (struct map_part){m->volume->device, m->start};
    }
    if (each == 0 || __builtin_mul_overflow(each, (uint64_t)disks, &run.length))
        return fail(err, -EUCLEAN, "It has %" PRIu32 " stripes of %" PRIu64 " bytes", disks, each);
    return map_append(map, &run, err);
}

static int map_linear(struct array *array, struct device *map, struct img_error *err) {
    int ret = 0;
    for (uint32_t role = 0; role < array->members[0].disks && ret == 0; role++) {
        struct member *m = with_role(array, role);
        struct map_part part = {m->volume->device, m->start};
        struct map_run run = {.kind = MAP_STRIPED, .parts = &part, .nparts = 1, .length = m->length};
        if (m->chunk)
            run.length -= run.length % m->chunk;
        if (run.length > 0)
            ret = map_append(map, &run, err);
    }
    return ret;
}

static int map_array(struct array *array, struct device *map, struct img_error *err) {
    const struct member *m = &array->members[0];
    if (m->reshaping)
        return fail(err, -ENOTSUP, "It is being reshaped, which is not read");
    if (m->level != MIRROR && m->level != STRIPES && m->level != LINEAR)
        return fail(err, -ENOTSUP, "It is an array of level %" PRId32 ", which is not read", m->level);
    if (m->level != MIRROR && array->count < m->disks)
        return fail(err, -ENODEV, "Only %u of its %" PRIu32 " members are there", array->count, m->disks);
    return m->level == MIRROR    ? map_mirror(array, map, err)
           : m->level == STRIPES ? map_stripes(array, map, err)
                                 : map_linear(array, map, err);
}

static void array_name(const struct volumes *volumes, const struct array *array, char name[32]) {
    int minor = array->members[0].minor;
    if (minor >= 0)
        snprintf(name, 32, "/dev/md%d", minor);
    for (int n = FIRST_MINOR; (minor < 0 || volumes_find(volumes, name)) && n >= 0; n--) {
        snprintf(name, 32, "/dev/md%d", n);
        minor = n;
    }
}

static int add_array(struct volumes *volumes, struct array *array, struct img_error *err) {
    struct device *map = NULL;
    struct img_error why = {0};
    struct volume *volume;
    char name[32];
    int ret = map_new(&map, err);
    if (ret < 0)
        return ret;
    ret = map_array(array, map, &why);
    if (ret == -ENOMEM)
        fail_no_memory(err);
    if (ret < 0) {
        device_close(map);
        map = NULL;
    }
    if (ret == -ENOMEM)
        return ret;
    bool short_of = array->count < array->members[0].disks;
    if (map && short_of)
        map->writable = false; /* the members that are not here would not follow */
    array_name(volumes, array, name);
    ret = volumes_add(volumes, VOLUME_RAID, name, map, NULL, &volume, err);
    for (unsigned i = 0; i < array->count && ret == 0; i++)
        ret = volume_add_parent(volume, array->members[i].volume, err);
    if (ret < 0)
        return ret;
    uuid_text(array->members[0].uuid, volume->uuid);
    if (!map)
        volume_trouble(volume, "%s", why.text);
    else if (short_of)
        volume_trouble(volume, "Only %u of its %" PRIu32 " members are there", array->count, array->members[0].disks);
    return 0;
}

static int gather(struct volumes *volumes, bool last, struct img_error *err) {
    struct array *array = malloc(sizeof(*array));
    int ret = array ? 0 : fail_no_memory(err);
    size_t count = volumes_count(volumes);
    for (size_t i = 0; i < count && ret == 0; i++) {
        struct volume *v = volumes_get(volumes, i);
        if (!volume_holds(v, "linux_raid_member") || !is_free(volumes, v) || !read_member(v, &array->members[0]) ||
            is_known(volumes, &array->members[0]))
            continue;
        find_members(volumes, i, array);
        if (array->count > 0 && array->members[0].disks <= MEMBERS_MOST &&
            (array->count == array->members[0].disks || last))
            ret = add_array(volumes, array, err);
    }
    free(array);
    return ret;
}

const struct volume_scheme md_scheme = {.name = "MD", .gather = gather};
