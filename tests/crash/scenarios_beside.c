/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_beside.c - several things at once: threads that mix all operations, and guests that act at the worst moment
 * of somebody else's operation (beside.h). */
#include "beside.h"
#include "scenario.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define IO " && qemu-io -f qcow2 image.qcow2 >/dev/null "

/* ---- four threads ---------------------------------------------------------------------------------- */

struct mixer {
    pthread_t thread;
    struct world *world;
    const char *kinds;
    uint64_t seed;
};

static void *mixer_main(void *opaque) {
    struct mixer *m = opaque;
    struct rng rng = {m->seed};
    guest_mix(m->world, &rng, m->kinds, 16, 5, 0, img_size(m->world->image));
    guest_leave(m->world);
    return NULL;
}

static void run_four(struct world *w, const char *kinds) {
    struct mixer mixers[4];
    for (unsigned i = 0; i < 4; i++) {
        mixers[i] = (struct mixer){.world = w, .kinds = kinds, .seed = rng_next(&w->rng)};
        if (pthread_create(&mixers[i].thread, NULL, mixer_main, &mixers[i]))
            DIE("cannot start a thread");
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(mixers[i].thread, NULL);
}

static void run_threads(struct world *w) {
    run_four(w, "wwwdzu");
}
static void run_threads_compressed(struct world *w) {
    run_four(w, "wwccdu");
}

/* ---- at a moment ------------------------------------------------------------------------------------ */

/* A few changes, different ones each turn: new clusters, overwrites, discards, zeroes. */
static void act_changes(struct world *w, unsigned turn) {
    struct rng rng = {mix64(turn + 99)};
    guest_mix(w, &rng, turn % 3 == 2 ? "dwu" : "ww", 2, 0, 0, img_size(w->image));
}

static void act_flush(struct world *w, unsigned turn) {
    (void)turn;
    guest_flush(w);
}

static void act_flush_twice_and_change(struct world *w, unsigned turn) {
    guest_flush(w);
    guest_flush(w);
    act_changes(w, turn);
}

static void run_changes_inside_barriers(struct world *w) {
    beside_act(w, storage_moment(RECORD_FLUSH, RECORD_STARTED, BY_FLUSH), 60, act_changes);
    guest_mix(w, &w->rng, "wwwdz", 30, 3, 0, img_size(w->image));
    guest_flush(w);
    beside_end(w);
    guest_flush(w);
}

static void run_changes_inside_metadata_writes(struct world *w) {
    beside_act(w, storage_moment(RECORD_WRITE, RECORD_STARTED, BY_FLUSH), 60, act_changes);
    guest_mix(w, &w->rng, "wwwdd", 30, 3, 0, img_size(w->image));
    guest_flush(w);
    beside_end(w);
    guest_flush(w);
}

static void run_changes_after_barriers(struct world *w) {
    beside_act(w, storage_moment(RECORD_FLUSH, RECORD_ENDED, BY_FLUSH), 60, act_changes);
    guest_mix(w, &w->rng, "wwwdd", 30, 3, 0, img_size(w->image));
    guest_flush(w);
    beside_end(w);
    guest_flush(w);
}

static void run_changes_inside_punches(struct world *w) {
    beside_act(w, storage_moment(RECORD_PUNCH, RECORD_STARTED, BY_FLUSH), 60, act_changes);
    beside_act(w, storage_moment(RECORD_PUNCH, RECORD_STARTED, BY_GUEST), 60, act_changes);
    guest_mix(w, &w->rng, "wwddu", 40, 3, 0, img_size(w->image));
    guest_flush(w);
    beside_end(w);
    guest_flush(w);
}

static void run_flushes_inside_data_writes(struct world *w) {
    beside_act(w, storage_moment(RECORD_WRITE, RECORD_STARTED, BY_GUEST), 12, act_flush);
    beside_act(w, storage_moment(RECORD_WRITE, RECORD_ENDED, BY_GUEST), 12, act_flush);
    guest_mix(w, &w->rng, "wwwwd", 30, 10, 0, img_size(w->image));
    beside_end(w);
    guest_flush(w);
}

/* Another table is copied and made durable while the first is on its way; each turn one that is still shared. */
static void act_birth_elsewhere(struct world *w, unsigned turn) {
    uint64_t tables = img_size(w->image) / (32 << 10);
    if (turn < tables / 2)
        guest_write(w, (tables / 2 + turn) * (32 << 10), 1024);
    guest_flush(w);
    guest_flush(w);
}

static void run_births_inside_table_copies(struct world *w) {
    uint64_t tables = img_size(w->image) / (32 << 10);
    beside_act(w, storage_moment(RECORD_WRITE, RECORD_STARTED, BY_GUEST), (unsigned)tables, act_birth_elsewhere);
    for (uint64_t table = 0; table < tables / 2; table++)
        guest_write(w, table * (32 << 10) + 2048, 3072);
    beside_end(w);
    guest_flush(w);
}

static void run_reuse_inside_data_writes(struct world *w) {
    guest_write(w, 0, img_size(w->image) / 2);
    guest_flush(w);
    beside_act(w, storage_moment(RECORD_WRITE, RECORD_STARTED, BY_GUEST), 12, act_flush_twice_and_change);
    guest_mix(w, &w->rng, "wwdd", 30, 10, 0, img_size(w->image));
    beside_end(w);
    guest_flush(w);
}

static void run_changes_at_pauses(struct world *w) {
    beside_act(w, pause_moment("round-frozen"), 20, act_changes);
    beside_act(w, pause_moment("round-synced"), 20, act_changes);
    beside_act(w, pause_moment("round-done"), 20, act_changes);
    guest_mix(w, &w->rng, "wwwdd", 24, 3, 0, img_size(w->image));
    guest_flush(w);
    beside_end(w);
    guest_flush(w);
}

static void run_flushes_at_pauses(struct world *w) {
    beside_act(w, pause_moment("resolved"), 8, act_flush_twice_and_change);
    beside_act(w, pause_moment("moved"), 8, act_flush_twice_and_change);
    guest_mix(w, &w->rng, "wwwwd", 24, 10, 0, img_size(w->image));
    beside_end(w);
    guest_flush(w);
}

/* ---- held ------------------------------------------------------------------------------------------- */

static void act_fill_second_half(struct world *w, unsigned turn) {
    (void)turn;
    guest_write(w, img_size(w->image) / 2, img_size(w->image) / 2);
}

/* Gives the first clusters' hosts to the second half of the disk, with two rounds for the counts to fall. */
static void free_and_reuse(struct world *w) {
    uint64_t half = img_size(w->image) / 2;
    guest_discard(w, 0, half);
    guest_flush(w);
    guest_flush(w);
    beside_run(w, act_fill_second_half, 0);
    guest_flush(w);
}

static void act_overwrite(struct world *w, unsigned turn) {
    (void)turn;
    guest_write(w, img_cluster_size(w->image), 2 * img_cluster_size(w->image));
}

static void run_late_overwrite(struct world *w) {
    guest_write(w, 0, img_size(w->image) / 2);
    guest_flush(w);
    if (!beside_hold(w, storage_moment(RECORD_WRITE, RECORD_STARTED, BY_GUEST), act_overwrite))
        DIE("nobody wrote");
    free_and_reuse(w);
    beside_end(w);
    guest_flush(w);
    guest_flush(w);
    guest_write(w, 0, img_cluster_size(w->image) * 4);
    guest_mix(w, &w->rng, "wwd", 12, 6, 0, img_size(w->image));
}

/* A read that was resolved before a discard: the old bytes or zeroes, never somebody else's. */
static void act_read(struct world *w, unsigned turn) {
    (void)turn;
    uint64_t length = 4 * img_cluster_size(w->image);
    uint8_t *now = xcalloc(1, model_bytes(w->model)), *found = xcalloc(1, length);
    struct img_error err = {0};
    model_newest(w->model, now);
    if (guest_read(w, found, length, 0, &err))
        DIE("%s: a read fails: %s", w->scenario->name, err.text);
    for (uint64_t at = 0; at < length; at += MODEL_SECTOR)
        if (memcmp(found + at, now + at, MODEL_SECTOR) && !all_zero(found + at, MODEL_SECTOR))
            DIE("%s: a read that began before a discard returns what somebody else wrote", w->scenario->name);
    free(now);
    free(found);
}

static void run_late_read(struct world *w) {
    for (unsigned round = 0; round < 2; round++) {
        guest_write(w, 0, img_size(w->image) / 2);
        guest_flush(w);
        if (!beside_hold(w, storage_moment(RECORD_READ, RECORD_STARTED, BY_GUEST), act_read))
            DIE("nobody read");
        free_and_reuse(w);
        beside_end(w);
        guest_mix(w, &w->rng, "wwd", 12, 6, 0, img_size(w->image));
    }
}

/* Who asks for a flush while a round runs must not be content with that round. */
static void run_flush_during_round(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    for (unsigned turn = 0; turn < 8; turn++) {
        guest_write(w, turn * 8 * cluster, cluster);
        struct moment moment = storage_moment(RECORD_FLUSH, RECORD_STARTED, BY_FLUSH);
        if (!beside_hold(w, moment, act_flush))
            DIE("nobody flushed");
        guest_write(w, (turn * 8 + 2 + turn % 3) * cluster, cluster);
        guest_write(w, turn % 2 * 8 * cluster, cluster);
        beside_start(w, act_flush);
        beside_start(w, act_flush);
        beside_end(w);
    }
}

/* Overwrites that arrive while the only barrier of a flush runs are the next flush's. */
static void run_overwrites_during_barrier(struct world *w) {
    guest_write(w, 0, img_size(w->image));
    guest_flush(w);
    beside_act(w, storage_moment(RECORD_FLUSH, RECORD_STARTED, BY_FLUSH), 30, act_changes);
    for (unsigned turn = 0; turn < 12; turn++) {
        guest_write(w, turn * 2048, 1024);
        guest_flush(w);
        guest_flush(w);
    }
    beside_end(w);
}

static void act_half_write(struct world *w, unsigned turn) {
    (void)turn;
    uint64_t cluster = img_cluster_size(w->image);
    guest_write(w, 5 * cluster, cluster / 2);
}

static void act_other_half(struct world *w, unsigned turn) {
    (void)turn;
    uint64_t cluster = img_cluster_size(w->image);
    guest_write(w, 5 * cluster + cluster / 2, cluster / 2);
}

/* Two writers of one unallocated cluster, the first of them slow. */
static void run_two_writers(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    enum record_stage stages[] = {RECORD_STARTED, RECORD_ENDED};
    for (unsigned turn = 0; turn < 2; turn++) {
        if (!beside_hold(w, storage_moment(RECORD_WRITE, stages[turn], BY_GUEST), act_half_write))
            DIE("nobody wrote");
        beside_start(w, act_other_half);
        beside_start(w, act_flush);
        guest_write(w, 9 * cluster, cluster);
        guest_flush(w);
        guest_write(w, 20 * cluster, cluster);
        beside_end(w);
        guest_verify(w);
        guest_flush(w);
        guest_discard(w, 4 * cluster, 3 * cluster);
        guest_flush(w);
    }
    guest_verify(w);
}

#define BACKED(options, size)                                                                                          \
    CREATE "-o cluster_size=4k base.qcow2 400k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 400k' >/dev/null "      \
           "&& " CREATE "-o " options " -b base.qcow2 -F qcow2 image.qcow2 " size

const struct scenario scenarios_beside[] = {
    {
        .name = "threads",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO "-c 'write -P 7 0 64k'",
        .run = run_threads,
        .jitter = 1,
    },
    {
        .name = "threads-small-caches",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 400k" IO "-c 'write -P 7 0 64k'",
        .run = run_threads,
        .l2_cache = 8 << 10,
        .refcount_cache = 8 << 10,
        .jitter = 2,
    },
    {
        .name = "threads-over-backing",
        .prepare = BACKED("cluster_size=4k", "512k"),
        .run = run_threads,
        .jitter = 3,
    },
    {
        .name = "threads-subclusters",
        .prepare = BACKED("cluster_size=16k,extended_l2=on", "512k"),
        .run = run_threads,
        .jitter = 4,
    },
    {
        .name = "threads-under-snapshot",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO
                          "-c 'write -P 7 0 100k' && qemu-img snapshot -c one image.qcow2",
        .run = run_threads,
        .snapshots = {"one"},
        .jitter = 5,
    },
    {
        .name = "threads-compressed",
        .prepare = CREATE "-o cluster_size=4k image.qcow2 192k" IO "-c 'write -c -P 7 0 64k'",
        .run = run_threads_compressed,
        .jitter = 6,
    },
    {
        .name = "threads-external-data-file",
        .prepare = CREATE "-o cluster_size=1k,data_file=$PWD/data.raw image.qcow2 192k",
        .run = run_threads,
        .data_file = true,
        .jitter = 7,
    },
    {
        .name = "changes-inside-barriers",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k",
        .run = run_changes_inside_barriers,
    },
    {
        .name = "changes-inside-barriers-over-backing",
        .prepare = BACKED("cluster_size=1k", "400k"),
        .run = run_changes_inside_barriers,
    },
    {
        .name = "changes-inside-metadata-writes",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k" IO "-c 'write -P 7 0 64k'",
        .run = run_changes_inside_metadata_writes,
    },
    {
        .name = "changes-inside-metadata-writes-512-byte-clusters",
        .prepare = CREATE "-o cluster_size=512,refcount_bits=64 image.qcow2 96k" IO "-c 'write -P 7 0 64k'",
        .run = run_changes_inside_metadata_writes,
    },
    {
        .name = "changes-after-barriers",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k" IO "-c 'write -P 7 0 64k'",
        .run = run_changes_after_barriers,
    },
    {
        .name = "changes-inside-punches",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k" IO "-c 'write -P 7 0 64k'",
        .run = run_changes_inside_punches,
    },
    {
        .name = "flushes-inside-data-writes",
        .prepare = BACKED("cluster_size=4k", "400k"),
        .run = run_flushes_inside_data_writes,
    },
    {
        .name = "flushes-inside-data-writes-subclusters",
        .prepare = BACKED("cluster_size=16k,extended_l2=on", "400k"),
        .run = run_flushes_inside_data_writes,
    },
    {
        .name = "flushes-inside-table-copies",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 192k" IO
                          "-c 'write -P 7 0 192k' && qemu-img snapshot -c one image.qcow2",
        .run = run_flushes_inside_data_writes,
        .snapshots = {"one"},
    },
    {
        .name = "births-inside-table-copies",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 320k" IO
                          "-c 'write -P 7 0 320k' && qemu-img snapshot -c one image.qcow2",
        .run = run_births_inside_table_copies,
        .snapshots = {"one"},
    },
    {
        .name = "reuse-inside-data-writes",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k",
        .run = run_reuse_inside_data_writes,
    },
    {
        .name = "changes-at-pause-points",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k" IO "-c 'write -P 7 0 64k'",
        .run = run_changes_at_pauses,
    },
    {
        .name = "flushes-at-pause-points",
        .prepare = BACKED("cluster_size=4k", "400k"),
        .run = run_flushes_at_pauses,
    },
    {
        .name = "late-overwrite",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 32k",
        .run = run_late_overwrite,
    },
    {
        .name = "late-read",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 32k",
        .run = run_late_read,
    },
    {
        .name = "flush-during-round",
        .prepare = BACKED("cluster_size=1k", "128k"),
        .run = run_flush_during_round,
    },
    {
        .name = "overwrites-during-barrier",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 32k",
        .run = run_overwrites_during_barrier,
    },
    {
        .name = "two-writers-of-one-cluster",
        .prepare = BACKED("cluster_size=4k", "128k"),
        .run = run_two_writers,
    },
    {
        .name = "two-writers-of-one-zero-cluster",
        .prepare = CREATE "-o cluster_size=4k image.qcow2 128k",
        .run = run_two_writers,
    },
    {0},
};
