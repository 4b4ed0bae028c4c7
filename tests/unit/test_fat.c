/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_fat.c - FAT volumes that no tool makes: odd names, long names whose parts do not fit, chains that lead nowhere
 * or back, boot sectors whose numbers do not fit each other. Each test lays out a small volume in memory; what tools
 * make is compared in tests/cli/fat.t.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fat/fat.h"
#include "fs/vfs.h"
#include "scratch.h"

extern const struct fs_driver fat_driver;

/* ---- a volume in memory ---- */

struct volume {
    struct device device;
    uint8_t *bytes;
    unsigned bits;
    uint64_t table, root, data; /* bytes */
    unsigned cluster_size;
    uint64_t reads; /* bytes asked for */
};

static struct volume v;
static struct fs *fs;
static struct img_error err;

static int volume_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *error) {
    (void)device, (void)error;
    v.reads += count;
    memcpy(buffer, v.bytes + offset, count);
    return 0;
}

static const struct device_ops volume_ops = {.read = volume_read};

static void put16(uint8_t *p, unsigned n) {
    p[0] = (uint8_t)n;
    p[1] = (uint8_t)(n >> 8);
}

static void put32(uint8_t *p, uint32_t n) {
    put16(p, n & 0xffff);
    put16(p + 2, n >> 16);
}

/* 512-byte sectors, one in a cluster, two tables; 16 entries in the root of FAT12 and 16, cluster 2 for FAT32's. */
static void make_volume(unsigned bits, uint32_t clusters) {
    struct fat_boot *boot;
    uint32_t table_sectors = (uint32_t)(((uint64_t)(clusters + 2) * bits + 4095) / 4096);
    uint32_t reserved = bits == 32 ? 32 : 1, root_sectors = bits == 32 ? 0 : 1;
    uint32_t sectors = reserved + 2 * table_sectors + root_sectors + clusters;
    free(v.bytes);
    v = (struct volume){.device = {.ops = &volume_ops, .size = (uint64_t)sectors * 512, .sector_size = 512},
                        .bytes = calloc(sectors, 512),
                        .bits = bits,
                        .table = reserved * 512,
                        .root = (reserved + 2 * table_sectors) * 512,
                        .data = (reserved + 2 * table_sectors + root_sectors) * 512,
                        .cluster_size = 512};
    assert_non_null(v.bytes);
    boot = (struct fat_boot *)v.bytes;
    put16(boot->sector_size, 512);
    boot->cluster_sectors = 1;
    put16(boot->reserved_sectors, reserved);
    boot->tables = 2;
    put16(boot->root_entries, bits == 32 ? 0 : 16);
    put32(boot->sectors_32, sectors);
    boot->media = 0xf8;
    if (bits == 32) {
        put32(boot->fat32.table_sectors_32, table_sectors);
        put32(boot->fat32.root_cluster, 2);
        put32(boot->fat32.tail.serial, 0xcafe0123);
    } else {
        put16(boot->table_sectors_16, table_sectors);
        put32(boot->tail.serial, 0xcafe0123);
    }
    put16(v.bytes + 510, 0xaa55);
}

static void link_cluster(uint32_t cluster, uint32_t next) {
    uint8_t *table = v.bytes + v.table;
    if (v.bits == 32) {
        put32(table + 4 * cluster, next);
    } else if (v.bits == 16) {
        put16(table + 2 * cluster, next);
    } else {
        uint8_t *p = table + cluster * 3 / 2;
        unsigned old = fat_get16(p);
        put16(p, cluster % 2 ? (old & 0xf) | next << 4 : (old & 0xf000) | (next & 0xfff));
    }
}

#define LAST 0x0fffffffu

static uint8_t *cluster(uint32_t number) {
    return v.bytes + v.data + (uint64_t)(number - 2) * v.cluster_size;
}

static uint8_t *root_slot(unsigned index) {
    return (v.bits == 32 ? cluster(2) : v.bytes + v.root) + 32 * index;
}

static struct fat_slot *put_file(uint8_t *at, const char *name, uint8_t attributes, uint32_t first, uint32_t size) {
    struct fat_slot *slot = (struct fat_slot *)at;
    memset(slot, 0, sizeof(*slot));
    memcpy(slot->name, name, 11);
    slot->attributes = attributes;
    put16(slot->cluster_low, first & 0xffff);
    put16(slot->cluster_high, first >> 16);
    put32(slot->size, size);
    return slot;
}

