// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_volumes.c - two disks in memory, looked at by every scheme of volumes and every probe.
 *
 * An input is a byte of flags, the sizes of both disks, and pieces that are laid on them: which disk and sector, how
 * many bytes, the bytes. Checksums would keep mutations from what lies behind them, so unless a flag says no they are
 * put right before the scan: of GPT headers and entries, LVM labels, headers and texts, LUKS2 headers.
 *
 * Held: a scan ends; every volume has a name, is found by it, and can be read from its first to its last byte or says
 * why not; where locate says that a byte is, it is.
 */
#include <errno.h>
#include <openssl/sha.h>
#include <string.h>
#include <zlib.h>

#include "../fs/volume/volume.h"
#include "fuzz.h"

#define DISKS 2
#define DISK_MOST (32u << 20)
#define UNIT (64u << 10) /* of sizes */
#define PIECES_MOST 256

enum { SECTORS_4096 = 1, KEEP_CHECKSUMS = 2, WITH_KEY = 4 };

struct memory_disk {
    struct device device;
    uint8_t *bytes;
};

static uint8_t memory[DISKS][DISK_MOST];

static struct {
    uint64_t offset, length;
    unsigned disk;
} pieces[PIECES_MOST];
static unsigned npieces;

/* ---- disks ---- */

static int disk_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    (void)err;
    if (offset > device->size || count > device->size - offset)
        fuzz_fail("a disk is asked for %zu bytes at %llu", count, (unsigned long long)offset);
    memcpy(buffer, ((struct memory_disk *)device)->bytes + offset, count);
    return 0;
}

static void disk_close(struct device *device) {
    (void)device;
}

static const struct device_ops disk_ops = {.read = disk_read, .close = disk_close};

/* ---- checksums ---- */

static void put(uint8_t *p, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++, value >>= 8)
        p[i] = (uint8_t)value;
}

static uint64_t get(const uint8_t *p, unsigned bytes) {
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | p[bytes];
    return value;
}

static void mend_gpt(struct memory_disk *d, uint64_t at) {
    uint64_t size = d->device.size, sector = d->device.sector_size;
    if (at + 512 > size || memcmp(d->bytes + at, "EFI PART", 8) != 0)
        return;
    uint8_t *h = d->bytes + at;
    uint64_t array = get(h + 72, 8), length = get(h + 80, 4) * get(h + 84, 4), header = get(h + 12, 4);
    if (array < size / sector && length <= size - array * sector && length <= 1u << 20)
        put(h + 88, crc32(0, d->bytes + array * sector, (unsigned)length), 4);
    put(h + 16, 0, 4);
    if (header <= sector && at + sector <= size)
        put(h + 16, crc32(0, h, (unsigned)header), 4);
}

static uint32_t lvm_sum(uint32_t crc, const uint8_t *bytes, size_t count) {
    return ~(uint32_t)crc32_z(~crc, bytes, count);
}

static void mend_lvm(struct memory_disk *d, uint64_t at) {
    uint8_t *s = d->bytes + at;
    uint32_t start = 0xf597a6cf;
    if (memcmp(s, "LABELONE", 8) == 0)
        put(s + 16, lvm_sum(start, s + 20, 492), 4);
    if (memcmp(s + 4, " LVM2 x[5A%r0N*>", 16) != 0)
        return;
    uint64_t area = get(s + 32, 8), from = get(s + 40, 8), size = get(s + 48, 8), room = d->device.size - at;
    if (area <= room && area >= 1024 && from >= 512 && from < area && size <= area - 512) {
        uint64_t first = area - from < size ? area - from : size;
        uint32_t crc = lvm_sum(start, s + from, first);
        put(s + 56, lvm_sum(crc, s + 512, size - first), 4);
    }
    put(s, lvm_sum(start, s + 4, 508), 4);
}

static void mend_luks2(struct memory_disk *d, uint64_t at) {
    uint8_t *h = d->bytes + at;
    uint64_t size = __builtin_bswap64(get(h + 8, 8));
    if ((memcmp(h, "LUKS\xba\xbe", 6) != 0 && memcmp(h, "SKUL\xba\xbe", 6) != 0) || h[7] != 2 || size > 65536 ||
        size < 512 || size > d->device.size - at)
        return;
    memset(h + 448, 0, 64);
    SHA256(h, size, h + 448);
}

