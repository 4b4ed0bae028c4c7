/* SPDX-License-Identifier: GPL-3.0-or-later */
/* magic.c - recognises what lies on a device and is not read here: by magic numbers, label and UUID where they are
 * plain. In the words of blkid.
 *
 * Nearly all of them are known by a few bytes in the first 68 KiB, which are read once; a table says which bytes, and
 * where label and UUID stand. The few that need more have a function.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ondisk.h"
#include "vfs.h"

#define HEAD (68u << 10)

struct sight {
    struct device *device;
    const uint8_t *head; /* HEAD bytes, zero behind the device's end */
    struct probe *probe;
};

struct format {
    const char *type;
    uint32_t at; /* of the magic */
    uint8_t length;
    const char *magic;
    uint32_t uuid_at; /* 16 bytes; 0: none */
    uint32_t label_at;
    uint16_t label_length; /* bytes; 0: none */
    /* more that must hold, or is to be found out; false: it is something else. NULL: nothing */
    bool (*more)(struct sight *s);
};

/* A label in one byte for each character, or UTF-8: to the first zero, without blanks at the end. */
static void set_label(struct probe *probe, const uint8_t *text, size_t length) {
    length = strnlen((const char *)text, length < sizeof(probe->label) - 1 ? length : sizeof(probe->label) - 1);
    while (length > 0 && text[length - 1] == ' ')
        length--;
    memcpy(probe->label, text, length);
    probe->label[length] = '\0';
}

static bool more_swap(struct sight *s) {
    s->probe->kind = PROBE_SWAP;
    if (get_le32(s->head + 1024) == 1 || get_be32(s->head + 1024) == 1) {
        const uint8_t *uuid = s->head + 1024 + 12;
        bool none = true;
        for (unsigned i = 0; i < 16; i++)
            none &= uuid[i] == 0;
        if (!none)
            uuid_text(uuid, s->probe->uuid);
        set_label(s->probe, s->head + 1024 + 28, 16);
    }
    return true;
}

static bool more_squashfs(struct sight *s) {
    if (get_le16(s->head + 28) < 4)
        s->probe->type = "squashfs3";
    return true;
}

static bool more_f2fs(struct sight *s) {
    utf8_of_utf16le(s->head + 1024 + 124, 512, s->probe->label, sizeof(s->probe->label));
    return true;
}

/* ISO 9660 writes times as digits; the UUID is the time of the last change, or of the making. */
static bool more_iso9660(struct sight *s) {
    const uint8_t *volume = s->head + 32768, *time = volume + 830;
    if (volume[0] != 1)
        return false;
    if (time[0] == 0 || memcmp(time, "0000000000000000", 16) == 0)
        time = volume + 813;
    const char *t = (const char *)time;
    if (t[0] != 0 && memcmp(t, "0000000000000000", 16) != 0)
        snprintf(s->probe->uuid, sizeof(s->probe->uuid), "%.4s-%.2s-%.2s-%.2s-%.2s-%.2s-%.2s", t, t + 4, t + 6, t + 8,
                 t + 10, t + 12, t + 14);
    return true;
}

/* The label of exFAT is an entry of the root directory, whose first cluster has it. */
static bool more_exfat(struct sight *s) {
    const uint8_t *b = s->head;
    unsigned sector_shift = b[108], cluster_shift = b[109];
    uint64_t heap = get_le32(b + 88), root = get_le32(b + 96);
    uint8_t entry[32];
    snprintf(s->probe->uuid, sizeof(s->probe->uuid), "%02X%02X-%02X%02X", b[103], b[102], b[101], b[100]);
    if (sector_shift < 9 || sector_shift > 12 || cluster_shift > 25 - sector_shift || root < 2)
        return false;
    uint64_t at = (heap << sector_shift) + ((root - 2) << (sector_shift + cluster_shift));
    for (unsigned i = 0; i < (1u << (sector_shift + cluster_shift)) / sizeof(entry) && i < 4096; i++) {
        if (device_read(s->device, entry, sizeof(entry), at + i * sizeof(entry), NULL) < 0 || entry[0] == 0)
            break;
        if (entry[0] != 0x83)
            continue;
        utf8_of_utf16le(entry + 2, entry[1] <= 11 ? entry[1] : 11, s->probe->label, sizeof(s->probe->label));
        break;
    }
    return true;
}

