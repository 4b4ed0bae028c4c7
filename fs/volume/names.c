/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.c - a volume by any name that users and a guest's own files have for it (volumes_find).
 *
 * Disks have many names, by position: /dev/vdb2 of a guest with virtio disks, /dev/hdb2 of an old one and
 * /dev/nvme1n1p2 are all the second partition of its second disk. Names of logical volumes have two forms. All others
 * name what is written on the volume: a UUID or label of its content, or of its entry in the partition table.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "volume.h"

#define NAME_MOST 1024

static const char *after(const char *text, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

/* ---- disks and their partitions, by position ---- */

/* "b" in "b2" is 1, "aa" 26; *end stands behind the letters. -1: there are none, or too many. */
static long letters_value(const char *text, const char **end) {
    long value = 0;
    const char *c;
    for (c = text; *c >= 'a' && *c <= 'z' && c - text < 4; c++)
        value = value * 26 + (*c - 'a' + 1);
    *end = c;
    return c == text ? -1 : value - 1;
}

static bool digits(const char *text, size_t *length) {
    *length = strspn(text, "0123456789");
    return *length > 0 && *length < 6;
}

/* nvme1n1 and nvme1n1p2, behind the "nvme" */
static long nvme_value(const char *text, const char **number) {
    size_t length;
    long value = strtol(text, NULL, 10);
    if (!digits(text, &length) || strncmp(text + length, "n1", 2) != 0)
        return -1;
    text += length + 2;
    if (*text)
        return *text == 'p' && digits(text + 1, &length) ? (*number = text + 1, value) : -1;
    *number = text;
    return value;
}

/* The disk that a name stands for and the digits behind it. -1: it is no name of a disk. */
static long disk_position(const char *name, const char **number) {
    static const char *const prefixes[] = {"/dev/sd", "/dev/vd", "/dev/hd", "/dev/xvd"};
    const char *rest = after(name, "/dev/nvme");
    if (rest)
        return nvme_value(rest, number);
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if ((rest = after(name, prefixes[i])))
            return letters_value(rest, number);
    return -1;
}

static struct volume *by_position(const struct volumes *volumes, const char *name) {
    const char *digits_of = "";
    size_t length;
    long position = disk_position(name, &digits_of), disk = -1;
    if (position < 0 || (*digits_of && (!digits(digits_of, &length) || digits_of[length])))
        return NULL;
    unsigned long number = strtoul(digits_of, NULL, 10);
    struct volume *found = NULL;
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        if (volume->kind == VOLUME_DISK && ++disk == position)
            found = volume;
    }
    if (!found || !*digits_of)
        return found;
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        if (volume->kind == VOLUME_PARTITION && volume->parents[0] == found && volume->number == number)
            return volume;
    }
    return NULL;
}

/* ---- what is written on a volume ---- */

/* What stands in quotes, or all of it; udev's \xNN for a byte is undone if it is a path of /dev/disk. */
static bool take_value(const char *text, bool escaped, char out[NAME_MOST]) {
    size_t length = strlen(text), n = 0;
    char quote = *text;
    if (length >= 2 && (quote == '"' || quote == '\'') && text[length - 1] == quote) {
        text++;
        length -= 2;
    }
    if (length >= NAME_MOST)
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        if (escaped && length - i >= 4 && text[i] == '\\' && text[i + 1] == 'x' &&
            isxdigit((unsigned char)text[i + 2]) && isxdigit((unsigned char)text[i + 3]) &&
            sscanf(text + i + 2, "%2x", &byte) == 1) {
            out[n++] = (char)byte;
            i += 3;
        } else {
            out[n++] = text[i];
        }
    }
    out[n] = '\0';
    return n > 0;
}

static bool has_uuid(const struct volume *volume, const char *value) {
    return strcasecmp(volume->content.uuid, value) == 0;
}
static bool has_label(const struct volume *volume, const char *value) {
    return strcmp(volume->content.label, value) == 0;
}
static bool has_part_uuid(const struct volume *volume, const char *value) {
    return strcasecmp(volume->part_uuid, value) == 0;
}
static bool has_part_label(const struct volume *volume, const char *value) {
    return strcmp(volume->part_label, value) == 0;
}

/* Members of something bigger have that one's UUID: they are asked last. */
static struct volume *by_content(const struct volumes *volumes, const char *name) {
    static const struct {
        const char *tag, *folder;
        bool (*has)(const struct volume *volume, const char *value);
    } kinds[] = {
        {"UUID=", "/dev/disk/by-uuid/", has_uuid},
        {"LABEL=", "/dev/disk/by-label/", has_label},
        {"PARTUUID=", "/dev/disk/by-partuuid/", has_part_uuid},
        {"PARTLABEL=", "/dev/disk/by-partlabel/", has_part_label},
    };
    struct volume *member = NULL;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        char value[NAME_MOST];
        const char *tagged = after(name, kinds[k].tag), *path = after(name, kinds[k].folder);
        if ((!tagged && !path) || !take_value(tagged ? tagged : path, path, value))
            continue;
        for (size_t i = 0; i < volumes_count(volumes); i++) {
            struct volume *volume = volumes_get(volumes, i);
            if (!kinds[k].has(volume, value) || volume->divided)
                continue;
            if (volume->content.kind != PROBE_CONTAINER)
                return volume;
            member = member ? member : volume;
        }
    }
    return member;
}

/* ---- logical volumes ---- */

/* Device-mapper's name of /dev/VG/LV: "VG-LV", with every dash of either doubled. */
static void mapper_name(const char *path, char out[NAME_MOST]) {
    size_t n = 0;
    for (const char *c = path + strlen("/dev/"); *c && n < NAME_MOST - 2; c++) {
        if (*c == '-')
            out[n++] = '-';
        out[n++] = (char)(*c == '/' ? '-' : *c);
    }
    out[n] = '\0';
}

/* LVM's UUID in device-mapper: of the group and of the volume, one behind the other without dashes. */
static void mapper_uuid(const struct volume *volume, char out[NAME_MOST]) {
    size_t n = (size_t)snprintf(out, NAME_MOST, "%s", volume->parents[0]->uuid);
    for (const char *c = volume->uuid; *c; c++)
        if (*c != '-')
            out[n++] = *c;
    out[n] = '\0';
}

static struct volume *by_mapper(const struct volumes *volumes, const char *name) {
    const char *mapped = after(name, "/dev/mapper/"), *uuid = after(name, "/dev/disk/by-id/dm-uuid-LVM-");
    if (!mapped)
        mapped = after(name, "/dev/disk/by-id/dm-name-");
    for (size_t i = 0; (mapped || uuid) && i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        char text[NAME_MOST];
        if (volume->kind != VOLUME_LOGICAL)
            continue;
        if (uuid)
            mapper_uuid(volume, text);
        else
            mapper_name(volume->name, text);
        if (strcmp(text, uuid ? uuid : mapped) == 0)
            return volume;
    }
    return NULL;
}

struct volume *volumes_find(const struct volumes *volumes, const char *name) {
    struct volume *found;
    for (size_t i = 0; i < volumes_count(volumes); i++)
        if (strcmp(volumes_get(volumes, i)->name, name) == 0)
            return volumes_get(volumes, i);
    if ((found = by_position(volumes, name)) || (found = by_mapper(volumes, name)))
        return found;
    return by_content(volumes, name);
}
