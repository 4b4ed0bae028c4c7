/* SPDX-License-Identifier: GPL-3.0-or-later */
/* put.c - slots of directories as they will be, kept in memory until the commit and seen by whoever reads a directory;
 * and names: a new entry takes the first run of free slots that is long enough, or the directory becomes longer.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "write.h"

/* ---- slots ---- */

/* The first change that is not before `at`. */
static size_t find_change(const struct fat_writer *w, uint64_t at) {
    size_t low = 0, high = w->change_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->changes[middle].at < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct fat_change *fat_changed_slot(const struct fat *fat, uint64_t at) {
    const struct fat_writer *w = fat->writer;
    if (!w || !w->change_count)
        return NULL;
    size_t index = find_change(w, at);
    return index < w->change_count && w->changes[index].at == at ? &w->changes[index] : NULL;
}

int fat_put_slot(struct fat *fat, uint64_t at, const struct fat_slot *slot, enum fat_phase phase,
                 struct img_error *err) {
    struct fat_writer *w = fat->writer;
    size_t index = find_change(w, at);
    if (index == w->change_count || w->changes[index].at != at) {
        if (w->change_count == w->change_room) {
            size_t room = w->change_room ? 2 * w->change_room : 64;
            struct fat_change *larger = realloc(w->changes, room * sizeof(*larger));
            if (!larger)
                return fail_no_memory(err);
            w->changes = larger;
            w->change_room = room;
        }
        memmove(w->changes + index + 1, w->changes + index, (w->change_count - index) * sizeof(*w->changes));
        w->change_count++;
    }
    w->changes[index] = (struct fat_change){at, phase, *slot};
    return 0;
}

/* Slots that lie one after the other are written at once: those in one sector appear together. */
int fat_write_slots(struct fat *fat, enum fat_phase phase, bool *any, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    struct fat_slot run[128];
    *any = false;
    for (size_t i = 0; i < w->change_count;) {
        size_t count = 0;
        uint64_t at = w->changes[i].at;
        while (i < w->change_count && count < 128 && w->changes[i].phase == phase &&
               w->changes[i].at == at + count * FAT_SLOT)
            run[count++] = w->changes[i++].slot;
        if (!count) {
            i++;
            continue;
        }
        int ret = device_write(fat->fs.device, run, count * FAT_SLOT, at, err);
        if (ret < 0)
            return ret;
        *any = true;
    }
    return 0;
}

/* ---- adding ---- */

/* Another cluster for a directory that has been read to its end, zeroed on the disk before anything names it. */
static int lengthen(struct fat_dir *dir, struct img_error *err) {
    struct fat *fat = dir->fat;
    uint32_t cluster = 0, size = fat->geometry.cluster_size;
    uint64_t at = 0;
    if (!dir->chain.cluster)
        return fail(err, -ENOSPC, "The directory has no room for another entry");
    if (dir->slots + size / FAT_SLOT > FAT_SLOTS_MOST)
        return fail(err, -ENOSPC, "The directory has as many entries as FAT allows");
    uint8_t *zeroes = calloc(1, size);
    if (!zeroes)
        return fail_no_memory(err);
    int ret = fat_take(fat, dir->chain.cluster, &cluster, err);
    if (ret == 0)
        ret = fat_cluster_at(fat, cluster, &at, err);
    if (ret == 0)
        ret = device_write(fat->fs.device, zeroes, size, at, err);
    free(zeroes);
    return ret;
}

/* The directory at its front, or behind the places that were found last. */
static int begin_search(struct fat *fat, uint64_t ino, bool front, struct fat_dir **dir, struct img_error *err) {
    struct fat_writer *w = fat->writer;
    if (front || !w->room || w->room_ino != ino)
        return fat_dir_open(fat, ino, dir, err);
    *dir = w->room;
    w->room = NULL;
    return 0;
}

static void keep_place(struct fat *fat, uint64_t ino, const struct fat_dir *dir) {
    struct fat_writer *w = fat->writer;
    if (!w->room && !(w->room = malloc(sizeof(*w->room))))
        return;
    *w->room = *dir;
    w->room_ino = ino;
}

/* Places for `need` slots one behind the other; whatever lies behind the end of the directory is free. */
static int search_places(struct fat *fat, uint64_t ino, bool front, unsigned need, uint64_t *places,
                         struct img_error *err) {
    struct fat_dir *dir = NULL;
    struct fat_slot slot = {.attributes = 0};
    static const struct fat_slot end;
    unsigned count = 0;
    bool behind = false;
    uint64_t at;
    int ret = begin_search(fat, ino, front, &dir, err);
    if (ret < 0)
        return ret;
    dir->whole = true;
    while (ret >= 0 && count < need) {
        ret = fat_dir_slot(dir, &slot, &at, err);
        if (ret == 0) {
            ret = lengthen(dir, err);
            continue;
        }
        if (ret < 0)
            break;
        behind = behind || slot.name[0] == FAT_END_OF_DIRECTORY;
        if (behind || slot.name[0] == FAT_DELETED)
            places[count++] = at;
        else
            count = 0;
    }
    if (ret >= 0)
        keep_place(fat, ino, dir);
    if (ret >= 0 && behind) { /* the end moves to the next slot, if there is one */
        ret = fat_dir_slot(dir, &slot, &at, err);
        if (ret > 0 && slot.name[0] != FAT_END_OF_DIRECTORY)
            ret = fat_put_slot(fat, at, &end, FAT_PUT, err);
    }
    free(dir);
    return ret < 0 ? ret : 0;
}

/* Short runs of free slots may have been passed over. */
static int find_places(struct fat *fat, uint64_t ino, unsigned need, uint64_t *places, struct img_error *err) {
    bool front = !fat->writer->room || fat->writer->room_ino != ino;
    int ret = search_places(fat, ino, front, need, places, err);
    return ret == -ENOSPC && !front ? search_places(fat, ino, true, need, places, err) : ret;
}

/* ---- names that a directory may have ---- */

/* As fat_same_name sees it. Longer ones are none. */
static size_t fold(const char *name, size_t length, char folded[FS_NAME_MAX]) {
    length = length < FS_NAME_MAX ? length : FS_NAME_MAX;
    for (size_t i = 0; i < length; i++)
        folded[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    return length;
}

static void add_folded(struct names *names, const char *name, size_t length) {
    char folded[FS_NAME_MAX];
    names_add(names, folded, fold(name, length, folded));
}

static int gather_aliases(struct fat *fat, uint64_t ino, struct names *aliases) {
    struct fat_dir *dir;
    struct fat_slot slot;
    uint64_t at;
    int ret = fat_dir_open(fat, ino, &dir, NULL);
    while (ret >= 0 && (ret = fat_dir_slot(dir, &slot, &at, NULL)) > 0)
        names_add(aliases, slot.name, FAT_SHORT);
    free(dir);
    return ret;
}

static int gather_names(struct fat *fat, uint64_t ino, struct names *names) {
    struct fat_dir *dir = NULL;
    struct fat_entry *entry = malloc(sizeof(*entry));
    int ret = entry ? fat_dir_open(fat, ino, &dir, NULL) : -ENOMEM;
    while (ret >= 0 && (ret = fat_dir_next(dir, entry, NULL)) > 0) {
        add_folded(names, entry->name, entry->length);
        add_folded(names, entry->alias, entry->alias_length);
    }
    free(dir);
    free(entry);
    return ret;
}

bool fat_lacks(struct fat *fat, uint64_t dir, const char *name, size_t length) {
    struct fat_writer *w = fat->writer;
    char folded[FS_NAME_MAX];
    if (w->names.dir != dir && w->room && w->room_ino == dir) { /* the first file may be the last */
        names_begin(&w->names, dir);
        names_begin(&w->aliases, dir);
        if (gather_names(fat, dir, &w->names) < 0 || gather_aliases(fat, dir, &w->aliases) < 0) {
            names_free(&w->names);
            names_free(&w->aliases);
        }
    }
    return names_lack(&w->names, dir, folded, fold(name, length, folded));
}

void fat_forget(struct fat *fat) {
    struct fat_writer *w = fat->writer;
    free(w->room);
    w->room = NULL;
    names_free(&w->names);
    names_free(&w->aliases);
}

static int has_alias(struct fat *fat, uint64_t ino, const uint8_t alias[FAT_SHORT], struct img_error *err) {
    struct fat_dir *dir;
    struct fat_slot slot;
    uint64_t at;
    if (fat->writer->aliases.dir == ino) /* if two should have one number, there are other names enough */
        return !names_lack(&fat->writer->aliases, ino, alias, FAT_SHORT);
    int ret = fat_dir_open(fat, ino, &dir, err);
    while (ret >= 0 && (ret = fat_dir_slot(dir, &slot, &at, err)) > 0)
        if (!(slot.attributes & FAT_VOLUME) && memcmp(slot.name, alias, FAT_SHORT) == 0)
            break;
    free(dir);
    return ret;
}

/* A short name that nobody has. After a few tries the numbers are drawn from the name, so that a directory of names
 * that begin alike is not searched once for each of them. */
static int choose_alias(struct fat *fat, uint64_t dir, const uint16_t *units, size_t count, uint8_t alias[FAT_SHORT],
                        bool *exact, struct img_error *err) {
    bool fits = fat_alias_of(units, count, 0, alias, exact);
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ units[i]) * 16777619u;
    for (unsigned i = fits ? 0 : 1; i < 1000; i++) {
        unsigned number = i < 5 ? i : 10000 + hash % 90000;
        hash = hash * 1664525u + 1013904223u;
        fat_alias_of(units, count, number, alias, exact);
        int ret = has_alias(fat, dir, alias, err);
        if (ret <= 0)
            return ret;
    }
    return fail(err, -ENOSPC, "There is no short name left for the file");
}

static void put_part(struct fat_long_slot *part, const uint16_t *units, size_t count, size_t from) {
    uint8_t *places[] = {part->units_1, part->units_2, part->units_3};
    static const unsigned room[] = {5, 6, 2};
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < room[i]; k++, from++) {
            uint16_t unit = from < count ? units[from] : from == count ? 0 : 0xffff;
            places[i][2 * k] = (uint8_t)unit;
            places[i][2 * k + 1] = (uint8_t)(unit >> 8);
        }
    }
}

