/* SPDX-License-Identifier: GPL-3.0-or-later */
/* partition.c - a partition becomes a volume, as far as it lies on its disk (partition.h). */
#include "partition.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"

bool partition_may_be_on(const struct volume *disk) {
    return (disk->kind == VOLUME_DISK || disk->kind == VOLUME_RAID) && disk->device->sector_size >= 512 &&
           disk->device->sector_size <= 4096;
}

/* "/dev/sda1", "/dev/md0p1" */
static char *partition_name(const struct volume *disk, unsigned number) {
    char *name, last = disk->name[strlen(disk->name) - 1];
    const char *between = last >= '0' && last <= '9' ? "p" : "";
    return asprintf(&name, "%s%s%u", disk->name, between, number) < 0 ? NULL : name;
}

int partition_add(struct volumes *volumes, struct volume *disk, unsigned number, uint64_t start, uint64_t length,
                  struct volume **partition, struct img_error *err) {
    struct device *device = NULL;
    uint64_t there = start < disk->size ? disk->size - start : 0;
    char *name = partition_name(disk, number);
    *partition = NULL;
    if (!name)
        return fail_no_memory(err);
    int ret = 0;
    if (there > 0)
        ret = device_of_range(disk->device, start, length < there ? length : there, &device, err);
    if (ret == 0)
        ret = volumes_add(volumes, VOLUME_PARTITION, name, device, disk, partition, err);
    free(name);
    if (ret < 0)
        return ret;
    struct volume *made = *partition;
    made->number = number;
    made->start = start;
    disk->divided = true;
    disk->content = (struct probe){.type = ""};
    if (!device)
        made->size = length;
    if (there < length)
        volume_trouble(made, "It should have %" PRIu64 " bytes at %" PRIu64 " of a disk of %" PRIu64 " bytes", length,
                       start, disk->size);
    return 0;
}
