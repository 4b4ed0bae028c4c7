/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_snapshot.c - internal snapshots come, are gone back to, and go. */
#include "scenario.h"
#include "world.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define IO " && qemu-io -f qcow2 image.qcow2 >/dev/null "

/* Each of the three, of an image that is at rest, with writes between that make what was shared one's own. */
static void run_exact(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwwz", 8, 4, 0, size);
    guest_snapshot_create(w, "a", true);
    guest_mix(w, &w->rng, "wwzd", 8, 4, 0, size);
    guest_snapshot_create(w, "b", true);
    guest_verify(w);
    guest_mix(w, &w->rng, "wd", 4, 2, 0, size);
    guest_snapshot_apply(w, "a", true);
    guest_verify(w);
    guest_mix(w, &w->rng, "ww", 4, 2, 0, size);
    guest_snapshot_delete(w, "a", true);
    guest_verify(w);
    guest_mix(w, &w->rng, "wwz", 4, 2, 0, size);
    guest_snapshot_delete(w, "b", true);
    guest_write(w, 0, 512);
    guest_flush(w);
    guest_verify(w);
}

/* The image stays open, and has runs of reserved clusters, dirty slices and clusters in limbo each time. */
static void run_live(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwwcz", 10, 4, 0, size);
    guest_snapshot_create(w, "a", false);
    guest_mix(w, &w->rng, "wwcd", 10, 4, 0, size);
    guest_snapshot_create(w, "b", false);
    guest_mix(w, &w->rng, "wwc", 6, 0, 0, size);
    guest_snapshot_apply(w, "a", false);
    guest_verify(w);
    guest_mix(w, &w->rng, "wwd", 6, 0, 0, size);
    guest_snapshot_delete(w, "a", false);
    guest_mix(w, &w->rng, "wcw", 6, 4, 0, size);
    guest_snapshot_delete(w, "b", false);
    guest_mix(w, &w->rng, "ww", 4, 2, 0, size);
    guest_flush(w);
    guest_verify(w);
}

/* A machine's state beside the disk: L1 grows for it, and snapshots keep it. */
static void run_machine(struct world *w) {
    uint64_t size = img_size(w->image), state = w->scenario->far;
    guest_write(w, state + 512, 3 << 10);
    guest_mix(w, &w->rng, "wwz", 4, 2, 0, size);
    guest_write(w, state + (20 << 10), 5 << 10);
    guest_snapshot_create(w, "a", false);
    for (unsigned i = 0; i < 8; i++) {
        guest_mix(w, &w->rng, "wd", 2, 0, 0, size);
        guest_write(w, state + i * (5 << 10), 4 << 10);
        if (i % 3 == 0)
            guest_flush(w);
    }
    guest_verify(w);
    guest_snapshot_apply(w, "a", true);
    guest_verify(w);
    guest_write(w, state, 6 << 10);
    guest_snapshot_delete(w, "a", true);
    guest_write(w, state + (18 << 10), 3 << 10);
    guest_flush(w);
    guest_verify(w);
}

/* Others' snapshots, made by the peer. */
static void run_theirs(struct world *w) {
    guest_snapshot_apply(w, "one", true);
    guest_verify(w);
    guest_write(w, 3 << 10, 5 << 10);
    guest_snapshot_delete(w, "two", true);
    guest_write(w, 20 << 10, 3 << 10);
    guest_snapshot_delete(w, "one", true);
    guest_flush(w);
    guest_verify(w);
}

static void run_sizes(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "ww", 4, 2, 0, size);
    guest_snapshot_create(w, "small", true);
    guest_resize(w, size * 2);
    guest_write(w, size - 1024, 4096);
    guest_flush(w);
    guest_snapshot_create(w, "large", true);
    guest_snapshot_apply(w, "small", true);
    guest_verify(w);
    guest_write(w, 0, 1024);
    guest_snapshot_apply(w, "large", true);
    guest_verify(w);
    guest_snapshot_delete(w, "small", true);
    guest_write(w, size, 1024);
    guest_flush(w);
    guest_verify(w);
}

