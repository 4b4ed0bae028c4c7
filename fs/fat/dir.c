/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dir.c - directories: a row of slots, through a chain of clusters or, the root of FAT12 and 16, in a place of its own.
 *
 * A file is one slot, and before it the slots of its long name, last part first. These count only if they are all
 * there, in order and with the checksum of the short name in the slot behind them: whoever knew nothing of long names
 * may have put another file there. If not, the file has its short name. As in the specification a row ends with the
 * first slot that was never used, whatever may lie behind it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "fat.h"
#include "write.h"

uint32_t fat_first_cluster(const struct fat *fat, const struct fat_slot *slot) {
    uint32_t high = fat->geometry.bits == 32 ? (uint32_t)fat_get16(slot->cluster_high) << 16 : 0;
    return high | fat_get16(slot->cluster_low);
}

/* ---- one slot ---- */

static bool can_hold_slots(const struct fat_geometry *g, uint64_t at) {
    if (at >= g->root && at < g->root + g->root_size)
        return true;
    return at >= g->data && (at - g->data) / g->cluster_size < g->clusters;
}

static bool is_file(const struct fat_slot *slot) {
    return slot->name[0] != FAT_END_OF_DIRECTORY && slot->name[0] != FAT_DELETED && !(slot->attributes & FAT_VOLUME);
}

int fat_find_slot(struct fat *fat, uint64_t ino, struct fat_slot *slot, struct img_error *err) {
    uint64_t at, device_size = fat->fs.device->size;
    *slot = (struct fat_slot){0};
    if (__builtin_mul_overflow(ino, (uint64_t)FAT_SLOT, &at) || !can_hold_slots(&fat->geometry, at) ||
        at > device_size || device_size - at < FAT_SLOT)
        return fail(err, -ENOENT, "FAT%u: there is no file with the number %" PRIu64, fat->geometry.bits, ino);
    if (!fat->block_count || at < fat->block_at || at - fat->block_at >= fat->block_count) {
        uint64_t start = at / sizeof(fat->block) * sizeof(fat->block), left = device_size - start;
        size_t count = left < sizeof(fat->block) ? (size_t)left / FAT_SLOT * FAT_SLOT : sizeof(fat->block);
        fat->block_count = 0;
        int ret = device_read(fat->fs.device, fat->block, count, start, err);
        if (ret < 0)
            return ret;
        fat->block_at = start;
        fat->block_count = count;
    }
    const struct fat_change *change = fat_changed_slot(fat, at);
    memcpy(slot, change ? (const void *)&change->slot : fat->block + (at - fat->block_at), sizeof(*slot));
    if (!is_file(slot))
        return fail(err, -ENOENT, "FAT%u: there is no file with the number %" PRIu64, fat->geometry.bits, ino);
    return 0;
}

/* ---- the slots of a directory ---- */

/* The first cluster of a directory; 0: it has none, or is a root without clusters. */
static int find_start(struct fat *fat, uint64_t ino, uint32_t *cluster, struct img_error *err) {
    struct fat_slot slot;
    *cluster = fat->geometry.root_cluster;
    if (ino == FAT_ROOT)
        return 0;
    int ret = fat_find_slot(fat, ino, &slot, err);
    if (ret < 0)
        return ret;
    if (!fat_is_directory(&slot))
        return fail(err, -ENOTDIR, "FAT%u: the file with the number %" PRIu64 " is not a directory", fat->geometry.bits,
                    ino);
    *cluster = fat_first_cluster(fat, &slot);
    return 0;
}

static int enter_cluster(struct fat_dir *dir, struct img_error *err) {
    int ret = fat_cluster_at(dir->fat, dir->chain.cluster, &dir->at, err);
    dir->end = dir->at + dir->fat->geometry.cluster_size;
    return ret;
}