/* One part of a long name: 13 units at most, ended and filled up as it must be. */
static void put_part(uint8_t *at, unsigned order, uint8_t checksum, const uint16_t *units, size_t count) {
    static const uint8_t place[13] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    memset(at, 0, 32);
    at[0] = (uint8_t)order;
    at[11] = FAT_LONG;
    at[13] = checksum;
    for (size_t i = 0; i < 13; i++)
        put16(at + place[i], i < count ? units[i] : i == count ? 0 : 0xffff);
}

static uint8_t checksum_of(const char *name) {
    return fat_checksum((const uint8_t *)name);
}

static void mount_volume(void) {
    struct probe probe;
    static const struct fs_open_options options = {0};
    fs_close(fs);
    fs = NULL;
    assert_int_equal(fat_driver.probe(&v.device, &probe), 0);
    assert_int_equal(fat_driver.open(&v.device, &probe, &options, &fs, &err), 0);
}

static void refuse_volume(const char *word) {
    struct fat_geometry geometry;
    struct probe probe;
    assert_int_equal(fat_read_geometry(&v.device, &geometry, &err), -EUCLEAN);
    if (!strstr(err.text, word))
        fail_msg("'%s' says nothing of %s", err.text, word);
    assert_int_equal(fat_driver.probe(&v.device, &probe), -ENOENT);
}

static int tear_down(void **state) {
    (void)state;
    fs_close(fs);
    fs = NULL;
    free(v.bytes);
    v.bytes = NULL;
    return 0;
}

/* Names in the order of the disk, each followed by a comma. */
static int add_name(void *opaque, const struct fs_entry *entry) {
    assert_int_equal(strlen(entry->name), entry->length);
    strcat(strcat(opaque, entry->name), ",");
    return 0;
}

static const char *names_of(uint64_t ino) {
    static char names[8192];
    names[0] = 0;
    if (fs->ops->list(fs, ino, add_name, names, &err) < 0)
        fail_msg("%s", err.text);
    return names;
}

static uint64_t find(uint64_t dir, const char *name) {
    uint64_t ino = 0;
    int ret = fs->ops->lookup(fs, dir, name, strlen(name), &ino, &err);
    return ret < 0 ? 0 : ino;
}

static struct fs_stat stat_of(uint64_t ino) {
    struct fs_stat stat;
    if (fs->ops->stat(fs, ino, &stat, &err) < 0)
        fail_msg("%s", err.text);
    return stat;
}

static void read_fails(const char *name, const char *word) {
    uint8_t buffer[4096];
    size_t got;
    uint64_t ino = find(1, name);
    assert_int_not_equal(ino, 0);
    assert_int_equal(fs->ops->read(fs, ino, buffer, sizeof(buffer), 0, &got, &err), -EUCLEAN);
    if (!strstr(err.text, word))
        fail_msg("'%s' says nothing of %s", err.text, word);
}

/* ---- names ---- */

static void short_names(void **state) {
    (void)state;
    make_volume(16, 5000);
    put_file(root_slot(0), "PLAIN   TXT", 0x20, 0, 0);
    put_file(root_slot(1), "LOWER   TXT", 0x20, 0, 0)->lower = FAT_LOWER_BASE | FAT_LOWER_EXTENSION;
    put_file(root_slot(2), "BASE    TXT", 0x20, 0, 0)->lower = FAT_LOWER_BASE;
    put_file(root_slot(3), "EXT     TXT", 0x20, 0, 0)->lower = FAT_LOWER_EXTENSION;
    put_file(root_slot(4), "A B     C  ", 0x20, 0, 0);
    put_file(root_slot(5), "\x05XX        ", 0x20, 0, 0); /* begins with 0xe5, sigma */
    put_file(root_slot(6), "\x80\x9a\xe2\xff    \xe1  ", 0x20, 0, 0)->lower =
        0x18; /* capitals without small letters stay */
    put_file(root_slot(7),
             "\xe5"
             "EAD    TXT",
             0x20, 0, 0);
    put_file(root_slot(8), "VOLUME     ", FAT_VOLUME, 0, 0);
    put_file(root_slot(9), "A/B        ", 0x20, 0, 0);
    put_file(root_slot(10), ".\0         ", 0x20, 0, 0); /* leads nowhere */
    put_file(root_slot(11), "..\0        ", 0x20, 0, 0);
    put_file(root_slot(12), "RO         ", FAT_READ_ONLY, 0, 0);
    mount_volume();
    assert_string_equal(names_of(1), "PLAIN.TXT,lower.txt,base.TXT,EXT.txt,A B.C,σXX,çüΓ\u00a0.ß,A_B,RO,");
    assert_int_equal(stat_of(find(1, "ro")).mode, S_IFREG | 0555);
    assert_int_equal(stat_of(find(1, "plain.TXT")).mode, S_IFREG | 0755);
    assert_int_not_equal(find(1, "lower.txt..."), 0);
    assert_int_equal(find(1, "DEAD.TXT"), 0);
    assert_int_equal(find(1, "."), 0);
    assert_int_equal(find(1, ""), 0);
}