static void mend(struct memory_disk *disks) {
    for (unsigned i = 0; i < DISKS; i++) {
        mend_gpt(&disks[i], disks[i].device.sector_size);
        mend_gpt(&disks[i], disks[i].device.size - disks[i].device.sector_size);
    }
    for (unsigned i = 0; i < npieces; i++) {
        struct memory_disk *d = &disks[pieces[i].disk];
        for (uint64_t at = pieces[i].offset; at < pieces[i].offset + pieces[i].length; at += 512) {
            if (at + 512 > d->device.size)
                break;
            mend_lvm(d, at);
            mend_luks2(d, at);
        }
    }
}

/* ---- one input ---- */

static void lay_pieces(struct input *in, struct memory_disk *disks) {
    for (unsigned i = 0; i < npieces; i++)
        memset(memory[pieces[i].disk] + pieces[i].offset, 0, pieces[i].length);
    npieces = 0;
    while (in->size > 6 && npieces < PIECES_MOST) {
        uint64_t place = input_number(in, 4), length = input_number(in, 2), offset = (place & 0x7fffffff) * 512;
        struct memory_disk *d = &disks[place >> 31];
        if (length > in->size)
            length = in->size;
        if (offset >= d->device.size || length > d->device.size - offset)
            offset %= d->device.size;
        if (length > d->device.size - offset)
            length = d->device.size - offset;
        memcpy(d->bytes + offset, in->data, length);
        in->data += length;
        in->size -= length;
        pieces[npieces].disk = (unsigned)(place >> 31);
        pieces[npieces].offset = offset;
        pieces[npieces++].length = length;
    }
}

static int find_key(void *opaque, const char *name, const char *uuid, size_t nth, struct img_key *key) {
    (void)opaque, (void)name, (void)uuid;
    *key = (struct img_key){"fuzz", 4};
    return nth == 0 ? 0 : -ENOKEY;
}

static void look_at_bytes(struct volume *v, uint64_t at) {
    uint8_t here, there;
    struct img_error err = {0};
    struct device *device = v->device, *below;
    uint64_t place = at, run, length = 1;
    if (device_read(device, &here, 1, at, &err) < 0) {
        if (!err.text[0])
            fuzz_fail("%s cannot be read and does not say why", v->name);
        return;
    }
    while (device->ops->locate && device->ops->locate(device, place, length, &below, &place, &run) == 0) {
        device = below;
        if (run != 1)
            fuzz_fail("%llu of one byte", (unsigned long long)run);
    }
    if (device_read(device, &there, 1, place, NULL) == 0 && here != there)
        fuzz_fail("byte %llu of %s is not where it is said to be", (unsigned long long)at, v->name);
}

static void look_at_volume(const struct volumes *volumes, struct volume *v) {
    uint8_t buffer[3000];
    if (!v->name || !v->content.type)
        fuzz_fail("a volume without a name or type");
    if (!volumes_find(volumes, v->name))
        fuzz_fail("%s is not found", v->name);
    if (!v->device) {
        if (v->kind != VOLUME_GROUP && !v->trouble)
            fuzz_fail("%s has no device and no trouble", v->name);
        return;
    }
    if (v->size != v->device->size)
        fuzz_fail("%s has two sizes", v->name);
    for (uint64_t at = 0; v->size > 0 && at < 4; at++)
        look_at_bytes(v, (v->size - 1) / 3 * at);
    size_t count = v->size < sizeof(buffer) ? (size_t)v->size : sizeof(buffer);
    if (count > 0 && device_read(v->device, buffer, count, v->size - count, NULL) < 0 && v->kind == VOLUME_PARTITION)
        fuzz_fail("the end of %s cannot be read", v->name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct memory_disk disks[DISKS];
    struct device *devices[DISKS];
    struct volume_keys keys = {.find = find_key, .work = 20000};
    struct volumes *volumes;
    struct img_error err = {0};
    unsigned flags = (unsigned)input_number(&in, 1);
    for (unsigned i = 0; i < DISKS; i++) {
        uint64_t units = input_number(&in, 2) % (DISK_MOST / UNIT) + 1;
        disks[i].bytes = memory[i];
        disks[i].device =
            (struct device){.ops = &disk_ops, .size = units * UNIT, .sector_size = flags & SECTORS_4096 ? 4096 : 512};
        devices[i] = &disks[i].device;
    }
    lay_pieces(&in, disks);
    if (!(flags & KEEP_CHECKSUMS))
        mend(disks);
    int ret = volumes_open(devices, DISKS, flags & WITH_KEY ? &keys : NULL, &volumes, &err);
    if (ret < 0) {
        if (ret != -E2BIG && ret != -ENOMEM)
            fuzz_fail("a scan ends with %d: %s", ret, err.text);
        return 0;
    }
    for (size_t i = 0; i < volumes_count(volumes); i++)
        look_at_volume(volumes, volumes_get(volumes, i));
    volumes_close(volumes);
    return 0;
}