static const struct format formats[] = {
    {"swap", 0xff6, 10, "SWAPSPACE2", 0, 0, 0, more_swap},
    {"swap", 0xff6, 10, "SWAP-SPACE", 0, 0, 0, more_swap},
    {"swap", 0x1ff6, 10, "SWAPSPACE2", 0, 0, 0, more_swap},
    {"swap", 0x3ff6, 10, "SWAPSPACE2", 0, 0, 0, more_swap},
    {"swap", 0x7ff6, 10, "SWAPSPACE2", 0, 0, 0, more_swap},
    {"swap", 0xfff6, 10, "SWAPSPACE2", 0, 0, 0, more_swap},
    /* what a system that sleeps on its disk makes of its swap */
    {"swsuspend", 0xff6, 9, "S1SUSPEND", 0, 0, 0, more_swap},
    {"swsuspend", 0xff6, 9, "S2SUSPEND", 0, 0, 0, more_swap},
    {"swsuspend", 0xff6, 9, "LINHIB0001", 0, 0, 0, more_swap},
    {"btrfs", 0x10040, 8, "_BHRfS_M", 0x10020, 0x1012b, 256, NULL},
    {"squashfs", 0, 4, "hsqs", 0, 0, 0, more_squashfs},
    {"erofs", 1024, 4, "\xe2\xe1\xf5\xe0", 1024 + 48, 1024 + 64, 16, NULL},
    {"exfat", 3, 8, "EXFAT   ", 0, 0, 0, more_exfat},
    {"f2fs", 1024, 4, "\x10\x20\xf5\xf2", 1024 + 108, 0, 0, more_f2fs},
    {"reiserfs", 0x10034, 8, "ReIsErFs", 0, 0, 0, NULL},
    {"reiserfs", 0x10034, 9, "ReIsEr2Fs", 0x10054, 0x10064, 16, NULL},
    {"reiserfs", 0x10034, 9, "ReIsEr3Fs", 0x10054, 0x10064, 16, NULL},
    {"jfs", 0x8000, 4, "JFS1", 0x8088, 0x8098, 16, NULL},
    {"nilfs2", 1024 + 6, 2, "\x34\x34", 1024 + 152, 1024 + 168, 80, NULL},
    {"apfs", 32, 4, "NXSB", 72, 0, 0, NULL},
    {"hfsplus", 1024, 2, "H+", 0, 0, 0, NULL},
    {"hfsplus", 1024, 2, "HX", 0, 0, 0, NULL},
    {"hfs", 1024, 2, "BD", 0, 0, 0, NULL},
    {"bcachefs", 4096 + 24, 16, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", 4096 + 56,
     4096 + 72, 32, NULL},
    {"iso9660", 0x8001, 5, "CD001", 0, 0x8028, 32, more_iso9660},
};

/* ---- those that lie elsewhere ---- */

/* UDF announces itself in the sectors behind those of ISO 9660, with which it may share a disk. */
static bool is_udf(struct sight *s) {
    uint8_t id[8];
    bool begun = false;
    for (uint64_t at = 32768, n = 0; n < 64; at += 2048, n++) {
        if (device_read(s->device, id, sizeof(id), at, NULL) < 0)
            return false;
        if (memcmp(id + 1, "NSR02", 5) == 0 || memcmp(id + 1, "NSR03", 5) == 0)
            return begun;
        if (memcmp(id + 1, "BEA01", 5) == 0)
            begun = true;
        else if (memcmp(id + 1, "CD001", 5) != 0 && memcmp(id + 1, "BOOT2", 5) != 0)
            return false;
    }
    return false;
}

/* A string of UDF: how its characters are written, the characters, and in its last byte how many bytes it has. */
static void set_udf_label(struct probe *probe, const uint8_t *text, size_t size) {
    size_t length = text[size - 1];
    if (length < 2 || length > size - 1)
        return;
    if (text[0] == 16) {
        utf8_of_utf16be(text + 1, (length - 1) / 2, probe->label, sizeof(probe->label));
    } else if (text[0] == 8) {
        uint8_t wide[256] = {0};
        for (size_t i = 1; i < length; i++)
            wide[2 * i - 2] = text[i];
        utf8_of_utf16le(wide, length - 1, probe->label, sizeof(probe->label));
    }
}