static void long_names(void **state) {
    static const uint16_t units[] = u"Ein langer Name 😀.txt", cut[] = {'h', 0xd83d, 'i', 0xdc00, 0}, slash[] = u"a/b",
                          dots[] = u"..";
    (void)state;
    make_volume(12, 100);
    uint8_t sum = checksum_of("EINLAN~1TXT");
    put_part(root_slot(0), 0x42, sum, units + 13, 9);
    put_part(root_slot(1), 1, sum, units, 13);
    put_file(root_slot(2), "EINLAN~1TXT", 0x20, 0, 0);
    sum = checksum_of("HALVES     ");
    put_part(root_slot(3), 0x41, sum, cut, 4);
    put_file(root_slot(4), "HALVES     ", 0x20, 0, 0);
    sum = checksum_of("SLASH      ");
    put_part(root_slot(5), 0x41, sum, slash, 3);
    put_file(root_slot(6), "SLASH      ", 0x20, 0, 0);
    sum = checksum_of("DOTS       ");
    put_part(root_slot(7), 0x41, sum, dots, 2);
    put_file(root_slot(8), "DOTS       ", FAT_DIRECTORY, 0, 0);
    mount_volume();
    assert_string_equal(names_of(1), "Ein langer Name 😀.txt,hi,SLASH,DOTS,");
    uint64_t ino = find(1, "EIN LANGER NAME 😀.TXT");
    assert_int_equal(ino, (v.root + 64) / 32);
    assert_int_equal(find(1, "einlan~1.txt"), ino);
    assert_int_equal(find(1, ".."), 0);
    /* a directory without clusters is empty */
    assert_string_equal(names_of(find(1, "dots")), "");
    assert_int_equal(stat_of(find(1, "dots")).size, 0);
}

static void broken_long_names(void **state) {
    static const uint16_t units[] = u"abcdefghijklmnopqrstuvwxyz";
    static const struct {
        unsigned order[3];
        int checksum; /* added to it */
        bool shown;
    } cases[] = {
        {{0x42, 1}, 0, true},        {{0x42, 1}, 1, false}, /* of another short name */
        {{0x42, 2}, 0, false},                              /* twice the same part */
        {{0x43, 1}, 0, false},                              /* a part is missing */
        {{0x42}, 0, false},                                 /* the last one is */
        {{2, 1}, 0, false},                                 /* the first one is */
        {{0x40, 1}, 0, false},                              /* of no parts */
        {{0x55, 0x14}, 0, false},                           /* of 21 */
        {{0x43, 0x42, 1}, 0, true},                         /* begins anew */
        {{0x42, 1, 1}, 0, false},                           /* one too many */
        {{0x42, 1, 0x42}, 0, false},                        /* begins anew and ends */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        unsigned slot = 0;
        make_volume(12, 100);
        for (unsigned k = 0; k < 3 && cases[i].order[k]; k++) {
            unsigned number = cases[i].order[k] & 0x3f;
            uint8_t sum = (uint8_t)(checksum_of("SHORT      ") + cases[i].checksum);
            put_part(root_slot(slot++), cases[i].order[k], sum, units + (number == 1 ? 0 : 13), 13);
        }
        put_file(root_slot(slot), "SHORT      ", 0x20, 0, 0);
        mount_volume();
        if (strcmp(names_of(1), cases[i].shown ? "abcdefghijklmnopqrstuvwxyz," : "SHORT,") != 0)
            fail_msg("case %zu: %s", i, names_of(1));
    }
    /* what was deleted between a long name and the next file cuts them apart */
    make_volume(12, 100);
    put_part(root_slot(0), 0x41, checksum_of("SHORT      "), units, 13);
    put_file(root_slot(1), "\xe5HORT      ", 0x20, 0, 0);
    put_file(root_slot(2), "SHORT      ", 0x20, 0, 0);
    put_file(root_slot(4), "BEHIND     ", 0x20, 0, 0); /* the end of the directory is before it */
    mount_volume();
    assert_string_equal(names_of(1), "SHORT,");
}

