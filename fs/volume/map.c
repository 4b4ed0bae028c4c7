/* SPDX-License-Identifier: GPL-3.0-or-later */
/* map.c - a device that is put together (map.h): runs of bytes, one behind the other, each of which lies on other
 * devices in one piece, in stripes, or as several copies.
 *
 * A copy that cannot be read gives way to the next; a write goes to all of them. */
#include "map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"

struct map {
    struct device device;
    struct map_run *runs;
    size_t nruns, room;
    struct device **owned;
    size_t nowned;
};

static const struct map_run *run_at(const struct map *map, uint64_t offset) {
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
static struct map_part place(const struct map_run *run, uint64_t offset, uint64_t *length) {
    uint64_t in_run = offset - run->start;
    if (*length > run->length - in_run)
        *length = run->length - in_run;
    if (run->kind != MAP_STRIPED || run->nparts == 1)
        return run->nparts ? (struct map_part){run->parts[0].device, run->parts[0].at + in_run} : (struct map_part){0};
    uint64_t chunk = in_run / run->chunk, in_chunk = in_run % run->chunk;
    const struct map_part *part = &run->parts[chunk % run->nparts];
    if (*length > run->chunk - in_chunk)
        *length = run->chunk - in_chunk;
    return (struct map_part){part->device, part->at + chunk / run->nparts * run->chunk + in_chunk};
}

static int read_copies(const struct map_run *run, void *buffer, size_t count, uint64_t in_run, struct img_error *err) {
    int ret = -EIO;
    for (unsigned i = 0; i < run->nparts && ret < 0; i++)
        ret = device_read(run->parts[i].device, buffer, count, run->parts[i].at + in_run, err);
    return ret;
}

static int runs_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct map *map = (struct map *)device;
    uint8_t *to = buffer;
    int ret = 0;
    while (count > 0 && ret == 0) {
        const struct map_run *run = run_at(map, offset);
        uint64_t length = count;
        struct map_part part = place(run, offset, &length);
        if (run->kind == MAP_ZERO)
            memset(to, 0, length);
        else if (run->kind == MAP_COPIES)
            ret = read_copies(run, to, length, offset - run->start, err);
        else
            ret = device_read(part.device, to, length, part.at, err);
        to += length;
        offset += length;
        count -= length;
    }
    return ret;
}

static int runs_write(struct device *device, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct map *map = (struct map *)device;
    const uint8_t *from = buffer;
    int ret = 0;
    while (count > 0 && ret == 0) {
        const struct map_run *run = run_at(map, offset);
        uint64_t length = count;
        struct map_part part = place(run, offset, &length);
        unsigned copies = run->kind == MAP_COPIES ? run->nparts : 1;
        for (unsigned i = 0; i < copies && ret == 0; i++) {
            if (run->kind == MAP_COPIES)
                part = (struct map_part){run->parts[i].device, run->parts[i].at + offset - run->start};
            ret = device_write(part.device, from, length, part.at, err);
        }
        from += length;
        offset += length;
        count -= length;
    }
    return ret;
}

static int runs_flush(struct device *device, struct img_error *err) {
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

static int runs_locate(struct device *device, uint64_t offset, uint64_t length, struct device **below, uint64_t *at,
                       uint64_t *length_there) {
    const struct map_run *run = run_at((struct map *)device, offset);
    struct map_part part = place(run, offset, &length);
    if (run->kind != MAP_STRIPED)
        return -ENOTSUP;
    *below = part.device;
    *at = part.at;
    *length_there = length;
    return 0;
}

static void runs_close(struct device *device) {
    struct map *map = (struct map *)device;
    for (size_t i = 0; i < map->nruns; i++)
        free(map->runs[i].parts);
    for (size_t i = 0; i < map->nowned; i++)
        device_close(map->owned[i]);
    free(map->runs);
    free(map->owned);
    free(map);
}

static const struct device_ops runs_ops = {
    .read = runs_read, .write = runs_write, .flush = runs_flush, .locate = runs_locate, .close = runs_close};

int map_new(struct device **device, struct img_error *err) {
    struct map *map = calloc(1, sizeof(*map));
    if (!map)
        return fail_no_memory(err);
    map->device = (struct device){.ops = &runs_ops, .sector_size = 512, .writable = true};
    *device = &map->device;
    return 0;
}

int map_append(struct device *device, const struct map_run *run, struct img_error *err) {
    struct map *map = (struct map *)device;
    if (map->nruns == map->room) {
        size_t room = map->room ? 2 * map->room : 4;
        struct map_run *runs = realloc(map->runs, room * sizeof(*runs));
        if (!runs)
            return fail_no_memory(err);
        map->runs = runs;
        map->room = room;
    }
    struct map_part *parts = NULL;
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
    device->writable &= run->kind != MAP_ZERO;
    map->runs[map->nruns] = *run;
    map->runs[map->nruns].start = device->size;
    map->runs[map->nruns++].parts = parts;
    device->size += run->length;
    return 0;
}

int map_own(struct device *device, struct device *below, struct img_error *err) {
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
