/* SPDX-License-Identifier: GPL-3.0-or-later */
/* member.c - recognises what is part of something bigger: members of arrays and groups, encrypted volumes. They are
 * looked for before every filesystem, for one may begin in the same place: of a mirror with its metadata at the end, or
 * where something old has not been wiped. In the words of blkid. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ondisk.h"
#include "vfs.h"

#define HEAD 8192

static const uint8_t bcache_magic[16] = {0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca,
                                         0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81};
static const uint8_t bitlocker_to_go[16] = {0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a,
                                            0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01};

static int found(struct probe *probe, const char *type) {
    probe->kind = PROBE_CONTAINER;
    probe->type = type;
    return 0;
}

static int nothing(void) {
    return -ENOENT;
}

/* ---- MD ---- */

#define MD_MAGIC 0xa92b4efcu

/* Version 1: in the first sector, in the ninth, or 8 to 12 KiB before the end. It says itself where it is. */
static int probe_md_1(const uint8_t *sb, uint64_t at, struct probe *probe) {
    if (get_le32(sb) != MD_MAGIC || get_le32(sb + 4) != 1 || get_le64(sb + 144) != at / 512)
        return nothing();
    uuid_text(sb + 16, probe->uuid);
    snprintf(probe->label, sizeof(probe->label), "%.32s", (const char *)sb + 32);
    return found(probe, "linux_raid_member");
}

/* Version 0.90: 64 to 128 KiB before the end. Its UUID is four numbers. */
static int probe_md_0(const uint8_t *sb, struct probe *probe) {
    if (get_le32(sb) != MD_MAGIC || get_le32(sb + 4) != 0)
        return nothing();
    uint32_t a = get_le32(sb + 20), b = get_le32(sb + 52), c = get_le32(sb + 56), d = get_le32(sb + 60);
    snprintf(probe->uuid, sizeof(probe->uuid),
             "%08" PRIx32 "-%04" PRIx32 "-%04" PRIx32 "-%04" PRIx32 "-%04" PRIx32 "%08" PRIx32, a, b >> 16, b & 0xffff,
             c >> 16, c & 0xffff, d);
    return found(probe, "linux_raid_member");
}

static int probe_md(struct device *device, const uint8_t *head, struct probe *probe) {
    uint8_t sb[256];
    uint64_t at;
    if (probe_md_1(head, 0, probe) == 0 || probe_md_1(head + 4096, 4096, probe) == 0)
        return 0;
    if (device->size < 128 << 10)
        return nothing();
    at = (device->size / 512 - 16) / 8 * 8 * 512;
    if (device_read(device, sb, sizeof(sb), at, NULL) == 0 && probe_md_1(sb, at, probe) == 0)
        return 0;
    at = device->size / 65536 * 65536 - 65536;
    if (device_read(device, sb, sizeof(sb), at, NULL) == 0 && probe_md_0(sb, probe) == 0)
        return 0;
    return nothing();
}

/* ---- LVM, LUKS ---- */

static int probe_lvm(const uint8_t *head, struct probe *probe) {
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *label = head + 512 * i;
        if (memcmp(label, "LABELONE", 8) != 0 || memcmp(label + 24, "LVM2 001", 8) != 0 || get_le64(label + 8) != i)
            continue;
        uint32_t at = get_le32(label + 20);
        const char *id = (const char *)label + at;
        if (at < 32 || at > 512 - 32)
            continue;
        snprintf(probe->uuid, sizeof(probe->uuid), "%.6s-%.4s-%.4s-%.4s-%.4s-%.4s-%.6s", id, id + 6, id + 10, id + 14,
                 id + 18, id + 22, id + 26);
        return found(probe, "LVM2_member");
    }
    return nothing();
}

static int probe_luks(const uint8_t *head, struct probe *probe) {
    unsigned version = get_be16(head + 6);
    if (memcmp(head, "LUKS\xba\xbe", 6) != 0 || (version != 1 && version != 2))
        return nothing();
    snprintf(probe->uuid, sizeof(probe->uuid), "%.40s", (const char *)head + 168);
    if (version == 2)
        snprintf(probe->label, sizeof(probe->label), "%.48s", (const char *)head + 24);
    return found(probe, "crypto_LUKS");
}

/* ---- others ---- */

static int probe_bitlocker(const uint8_t *head, struct probe *probe) {
    bool whole = memcmp(head + 3, "-FVE-FS-", 8) == 0;
    bool to_go = memcmp(head + 3, "MSWIN4.1", 8) == 0 && memcmp(head + 424, bitlocker_to_go, 16) == 0;
    return whole || to_go ? found(probe, "BitLocker") : nothing();
}

static int probe_bcache(const uint8_t *head, struct probe *probe) {
    if (memcmp(head + 4096 + 24, bcache_magic, 16) != 0 || get_le64(head + 4096 + 8) != 8)
        return nothing();
    uuid_text(head + 4096 + 40, probe->uuid);
    return found(probe, "bcache");
}

/* A label of ZFS ends in a ring of uberblocks; several of them are there if it is one. */
static int probe_zfs(struct device *device, struct probe *probe) {
    enum { RING = 128 << 10, BLOCK = 1024, BLOCKS_READ = 16 };
    uint8_t blocks[BLOCKS_READ * BLOCK];
    unsigned seen = 0;
    for (uint64_t at = RING; at < 2 * RING && seen < 4; at += sizeof(blocks)) {
        if (device->size < 2 * RING || device_read(device, blocks, sizeof(blocks), at, NULL) < 0)
            return nothing();
        for (const uint8_t *block = blocks; block < blocks + sizeof(blocks); block += BLOCK)
            seen += get_le64(block) == 0x00bab10c || get_be64(block) == 0x00bab10c;
    }
    return seen >= 4 ? found(probe, "zfs_member") : nothing();
}

static int probe_member(struct device *device, struct probe *probe) {
    uint8_t head[HEAD] = {0};
    size_t count = device->size < HEAD ? (size_t)device->size : HEAD;
    if (count < 512 || device_read(device, head, count, 0, NULL) < 0)
        return nothing();
    if (probe_md(device, head, probe) == 0 || probe_lvm(head, probe) == 0 || probe_luks(head, probe) == 0 ||
        probe_bitlocker(head, probe) == 0 || probe_bcache(head, probe) == 0 || probe_zfs(device, probe) == 0)
        return 0;
    return nothing();
}

const struct fs_driver member_driver = {.name = "member", .probe = probe_member};