static int begin(struct fat_dir *dir, uint64_t ino, struct img_error *err) {
    const struct fat_geometry *g = &dir->fat->geometry;
    uint32_t first;
    int ret = find_start(dir->fat, ino, &first, err);
    if (ret == 0 && (first || (ino == FAT_ROOT && g->bits == 32))) {
        ret = fat_chain_start(dir->fat, first, &dir->chain, err);
        return ret < 0 ? ret : enter_cluster(dir, err);
    }
    if (ret == 0 && ino == FAT_ROOT) {
        dir->at = g->root;
        dir->end = g->root + g->root_size;
    }
    return ret;
}

int fat_dir_open(struct fat *fat, uint64_t ino, struct fat_dir **dir, struct img_error *err) {
    struct fat_dir *d = calloc(1, sizeof(*d));
    *dir = NULL;
    if (!d)
        return fail_no_memory(err);
    d->fat = fat;
    int ret = begin(d, ino, err);
    if (ret < 0) {
        free(d);
        return ret;
    }
    *dir = d;
    return 0;
}

static int too_long(const struct fat *fat, struct img_error *err) {
    return fail(err, -EUCLEAN, "FAT%u: a directory of more than %u entries", fat->geometry.bits, FAT_SLOTS_MOST);
}

/* Makes dir->at a slot: 1, or 0 behind the last. */
static int reach_slot(struct fat_dir *dir, struct img_error *err) {
    if (dir->at == dir->end) {
        int ret = dir->chain.cluster ? fat_chain_step(dir->fat, &dir->chain, err) : 0;
        if (ret > 0)
            ret = enter_cluster(dir, err) < 0 ? -EUCLEAN : 1;
        if (ret <= 0)
            return ret;
    }
    if (dir->slots == FAT_SLOTS_MOST)
        return too_long(dir->fat, err);
    return 1;
}

int fat_dir_slot(struct fat_dir *dir, struct fat_slot *slot, uint64_t *at, struct img_error *err) {
    int ret = reach_slot(dir, err);
    if (ret <= 0)
        return ret;
    if (dir->at < dir->buffer_at || dir->at - dir->buffer_at >= dir->buffer_count) {
        uint64_t left = dir->end - dir->at;
        dir->buffer_count = 0;
        size_t count = left < sizeof(dir->buffer) ? (size_t)left : sizeof(dir->buffer);
        ret = device_read(dir->fat->fs.device, dir->buffer, count, dir->at, err);
        if (ret < 0)
            return ret;
        dir->buffer_at = dir->at;
        dir->buffer_count = count;
    }
    const struct fat_change *change = fat_changed_slot(dir->fat, dir->at);
    memcpy(slot, change ? (const void *)&change->slot : dir->buffer + (dir->at - dir->buffer_at), sizeof(*slot));
    if (slot->name[0] == FAT_END_OF_DIRECTORY && !dir->whole)
        return 0;
    *at = dir->at;
    dir->at += FAT_SLOT;
    dir->slots++;
    return 1;
}

int fat_dir_size(struct fat *fat, uint64_t ino, uint64_t *size, struct img_error *err) {
    const struct fat_geometry *g = &fat->geometry;
    struct fat_chain chain;
    uint32_t first;
    *size = ino == FAT_ROOT ? g->root_size : 0;
    int ret = find_start(fat, ino, &first, err);
    if (ret < 0 || (!first && !(ino == FAT_ROOT && g->bits == 32)))
        return ret;
    ret = fat_chain_start(fat, first, &chain, err);
    if (ret < 0)
        return ret;
    do {
        *size += g->cluster_size;
        if (*size > (uint64_t)FAT_SLOTS_MOST * FAT_SLOT)
            return too_long(fat, err);
        ret = fat_chain_step(fat, &chain, err);
    } while (ret > 0);
    return ret;
}

/* ---- files ---- */

