/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_chain.c - another backing file, an overlay that goes down into its base, features turned on and off. The
 * guest's disk is the same before and after, so the model is not told.
 */
#include "scenario.h"
#include "world.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define IO(image) "qemu-io -f qcow2 " image " >/dev/null "
#define BASE CREATE "-o cluster_size=4k base.qcow2 64k && " IO("base.qcow2") "-c 'write -P 5 0 40k'"
#define OTHER CREATE "other.qcow2 48k && " IO("other.qcow2") "-c 'write -P 5 0 9k' -c 'write -P 6 20k 28k'"

static void must(struct world *w, int rc, const char *what, const struct img_error *err) {
    if (rc)
        DIE("%s: %s fails: %s", w->scenario->name, what, err->text);
}

static void rebase(struct world *w, const char *backing, bool unsafe) {
    struct img_rebase_options options = {.backing_file = backing, .backing_format = "qcow2", .unsafe = unsafe};
    struct img_error err = {0};
    guest_leave(w);
    must(w, img_rebase(w->image, &options, &err), "a rebase", &err);
}

static void run_rebase(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwz", 6, 4, 0, size);
    rebase(w, "other.qcow2", false);
    guest_verify(w);
    guest_mix(w, &w->rng, "wwz", 6, 4, 0, size);
    rebase(w, "", false);
    guest_verify(w);
    guest_mix(w, &w->rng, "wwd", 4, 4, 0, size);
    rebase(w, "other.qcow2", false);
    guest_write(w, 1024, 3 << 10);
    guest_flush(w);
    guest_verify(w);
}

/* A twin of the backing file. */
static void run_unsafe(struct world *w) {
    static const char *const names[] = {"other-name-of-the-same-length", "base.qcow2",
                                        "a-name-that-is-longer-than-the-ones-before-it-were.qcow2"};
    for (unsigned i = 0; i < 3; i++) {
        guest_mix(w, &w->rng, "ww", 4, 2, 0, img_size(w->image));
        rebase(w, names[i], true);
        world_close(w);
        world_open(w);
        guest_verify(w);
    }
}

static void commit(struct world *w) {
    struct img_error err = {0};
    guest_leave(w);
    must(w, img_commit(w->image, NULL, &err), "a commit", &err);
}

static void run_commit(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwwz", 8, 4, 0, size);
    commit(w);
    guest_verify(w);
    guest_mix(w, &w->rng, "wwz", 8, 4, 0, size);
    commit(w);
    guest_write(w, 2048, 5 << 10);
    guest_flush(w);
    guest_verify(w);
}

static void amend(struct world *w, const struct img_amend_options *options) {
    struct img_error err = {0};
    guest_leave(w);
    must(w, img_amend(w->image, options, &err), "an amendment", &err);
    guest_verify(w);
}

static void run_amend(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "ww", 4, 3, 0, size);
    amend(w, &(struct img_amend_options){.version = 3, .lazy_refcounts = IMG_AMEND_ON});
    guest_mix(w, &w->rng, "wwzzu", 8, 3, 0, size);
    if (!w->scenario->snapshots[0])
        amend(w, &(struct img_amend_options){.version = 2});
    guest_mix(w, &w->rng, "ww", 4, 3, 0, size);
    amend(w, &(struct img_amend_options){.version = 3});
    guest_mix(w, &w->rng, "wwz", 4, 3, 0, size);
    amend(w, &(struct img_amend_options){.refcount_bits = 64});
    guest_mix(w, &w->rng, "wwz", 4, 3, 0, size);
    amend(w, &(struct img_amend_options){.refcount_bits = 4});
    guest_write(w, 1024, 3 << 10);
    guest_flush(w);
    guest_verify(w);
}

/* To version 2, although snapshots have zeroes, which it cannot say. */
static void run_amend_zeroes(struct world *w) {
    uint64_t size = img_size(w->image);
    guest_mix(w, &w->rng, "wwz", 6, 3, 0, size);
    amend(w, &(struct img_amend_options){.version = 2});
    guest_mix(w, &w->rng, "ww", 4, 3, 0, size);
    guest_flush(w);
    guest_verify(w);
}

/* Other names for the same data file (whole ones: QEMU takes others from the current folder). */
static void run_data_file(struct world *w) {
    char path[128], roundabout[128];
    uint64_t size = img_size(w->image);
    snprintf(path, sizeof(path), "%s/data.raw", w->folder);
    snprintf(roundabout, sizeof(roundabout), "%s/./data.raw", w->folder);
    guest_mix(w, &w->rng, "ww", 4, 3, 0, size);
    amend(w, &(struct img_amend_options){.data_file = roundabout});
    guest_mix(w, &w->rng, "wwz", 4, 3, 0, size);
    amend(w, &(struct img_amend_options){.data_file = path, .lazy_refcounts = IMG_AMEND_ON});
    guest_mix(w, &w->rng, "wwd", 4, 3, 0, size);
    amend(w, &(struct img_amend_options){.refcount_bits = 32, .lazy_refcounts = IMG_AMEND_OFF});
    guest_write(w, 1024, 3 << 10);
    guest_flush(w);
    guest_verify(w);
}

