// SPDX-License-Identifier: GPL-3.0-or-later
/* sign_volumes.c - the checksums of partition tables, physical volumes, LUKS2 headers and members of arrays. Where they
 * lie is known by what the base has there; how much they cover is what the changed disk says, as far as that can be. */
#include "mutate.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define LUKS2_SIZE 16384u /* bytes of a header in the base */

#define MD_USED 260u /* bytes of a superblock: all but unused roles */

enum kind { GPT, LABEL, AREA, LUKS2, MD };

struct sign {
    enum kind kind;
    unsigned disk;
    uint64_t at;
};

struct signs {
    size_t count;
    struct sign list[64];
};

static uint64_t get(const uint8_t *p, unsigned bytes) {
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | p[bytes];
    return value;
}

static void put_sum(struct disk *disk, uint64_t at, uint32_t sum) {
    uint8_t bytes[4] = {(uint8_t)sum, (uint8_t)(sum >> 8), (uint8_t)(sum >> 16), (uint8_t)(sum >> 24)};
    disk_put(disk, at, bytes, 4);
}

static void sign_gpt(struct disk *disk, uint64_t at) {
    uint8_t header[4096];
    uint64_t sector = disk->device.sector_size;
    const uint8_t *h = disk->bytes + at;
    uint64_t array = get(h + 72, 8), length = get(h + 80, 4) * get(h + 84, 4), size = get(h + 12, 4);
    if (array < disk->size / sector && length <= disk->size - array * sector && length <= 4u << 20)
        put_sum(disk, at + 88, (uint32_t)crc32_z(0, disk->bytes + array * sector, length));
    if (size < 92 || size > sector)
        return;
    memcpy(header, h, size);
    memset(header + 16, 0, 4);
    put_sum(disk, at + 16, (uint32_t)crc32_z(0, header, size));
}

static uint32_t lvm_sum(uint32_t sum, const uint8_t *bytes, size_t count) {
    return ~(uint32_t)crc32_z(~sum, bytes, count);
}
#define LVM_START 0xf597a6cfu

static void sign_label(struct disk *disk, uint64_t at) {
    put_sum(disk, at + 16, lvm_sum(LVM_START, disk->bytes + at + 20, 492));
}

/* The text goes round in its area, whose first 512 bytes are the header. */
static void sign_area(struct disk *disk, uint64_t at) {
    const uint8_t *h = disk->bytes + at;
    uint64_t area = get(h + 32, 8), from = get(h + 40, 8), size = get(h + 48, 8), room = disk->size - at;
    if (area <= room && area >= 1024 && from >= 512 && from < area && size <= area - 512) {
        uint64_t first = area - from < size ? area - from : size;
        uint32_t sum = lvm_sum(LVM_START, h + from, first);
        put_sum(disk, at + 56, lvm_sum(sum, h + 512, size - first));
    }
    put_sum(disk, at, lvm_sum(LVM_START, h + 4, 508));
}

static void sign_luks2(struct disk *disk, uint64_t at) {
    static uint8_t header[64 << 10];
    uint8_t sum[64] = {0};
    uint64_t size = __builtin_bswap64(get(disk->bytes + at + 8, 8));
    if (size < 4096 || size > sizeof(header) || size > disk->size - at)
        return;
    memcpy(header, disk->bytes + at, size);
    memset(header + 448, 0, sizeof(sum));
    SHA256(header, size, sum);
    disk_put(disk, at + 448, sum, sizeof(sum));
}

static bool luks2_is_right(const struct disk *disk, uint64_t at) {
    uint8_t header[LUKS2_SIZE], sum[SHA256_DIGEST_LENGTH];
    if (disk->size - at < LUKS2_SIZE)
        return false;
    memcpy(header, disk->base + at, LUKS2_SIZE);
    memset(header + 448, 0, 64);
    SHA256(header, LUKS2_SIZE, sum);
    return memcmp(sum, disk->base + at + 448, sizeof(sum)) == 0;
}

static void sign_md(struct disk *disk, uint64_t at) {
    const uint8_t *sb = disk->bytes + at;
    uint64_t roles = get(sb + 220, 4), sum = 0;
    if (roles > (4096 - 256) / 2)
        return;
    for (size_t i = 0; i + 4 <= 256 + 2 * roles; i += 4)
        sum += i == 216 ? 0 : get(sb + i, 4);
    if (roles % 2)
        sum += get(sb + 256 + 2 * roles - 2, 2);
    put_sum(disk, at + 216, (uint32_t)sum + (uint32_t)(sum >> 32));
}

static void sign_volumes(struct base *base) {
    static void (*const calls[])(struct disk *, uint64_t) = {sign_gpt, sign_label, sign_area, sign_luks2, sign_md};
    const struct signs *signs = base->signs;
    const uint8_t *bytes = base->disks[0].bytes;
    if (signs->count == 2 && signs->list[0].kind == LUKS2) /* else the second text would be taken for a damaged first */
        disk_put(&base->disks[0], LUKS2_SIZE + 4096, bytes + 4096, LUKS2_SIZE - 4096);
    for (size_t i = 0; i < signs->count; i++)
        calls[signs->list[i].kind](&base->disks[signs->list[i].disk], signs->list[i].at);
}

static void find_signs(struct signs *signs, const struct disk *disk, unsigned number) {
    static const struct {
        enum kind kind;
        unsigned at, length;
        const char *magic;
    } magics[] = {{GPT, 0, 8, "EFI PART"},           {LABEL, 0, 8, "LABELONE"},
                  {AREA, 4, 16, " LVM2 x[5A%r0N*>"}, {LUKS2, 0, 8, "LUKS\xba\xbe\0\2"},
                  {LUKS2, 0, 8, "SKUL\xba\xbe\0\2"}, {MD, 0, 8, "\xfc\x4e\x2b\xa9\1\0\0\0"}};
    for (uint64_t at = 0; at + 512 <= disk->size; at += 512)
        for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
            if (memcmp(disk->base + at + magics[i].at, magics[i].magic, magics[i].length) == 0 &&
                (magics[i].kind != LUKS2 || luks2_is_right(disk, at)) &&
                signs->count < sizeof(signs->list) / sizeof(signs->list[0]))
                signs->list[signs->count++] = (struct sign){magics[i].kind, number, at};
}

/* What the superblock of an array says beside names and times: version, UUID; level, disks; where the data are; number;
 * events; how many roles there are, and these. */
static void md_places(struct base *base, const struct sign *sign) {
    static const struct {
        uint32_t at, length;
    } fields[] = {{0, 32}, {72, 24}, {128, 24}, {160, 4}, {200, 8}, {220, 4}, {256, 4}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        base_place(base, sign->disk, sign->at + fields[i].at, fields[i].length);
}

void volumes_prepare_signs(struct base *base, const char *path) {
    (void)path;
    struct signs *signs = calloc(1, sizeof(*signs));
    if (!signs)
        abort();
    for (unsigned i = 0; i < base->ndisks; i++)
        find_signs(signs, &base->disks[i], i);
    for (size_t i = 0; i < signs->count; i++) {
        const struct sign *sign = &signs->list[i];
        if (sign->kind == MD)
            md_places(base, sign);
        if (sign->kind == LUKS2 && i > 0) /* it follows the first */
            memset(base->disks[sign->disk].read + sign->at / 512, 0, LUKS2_SIZE / 512);
    }
    base->signs = signs;
    base->sign = sign_volumes;
}
