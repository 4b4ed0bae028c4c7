/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_bitmap.c - bitmaps record, are stored when the image is closed, are changed, and follow the disk's size. */
#include "scenario.h"
#include "world.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define ADD " && qemu-img bitmap --add -g 4k image.qcow2 changes"

/* Closed, every bitmap is valid. */
static void reopen(struct world *w) {
    struct img_info info = {0};
    struct img_error err = {0};
    world_close(w);
    world_open(w);
    if (img_info(w->image, &info, &err))
        DIE("%s: nothing is told: %s", w->scenario->name, err.text);
    for (size_t i = 0; i < info.nbitmaps; i++)
        if (info.bitmaps[i].in_use)
            DIE("%s: bitmap %s is in use although the image was closed", w->scenario->name, info.bitmaps[i].name);
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
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwz", 4, 2, 0, size);
    guest_bitmap_add(w, "copy", 512, false);
    guest_bitmap_merge(w, "copy", "changes");
    guest_mix(w, &w->rng, "wwd", 4, 2, 0, size);
    guest_bitmap_merge(w, "copy", "changes");
    guest_bitmap_clear(w, "copy");
    guest_write(w, 8 << 10, 3 << 10);
    guest_bitmap_add(w, "later", 1 << 16, true);
    guest_bitmap_merge(w, "later", "changes");
    guest_mix(w, &w->rng, "wwc", 4, 2, 0, size);
    guest_bitmap_remove(w, "copy");
    guest_bitmap_enable(w, "changes", false);
    guest_bitmap_remove(w, "changes");
    guest_mix(w, &w->rng, "ww", 3, 2, 0, size);
    guest_bitmap_remove(w, "later");
    guest_flush(w);
    guest_verify(w);
}

/* The image has none at first; each begins while it is open and has been written to, and some go before it is closed.
 */
static void run_come_and_go(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwz", 4, 2, 0, size);
    guest_bitmap_add(w, "first", 1 << 10, true);
    guest_mix(w, &w->rng, "wwzd", 4, 2, 0, size);
    guest_bitmap_add(w, "second", 512, true);
    guest_mix(w, &w->rng, "ww", 3, 2, 0, size);
    guest_bitmap_clear(w, "first");
    guest_mix(w, &w->rng, "wwu", 3, 2, 0, size);
    reopen(w);
    guest_bitmap_enable(w, "second", false);
    guest_mix(w, &w->rng, "ww", 3, 2, 0, size);
    guest_bitmap_add(w, "sum", 4 << 10, true);
    guest_bitmap_merge(w, "sum", "first");
    guest_bitmap_merge(w, "sum", "second");
    guest_bitmap_enable(w, "second", true);
    guest_mix(w, &w->rng, "wwd", 4, 2, 0, size);
    guest_bitmap_remove(w, "first");
    guest_bitmap_clear(w, "second");
    guest_mix(w, &w->rng, "ww", 3, 0, 0, size);
    reopen(w);
    guest_write(w, 0, 2048);
    guest_bitmap_remove(w, "second");
    guest_bitmap_add(w, "second", 512, true);
    guest_write(w, 4096, 2048);
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

/* So far that the bitmap's table has other entries. */
static void run_resized_far(struct world *w) {
    uint64_t size = img_size(w->image), far = w->scenario->far;
    for (unsigned round = 0; round < 2; round++) {
        guest_mix(w, &w->rng, "ww", 3, 2, 0, w->scenario->watch);
        guest_write(w, far + 1024 * round, 3 << 10);
        guest_resize(w, 1 << 20);
        guest_mix(w, &w->rng, "ww", 2, 2, 0, w->scenario->watch);
        guest_resize(w, size);
        guest_write(w, far + (8 << 10), 1 << 10);
        guest_flush(w);
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
    },
    {
        .name = "bitmaps-resized-under-snapshot",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k && qemu-io -f qcow2 -c 'write -P 7 0 60k' image.qcow2 "
                          ">/dev/null && qemu-img snapshot -c one image.qcow2" ADD,
        .run = run_resized,
        .watch = 128 << 10,
        .snapshots = {"one"},
    },
    {
        .name = "bitmaps-resized-far",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 3M && qemu-io -f qcow2 -c 'write -P 7 0 60k' image.qcow2 "
                          ">/dev/null && qemu-img snapshot -c one image.qcow2 && qemu-img bitmap --add -g 512 "
                          "image.qcow2 changes",
        .run = run_resized_far,
        .watch = 64 << 10,
        .far = 5 << 19,
        .far_length = 32 << 10,
        .snapshots = {"one"},
    },
    {
        .name = "bitmaps-come-and-go",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k",
        .run = run_come_and_go,
    },
    {0},
};