struct long_name {
    unsigned slots; /* in all; 0: none is being put together */
    unsigned left;  /* to come before the short name */
    uint8_t checksum;
    uint64_t at[FAT_LONG_SLOTS];
    uint16_t units[FAT_LONG_SLOTS * FAT_LONG_UNITS];
};

static void take_units(uint16_t *units, const struct fat_long_slot *part) {
    for (unsigned i = 0; i < 5; i++)
        units[i] = fat_get16(part->units_1 + 2 * i);
    for (unsigned i = 0; i < 6; i++)
        units[5 + i] = fat_get16(part->units_2 + 2 * i);
    for (unsigned i = 0; i < 2; i++)
        units[11 + i] = fat_get16(part->units_3 + 2 * i);
}

/* A part that does not continue the name before it begins another one, if it is a first part, or none. */
static void take_part(struct long_name *name, const struct fat_slot *slot, uint64_t at) {
    const struct fat_long_slot *part = (const struct fat_long_slot *)slot;
    unsigned number = part->order & (FAT_LONG_FIRST - 1);
    if (part->order & FAT_LONG_FIRST) {
        bool fits = number && number <= FAT_LONG_SLOTS;
        *name = (struct long_name){.slots = fits ? number : 0, .left = number, .checksum = part->checksum};
    } else if (name->slots && (number != name->left || part->checksum != name->checksum)) {
        name->slots = 0;
    }
    if (!name->slots || !name->left)
        return;
    take_units(name->units + (size_t)(number - 1) * FAT_LONG_UNITS, part);
    name->at[name->slots - name->left] = at;
    name->left--;
}

static void take_names(struct fat_entry *entry, const struct long_name *name) {
    entry->alias_length = fat_short_name(&entry->slot, entry->alias);
    entry->length = 0;
    entry->long_slots = 0;
    if (name->slots && !name->left && name->checksum == fat_checksum(entry->slot.name)) {
        entry->long_slots = name->slots;
        memcpy(entry->long_at, name->at, sizeof(name->at));
        entry->length = fat_long_name(name->units, (size_t)name->slots * FAT_LONG_UNITS, entry->name);
    }
    if (!entry->length) {
        memcpy(entry->name, entry->alias, sizeof(entry->alias));
        entry->length = entry->alias_length;
    }
}

static bool is_dot(const struct fat_slot *slot) {
    return memcmp(slot->name, ".          ", FAT_SHORT) == 0 || memcmp(slot->name, "..         ", FAT_SHORT) == 0;
}

int fat_dir_next(struct fat_dir *dir, struct fat_entry *entry, struct img_error *err) {
    struct long_name name = {0};
    int ret;
    while ((ret = fat_dir_slot(dir, &entry->slot, &entry->at, err)) > 0) {
        if (entry->slot.attributes == FAT_LONG && entry->slot.name[0] != FAT_DELETED) {
            take_part(&name, &entry->slot, entry->at);
            continue;
        }
        if (is_file(&entry->slot) && !is_dot(&entry->slot)) {
            take_names(entry, &name);
            if (entry->length)
                return 1;
        }
        name.slots = 0;
    }
    return ret;
}

/* By the long name or the short one. Dots behind a name do not count. */
int fat_find_entry(struct fat *fat, uint64_t dir, const char *name, size_t length, struct fat_entry *entry,
                   struct img_error *err) {
    struct fat_dir *d;
    while (length && name[length - 1] == '.')
        length--;
    if (fat->writer && fat_lacks(fat, dir, name, length))
        return fail(err, -ENOENT, "There is no such file in the directory");
    int ret = fat_dir_open(fat, dir, &d, err);
    while (ret >= 0 && (ret = fat_dir_next(d, entry, err)) > 0) {
        if (fat_same_name(name, length, entry->alias, entry->alias_length) ||
            fat_same_name(name, length, entry->name, entry->length))
            break;
    }
    free(d);
    if (ret == 0)
        return fail(err, -ENOENT, "There is no such file in the directory");
    return ret < 0 ? ret : 0;
}