static void too_long_a_name(void **state) {
    uint16_t units[13];
    (void)state;
    for (unsigned i = 0; i < 13; i++)
        units[i] = 0x65e5;
    for (unsigned last = 8; last <= 9; last++) { /* 19 * 13 + 8 = 255 */
        make_volume(32, 66000);
        link_cluster(2, 3);
        link_cluster(3, LAST);
        for (unsigned i = 0; i < 20; i++) {
            uint8_t *at = i < 16 ? root_slot(i) : cluster(3) + 32 * (i - 16);
            put_part(at, (20 - i) | (i ? 0 : 0x40), checksum_of("SHORT      "), units, i ? 13 : last);
        }
        put_file(cluster(3) + 4 * 32, "SHORT      ", 0x20, 0, 0);
        mount_volume();
        assert_int_equal(strlen(names_of(1)), last == 8 ? 3 * 255 + 1 : 6);
    }
}

/* ---- chains ---- */

static void chains(void **state) {
    (void)state;
    static const unsigned widths[] = {12, 16, 32};
    for (unsigned i = 0; i < 3; i++) {
        make_volume(widths[i], widths[i] == 12 ? 4000 : widths[i] == 16 ? 60000 : 66000);
        uint8_t buffer[4096];
        size_t got;
        link_cluster(2, LAST); /* FAT32's root */
        /* odd and even entries, forwards, backwards, one behind the other */
        static const uint32_t order[] = {3, 4, 5, 1001, 1000, 7, 6};
        for (unsigned k = 0; k < 7; k++) {
            link_cluster(order[k], k < 6 ? order[k + 1] : LAST);
            memset(cluster(order[k]), 'a' + (int)k, 512);
        }
        put_file(root_slot(0), "FILE       ", 0x20, 3, 3500);
        mount_volume();
        uint64_t ino = find(1, "file");
        assert_int_equal(fs->ops->read(fs, ino, buffer, sizeof(buffer), 0, &got, &err), 0);
        assert_int_equal(got, 3500);
        for (unsigned k = 0; k < 3500; k++)
            assert_int_equal(buffer[k], 'a' + k / 512);
        for (unsigned at = 3500; at-- > 0;) {
            assert_int_equal(fs->ops->read(fs, ino, buffer, 600, at, &got, &err), 0);
            assert_int_equal(got, at + 600 <= 3500 ? 600 : 3500 - at);
            assert_int_equal(buffer[0], 'a' + at / 512);
            assert_int_equal(buffer[got - 1], 'a' + (at + got - 1) / 512);
        }
        assert_int_equal(fs->ops->read(fs, ino, buffer, 1, 3500, &got, &err), 0);
        assert_int_equal(got, 0);
        assert_int_equal(stat_of(ino).blocks, 7);
        struct fs_space space;
        assert_int_equal(fs->ops->space(fs, &space, &err), 0);
        assert_int_equal(space.blocks_free, space.blocks - 8);
        assert_int_equal(fs->ops->read(fs, 1, buffer, 1, 0, &got, &err), -EISDIR);
        assert_int_equal(fs->ops->list(fs, ino, add_name, buffer, &err), -ENOTDIR);
    }
}

static void chains_that_lead_astray(void **state) {
    (void)state;
    make_volume(16, 5000);
    put_file(root_slot(0), "RING       ", 0x20, 10, 3000 * 512);
    for (uint32_t i = 10; i < 20; i++)
        link_cluster(i, i < 19 ? i + 1 : 13);
    put_file(root_slot(1), "SELF       ", 0x20, 30, 4096);
    link_cluster(30, 30);
    put_file(root_slot(2), "CUT        ", 0x20, 40, 4096);
    link_cluster(40, LAST);
    put_file(root_slot(3), "FREE       ", 0x20, 50, 4096);
    put_file(root_slot(4), "OUTSIDE    ", 0x20, 60, 4096);
    link_cluster(60, 5002);
    put_file(root_slot(5), "NOWHERE    ", 0x20, 0, 4096);
    put_file(root_slot(6), "FAR        ", 0x20, 6000, 4096);
    put_file(root_slot(7), "HUGE       ", 0x20, 10, 0xffffffff);
    put_file(root_slot(8), "ONE        ", 0x20, 61, 4096);
    link_cluster(61, 1);
    mount_volume();
    uint8_t *buffer = malloc(3000 * 512);
    size_t got;
    assert_non_null(buffer);
    v.reads = 0;
    assert_int_equal(fs->ops->read(fs, find(1, "ring"), buffer, 3000 * 512, 0, &got, &err), -EUCLEAN);
    assert_non_null(strstr(err.text, "comes back"));
    assert_true(v.reads < 100000);
    free(buffer);
    read_fails("self", "comes back");
    read_fails("cut", "ends after 1 cluster");
    read_fails("free", "followed by 0");
    read_fails("outside", "followed by 5002");
    read_fails("nowhere", "cluster 0");
    read_fails("far", "cluster 6000");
    read_fails("huge", "4294967295 bytes");
    read_fails("one", "followed by 1 ");
    /* the volume says that it is longer than the device */
    put_file(root_slot(9), "CUTOFF     ", 0x20, 5000, 512);
    v.device.size -= 2 * 512;
    mount_volume();
    read_fails("cutoff", "behind the end");
}

