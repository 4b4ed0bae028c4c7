/* SPDX-License-Identifier: GPL-3.0-or-later */
/* boot.c - is it NTFS, and what would blkid call it: the boot sector, and of the file $Volume the attribute with the
 * label. The library is not asked here, since a probe looks at anything.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ntfs.h"

struct geometry {
    unsigned sector_size, cluster_size, record_size; /* bytes */
    uint64_t table;                                  /* byte at which the first record of $MFT lies */
    uint64_t serial;
};

static uint64_t number(const uint8_t *p, unsigned bytes) {
    uint64_t n = 0;
    while (bytes--)
        n = n << 8 | p[bytes];
    return n;
}

static bool power_of_two(uint64_t n) {
    return n && !(n & (n - 1));
}

/* A count of clusters, or if it is negative the power of two of bytes. */
static unsigned record_bytes(uint8_t byte, unsigned cluster_size) {
    if (byte >= 0xe1)
        return 1u << (256 - byte);
    return power_of_two(byte) && byte <= 64 ? byte * cluster_size : 0;
}

static bool read_boot(struct device *device, struct geometry *g) {
    static const uint8_t zeroes[7];
    uint8_t sector[512];
    if (device_read(device, sector, sizeof(sector), 0, NULL) < 0 || memcmp(sector + 3, "NTFS    ", 8) != 0)
        return false;
    /* fields of FAT that are always empty here */
    if (memcmp(sector + 14, zeroes, 7) != 0 || number(sector + 22, 2) || number(sector + 32, 4))
        return false;
    unsigned per_cluster = sector[13] >= 240 ? 1u << (256 - sector[13]) : sector[13];
    g->sector_size = (unsigned)number(sector + 11, 2);
    if (!power_of_two(g->sector_size) || g->sector_size < 256 || g->sector_size > 4096 || !power_of_two(per_cluster))
        return false;
    uint64_t clusters = number(sector + 40, 8) / per_cluster, place = number(sector + 48, 8);
    g->cluster_size = g->sector_size * per_cluster;
    g->record_size = record_bytes(sector[64], g->cluster_size);
    g->serial = number(sector + 72, 8);
    return g->record_size >= 256 && g->record_size <= 65536 && place <= clusters &&
           number(sector + 56, 8) <= clusters && !__builtin_mul_overflow(place, (uint64_t)g->cluster_size, &g->table);
}

/* The record with a number, whose magic is looked at and whose last words of sectors are not put back. */
static bool read_record(struct device *device, const struct geometry *g, unsigned index, uint8_t *record) {
    uint64_t at;
    return !__builtin_add_overflow(g->table, (uint64_t)index * g->record_size, &at) &&
           device_read(device, record, g->record_size, at, NULL) == 0 && memcmp(record, "FILE", 4) == 0;
}

static void put_label(const uint8_t *units, size_t count, char *label, size_t room) {
    ntfschar text[128];
    char *converted = NULL;
    if (count > sizeof(text) / sizeof(text[0]))
        count = sizeof(text) / sizeof(text[0]);
    memcpy(text, units, count * sizeof(text[0]));
    if (ntfs_ucstombs(text, (int)count, &converted, 0) >= 0)
        snprintf(label, room, "%s", converted);
    free(converted);
}

/* The resident attribute $VOLUME_NAME of a record. */
static void find_label(const uint8_t *record, unsigned size, char *label, size_t room) {
    unsigned at = (unsigned)number(record + 20, 2);
    while (at + 24 <= size && number(record + at, 4) != 0xffffffff) {
        unsigned length = (unsigned)number(record + at + 4, 4);
        if (length < 24 || length > size - at)
            return;
        if (number(record + at, 4) == 0x60 && !record[at + 8]) {
            unsigned value = (unsigned)number(record + at + 20, 2), bytes = (unsigned)number(record + at + 16, 4);
            if (value <= length && bytes <= length - value)
                put_label(record + at + value, bytes / 2, label, room);
            return;
        }
        at += length;
    }
}

int ntfs_probe(struct device *device, struct probe *probe) {
    struct geometry g;
    if (!read_boot(device, &g))
        return -ENOENT;
    uint8_t *record = malloc(g.record_size);
    int ret = -ENOENT;
    if (record && read_record(device, &g, 0, record) && read_record(device, &g, FILE_Volume, record)) {
        *probe = (struct probe){.kind = PROBE_FILESYSTEM, .type = "ntfs"};
        snprintf(probe->uuid, sizeof(probe->uuid), "%016" PRIX64, g.serial);
        find_label(record, g.record_size, probe->label, sizeof(probe->label));
        ret = 0;
    }
    free(record);
    return ret;
}
