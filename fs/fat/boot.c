/* SPDX-License-Identifier: GPL-3.0-or-later */
/* boot.c - the boot sector: is it FAT, where does everything lie, and what would blkid call it.
 *
 * FAT has no magic number: what makes a boot sector one is that its numbers fit each other. Whether a table entry has
 * 12 or 16 bits follows from the number of clusters alone, whether it has 32 from a field that FAT32 leaves empty.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "fat.h"

static bool power_of_two(unsigned n) {
    return n && !(n & (n - 1));
}

static bool has_word(const uint8_t *at, const char *word) {
    return memcmp(at, word, strlen(word)) == 0;
}

/* Other systems begin with a sector that looks like FAT's; others again have no signature. */
static bool looks_like_fat(const uint8_t sector[512]) {
    const struct fat_boot *boot = (const struct fat_boot *)sector;
    if (has_word(boot->maker, "-FVE-FS-") || has_word(boot->maker, "NTFS    ") || has_word(boot->maker, "EXFAT   ") ||
        has_word(boot->tail.type, "JFS     ") || has_word(boot->tail.type, "HPFS    "))
        return false;
    return fat_get16(sector + 510) == 0xaa55 || has_word(boot->tail.type, "FAT") ||
           has_word(boot->tail.type, "MSDOS") || has_word(boot->fat32.tail.type, "FAT32   ") ||
           has_word(boot->fat32.tail.type, "MSWIN");
}

static int check_units(const struct fat_boot *boot, struct fat_geometry *g, struct img_error *err) {
    unsigned sector = fat_get16(boot->sector_size);
    if (!power_of_two(sector) || sector < 512 || sector > 4096)
        return fail(err, -EUCLEAN, "FAT: a sector of %u bytes", sector);
    if (!power_of_two(boot->cluster_sectors))
        return fail(err, -EUCLEAN, "FAT: %u sectors in a cluster", boot->cluster_sectors);
    if (!fat_get16(boot->reserved_sectors) || !boot->tables)
        return fail(err, -EUCLEAN, "FAT: %u reserved sectors and %u tables", fat_get16(boot->reserved_sectors),
                    boot->tables);
    if (boot->media < 0xf8 && boot->media != 0xf0)
        return fail(err, -EUCLEAN, "FAT: the medium is 0x%02x", boot->media);
    g->sector_size = sector;
    g->cluster_size = sector * boot->cluster_sectors;
    g->copies = boot->tables;
    return 0;
}

/* Which of the tables counts, and the width of its entries. */
static int check_tables(const struct fat_boot *boot, struct fat_geometry *g, uint64_t table_sectors,
                        struct img_error *err) {
    static const uint32_t most[] = {[12] = FAT12_MOST, [16] = FAT16_MOST, [32] = FAT32_MOST};
    bool wide = fat_get16(boot->table_sectors_16) == 0;
    g->bits = wide ? 32 : g->clusters <= FAT12_MOST ? 12 : 16;
    uint64_t entries = table_sectors * g->sector_size * 8 / g->bits;
    if (g->clusters > most[g->bits])
        return fail(err, -EUCLEAN, "FAT%u: %" PRIu32 " clusters", g->bits, g->clusters);
    if (entries <= FAT_FIRST)
        return fail(err, -EUCLEAN, "FAT%u: a table of %" PRIu64 " sectors", g->bits, table_sectors);
    if (g->clusters > entries - FAT_FIRST)
        g->clusters = (uint32_t)(entries - FAT_FIRST);
    g->table = (uint64_t)fat_get16(boot->reserved_sectors) * g->sector_size;
    g->table_size = ((uint64_t)(g->clusters + FAT_FIRST) * g->bits + 7) / 8;
    unsigned flags = fat_get16(boot->fat32.flags);
    g->copy_distance = table_sectors * g->sector_size;
    if (wide && (flags & FAT32_ONE_TABLE) && (flags & FAT32_TABLE_NUMBER) < g->copies) {
        g->table += (flags & FAT32_TABLE_NUMBER) * g->copy_distance;
        g->copies = 1;
    }
    g->root_cluster = wide ? fat_get32(boot->fat32.root_cluster) : 0;
    return 0;
}

