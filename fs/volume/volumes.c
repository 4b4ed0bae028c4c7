/* SPDX-License-Identifier: GPL-3.0-or-later */
/* volumes.c - the set of a guest's volumes (volume.h). So far it knows disks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "volume.h"

#define MAX_VOLUMES 4096

struct volumes {
    struct volume **list;
    size_t count;
};

int volumes_open(struct device **disks, size_t ndisks, const struct volume_keys *keys, struct volumes **volumes,
                 struct img_error *err) {
    (void)keys;
    struct volumes *set = calloc(1, sizeof(*set));
    if (!set || ndisks > MAX_VOLUMES || !(set->list = calloc(ndisks, sizeof(set->list[0]))))
        return fail_no_memory(err);
    for (size_t i = 0; i < ndisks; i++) {
        struct volume *volume = calloc(1, sizeof(*volume));
        if (!volume || asprintf(&volume->name, "/dev/sd%c", (int)('a' + i)) < 0)
            return fail_no_memory(err);
        volume->device = disks[i];
        volume->size = disks[i]->size;
        fs_probe(disks[i], &volume->content);
        set->list[set->count++] = volume;
    }
    *volumes = set;
    return 0;
}

void volumes_close(struct volumes *volumes) {
    if (!volumes)
        return;
    for (size_t i = 0; i < volumes->count; i++) {
        device_close(volumes->list[i]->device);
        free(volumes->list[i]->name);
        free(volumes->list[i]);
    }
    free(volumes->list);
    free(volumes);
}

size_t volumes_count(const struct volumes *volumes) {
    return volumes->count;
}

struct volume *volumes_get(const struct volumes *volumes, size_t index) {
    return volumes->list[index];
}

struct volume *volumes_find(const struct volumes *volumes, const char *name) {
    for (size_t i = 0; i < volumes->count; i++)
        if (strcmp(volumes->list[i]->name, name) == 0)
            return volumes->list[i];
    return NULL;
}

const char *volumes_message(const struct volumes *volumes, size_t index) {
    (void)volumes, (void)index;
    return NULL;
}
