/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* info.c - what img_info tells of a qcow2 image: the header, the snapshot table and the bitmap directory. */
#include "../crypto.h"
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>

static int list_snapshots(struct qcow2 *q) {
    size_t n = q->snapshots.count;
    if (!n || q->info_snapshots)
        return 0;
    q->info_snapshots = calloc(n, sizeof *q->info_snapshots);
    if (!q->info_snapshots)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct qcow2_snapshot *s = &q->snapshots.list[i];
        q->info_snapshots[i] = (struct img_snapshot_info){
            .id = s->id,
            .name = s->name,
            .vm_state_size = s->vm_state_size,
            .disk_size = s->disk_size == UINT64_MAX ? q->header.size : s->disk_size,
            .date_ns = s->date_ns,
            .vm_clock_ns = s->vm_clock_ns,
            .icount = s->icount,
        };
    }
    return 0;
}

static int list_bitmaps(struct qcow2 *q) {
    size_t n = q->bitmaps.count;
    if (!n || q->info_bitmaps)
        return 0;
    q->info_bitmaps = calloc(n, sizeof *q->info_bitmaps);
    if (!q->info_bitmaps)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct qcow2_bitmap *b = &q->bitmaps.list[i];
        q->info_bitmaps[i] = (struct img_bitmap_info){
            .name = b->name,
            .granularity = 1ull << b->granularity_bits,
            .in_use = b->flags & QCOW2_BITMAP_IN_USE && !b->record,
            .enabled = b->flags & QCOW2_BITMAP_AUTO,
        };
    }
    return 0;
}

int qcow2_info(struct img *image, struct img_info *info, struct img_error *err) {
    static const char *const encryption[] = {NULL, "aes", "luks"};
    struct qcow2 *q = qcow2_of(image);
    const struct qcow2_header *h = &q->header;
    if (h->crypt_method != QCOW2_CRYPT_NONE)
        crypto_info(image, info); /* before `role`: it has a lock that comes first */
    SCOPED_MUTEX(&q->role);       /* the header may be changing, and the lists are made once */
    if (list_snapshots(q) < 0 || list_bitmaps(q) < 0)
        return img_fail(err, -ENOMEM, "no memory for the snapshots and bitmaps of '%s'", image->path);
    info->cluster_size = q->cluster_size;
    info->backing_file = h->backing_file;
    info->backing_format = h->backing_format;
    info->data_file = h->data_file;
    info->data_file_raw = h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    info->encryption = h->crypt_method <= QCOW2_CRYPT_LUKS ? encryption[h->crypt_method] : "unknown";
    info->dirty = h->incompatible & QCOW2_INCOMPAT_DIRTY;
    info->corrupt = h->incompatible & QCOW2_INCOMPAT_CORRUPT;
    info->lazy_refcounts = h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;
    info->extended_l2 = q->extended;
    info->version = h->version;
    info->refcount_bits = 1u << h->refcount_order;
    info->compression = q->codec->name;
    info->nsnapshots = q->snapshots.count;
    info->snapshots = q->info_snapshots;
    info->nbitmaps = q->bitmaps.count;
    info->bitmaps = q->info_bitmaps;
    return 0;
}
