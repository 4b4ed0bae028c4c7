/* SPDX-License-Identifier: GPL-3.0-or-later */
/* label.c - what LVM writes on a physical volume: the label in one of its first four sectors, which says where the
 * metadata areas are; in each of these a header, and behind it a ring in which the group's text goes round.
 *
 * The header, the label and the text have checksums: CRC-32 with a start value of LVM's own and without the usual
 * inversions.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../error.h"
#include "../../ondisk.h"
#include "lvm.h"

#define LABEL_SECTORS 4
#define LABEL_SUMMED 20 /* the label's checksum covers all behind this byte */
#define HEADER 512      /* bytes of an area's header */
#define LOCATION_AT 40  /* ... in which the text's place stands here */

static uint32_t lvm_crc(uint32_t crc, const void *bytes, size_t count) {
    return ~crc32_of(~crc, bytes, count);
}
#define LVM_CRC_START 0xf597a6cfu

/* Pairs of place and size up to a pair of zeroes; *at goes behind it. */
static bool read_areas(const uint8_t *sector, size_t *at, struct lvm_area *areas, unsigned most, unsigned *count) {
    *count = 0;
    for (;; *at += 16) {
        if (*at + 16 > LVM_SECTOR)
            return false;
        struct lvm_area area = {get_le64(sector + *at), get_le64(sector + *at + 8)};
        if (area.offset == 0)
            break;
        if (*count < most)
            areas[(*count)++] = area;
    }
    *at += 16;
    return true;
}

static bool read_label_sector(const uint8_t *sector, unsigned number, struct lvm_label *label) {
    size_t at = get_le32(sector + 20);
    unsigned ndata;
    if (memcmp(sector, "LABELONE", 8) != 0 || memcmp(sector + 24, "LVM2 001", 8) != 0 || get_le64(sector + 8) != number)
        return false;
    if (lvm_crc(LVM_CRC_START, sector + LABEL_SUMMED, LVM_SECTOR - LABEL_SUMMED) != get_le32(sector + 16))
        return false;
    if (at < 32 || at > LVM_SECTOR - 40)
        return false;
    memset(label, 0, sizeof(*label));
    memcpy(label->uuid, sector + at, LVM_ID - 1);
    label->device_size = get_le64(sector + at + 32);
    at += 40;
    return lvm_plain_id(label->uuid, label->uuid) && read_areas(sector, &at, &label->data, 1, &ndata) &&
           read_areas(sector, &at, label->metadata, LVM_AREAS_MOST, &label->nmetadata);
}

int lvm_read_label(struct device *device, struct lvm_label *label) {
    uint8_t sectors[LABEL_SECTORS * LVM_SECTOR];
    if (device->size < sizeof(sectors) || device_read(device, sectors, sizeof(sectors), 0, NULL) < 0)
        return -ENOENT;
    for (unsigned i = 0; i < LABEL_SECTORS; i++)
        if (read_label_sector(sectors + (size_t)i * LVM_SECTOR, i, label))
            return 0;
    return -ENOENT;
}

/* Reads from the ring that is all of the area but its header. */
static int read_ring(struct device *device, const struct lvm_area *area, uint64_t from, char *text, uint64_t length,
                     struct img_error *err) {
    uint64_t first = area->size - from < length ? area->size - from : length;
    int ret = device_read(device, text, first, area->offset + from, err);
    if (ret == 0 && length > first)
        ret = device_read(device, text + first, length - first, area->offset + HEADER, err);
    return ret;
}

static int check_header(const uint8_t *header, const struct lvm_area *area, struct img_error *err) {
    static const char magic[16] = {' ', 'L', 'V', 'M', '2', ' ', 'x', '[', '5', 'A', '%', 'r', '0', 'N', '*', '>'};
    if (memcmp(header + 4, magic, sizeof(magic)) != 0 || get_le32(header + 20) != 1)
        return fail(err, -EUCLEAN, "There is no metadata of LVM at byte %" PRIu64, area->offset);
    if (lvm_crc(LVM_CRC_START, header + 4, HEADER - 4) != get_le32(header))
        return fail(err, -EUCLEAN, "The header of LVM's metadata at byte %" PRIu64 " has a wrong checksum",
                    area->offset);
    if (get_le64(header + 24) != area->offset || get_le64(header + 32) != area->size)
        return fail(err, -EUCLEAN, "The header of LVM's metadata at byte %" PRIu64 " belongs to another place",
                    area->offset);
    return 0;
}

int lvm_read_text(struct device *device, const struct lvm_area *area, char **text, size_t *length,
                  struct img_error *err) {
    uint8_t header[HEADER];
    *text = NULL;
    if (area->offset > device->size || area->size > device->size - area->offset || area->size < 2 * HEADER)
        return fail(err, -EUCLEAN, "An area for LVM's metadata of %" PRIu64 " bytes at %" PRIu64 " is not on the disk",
                    area->size, area->offset);
    int ret = device_read(device, header, sizeof(header), area->offset, err);
    if (ret < 0 || (ret = check_header(header, area, err)) < 0)
        return ret;
    uint64_t from = get_le64(header + LOCATION_AT), size = get_le64(header + LOCATION_AT + 8);
    if (from == 0 || size == 0)
        return 0;
    if (from < HEADER || from >= area->size || size > area->size - HEADER || size > TEXT_MOST)
        return fail(err, -EUCLEAN, "LVM's metadata is said to be %" PRIu64 " bytes at %" PRIu64 " of its area", size,
                    from);
    char *bytes = malloc(size + 1);
    if (!bytes)
        return fail_no_memory(err);
    ret = read_ring(device, area, from, bytes, size, err);
    if (ret == 0 && lvm_crc(LVM_CRC_START, bytes, size) != get_le32(header + LOCATION_AT + 16))
        ret = fail(err, -EUCLEAN, "The text of LVM's metadata has a wrong checksum");
    if (ret < 0) {
        free(bytes);
        return ret;
    }
    bytes[size] = '\0';
    *text = bytes;
    *length = size;
    return 0;
}
