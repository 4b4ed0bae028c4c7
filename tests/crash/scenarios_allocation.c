/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_allocation.c - guest data: each kind of cluster that a write may find, compression, zeroes, discards and
 * the reuse of what they freed, copy-on-write under snapshots. */
#include "beside.h"
#include "scenario.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define IO " && qemu-io -f qcow2 image.qcow2 >/dev/null "

/* Whole, half, spanning and ragged writes into clusters not yet touched, then over themselves. */
static void run_writes(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image), step = img_size(w->image) / 6 / cluster * cluster;
    for (uint64_t base = 0; base + step <= img_size(w->image) && step >= 10 * cluster; base += step) {
        guest_write(w, base, cluster);
        guest_write(w, base + 2 * cluster, cluster / 2);
        guest_write(w, base + 3 * cluster + cluster / 2, cluster);
        guest_write(w, base + 6 * cluster + 100, 300);
        guest_flush(w);
        guest_write(w, base + 2 * cluster + cluster / 2, cluster / 2 + 512);
        guest_write(w, base + 7 * cluster + cluster / 2, 2 * cluster);
    }
    guest_verify(w);
    guest_flush(w);
    guest_write(w, 512, 3 * cluster);
    guest_flush(w);
    guest_verify(w);
}

static void run_zeroes(struct world *w) {
    guest_mix(w, &w->rng, "zzuuw", 40, 5, 0, img_size(w->image));
    guest_verify(w);
    guest_mix(w, &w->rng, "zzuww", 20, 4, 0, img_size(w->image));
    guest_verify(w);
}

static void run_everything(struct world *w) {
    guest_mix(w, &w->rng, "wwwzud", 60, 6, 0, img_size(w->image));
    guest_verify(w);
}

static void run_compressed(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    for (uint64_t i = 0; i < 4; i++) {
        guest_write_compressed(w, i * 4 * cluster, 3 * cluster);
        guest_flush(w);
        guest_write(w, i * 4 * cluster + 512, 512);
        guest_write_compressed(w, (i * 4 + 1) * cluster, cluster);
        guest_discard(w, (i * 4 + 2) * cluster, cluster);
        guest_flush(w);
    }
    guest_verify(w);
    guest_mix(w, &w->rng, "ccwud", 40, 4, 0, img_size(w->image));
    guest_verify(w);
}

static void act_fill(struct world *w, unsigned round) {
    uint64_t cluster = img_cluster_size(w->image), half = img_size(w->image) / 2, mine = round % 2 * half;
    for (uint64_t at = 0; at + 4 * cluster <= half; at += 4 * cluster)
        guest_write(w, mine + at, (3 + at / cluster % 2) * cluster - 512);
}

static void act_mix(struct world *w, unsigned round) {
    struct rng rng = {mix64(round + 7)};
    guest_mix(w, &rng, "wwddu", 8, 4, 0, img_size(w->image));
}

/* Fills, frees and fills again: what a discard gave back is soon somebody else's. */
static void run_reuse(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image), half = img_size(w->image) / 2;
    for (unsigned round = 0; round < 5; round++) {
        uint64_t mine = round % 2 * half, other = half - mine;
        beside_run(w, act_fill, round);
        guest_flush(w);
        guest_discard(w, mine + round * cluster, half - 4 * cluster);
        guest_write(w, other + round * cluster, 2 * cluster);
        guest_flush(w);
        guest_flush(w);
    }
    guest_verify(w);
    for (unsigned round = 0; round < 5; round++)
        beside_run(w, act_mix, round);
    beside_end(w);
    guest_verify(w);
}

static void run_reopened(struct world *w) {
    for (unsigned round = 0; round < 4; round++) {
        guest_mix(w, &w->rng, "wwwdz", 12, 5, 0, img_size(w->image));
        guest_verify(w);
        struct model_event *flush = model_flush(w->model);
        world_close(w);
        model_done(w->model, flush, true);
        world_open(w);
        guest_verify(w);
    }
}