static void directories(void **state) {
    (void)state;
    make_volume(32, 66000);
    link_cluster(2, LAST);
    struct fat_slot *sub = put_file(root_slot(0), "SUB        ", FAT_DIRECTORY, 10, 0);
    put16(sub->date, 1 << 5 | 1);                    /* 1980-01-01 */
    put16(sub->time, 1 << 11 | 2 << 5 | 3);          /* 01:02:06 */
    put16(sub->created_date, 120 << 9 | 3 << 5 | 1); /* 2100-03-01 */
    sub->created_hundreds = 150;
    put16(sub->access_date, 20 << 9 | 2 << 5 | 29); /* 2000-02-29 */
    link_cluster(10, 12);
    link_cluster(12, LAST);
    put_file(cluster(10), ".          ", FAT_DIRECTORY, 10, 0);
    put_file(cluster(10) + 32, "..         ", FAT_DIRECTORY, 0, 0);
    for (unsigned i = 2; i < 16; i++)
        put_file(cluster(10) + 32 * i, "\xe5          ", 0x20, 0, 0);
    put_file(cluster(12), "INNER      ", FAT_DIRECTORY, 10, 0); /* its own parent */
    put_file(root_slot(1), "RING       ", FAT_DIRECTORY, 20, 0);
    link_cluster(20, 21);
    link_cluster(21, 20);
    for (unsigned i = 0; i < 32; i++)
        put_file(cluster(20) + 32 * i, "\xe5          ", 0x20, 0, 0);
    mount_volume();
    struct fs_stat root = stat_of(1), stat = stat_of(find(1, "sub"));
    assert_int_equal(root.nlink, 4);
    assert_int_equal(root.size, 512);
    assert_int_equal(root.mtime.seconds, 0);
    assert_int_equal(stat.mode, S_IFDIR | 0755);
    assert_int_equal(stat.nlink, 3);
    assert_int_equal(stat.size, 1024);
    assert_int_equal(stat.blocks, 2);
    assert_int_equal(stat.mtime.seconds, 315532800 + 3726);
    assert_int_equal(stat.ctime.seconds, 315532800 + 3726);
    assert_int_equal(stat.btime.seconds, 4107542401);
    assert_int_equal(stat.btime.nanoseconds, 500000000);
    assert_int_equal(stat.atime.seconds, 951782400);
    assert_string_equal(names_of(find(1, "sub")), "INNER,");
    /* the file's number is that of its slot: whoever goes round sees it again */
    uint64_t inner = find(find(1, "sub"), "inner");
    assert_int_equal(find(inner, "inner"), inner);
    char names[100] = "";
    assert_int_equal(fs->ops->list(fs, find(1, "ring"), add_name, names, &err), -EUCLEAN);
    assert_int_equal(fs->ops->stat(fs, find(1, "ring"), &stat, &err), -EUCLEAN);
    static const uint64_t strangers[] = {0, 2, 1 << 20, UINT64_MAX, UINT64_MAX / 32};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(fs->ops->stat(fs, strangers[i], &stat, &err), -ENOENT);
}

static void endless_directory(void **state) {
    (void)state;
    make_volume(32, 66000);
    for (uint32_t i = 2; i < 6000; i++) { /* 16 slots each */
        link_cluster(i, i + 1);
        memset(cluster(i), FAT_DELETED, 512);
    }
    link_cluster(6000, LAST);
    mount_volume();
    char names[100] = "";
    struct fs_stat stat;
    assert_int_equal(fs->ops->list(fs, 1, add_name, names, &err), -EUCLEAN);
    assert_non_null(strstr(err.text, "65536"));
    assert_int_equal(fs->ops->stat(fs, 1, &stat, &err), -EUCLEAN);
}