/* Up to the end of the device; returns where there was no room. */
static uint64_t fill(struct world *w, uint64_t at) {
    uint64_t cluster = img_cluster_size(w->image);
    while (guest_write_may_fail(w, at, cluster) == 0)
        if ((at += cluster) == img_size(w->image))
            DIE("%s: the device has too much room", w->scenario->name);
    guest_discard(w, at, cluster); /* so that it has one content */
    guest_flush(w);
    return at;
}

/* Deletions that find no room for a switch: the entry goes first, then the counts in place, then the switch. */
static void run_without_room(struct world *w) {
    guest_write(w, 0, 30 << 10);
    guest_snapshot_create(w, "a", false);
    guest_write(w, 0, 20 << 10);
    guest_snapshot_create(w, "b", false);
    guest_write(w, 4 << 10, 20 << 10);
    guest_snapshot_create(w, "c", false);
    guest_write(w, 8 << 10, 20 << 10);
    uint64_t end = fill(w, 40 << 10);
    guest_snapshot_delete(w, "c", false); /* the last: its entry is cut off */
    guest_verify(w);
    end = fill(w, end);
    guest_discard(w, end - 3072, 3072); /* a place for the table without its first entry, and none for a switch */
    guest_flush(w);
    guest_flush(w);
    guest_snapshot_delete(w, "a", false);
    guest_verify(w);
    fill(w, end - 1024);
    guest_snapshot_delete(w, "b", false);
    guest_write(w, 0, 4 << 10);
    guest_flush(w);
    guest_verify(w);
}

const struct scenario scenarios_snapshot[] = {
    {
        .name = "snapshots",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k" IO "-c 'write -P 7 8k 24k'",
        .run = run_exact,
    },
    {
        .name = "snapshots-version-2-512-byte-clusters",
        .prepare = CREATE "-o cluster_size=512,compat=0.10 image.qcow2 40k" IO "-c 'write -P 7 8k 24k'",
        .run = run_exact,
    },
    {
        .name = "snapshots-subclusters",
        .prepare = CREATE "-o cluster_size=16k,extended_l2=on image.qcow2 96k" IO "-c 'write -P 7 8k 24k'",
        .run = run_exact,
    },
    {
        .name = "snapshots-64-bit-counts",
        .prepare = CREATE "-o cluster_size=512,refcount_bits=64 image.qcow2 40k" IO "-c 'write -P 7 8k 24k'",
        .run = run_exact,
    },
    {
        .name = "snapshots-block-device",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k" IO "-c 'write -P 7 8k 24k'",
        .run = run_exact,
        .device_size = 3 << 20,
    },
    {
        .name = "snapshots-live",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k" IO "-c 'write -P 7 8k 24k'",
        .run = run_live,
    },
    {
        .name = "snapshots-live-over-backing",
        .prepare = CREATE "-o cluster_size=4k base.qcow2 96k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 96k' "
                          ">/dev/null && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2",
        .run = run_live,
    },
    {
        .name = "snapshots-of-qemu-img",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k" IO "-c 'write -P 7 0 32k' -c 'write -c -P 5 40k 1k'"
                          " && qemu-img snapshot -c one image.qcow2" IO "-c 'write -P 8 9k 9k'"
                          " && qemu-img snapshot -c two image.qcow2" IO "-c 'write -P 9 12k 9k'",
        .run = run_theirs,
        .snapshots = {"one", "two"},
    },
    {
        .name = "snapshots-of-different-sizes",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 48k" IO "-c 'write -P 7 0 48k'",
        .run = run_sizes,
        .watch = 96 << 10,
    },
    {
        .name = "snapshots-without-room",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 400k",
        .run = run_without_room,
        .device_size = 160 << 10,
    },
    {
        .name = "snapshots-of-a-machine",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 60k",
        .run = run_machine,
        .far = MODEL_STATE,
        .far_length = 40 << 10,
    },
    {0},
};
