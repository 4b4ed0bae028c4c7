/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_metadata.c - the tables grow, the size changes, the data lie elsewhere. */
#include "scenario.h"
#include "world.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define IO " && qemu-io -f qcow2 image.qcow2 >/dev/null "

enum { MIB = 1 << 20 };

/* Long writes of many clusters, so that blocks are born quickly; a flush now and then. */
static void run_filling(struct world *w, uint64_t from, uint64_t to, uint64_t step) {
    unsigned turn = 0;
    for (uint64_t at = from; at + step <= to; at += step) {
        guest_write(w, at, step);
        if (++turn % 3 == 0) {
            guest_flush(w);
            guest_write(w, at, 512);
        }
    }
    guest_flush(w);
    guest_verify(w);
}

static void run_block_birth(struct world *w) {
    run_filling(w, 8 << 10, img_size(w->image), 12 << 10);
}

static void run_table_growth(struct world *w) {
    run_filling(w, w->scenario->far, w->scenario->far + w->scenario->far_length, 16 << 10);
}

static void run_l1_growth(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    guest_mix(w, &w->rng, "ww", 8, 4, 0, w->scenario->watch);
    guest_resize(w, 2 * MIB);
    guest_mix(w, &w->rng, "wwd", 8, 4, 0, w->scenario->watch);
    guest_resize(w, 64 * MIB);
    guest_write(w, w->scenario->far, w->scenario->far_length - cluster);
    guest_flush(w);
    guest_mix(w, &w->rng, "wwd", 12, 4, 0, w->scenario->watch);
    guest_resize(w, 64 * MIB + (4 << 10));
    guest_write(w, w->scenario->far + 512, 2 * cluster);
    guest_flush(w);
    guest_verify(w);
}

/* To an L1 table that is longer than what a refcount block counts. */
static void run_long_l1(struct world *w) {
    guest_mix(w, &w->rng, "ww", 8, 4, 0, w->scenario->watch);
    guest_flush(w);
    guest_resize(w, w->scenario->far + w->scenario->far_length);
    guest_write(w, w->scenario->far, w->scenario->far_length);
    guest_mix(w, &w->rng, "wwd", 8, 4, 0, w->scenario->watch);
    guest_flush(w);
    guest_verify(w);
}

static void run_resizes(struct world *w) {
    uint64_t size = img_size(w->image);
    for (unsigned round = 0; round < 3; round++) {
        guest_mix(w, &w->rng, "wwwd", 8, 5, 0, size);
        guest_resize(w, size - (20 << 10) - 512 * round);
        guest_write(w, 4 << 10, 3 << 10);
        guest_flush(w);
        guest_resize(w, size + (8 << 10) * round + 512);
        guest_write(w, size - (4 << 10), 4 << 10);
        guest_flush(w);
        guest_resize(w, size);
        guest_verify(w);
    }
}

static void run_grow(struct world *w) {
    uint64_t size = img_size(w->image);
    for (unsigned round = 1; round < 6; round++) {
        guest_write(w, size - 512, 512);
        guest_mix(w, &w->rng, "wwz", 4, 3, 0, size);
        guest_resize(w, size + 512 * 9 * round);
        size = img_size(w->image);
        guest_write(w, size - 1024, 512);
        guest_flush(w);
        guest_verify(w);
    }
}

static void run_shrink(struct world *w) {
    uint64_t size = img_size(w->image);
    for (unsigned round = 1; round < 6; round++) {
        guest_mix(w, &w->rng, "wwwz", 8, 5, 0, size);
        size -= 512 * 19 * round;
        guest_resize(w, size);
        guest_write(w, 2048 * round, 2048);
        guest_flush(w);
        guest_verify(w);
    }
}

static void run_everything(struct world *w) {
    guest_mix(w, &w->rng, "wwwzud", 60, 6, 0, img_size(w->image));
    guest_verify(w);
}