/* The first sixteen characters of the name of the volume set, which its maker has chosen at random. Those that are no
 * hexadecimal digits are written as their numbers. */
static void set_udf_uuid(struct probe *probe, const uint8_t *text) {
    char *out = probe->uuid;
    size_t digits = 0;
    if (text[0] != 8 || text[127] < 9)
        return;
    const uint8_t *name = text + 1;
    while (digits < 16 && isxdigit(name[digits]))
        digits++;
    size_t plain = digits == 16 ? 16 : digits >= 8 ? 8 : 0;
    for (size_t i = 0; i < plain; i++)
        *out++ = (char)tolower(name[i]);
    for (size_t i = plain; plain + 2 * (i - plain) < 16; i++)
        out += sprintf(out, "%02x", name[i]);
    *out = '\0';
}

/* From the anchor in block 256 to the volume descriptors: the primary one has the UUID, the logical one the label. */
static void read_udf_descriptors(struct sight *s) {
    static const unsigned blocks[] = {512, 2048, 4096, 1024};
    for (size_t b = 0; b < sizeof(blocks) / sizeof(blocks[0]); b++) {
        uint8_t d[512];
        if (device_read(s->device, d, sizeof(d), UINT64_C(256) * blocks[b], NULL) < 0 || get_le16(d) != 2 ||
            get_le32(d + 12) != 256)
            continue;
        uint64_t at = (uint64_t)get_le32(d + 20) * blocks[b];
        for (unsigned n = 0; n < 64; n++, at += blocks[b]) {
            if (device_read(s->device, d, sizeof(d), at, NULL) < 0 || get_le16(d) == 8)
                return;
            if (get_le16(d) == 1)
                set_udf_uuid(s->probe, d + 72);
            if (get_le16(d) == 6)
                set_udf_label(s->probe, d + 84, 128);
        }
    }
}

/* The superblock of UFS is in one of four places. */
static bool is_ufs(struct sight *s) {
    static const uint32_t places[] = {0, 8 << 10, 64 << 10, 256 << 10};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint8_t sb[1376];
        if (device_read(s->device, sb, sizeof(sb), places[i], NULL) < 0)
            return false;
        uint32_t magic = get_le32(sb + 1372);
        if (magic != 0x00011954 && magic != 0x19540119)
            continue;
        s->probe->type = "ufs";
        if (magic == 0x19540119)
            set_label(s->probe, sb + 680, 32);
        if (get_le32(sb + 144) || get_le32(sb + 148))
            snprintf(s->probe->uuid, sizeof(s->probe->uuid), "%08" PRIx32 "%08" PRIx32, get_le32(sb + 144),
                     get_le32(sb + 148));
        return true;
    }
    return false;
}

static bool is_reiserfs_3_5(struct sight *s) {
    s->probe->type = "reiserfs";
    return memcmp(s->head + 8192 + 20, "ReIsErFs", 8) == 0;
}

static bool is_format(struct sight *s, const struct format *f) {
    if (memcmp(s->head + f->at, f->magic, f->length) != 0)
        return false;
    s->probe->kind = PROBE_FILESYSTEM;
    s->probe->type = f->type;
    if (f->uuid_at)
        uuid_text(s->head + f->uuid_at, s->probe->uuid);
    if (f->label_length)
        set_label(s->probe, s->head + f->label_at, f->label_length);
    return !f->more || f->more(s);
}

static bool recognise(struct sight *s) {
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (i + 1 == sizeof(formats) / sizeof(formats[0]) && is_udf(s)) {
            s->probe->kind = PROBE_FILESYSTEM;
            s->probe->type = "udf";
            read_udf_descriptors(s);
            return true;
        }
        if (is_format(s, &formats[i]))
            return true;
        memset(s->probe, 0, sizeof(*s->probe));
    }
    s->probe->kind = PROBE_FILESYSTEM;
    return is_ufs(s) || is_reiserfs_3_5(s);
}

static int probe_magic(struct device *device, struct probe *probe) {
    size_t count = device->size < HEAD ? (size_t)device->size : HEAD;
    uint8_t *head = calloc(1, HEAD);
    struct sight s = {device, head, probe};
    bool found = head && device_read(device, head, count, 0, NULL) == 0 && recognise(&s);
    free(head);
    return found ? 0 : -ENOENT;
}

const struct fs_driver magic_driver = {.name = "magic", .probe = probe_magic};