/* ---- the boot sector ---- */

static void boot_sectors(void **state) {
    static const struct {
        unsigned at, bytes;
        uint32_t value;
        const char *word;
    } cases[] = {
        {11, 2, 0, "0 bytes"},      {11, 2, 256, "256 bytes"}, {11, 2, 8192, "8192 bytes"}, {11, 2, 513, "513 bytes"},
        {13, 1, 0, "0 sectors"},    {13, 1, 3, "3 sectors"},   {14, 2, 0, "0 reserved"},    {16, 1, 0, "0 tables"},
        {21, 1, 0x12, "0x12"},      {32, 4, 0, "0 sectors"},   {32, 4, 20, "20 sectors"},   {510, 2, 0, "not FAT"},
        {22, 2, 0xffff, "sectors"}, {16, 1, 255, "sectors"},
    };
    (void)state;
    struct probe probe;
    make_volume(16, 5000);
    assert_int_equal(fat_driver.probe(&v.device, &probe), 0);
    assert_string_equal(probe.type, "vfat");
    assert_string_equal(probe.uuid, "CAFE-0123");
    assert_string_equal(probe.label, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        make_volume(16, 5000);
        for (unsigned k = 0; k < cases[i].bytes; k++)
            v.bytes[cases[i].at + k] = (uint8_t)(cases[i].value >> 8 * k);
        refuse_volume(cases[i].word);
    }
    make_volume(16, 5000);
    memcpy(v.bytes + 3, "-FVE-FS-", 8);
    refuse_volume("not FAT");
    make_volume(16, 5000);
    v.device.size = v.data - 1;
    refuse_volume("files begin");
    make_volume(16, 5000);
    v.device.size = 100;
    assert_int_equal(fat_driver.probe(&v.device, &probe), -ENOENT);
    /* a table for fewer clusters than there are */
    make_volume(16, 5000);
    put16(v.bytes + 22, 2);
    mount_volume();
    struct fs_space space;
    assert_int_equal(fs->ops->space(fs, &space, &err), 0);
    assert_int_equal(space.blocks, 510);
}

static void labels(void **state) {
    struct probe probe;
    (void)state;
    make_volume(32, 66000);
    link_cluster(2, LAST);
    memcpy(((struct fat_boot *)v.bytes)->fat32.tail.label, "BOOT SECTOR", 11);
    assert_int_equal(fat_driver.probe(&v.device, &probe), 0);
    assert_string_equal(probe.label, "");
    put_file(root_slot(0), "\xe5LD LABEL  ", FAT_VOLUME, 0, 0);
    put_part(root_slot(1), 0x41, 0, u"x", 1);
    put_file(root_slot(2), "TH\x90  LABEL ", FAT_VOLUME | 0x20, 0, 0);
    put_file(root_slot(3), "SECOND     ", FAT_VOLUME, 0, 0);
    assert_int_equal(fat_driver.probe(&v.device, &probe), 0);
    assert_string_equal(probe.label, "THÉ  LABEL");
}

/* The second table counts if the boot sector says so. */
static void one_table(void **state) {
    (void)state;
    make_volume(32, 66000);
    link_cluster(2, 1000000); /* in the first */
    put16(((struct fat_boot *)v.bytes)->fat32.flags, FAT32_ONE_TABLE | 1);
    v.table += (v.root - v.table) / 2;
    link_cluster(2, LAST);
    put_file(root_slot(0), "HERE       ", 0x20, 0, 0);
    mount_volume();
    assert_string_equal(names_of(1), "HERE,");
    put16(((struct fat_boot *)v.bytes)->fat32.flags, 0);
    mount_volume();
    struct fs_stat stat;
    assert_int_equal(fs->ops->stat(fs, 1, &stat, &err), -EUCLEAN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(short_names, tear_down),
        cmocka_unit_test_teardown(long_names, tear_down),
        cmocka_unit_test_teardown(broken_long_names, tear_down),
        cmocka_unit_test_teardown(too_long_a_name, tear_down),
        cmocka_unit_test_teardown(chains, tear_down),
        cmocka_unit_test_teardown(chains_that_lead_astray, tear_down),
        cmocka_unit_test_teardown(directories, tear_down),
        cmocka_unit_test_teardown(endless_directory, tear_down),
        cmocka_unit_test_teardown(boot_sectors, tear_down),
        cmocka_unit_test_teardown(labels, tear_down),
        cmocka_unit_test_teardown(one_table, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
