/* SPDX-License-Identifier: GPL-3.0-or-later */
/* overlay.c - see overlay.h. Changed sectors are kept whole, found by their number in a hash table with open addresses
 * that is never more than half full.
 */
#include "overlay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { SECTOR = 512, FIRST_ROOM = 1024 };

struct sector {
    uint64_t number;
    uint8_t bytes[SECTOR];
};

struct overlay {
    struct device device;
    struct device *below;
    struct sector **table;
    size_t room, count; /* room is a power of two */
    uint64_t limit;     /* sectors */
};

/* Where the sector is, or would be. */
static struct sector **slot(struct sector **table, size_t room, uint64_t number) {
    size_t at = number * 0x9e3779b97f4a7c15ull >> 20 & (room - 1);
    while (table[at] && table[at]->number != number)
        at = (at + 1) & (room - 1);
    return &table[at];
}

static int overlay_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct overlay *overlay = (struct overlay *)device;
    int ret = device_read(overlay->below, buffer, count, offset, err);
    if (ret < 0 || overlay->count == 0)
        return ret;
    for (size_t done = 0, part; done < count; done += part) {
        size_t inside = (offset + done) % SECTOR;
        part = SECTOR - inside < count - done ? SECTOR - inside : count - done;
        const struct sector *sector = *slot(overlay->table, overlay->room, (offset + done) / SECTOR);
        if (sector)
            memcpy((uint8_t *)buffer + done, sector->bytes + inside, part);
    }
    return 0;
}

static void close_device(struct device *device) {
    overlay_close((struct overlay *)device);
}

static const struct device_ops overlay_ops = {.read = overlay_read, .close = close_device};

int overlay_open(struct device *below, uint64_t limit, struct overlay **result, struct img_error *err) {
    struct overlay *overlay = malloc(sizeof(*overlay));
    struct sector **table = calloc(FIRST_ROOM, sizeof(struct sector *));
    if (!overlay || !table) {
        free(overlay);
        free((void *)table);
        return fail_no_memory(err);
    }
    *overlay = (struct overlay){.device = {.ops = &overlay_ops, .size = below->size, .sector_size = below->sector_size},
                                .below = below,
                                .table = table,
                                .room = FIRST_ROOM,
                                .limit = limit / SECTOR};
    *result = overlay;
    return 0;
}

void overlay_close(struct overlay *overlay) {
    for (size_t i = 0; i < overlay->room; i++)
        free(overlay->table[i]);
    free((void *)overlay->table);
    free(overlay);
}

struct device *overlay_device(struct overlay *overlay) {
    return &overlay->device;
}

static int grow(struct overlay *overlay, struct img_error *err) {
    size_t room = 2 * overlay->room;
    struct sector **table = calloc(room, sizeof(struct sector *));
    if (!table)
        return fail_no_memory(err);
    for (size_t i = 0; i < overlay->room; i++)
        if (overlay->table[i])
            *slot(table, room, overlay->table[i]->number) = overlay->table[i];
    free((void *)overlay->table);
    overlay->table = table;
    overlay->room = room;
    return 0;
}

/* The sector as it is, for a change. */
static int get_sector(struct overlay *overlay, uint64_t number, struct sector **result, struct img_error *err) {
    struct sector **found = slot(overlay->table, overlay->room, number);
    if ((*result = *found))
        return 0;
    if (overlay->count >= overlay->limit)
        return fail(err, -EFBIG, "The log changes more than %" PRIu64 " sectors", overlay->limit);
    if (2 * (overlay->count + 1) > overlay->room) {
        int ret = grow(overlay, err);
        if (ret < 0)
            return ret;
        found = slot(overlay->table, overlay->room, number);
    }
    struct sector *sector = calloc(1, sizeof(*sector));
    if (!sector)
        return fail_no_memory(err);
    uint64_t at = number * SECTOR, there = overlay->device.size - at;
    sector->number = number;
    int ret = device_read(overlay->below, sector->bytes, there < SECTOR ? there : SECTOR, at, err);
    if (ret < 0) {
        free(sector);
        return ret;
    }
    overlay->count++;
    *result = *found = sector;
    return 0;
}

int overlay_write(struct overlay *overlay, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    if (offset > overlay->device.size || count > overlay->device.size - offset)
        return fail(err, -EINVAL, "The log changes %zu bytes at %" PRIu64 ", of a device of %" PRIu64 " bytes", count,
                    offset, overlay->device.size);
    for (size_t done = 0, part; done < count; done += part) {
        size_t inside = (offset + done) % SECTOR;
        struct sector *sector;
        part = SECTOR - inside < count - done ? SECTOR - inside : count - done;
        int ret = get_sector(overlay, (offset + done) / SECTOR, &sector, err);
        if (ret < 0)
            return ret;
        memcpy(sector->bytes + inside, (const uint8_t *)buffer + done, part);
    }
    return 0;
}
