/* SPDX-License-Identifier: GPL-3.0-or-later */
/* device.c - the device of an fstab line as a volume. What a name says by itself volumes_find knows; here are the names
 * that need another file of the guest (a key's mapping in crypttab, an array in mdadm.conf), its type of system, or the
 * assumption that it has one disk.
 *
 * Each line of fstab may walk over one of those files and then look for one volume, no more: the first line of a name
 * decides.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

/* "UUID=..." with its quotes resolved. */
static struct volume *find_unquoted(const struct volumes *volumes, const char *name) {
    char *plain = span_unquoted(span_of(name));
    struct volume *volume = plain ? volumes_find(volumes, plain) : NULL;
    free(plain);
    return volume;
}

/* What was opened of `locked`; NULL: nothing. */
static struct volume *opened_from(const struct volumes *volumes, const struct volume *locked) {
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        for (size_t p = 0; volume->kind == VOLUME_CRYPT && p < volume->nparents; p++)
            if (volume->parents[p] == locked)
                return volume;
    }
    return NULL;
}

/* A line of crypttab: the mapping's name, its device, the key file, options. */
static struct volume *find_mapping(struct span crypttab, const struct volumes *volumes, const char *name) {
    struct span line, word, device;
    while (span_line(&crypttab, &line)) {
        if (!span_word(&line, &word) || !span_is(word, name) || !span_word(&line, &device))
            continue;
        char *text = span_copy(device);
        struct volume *locked = text ? find_unquoted(volumes, text) : NULL;
        free(text);
        return locked ? opened_from(volumes, locked) : NULL;
    }
    return NULL;
}

/* The digits of an array's UUID, however they are grouped. */
static bool same_digits(struct span a, const char *b) {
    for (;;) {
        while (a.length > 0 && strchr(":.- ", a.at[0]))
            a.at++, a.length--;
        while (*b && strchr(":.- ", *b))
            b++;
        if (a.length == 0 || !*b)
            return a.length == 0 && !*b;
        if ((a.at[0] | 0x20) != (*b | 0x20))
            return false;
        a.at++, a.length--, b++;
    }
}

static struct volume *array_of_uuid(const struct volumes *volumes, struct span uuid) {
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        if (volume->kind == VOLUME_RAID && volume->uuid[0] && same_digits(uuid, volume->uuid))
            return volume;
    }
    return NULL;
}

/* "ARRAY /dev/md0 metadata=1.2 UUID=...": the array of this UUID, whatever it is called here. */
static struct volume *find_array(struct span mdadm, const struct volumes *volumes, const char *name) {
    struct span line, word;
    while (span_line(&mdadm, &line)) {
        if (!span_word(&line, &word) || !span_is(word, "ARRAY") || !span_word(&line, &word) || !span_is(word, name))
            continue;
        while (span_word(&line, &word))
            if (span_skip(&word, "UUID=") || span_skip(&word, "uuid="))
                return array_of_uuid(volumes, word);
        return NULL;
    }
    return NULL;
}

static struct volume *only_disk(const struct volumes *volumes) {
    struct volume *disk = NULL;
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        if (volume->kind == VOLUME_DISK && disk)
            return NULL;
        if (volume->kind == VOLUME_DISK)
            disk = volume;
    }
    return disk;
}

static struct volume *partition_of(const struct volumes *volumes, const struct volume *disk, unsigned number) {
    for (size_t i = 0; disk && i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        if (volume->kind == VOLUME_PARTITION && volume->number == number && volume->nparents > 0 &&
            volume->parents[0] == disk)
            return volume;
    }
    return NULL;
}

/* "/dev/disk/by-id/virtio-1234-part2": the serial number says nothing here, but a guest with one disk means that. */
static struct volume *find_by_hardware(const struct volumes *volumes, struct span name) {
    struct span rest, number = {0};
    unsigned part;
    while (span_behind(name, "-part", &rest))
        name = number = rest;
    return span_number(&number, &part) && number.length == 0 ? partition_of(volumes, only_disk(volumes), part) : NULL;
}

static bool same_without_dashes(struct span a, const char *b) {
    for (; *b; b++) {
        if (*b == '-')
            continue;
        if (a.length == 0 || a.at[0] != *b)
            return false;
        a.at++, a.length--;
    }
    return a.length == 0;
}

/* The UUIDs of a group and of its volume, 32 characters each. */
static struct volume *find_logical(const struct volumes *volumes, struct span uuids) {
    if (uuids.length != 64)
        return NULL;
    struct span logical = {uuids.at + 32, 32};
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *volume = volumes_get(volumes, i);
        if (volume->kind == VOLUME_LOGICAL && same_without_dashes(logical, volume->uuid))
            return volume;
    }
    return NULL;
}

/* FreeBSD on a GPT: "/dev/vtbd0p2", "/dev/ada0p2", "/dev/da0p2". */
static struct volume *find_freebsd(const struct volumes *volumes, struct span name) {
    char linux_name[32];
    unsigned disk, part;
    if (!(span_skip(&name, "vtbd") || span_skip(&name, "ada") || span_skip(&name, "ad") || span_skip(&name, "da")) ||
        !span_number(&name, &disk) || !span_skip(&name, "p") || !span_number(&name, &part) || name.length > 0 ||
        disk > 25)
        return NULL;
    snprintf(linux_name, sizeof(linux_name), "/dev/sd%c%u", (char)('a' + disk), part);
    return volumes_find(volumes, linux_name);
}

struct volume *fstab_device(const struct fstab_files *files, const struct volumes *volumes,
                            const struct inspect_root *root, const char *device) {
    struct span rest = span_of(device);
    struct volume *found = NULL;
    if (strcmp(device, "/dev/root") == 0)
        return root->volume;
    if (span_skip(&rest, "/dev/mapper/"))
        found = find_mapping(files->crypttab, volumes, rest.at);
    else if (span_begins(rest, "/dev/md"))
        found = find_array(files->mdadm, volumes, device);
    else if (span_skip(&rest, "/dev/disk/by-id/dm-uuid-LVM-"))
        found = find_logical(volumes, rest);
    if (!found)
        found = find_unquoted(volumes, device);
    if (!found && (span_begins(rest, "/dev/disk/by-id/") || span_begins(rest, "/dev/disk/by-path/")))
        found = find_by_hardware(volumes, rest);
    if (!found && root->type && strcmp(root->type, "freebsd") == 0 && span_skip(&rest, "/dev/"))
        found = find_freebsd(volumes, rest);
    return found;
}
