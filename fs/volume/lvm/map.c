/* SPDX-License-Identifier: GPL-3.0-or-later */
/* map.c - the device of a logical volume: runs of bytes, one behind the other, each of which lies on other devices in
 * one piece, in stripes, or as several copies.
 *
 * A copy that cannot be read gives way to the next; a write goes to all of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../error.h"
#include "lvm.h"

struct map {
    struct device device;
    struct lvm_run *runs;
    size_t nruns, room;
    struct device **owned;
    size_t nowned;
};

static const struct lvm_run *run_at(const struct map *map, uint64_t offset) {
    size_t low = 0, high = map->nruns;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (map->runs[middle].start <= offset)
            low = middle;
        else
            high = middle;
    }
    return &map->runs[low];
}

/* Where `offset` of a run is, and how many of `length` bytes follow it there. */
static struct lvm_part place(const struct lvm_run *run, uint64_t offset, uint64_t *length) {
    uint64_t in_run = offset - run->start;
    if (*length > run->length - in_run)
        *length = run->length - in_run;
    if (run->kind != LVM_RUN_STRIPED || run->nparts == 1)
        return run->nparts ? (struct lvm_part){run->parts[0].device, run->parts[0].at + in_run} : (struct lvm_part){0};
    uint64_t chunk = in_run / run->chunk, in_chunk = in_run % run->chunk;
    const struct lvm_part *part = &run->parts[chunk % run->nparts];
    if (*length > run->chunk - in_chunk)
        *length = run->chunk - in_chunk;
    return (struct lvm_part){part->device, part->at + chunk / run->nparts * run->chunk + in_chunk};
}

static int read_copies(const struct lvm_run *run, void *buffer, size_t count, uint64_t in_run, struct img_error *err) {
    int ret = -EIO;
    for (unsigned i = 0; i < run->nparts && ret < 0; i++)
        ret = device_read(run->parts[i].device, buffer, count, run->parts[i].at + in_run, err);
    return ret;
}

static int map_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct map *map = (struct map *)device;
    uint8_t *to = buffer;
    int ret = 0;
    while (count > 0 && ret == 0) {
        const struct lvm_run *run = run_at(map, offset);
        uint64_t length = count;
        struct lvm_part part = place(run, offset, &length);
        if (run->kind == LVM_RUN_ZERO)
            memset(to, 0, length);
        else if (run->kind == LVM_RUN_COPIES)
            ret = read_copies(run, to, length, offset - run->start, err);
        else
            ret = device_read(part.device, to, length, part.at, err);
        to += length;
        offset += length;
        count -= length;
    }
    return ret;
}

static int map_write(struct device *device, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct map *map = (struct map *)device;
    const uint8_t *from = buffer;
    int ret = 0;
    while (count > 0 && ret == 0) {
        const struct lvm_run *run = run_at(map, offset);
        uint64_t length = count;
        struct lvm_part part = place(run, offset, &length);
        unsigned copies = run->kind == LVM_RUN_COPIES ? run->nparts : 1;
        for (unsigned i = 0; i < copies && ret == 0; i++) {
            if (run->kind == LVM_RUN_COPIES)
                part = (struct lvm_part){run->parts[i].device, run->parts[i].at + offset - run->start};
            ret = device_write(part.device, from, length, part.at, err);
        }
        from += length;
        offset += length;
        count -= length;
    }
    return ret;
}

static int map_flush(struct device *device, struct img_error *err) {
    struct map *map = (struct map *)device;
    struct device *flushed = NULL;
    int ret = 0;
    for (size_t i = 0; i < map->nruns; i++) {
        for (unsigned p = 0; p < map->runs[i].nparts && ret == 0; p++) {
            struct device *below = map->runs[i].parts[p].device;
            if (below != flushed)
                ret = device_flush(below, err);
            flushed = below;
        }
    }
    return ret;
}

static int map_locate(struct device *device, uint64_t offset, uint64_t length, struct device **below, uint64_t *at,
                      uint64_t *length_there) {
    const struct lvm_run *run = run_at((struct map *)device, offset);
    struct lvm_part part = place(run, offset, &length);
    if (run->kind != LVM_RUN_STRIPED)
        return -ENOTSUP;
    *below = part.device;
    *at = part.at;
    *length_there = length;
    return 0;
}

static void map_close(struct device *device) {
    struct map *map = (struct map *)device;
    for (size_t i = 0; i < map->nruns; i++)
        free(map->runs[i].parts);
    for (size_t i = 0; i < map->nowned; i++)
        device_close(map->owned[i]);
    free(map->runs);
    free(map->owned);
    free(map);
}

static const struct device_ops map_ops = {
    .read = map_read, .write = map_write, .flush = map_flush, .locate = map_locate, .close = map_close};

int lvm_map_new(struct device **device, struct img_error *err) {
    struct map *map = calloc(1, sizeof(*map));
    if (!map)
        return fail_no_memory(err);
    map->device = (struct device){.ops = &map_ops, .sector_size = LVM_SECTOR, .writable = true};
    *device = &map->device;
    return 0;
}

int lvm_map_append(struct device *device, const struct lvm_run *run, struct img_error *err) {
    struct map *map = (struct map *)device;
    if (map->nruns == map->room) {
        size_t room = map->room ? 2 * map->room : 4;
        struct lvm_run *runs = realloc(map->runs, room * sizeof(*runs));
        if (!runs)
            return fail_no_memory(err);
        map->runs = runs;
        map->room = room;
    }
    struct lvm_part *parts = NULL;
    if (run->nparts > 0) {
        parts = malloc(run->nparts * sizeof(*parts));
        if (!parts)
            return fail_no_memory(err);
        memcpy(parts, run->parts, run->nparts * sizeof(*parts));
    }
    for (unsigned i = 0; i < run->nparts; i++) {
        device->writable &= parts[i].device->writable;
        if (device->sector_size < parts[i].device->sector_size)
            device->sector_size = parts[i].device->sector_size;
    }
    device->writable &= run->kind != LVM_RUN_ZERO;
    map->runs[map->nruns] = *run;
    map->runs[map->nruns].start = device->size;
    map->runs[map->nruns++].parts = parts;
    device->size += run->length;
    return 0;
}

int lvm_map_own(struct device *device, struct device *below, struct img_error *err) {
    struct map *map = (struct map *)device;
    struct device **owned = realloc(map->owned, (map->nowned + 1) * sizeof(struct device *));
    if (!owned) {
        device_close(below);
        return fail_no_memory(err);
    }
    map->owned = owned;
    map->owned[map->nowned++] = below;
    return 0;
}
