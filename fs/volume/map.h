/* SPDX-License-Identifier: GPL-3.0-or-later */
/* map.h - a device that is made of runs of others: what logical volumes and arrays are. */
#ifndef FS_VOLUME_MAP_H
#define FS_VOLUME_MAP_H

#include "../device.h"

enum map_kind {
    MAP_ZERO,
    MAP_STRIPED, /* chunks go round the parts; one part: they follow one another */
    MAP_COPIES,  /* each part has it all; the first is the best */
};

struct map_part {
    struct device *device;
    uint64_t at; /* bytes */
};

struct map_run {
    enum map_kind kind;
    uint64_t start, length; /* bytes */
    uint64_t chunk;         /* bytes; STRIPED with several parts */
    struct map_part *parts;
    unsigned nparts;
};

/* An empty one. */
int map_new(struct device **device, struct img_error *err);
/* Appends a run, whose start is the end of the former. The parts are copied. */
int map_append(struct device *device, const struct map_run *run, struct img_error *err);
/* The map closes this device when it is closed itself; in any case. */
int map_own(struct device *device, struct device *below, struct img_error *err);

#endif
