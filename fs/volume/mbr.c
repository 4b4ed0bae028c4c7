/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mbr.c - the partition table in a disk's first sector: four primary partitions, of which one (or more) may be extended
 * and holds a chain of tables with one logical partition each.
 *
 * The same two bytes 55 AA end the first sector of FAT, exFAT and NTFS, and boot code may stand where entries are
 * looked for. So a sector is a table only if it is none of these and each of its four entries can be one. A table with
 * an entry of type EE leads to a GPT, which is another scheme's: nothing is found here then.
 *
 * Places are in sectors of the disk: of a primary from its start, of a logical from its own table's sector, of the next
 * table in the chain from the start of the extended partition.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../error.h"
#include "../ondisk.h"
#include "partition.h"

#define TABLE_AT 446
#define ENTRIES 4
#define CHAIN_MOST 128 /* tables of an extended partition */
#define FIRST_LOGICAL 5
#define TYPE_GPT 0xee

struct entry {
    uint8_t boot, type;
    uint64_t start, count; /* sectors */
};

struct table {
    struct volumes *volumes;
    struct volume *disk;
    unsigned sector; /* bytes */
    unsigned next;   /* the number of the next logical partition */
};

static struct entry read_entry(const uint8_t *sector, unsigned index) {
    const uint8_t *p = sector + TABLE_AT + 16 * index;
    return (struct entry){.boot = p[0], .type = p[4], .start = get_le32(p + 8), .count = get_le32(p + 12)};
}

static bool is_extended(const struct entry *e) {
    return e->count > 0 && (e->type == 0x05 || e->type == 0x0f || e->type == 0x85);
}

static bool is_signed(const uint8_t *sector) {
    return sector[510] == 0x55 && sector[511] == 0xaa;
}

/* Boot sectors of filesystems: they say how large their sectors and clusters are where boot code would stand. */
static bool is_boot_sector(const uint8_t *s) {
    unsigned bytes = s[11] | (unsigned)s[12] << 8, reserved = s[14] | (unsigned)s[15] << 8, cluster = s[13];
    bool jumps = (s[0] == 0xeb && s[2] == 0x90) || s[0] == 0xe9;
    if (memcmp(s + 3, "NTFS    ", 8) == 0 || memcmp(s + 3, "EXFAT   ", 8) == 0 || memcmp(s + 3, "-FVE-FS-", 8) == 0)
        return true;
    return jumps && (bytes == 512 || bytes == 1024 || bytes == 2048 || bytes == 4096) && cluster > 0 &&
           (cluster & (cluster - 1)) == 0 && reserved > 0 && (s[16] == 1 || s[16] == 2) &&
           (s[21] == 0xf0 || s[21] >= 0xf8);
}

static bool is_table(const uint8_t *sector) {
    if (!is_signed(sector) || is_boot_sector(sector))
        return false;
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct entry e = read_entry(sector, i);
        if ((e.boot & 0x7f) != 0 || e.type == TYPE_GPT)
            return false;
    }
    return true;
}

static int add(struct table *t, unsigned number, const struct entry *e, uint64_t start, struct volume **out,
               struct img_error *err) {
    uint64_t length = e->count * t->sector;
    /* Linux leaves an extended partition room for a boot loader and no more */
    if (is_extended(e)) {
        uint64_t shown = t->sector > 1024 ? t->sector : 1024;
        length = length < shown ? length : shown;
    }
    int ret = partition_add(t->volumes, t->disk, number, start * t->sector, length, out, err);
    if (ret < 0)
        return ret;
    struct volume *v = *out;
    v->mbr_type = e->type;
    v->active = e->boot == 0x80;
    v->extended = is_extended(e);
    if (v->extended)
        v->content = (struct probe){.type = ""};
    if (t->disk->mbr_signature)
        snprintf(v->part_uuid, sizeof(v->part_uuid), "%08" PRIx32 "-%02x", t->disk->mbr_signature, number);
    return 0;
}

/* The data partitions of one table in the chain. A third and fourth entry are known to hold rubbish: they count only
 * where they fit. */
static int add_logical(struct table *t, const uint8_t *sector, uint64_t at, const struct entry *extended,
                       struct img_error *err) {
    for (unsigned i = 0; i < ENTRIES && t->next <= PARTITIONS_MOST; i++) {
        struct entry e = read_entry(sector, i);
        struct volume *v;
        uint64_t start = at + e.start;
        if (e.count == 0 || is_extended(&e))
            continue;
        if (i >= 2 && (start + e.count > extended->start + extended->count || e.start == 0))
            continue;
        int ret = add(t, t->next, &e, start, &v, err);
        if (ret < 0)
            return ret;
        t->next++;
    }
    return 0;
}

static bool next_in_chain(const uint8_t *sector, const struct entry *extended, uint64_t *at) {
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct entry e = read_entry(sector, i);
        if (is_extended(&e)) {
            *at = extended->start + e.start;
            return true;
        }
    }
    return false;
}

static bool seen_before(const uint64_t *seen, unsigned count, uint64_t at) {
    for (unsigned i = 0; i < count; i++)
        if (seen[i] == at)
            return true;
    return false;
}

static int follow_chain(struct table *t, const struct entry *extended, struct img_error *err) {
    uint64_t seen[CHAIN_MOST], at = extended->start;
    const char *name = t->disk->name;
    for (unsigned n = 0; t->next <= PARTITIONS_MOST; n++) {
        uint8_t sector[512];
        struct img_error why = {0};
        if (n == CHAIN_MOST || seen_before(seen, n, at)) {
            volumes_note(t->volumes, "The chain of logical partitions of %s %s at sector %" PRIu64, name,
                         n == CHAIN_MOST ? "is too long" : "comes back to where it was", at);
            return 0;
        }
        seen[n] = at;
        if (device_read(t->disk->device, sector, sizeof(sector), at * t->sector, &why) < 0 || !is_signed(sector)) {
            volumes_note(t->volumes, "The chain of logical partitions of %s ends at sector %" PRIu64 ": %s", name, at,
                         why.code ? why.text : "there is no table");
            return 0;
        }
        int ret = add_logical(t, sector, at, extended, err);
        if (ret < 0)
            return ret;
        if (!next_in_chain(sector, extended, &at))
            return 0;
    }
    return 0;
}

static int look(struct volumes *volumes, struct volume *disk, struct img_error *err) {
    struct table t = {.volumes = volumes, .disk = disk, .sector = disk->device->sector_size, .next = FIRST_LOGICAL};
    uint8_t sector[512];
    int ret = 0;
    if (!partition_may_be_on(disk) || disk->table || disk->size < sizeof(sector) ||
        device_read(disk->device, sector, sizeof(sector), 0, NULL) < 0 || !is_table(sector))
        return 0;
    disk->table = "dos";
    disk->mbr_signature = get_le32(sector + 440);
    if (disk->mbr_signature)
        snprintf(disk->table_uuid, sizeof(disk->table_uuid), "%08" PRIx32, disk->mbr_signature);
    for (unsigned i = 0; i < ENTRIES && ret == 0; i++) {
        struct entry e = read_entry(sector, i);
        struct volume *v;
        if (e.count > 0)
            ret = add(&t, i + 1, &e, e.start, &v, err);
    }
    for (unsigned i = 0; i < ENTRIES && ret == 0; i++) {
        struct entry e = read_entry(sector, i);
        if (is_extended(&e))
            ret = follow_chain(&t, &e, err);
    }
    return ret;
}

const struct volume_scheme mbr_scheme = {.name = "dos", .look = look};