const struct scenario scenarios_chain[] = {
    {
        .name = "rebase",
        .prepare = BASE " && " OTHER " && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2",
        .run = run_rebase,
    },
    {
        .name = "rebase-version-2",
        .prepare =
            BASE " && " OTHER " && " CREATE "-o cluster_size=512,compat=0.10 -b base.qcow2 -F qcow2 image.qcow2 60k",
        .run = run_rebase,
    },
    {
        .name = "rebase-subclusters",
        .prepare =
            BASE " && " OTHER " && " CREATE "-o cluster_size=16k,extended_l2=on -b base.qcow2 -F qcow2 image.qcow2 72k",
        .run = run_rebase,
    },
    {
        .name = "rebase-unsafe",
        .prepare = BASE " && cp base.qcow2 other-name-of-the-same-length && "
                        "cp base.qcow2 a-name-that-is-longer-than-the-ones-before-it-were.qcow2 && " CREATE
                        "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2",
        .run = run_unsafe,
    },
    {
        .name = "commit",
        .prepare = BASE " && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2",
        .run = run_commit,
        .base_file = true,
    },
    {
        .name = "commit-into-a-shorter-base",
        .prepare = BASE " && " CREATE "-o cluster_size=2k -b base.qcow2 -F qcow2 image.qcow2 90k",
        .run = run_commit,
        .base_file = true,
    },
    {
        .name = "amend",
        .prepare =
            CREATE "-o cluster_size=1k,compat=0.10 image.qcow2 64k && " IO("image.qcow2") "-c 'write -P 7 8k 24k'",
        .run = run_amend,
    },
    {
        .name = "amend-over-backing",
        .prepare = BASE " && " CREATE "-o cluster_size=1k,compat=0.10 -b base.qcow2 -F qcow2 image.qcow2",
        .run = run_amend,
    },
    {
        .name = "amend-with-a-snapshot",
        .prepare = CREATE "-o cluster_size=1k,compat=0.10 image.qcow2 64k && " IO(
            "image.qcow2") "-c 'write -P 7 8k 24k' && qemu-img snapshot -c one image.qcow2",
        .run = run_amend,
        .snapshots = {"one"},
    },
    {
        .name = "amend-with-zeroes-in-snapshots",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k && " IO(
            "image.qcow2") "-c 'write -P 7 8k 24k' -c 'write -z 10k 8k' -c 'write -z -u 40k 5k' && qemu-img snapshot "
                           "-c one image.qcow2 && " IO("image.qcow2") "-c 'write -z 20k 4k' && qemu-img snapshot -c "
                                                                      "two image.qcow2",
        .run = run_amend_zeroes,
        .snapshots = {"one", "two"},
    },
    {
        .name = "amend-with-zeroes-in-snapshots-over-backing",
        .prepare = BASE " && " CREATE "-o cluster_size=1k -b base.qcow2 -F qcow2 image.qcow2 && " IO(
            "image.qcow2") "-c 'write -P 7 8k 24k' -c 'write -z 10k 8k' -c 'write -z -u 2k 5k' && qemu-img snapshot "
                           "-c one image.qcow2 && " IO("image.qcow2") "-c 'write -z 20k 4k' && qemu-img snapshot -c "
                                                                      "two image.qcow2",
        .run = run_amend_zeroes,
        .snapshots = {"one", "two"},
    },
    {
        .name = "amend-with-an-old-snapshot", /* without the extra data that version 3 wants */
        .prepare = CREATE "-o cluster_size=1k,compat=0.10 image.qcow2 64k && " IO(
            "image.qcow2") "-c 'write -P 7 8k 24k' && qemu-img snapshot -c one image.qcow2 && perl -e '"
                           "open F, \"+<:raw\", \"image.qcow2\"; seek F, 64, 0; read F, $at, 8; "
                           "$at = unpack \"Q>\", $at; seek F, $at, 0; read F, $table, 512; "
                           "$extra = unpack \"N\", substr $table, 36, 4; substr($table, 36, 4) = pack \"N\", 0; "
                           "substr($table, 40, $extra) = \"\"; seek F, $at, 0; print F $table'",
        .run = run_amend,
        .snapshots = {"one"},
    },
    {
        .name = "amend-external-data-file",
        .prepare = CREATE "-o cluster_size=1k,data_file=$PWD/data.raw image.qcow2 64k",
        .run = run_data_file,
        .states_wanted = 250,
        .data_file = true,
    },
    {0},
};
