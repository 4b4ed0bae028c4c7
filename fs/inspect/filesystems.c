/* SPDX-License-Identifier: GPL-3.0-or-later */
/* filesystems.c - which volumes hold a filesystem, or might (inspect.h). */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../error.h"
#include "inspect.h"

/* Types of GPT partitions that never hold a filesystem. */
static const char *const never[] = {
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", /* metadata of Windows' dynamic disks */
    "af9b60a0-1431-4f62-bc68-3311714a69ad", /* ... their data */
    "e3c9e316-0b5c-4db8-817d-f92df00215ae", /* Microsoft's reserved partition */
    "caddebf1-4400-4de8-b103-12117dcf3ccf", /* Windows' shadow copies */
};

static bool is_partitioned(const struct volumes *volumes, const struct volume *disk) {
    if (disk->table)
        return true;
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        const struct volume *volume = volumes_get(volumes, i);
        if (volume->kind == VOLUME_PARTITION && volume->nparents > 0 && volume->parents[0] == disk)
            return true;
    }
    return false;
}

static bool is_wanted(const struct volumes *volumes, const struct volume *volume) {
    if (volume->is_pv || volume->content.kind == PROBE_CONTAINER)
        return false;
    if (volume->kind == VOLUME_DISK)
        return !is_partitioned(volumes, volume);
    if (volume->kind != VOLUME_PARTITION)
        return true;
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        if (strcasecmp(volume->type_uuid, never[i]) == 0)
            return false;
    return !volume->extended;
}

int inspect_filesystems(const struct volumes *volumes, struct volume ***list, size_t *count, struct img_error *err) {
    static const enum volume_kind order[] = {VOLUME_DISK, VOLUME_CRYPT, VOLUME_PARTITION, VOLUME_RAID, VOLUME_LOGICAL};
    size_t total = volumes_count(volumes);
    *count = 0;
    *list = calloc(total + 1, sizeof((*list)[0]));
    if (!*list)
        return fail_no_memory(err);
    for (size_t k = 0; k < sizeof(order) / sizeof(order[0]); k++)
        for (size_t i = 0; i < total; i++) {
            struct volume *volume = volumes_get(volumes, i);
            if (volume->kind == order[k] && is_wanted(volumes, volume))
                (*list)[(*count)++] = volume;
        }
    return 0;
}
