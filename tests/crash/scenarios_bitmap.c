/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_bitmap.c - bitmaps record, are stored when the image is closed, are changed, and follow the disk's size. */
#include "scenario.h"
#include "world.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define ADD " && qemu-img bitmap --add -g 4k image.qcow2 changes"

static void must(struct world *w, int rc, const struct img_error *err) {
    if (rc)
        DIE("%s: a bitmap cannot be changed: %s", w->scenario->name, err->text);
}

static void reopen(struct world *w) {
    world_close(w);
    world_open(w);
}

/* A change after each close, so that an image is cut that is valid, in use, and again valid. */
static void run_recorded(struct world *w) {
    uint64_t size = img_size(w->image);
    for (unsigned round = 0; round < 4; round++) {
        guest_mix(w, &w->rng, round % 2 ? "wzcd" : "wwu", 5, 3, 0, size);
        reopen(w);
    }
    guest_write(w, 0, 512);
    guest_verify(w);
}

/* Another bitmap beside the one that records. */
static void run_edited(struct world *w) {
    struct img_error err = {0};
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwz", 4, 2, 0, size);
    must(w, img_bitmap_add(w->image, "copy", 512, false, &err), &err);
    must(w, img_bitmap_merge(w->image, "copy", w->image, "changes", &err), &err);
    guest_mix(w, &w->rng, "wwd", 4, 2, 0, size);
    must(w, img_bitmap_merge(w->image, "copy", w->image, "changes", &err), &err);
    must(w, img_bitmap_clear(w->image, "copy", &err), &err);
    guest_write(w, 8 << 10, 3 << 10);
    must(w, img_bitmap_add(w->image, "later", 1 << 16, true, &err), &err);
    must(w, img_bitmap_merge(w->image, "later", w->image, "changes", &err), &err);
    guest_mix(w, &w->rng, "wwc", 4, 2, 0, size);
    must(w, img_bitmap_remove(w->image, "copy", &err), &err);
    must(w, img_bitmap_set_enabled(w->image, "changes", false, &err), &err);
    must(w, img_bitmap_remove(w->image, "changes", &err), &err);
    guest_mix(w, &w->rng, "ww", 3, 2, 0, size);
    must(w, img_bitmap_remove(w->image, "later", &err), &err);
    guest_flush(w);
    guest_verify(w);
}

static void run_resized(struct world *w) {
    uint64_t size = img_size(w->image);
    for (unsigned round = 0; round < 3; round++) {
        guest_mix(w, &w->rng, "wwwd", 4, 3, 0, size);
        guest_resize(w, size - (20 << 10) - 512 * round);
        guest_write(w, 4 << 10, 3 << 10);
        guest_resize(w, size + (8 << 10) * round + 512);
        guest_write(w, size - (4 << 10), 4 << 10);
        guest_flush(w);
        guest_resize(w, size);
    }
    guest_verify(w);
}

const struct scenario scenarios_bitmap[] = {
    {
        .name = "bitmaps-recorded",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k" ADD,
        .run = run_recorded,
    },
    {
        .name = "bitmaps-recorded-fine",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 3M && qemu-img bitmap --add -g 512 image.qcow2 changes "
                          "&& qemu-img bitmap --add -g 64k image.qcow2 changes-coarse",
        .run = run_recorded,
        .watch = 96 << 10,
        .far = (3 << 20) - (32 << 10),
        .far_length = 32 << 10,
    },
    {
        .name = "bitmaps-edited",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k" ADD,
        .run = run_edited,
    },
    {
        .name = "bitmaps-resized",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k && qemu-img bitmap --add -g 512 image.qcow2 changes",
        .run = run_resized,
        .watch = 128 << 10,
        .resizes = true,
    },
    {0},
};
