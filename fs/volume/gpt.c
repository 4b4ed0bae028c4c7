/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gpt.c - the GUID partition table: a header in sector 1 and another in the last sector, each with an array of entries
 * of its own. Both carry checksums, so a header counts only if it and its array are whole; the one at the end stands in
 * for the first.
 *
 * The table counts only if the first sector leads to it, with a partition of type EE (alone, or in a hybrid beside
 * others, which are not looked at). Numbers are places in the array: cloud images use 1, 14 and 15.
 *
 * Specification: UEFI 2.10, chapter 5.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "../ondisk.h"
#include "partition.h"

#define HEADER_LEAST 92
#define ENTRY_LEAST 128
#define ENTRY_MOST 4096
#define ENTRIES_MOST 4096
#define ARRAY_MOST (1u << 20)
#define NAME_UNITS 36
#define TYPE_GPT 0xee

struct header {
    uint64_t first_usable, last_usable; /* sectors */
    uint64_t array;                     /* sector */
    uint32_t count, entry_size;
    uint32_t array_crc;
    uint8_t guid[16];
};

/* Text of a GUID, of which the first three parts are little-endian. */
static void guid_text(const uint8_t *g, char out[37]) {
    snprintf(out, 37, "%08" PRIx32 "-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", get_le32(g), get_le16(g + 4),
             get_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

static bool leads_to_gpt(struct volume *disk) {
    uint8_t sector[512];
    if (device_read(disk->device, sector, sizeof(sector), 0, NULL) < 0 || sector[510] != 0x55 || sector[511] != 0xaa)
        return false;
    for (unsigned i = 0; i < 4; i++)
        if (sector[446 + 16 * i + 4] == TYPE_GPT)
            return true;
    return false;
}

/* Why the header in sector `at` is none; NULL: it is good. */
static const char *read_header(struct volume *disk, unsigned sector, uint64_t at, struct header *h) {
    uint8_t b[4096];
    uint64_t sectors = disk->size / sector;
    if (at >= sectors || device_read(disk->device, b, sector, at * sector, NULL) < 0)
        return "cannot be read";
    if (memcmp(b, "EFI PART", 8) != 0)
        return "is not there";
    uint32_t size = get_le32(b + 12), crc = get_le32(b + 16);
    if (size < HEADER_LEAST || size > sector)
        return "has a wrong length";
    memset(b + 16, 0, 4);
    if (crc32_of(0, b, size) != crc)
        return "has a wrong checksum";
    *h = (struct header){.first_usable = get_le64(b + 40),
                         .last_usable = get_le64(b + 48),
                         .array = get_le64(b + 72),
                         .count = get_le32(b + 80),
                         .entry_size = get_le32(b + 84),
                         .array_crc = get_le32(b + 88)};
    memcpy(h->guid, b + 56, 16);
    if (get_le64(b + 24) != at)
        return "belongs to another sector";
    if (h->entry_size < ENTRY_LEAST || h->entry_size > ENTRY_MOST || h->entry_size % 8 != 0 || h->count == 0 ||
        h->count > ENTRIES_MOST || (uint64_t)h->count * h->entry_size > ARRAY_MOST)
        return "has a strange number or size of entries";
    if (h->array >= sectors || h->first_usable > h->last_usable)
        return "has places outside of the disk";
    return NULL;
}

/* The header in sector `at` and its entries; NULL with the reason in *why. */
static uint8_t *read_table(struct volume *disk, unsigned sector, uint64_t at, struct header *h, const char **why) {
    if ((*why = read_header(disk, sector, at, h)))
        return NULL;
    size_t bytes = (size_t)h->count * h->entry_size;
    uint8_t *entries = malloc(bytes);
    if (!entries)
        *why = "does not fit into memory";
    else if (device_read(disk->device, entries, bytes, h->array * sector, NULL) < 0)
        *why = "has entries that cannot be read";
    else if (crc32_of(0, entries, bytes) != h->array_crc)
        *why = "has entries with a wrong checksum";
    else
        return entries;
    free(entries);
    return NULL;
}

static uint8_t *find_table(struct volumes *volumes, struct volume *disk, struct header *h) {
    unsigned sector = disk->device->sector_size;
    const char *why, *why_backup;
    uint64_t last = disk->size / sector - 1;
    uint8_t *entries = read_table(disk, sector, 1, h, &why);
    if (entries)
        return entries;
    entries = read_table(disk, sector, last, h, &why_backup);
    if (entries)
        volumes_note(volumes, "The GPT of %s %s; its copy at the end of the disk is used", disk->name, why);
    else
        volumes_note(volumes, "The GPT of %s %s, and its copy at the end of the disk %s", disk->name, why, why_backup);
    unsigned other = sector == 512 ? 4096 : 512;
    if (!entries && disk->size >= 2 * (uint64_t)other && !read_header(disk, other, 1, h))
        volumes_note(volumes, "%s has a GPT for sectors of %u bytes, but is used with sectors of %u", disk->name, other,
                     sector);
    return entries;
}

static bool is_zero(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

static int add_entry(struct volumes *volumes, struct volume *disk, unsigned number, const uint8_t *e,
                     struct img_error *err) {
    unsigned sector = disk->device->sector_size;
    uint64_t first = get_le64(e + 32), last = get_le64(e + 40), start, length;
    struct volume *v;
    if (last < first || __builtin_mul_overflow(first, (uint64_t)sector, &start) || last - first == UINT64_MAX ||
        __builtin_mul_overflow(last - first + 1, (uint64_t)sector, &length)) {
        volumes_note(volumes, "Partition %u of %s is said to go from sector %" PRIu64 " to %" PRIu64, number,
                     disk->name, first, last);
        return 0;
    }
    int ret = partition_add(volumes, disk, number, start, length, &v, err);
    if (ret < 0)
        return ret;
    guid_text(e, v->type_uuid);
    guid_text(e + 16, v->part_uuid);
    utf8_of_utf16le(e + 56, NAME_UNITS, v->part_label, sizeof(v->part_label));
    return 0;
}

static int look(struct volumes *volumes, struct volume *disk, struct img_error *err) {
    struct header h;
    int ret = 0;
    unsigned added = 0;
    if (!partition_may_be_on(disk) || disk->size < 2 * (uint64_t)disk->device->sector_size || !leads_to_gpt(disk))
        return 0;
    uint8_t *entries = find_table(volumes, disk, &h);
    if (!entries)
        return 0;
    disk->table = "gpt";
    guid_text(h.guid, disk->table_uuid);
    for (uint32_t i = 0; i < h.count && ret == 0 && added < PARTITIONS_MOST; i++) {
        const uint8_t *e = entries + (size_t)i * h.entry_size;
        if (!is_zero(e, 16)) {
            ret = add_entry(volumes, disk, i + 1, e, err);
            added++;
        }
    }
    free(entries);
    return ret;
}

const struct volume_scheme gpt_scheme = {.name = "gpt", .look = look};