static int geometry_of(const uint8_t sector[512], struct fat_geometry *g, struct img_error *err) {
    const struct fat_boot *boot = (const struct fat_boot *)sector;
    if (!looks_like_fat(sector))
        return fail(err, -EUCLEAN, "This is not FAT");
    int ret = check_units(boot, g, err);
    if (ret < 0)
        return ret;
    uint64_t table_sectors = fat_get16(boot->table_sectors_16), sectors = fat_get16(boot->sectors_16);
    if (!table_sectors)
        table_sectors = fat_get32(boot->fat32.table_sectors_32);
    if (!sectors)
        sectors = fat_get32(boot->sectors_32);
    uint64_t root_size = (uint64_t)fat_get16(boot->root_entries) * FAT_SLOT;
    uint64_t root_sectors = (root_size + g->sector_size - 1) / g->sector_size;
    uint64_t root_sector = fat_get16(boot->reserved_sectors) + boot->tables * table_sectors;
    uint64_t data_sector = root_sector + root_sectors;
    if (sectors < data_sector || sectors - data_sector < boot->cluster_sectors)
        return fail(err, -EUCLEAN, "FAT: %" PRIu64 " sectors, of which the first %" PRIu64 " hold no files", sectors,
                    data_sector);
    g->clusters = (uint32_t)((sectors - data_sector) / boot->cluster_sectors);
    g->root = root_sector * g->sector_size;
    g->root_size = root_size;
    g->data = data_sector * g->sector_size;
    g->size = sectors * g->sector_size;
    return check_tables(boot, g, table_sectors, err);
}

int fat_read_geometry(struct device *device, struct fat_geometry *geometry, struct img_error *err) {
    uint8_t sector[512];
    *geometry = (struct fat_geometry){0};
    int ret = device_read(device, sector, sizeof(sector), 0, err);
    if (ret == 0)
        ret = geometry_of(sector, geometry, err);
    if (ret < 0)
        return ret;
    if (geometry->data > device->size || geometry->table + geometry->table_size > device->size)
        return fail(err, -EUCLEAN, "FAT%u: files begin at byte %" PRIu64 " of a device of %" PRIu64, geometry->bits,
                    geometry->data, device->size);
    return 0;
}

/* ---- what blkid says ---- */

static void read_serial(struct device *device, const struct fat_geometry *geometry, struct probe *probe) {
    uint8_t sector[512];
    const struct fat_boot *boot = (const struct fat_boot *)sector;
    if (device_read(device, sector, sizeof(sector), 0, NULL) < 0)
        return;
    uint32_t serial = fat_get32(geometry->bits == 32 ? boot->fat32.tail.serial : boot->tail.serial);
    snprintf(probe->uuid, sizeof(probe->uuid), "%04X-%04X", serial >> 16, serial & 0xffff);
}

/* The label is an entry of the root directory. The boot sector's is not kept up to date by anybody. */
static void read_label(struct fat *fat, struct probe *probe) {
    struct fat_dir *dir;
    struct fat_slot slot;
    uint64_t at;
    if (fat_dir_open(fat, FAT_ROOT, &dir, NULL) < 0)
        return;
    while (fat_dir_slot(dir, &slot, &at, NULL) > 0) {
        if (slot.name[0] != FAT_DELETED && (slot.attributes & 0x3f) != FAT_LONG &&
            (slot.attributes & (FAT_VOLUME | FAT_DIRECTORY)) == FAT_VOLUME && !fat_get16(slot.cluster_high) &&
            !fat_get16(slot.cluster_low)) {
            fat_label(slot.name, probe->label);
            break;
        }
    }
    free(dir);
}

int fat_probe(struct device *device, struct probe *probe) {
    struct fat *fat;
    if (fat_open_volume(device, &fat, NULL) < 0)
        return -ENOENT;
    *probe = (struct probe){.kind = PROBE_FILESYSTEM, .type = "vfat"};
    read_serial(device, &fat->geometry, probe);
    read_label(fat, probe);
    fat_close_volume(fat);
    return 0;
}