const struct scenario scenarios_allocation[] = {
    {
        .name = "allocate-unallocated",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k",
        .run = run_writes,
    },
    {
        .name = "allocate-512-byte-clusters",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 96k",
        .run = run_writes,
    },
    {
        .name = "allocate-plain-zeroes",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO "-c 'write -P 7 0 192k' -c 'write -z -u 0 192k'",
        .run = run_writes,
    },
    {
        .name = "allocate-zeroes-with-clusters",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO "-c 'write -P 7 0 192k' -c 'write -z 0 192k'",
        .run = run_writes,
    },
    {
        .name = "allocate-preallocated",
        .prepare = CREATE "-o cluster_size=1k,preallocation=metadata image.qcow2 192k",
        .run = run_writes,
    },
    {
        .name = "allocate-over-compressed",
        .prepare = CREATE "-o cluster_size=4k image.qcow2 384k" IO
                          "-c 'write -c -P 7 0 128k' -c 'write -c -P 8 128k 128k' -c 'write -c -P 9 256k 128k'",
        .run = run_writes,
    },
    {
        .name = "allocate-subclusters",
        .prepare = CREATE "-o cluster_size=16k,extended_l2=on image.qcow2 1M" IO
                          "-c 'write -P 7 4k 6k' -c 'write -P 8 256k 32k' -c 'write -z 260k 2k'",
        .run = run_writes,
    },
    {
        .name = "allocate-subclusters-over-backing",
        .prepare = CREATE "-o cluster_size=4k base.qcow2 500k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 500k' "
                          ">/dev/null && " CREATE "-o cluster_size=16k,extended_l2=on -b base.qcow2 -F qcow2 "
                          "image.qcow2 1M" IO "-c 'write -P 7 4k 6k' -c 'write -z 100k 2k'",
        .run = run_everything,
    },
    {
        .name = "allocate-over-backing",
        .prepare = CREATE "-o cluster_size=4k base.qcow2 130k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 130k' "
                          ">/dev/null && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2 192k",
        .run = run_writes,
    },
    {
        .name = "everything-over-backing",
        .prepare = CREATE "-o cluster_size=4k base.qcow2 130k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 130k' "
                          ">/dev/null && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2 192k",
        .run = run_everything,
    },
    {
        .name = "everything-on-storage-without-zero",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 64k'",
        .run = run_everything,
        .without_zero = true,
    },
    {
        .name = "write-zeroes",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 64k' -c 'write -z 8k 16k'",
        .run = run_zeroes,
    },
    {
        .name = "write-zeroes-subclusters",
        .prepare = CREATE "-o cluster_size=16k,extended_l2=on image.qcow2 512k" IO
                          "-c 'write -P 7 0 300k' -c 'write -z 32k 60k'",
        .run = run_zeroes,
    },
    {
        .name = "write-zeroes-over-backing",
        .prepare = CREATE "-o cluster_size=4k base.qcow2 100k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 100k' "
                          ">/dev/null && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2 128k",
        .run = run_zeroes,
    },
    {
        .name = "discard-and-reuse",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k",
        .run = run_reuse,
    },
    {
        .name = "discard-and-reuse-512-byte-clusters",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 64k" IO "-c 'write -P 7 0 64k'",
        .run = run_reuse,
    },
    {
        .name = "discard-and-reuse-4k-clusters",
        .prepare = CREATE "-o cluster_size=4k image.qcow2 256k" IO "-c 'write -P 7 64k 64k'",
        .run = run_reuse,
    },
    {
        .name = "compressed-writes",
        .prepare = CREATE "-o cluster_size=4k image.qcow2 128k",
        .run = run_compressed,
    },
    {
        .name = "compressed-writes-zstd",
        .prepare = CREATE "-o cluster_size=4k,compression_type=zstd image.qcow2 128k" IO "-c 'write -c -P 3 0 64k'",
        .run = run_compressed,
    },
    {
        .name = "one-bit-refcounts",
        .prepare = CREATE "-o cluster_size=1k,refcount_bits=1 image.qcow2 128k",
        .run = run_everything,
    },
    {
        .name = "one-bit-refcounts-compressed",
        .prepare = CREATE "-o cluster_size=4k,refcount_bits=1 image.qcow2 128k",
        .run = run_compressed,
    },
    {
        .name = "lazy-refcounts",
        .prepare = CREATE "-o cluster_size=1k,lazy_refcounts=on image.qcow2 128k",
        .run = run_everything,
    },
    {
        .name = "version-2",
        .prepare = CREATE "-o cluster_size=1k,compat=0.10 image.qcow2 128k",
        .run = run_everything,
    },
    {
        .name = "version-2-over-backing",
        .prepare =
            CREATE "-o cluster_size=4k base.qcow2 100k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 100k' "
                   ">/dev/null && " CREATE "-o cluster_size=1k,compat=0.10 -b base.qcow2 -F qcow2 image.qcow2 128k",
        .run = run_everything,
    },
    {
        .name = "copy-on-write-under-snapshot",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO "-c 'write -P 7 0 160k' -c 'write -z 20k 4k'"
                          " && qemu-img snapshot -c one image.qcow2" IO "-c 'write -P 8 30k 5k'"
                          " && qemu-img snapshot -c two image.qcow2",
        .run = run_writes,
        .snapshots = {"one", "two"},
    },
    {
        .name = "everything-under-snapshot",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 100k' -c 'write -z 20k 4k'"
                          " && qemu-img snapshot -c one image.qcow2",
        .run = run_everything,
        .snapshots = {"one"},
    },
    {
        .name = "subclusters-under-snapshot",
        .prepare = CREATE "-o cluster_size=16k,extended_l2=on image.qcow2 512k" IO
                          "-c 'write -P 7 0 300k' -c 'write -z 20k 4k' && qemu-img snapshot -c one image.qcow2",
        .run = run_everything,
        .snapshots = {"one"},
    },
    {
        .name = "compressed-under-snapshot",
        .prepare = CREATE "-o cluster_size=4k image.qcow2 128k" IO "-c 'write -c -P 7 0 64k' -c 'write -P 9 70k 20k'"
                          " && qemu-img snapshot -c one image.qcow2",
        .run = run_compressed,
        .snapshots = {"one"},
    },
    {
        .name = "close-and-open",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k",
        .run = run_reopened,
    },
    {0},
};