int fat_add_entry(struct fat *fat, uint64_t dir, const char *name, size_t length, const struct fat_slot *slot,
                  uint64_t *ino, struct img_error *err) {
    uint16_t units[255];
    uint64_t places[FAT_LONG_SLOTS + 1] = {0};
    struct fat_slot last = *slot;
    bool exact;
    size_t count = fat_units_of(name, length, units);
    if (!count)
        return fail(err, -EINVAL, "FAT has no such names");
    int ret = choose_alias(fat, dir, units, count, last.name, &exact, err);
    unsigned parts = exact ? 0 : (unsigned)((count + FAT_LONG_UNITS - 1) / FAT_LONG_UNITS);
    last.lower = 0;
    if (ret == 0)
        ret = find_places(fat, dir, parts + 1, places, err);
    for (unsigned i = 0; i < parts && ret == 0; i++) {
        unsigned order = parts - i;
        struct fat_slot part = {.attributes = FAT_LONG};
        struct fat_long_slot *as_part = (struct fat_long_slot *)&part;
        as_part->order = (uint8_t)(order | (i ? 0 : FAT_LONG_FIRST));
        as_part->checksum = fat_checksum(last.name);
        put_part(as_part, units, count, (size_t)(order - 1) * FAT_LONG_UNITS);
        ret = fat_put_slot(fat, places[i], &part, FAT_PUT, err);
    }
    if (ret == 0)
        ret = fat_put_slot(fat, places[parts], &last, FAT_PUT, err);
    if (ret < 0)
        return ret;
    *ino = places[parts] / FAT_SLOT;
    if (fat->writer->names.dir == dir) {
        char text[FAT_SHORT_TEXT];
        add_folded(&fat->writer->names, name, length);
        add_folded(&fat->writer->names, text, fat_short_name(&last, text));
        names_add(&fat->writer->aliases, last.name, FAT_SHORT);
    }
    return 0;
}

/* ---- removing ---- */

static int mark_deleted(struct fat *fat, uint64_t at, enum fat_phase phase, struct img_error *err) {
    const struct fat_change *change = fat_changed_slot(fat, at);
    struct fat_slot slot = {.attributes = 0};
    int ret = 0;
    if (change)
        slot = change->slot;
    else
        ret = device_read(fat->fs.device, &slot, sizeof(slot), at, err);
    slot.name[0] = FAT_DELETED;
    return ret < 0 ? ret : fat_put_slot(fat, at, &slot, phase, err);
}

int fat_remove_entry(struct fat *fat, const struct fat_entry *entry, enum fat_phase phase, struct img_error *err) {
    int ret = mark_deleted(fat, entry->at, phase, err);
    fat_forget(fat); /* there is room before, and a directory's number may be another one's next */
    for (unsigned i = 0; i < entry->long_slots && ret == 0; i++)
        ret = mark_deleted(fat, entry->long_at[i], phase, err);
    return ret;
}