const struct scenario scenarios_metadata[] = {
    {
        .name = "refcount-block-birth",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 400k",
        .run = run_block_birth,
    },
    {
        .name = "refcount-block-birth-64-bits",
        .prepare = CREATE "-o cluster_size=512,refcount_bits=64 image.qcow2 200k",
        .run = run_block_birth,
    },
    {
        .name = "refcount-table-growth",
        .prepare = CREATE "-o cluster_size=512,refcount_bits=64 image.qcow2 8M" IO "-c 'write -P 7 64k 1600k'",
        .run = run_table_growth,
        .watch = 32 << 10,
        .far = 2 * MIB,
        .far_length = 320 << 10,
    },
    {
        .name = "l1-growth",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 64k",
        .run = run_l1_growth,
        .watch = 64 << 10,
        .far = 64 * MIB - (16 << 10),
        .far_length = 16 << 10,
    },
    {
        .name = "l1-longer-than-a-refcount-block", /* 96 clusters; a block counts 64 */
        .prepare = CREATE "-o cluster_size=512,refcount_bits=64 image.qcow2 64k",
        .run = run_long_l1,
        .watch = 64 << 10,
        .far = 192 * MIB - (4 << 10),
        .far_length = 4 << 10,
    },
    {
        .name = "l1-growth-version-2",
        .prepare = CREATE "-o cluster_size=512,compat=0.10 image.qcow2 64k",
        .run = run_l1_growth,
        .watch = 64 << 10,
        .far = 64 * MIB - (16 << 10),
        .far_length = 16 << 10,
    },
    {
        .name = "resize-up-and-down",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k",
        .run = run_resizes,
        .watch = 128 << 10,
    },
    {
        .name = "resize-up-over-longer-backing",
        .prepare = CREATE "-o cluster_size=4k base.qcow2 500k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 500k' "
                          ">/dev/null && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2 60k",
        .run = run_grow,
        .watch = 160 << 10,
    },
    {
        .name = "resize-up-version-2",
        .prepare = CREATE "-o cluster_size=1k,compat=0.10 image.qcow2 60k",
        .run = run_grow,
        .watch = 160 << 10,
    },
    {
        .name = "resize-down",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 200k" IO "-c 'write -P 7 0 200k'",
        .run = run_shrink,
    },
    {
        .name = "resize-down-512-byte-clusters",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 200k" IO "-c 'write -P 7 0 200k'",
        .run = run_shrink,
    },
    {
        .name = "resize-down-under-snapshot",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 200k" IO "-c 'write -P 7 0 200k'"
                          " && qemu-img snapshot -c one image.qcow2" IO "-c 'write -P 8 30k 90k'",
        .run = run_shrink,
        .snapshots = {"one"},
    },
    {
        .name = "external-data-file",
        .prepare = CREATE "-o cluster_size=1k,data_file=$PWD/data.raw image.qcow2 128k",
        .run = run_everything,
        .data_file = true,
    },
    {
        .name = "external-raw-data-file",
        .prepare = CREATE "-o cluster_size=1k,data_file=$PWD/data.raw,data_file_raw=on image.qcow2 128k",
        .run = run_everything,
        .data_file = true,
    },
    {
        .name = "block-device",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 256k",
        .run = run_everything,
        .device_size = 6 << 20,
    },
    {
        .name = "block-device-512-byte-clusters",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 128k",
        .run = run_everything,
        .device_size = 3 << 20,
    },
    {
        .name = "unknown-autoclear-bit",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k" IO
                          "-c 'write -P 7 0 64k' && printf '\\200' | dd of=image.qcow2 bs=1 seek=88 conv=notrunc",
        .run = run_everything,
    },
    {
        .name = "resize-external-data-file",
        .prepare = CREATE "-o cluster_size=1k,data_file=$PWD/data.raw image.qcow2 96k",
        .run = run_resizes,
        .watch = 128 << 10,
        .data_file = true,
    },
    {
        .name = "bitmaps-in-use",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k && qemu-img bitmap --add -g 4k image.qcow2 changes" IO
                          "-c 'write -P 7 0 64k' && qemu-img bitmap --clear image.qcow2 changes",
        .run = run_everything,
    },
    {0},
};
