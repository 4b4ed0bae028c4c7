/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_queue.c - what only queues can get wrong: many requests of one thread under way at once, flushes that are
 * submitted among writes, several queues on one image, requests that are held, parked and cancelled, a queue beside
 * ordinary calls, errors while others are under way. */
#include <errno.h>
#include <unistd.h>

#include "beside.h"
#include "deep.h"
#include "scenario.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define IO " && qemu-io -f qcow2 image.qcow2 >/dev/null "
#define BACKED(options, size)                                                                                          \
    CREATE "-o cluster_size=4k base.qcow2 400k && qemu-io -f qcow2 base.qcow2 -c 'write -P 5 0 400k' >/dev/null "      \
           "&& " CREATE "-o " options " -b base.qcow2 -F qcow2 image.qcow2 " size

#define REQUIRE(w, condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            DIE("%s: not so: %s", (w)->scenario->name, #condition);                                                    \
    } while (0)

/* ---- one queue ------------------------------------------------------------------------------------- */

static void run_deep(struct world *w) {
    struct deep *d = deep_open(w);
    deep_mix(d, &w->rng, "wwwwdzu", 70, 7, false, 0, img_size(w->image));
    deep_close(d);
    guest_flush(w);
}

/* As run_deep, and what is read at the end is known. */
static void run_deep_apart(struct world *w) {
    struct deep *d = deep_open(w);
    for (unsigned round = 0; round < 3; round++) {
        deep_mix(d, &w->rng, "wwwwdzu", 25, 5, true, 0, img_size(w->image));
        deep_collect(d, 0);
        guest_verify(w);
    }
    deep_close(d);
    guest_flush(w);
}

/* A flush that is submitted after some writes were reaped and before others are: it promises the first ones. */
static void run_flush_among_writes(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image), place = 0, size = img_size(w->image);
    struct deep *d = deep_open(w);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 3; i++, place += 3 * cluster)
            deep_ask(d, 'w', place % (size - 2 * cluster), cluster + 512);
        deep_collect(d, 0);
        deep_ask(d, 'w', round * cluster, 1024);
        deep_ask(d, 'f', 0, 0);
        deep_ask(d, 'w', (place + cluster) % (size - cluster), cluster);
        deep_ask(d, round % 2 ? 'd' : 'w', round * 2 * cluster, 2 * cluster);
        deep_ask(d, 'f', 0, 0);
        deep_collect(d, round % 3);
    }
    deep_close(d);
    guest_flush(w);
}

/* Writes of one cluster after the other, so that some wait for others' reservations. */
static void run_deep_in_one_place(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    struct deep *d = deep_open(w);
    for (unsigned round = 0; round < 6; round++) {
        uint64_t from = round * 3 * cluster;
        deep_mix(d, &w->rng, "wwwwz", 14, 5, false, from, from + 2 * cluster);
        deep_collect(d, 2);
    }
    deep_close(d);
    guest_flush(w);
}

/* ---- several ----------------------------------------------------------------------------------------- */

struct owner {
    pthread_t thread;
    struct world *world;
    uint64_t seed;
};

static void *owner_main(void *opaque) {
    struct owner *o = opaque;
    struct rng rng = {o->seed};
    struct deep *d = deep_open(o->world);
    deep_mix(d, &rng, "wwwdzu", 24, 6, false, 0, img_size(o->world->image));
    deep_close(d);
    return NULL;
}

static void start_owner(struct world *w, struct owner *o) {
    *o = (struct owner){.world = w, .seed = rng_next(&w->rng)};
    if (pthread_create(&o->thread, NULL, owner_main, o))
        DIE("cannot start a thread");
}

static void run_three_queues(struct world *w) {
    struct owner owners[3];
    for (unsigned i = 0; i < 3; i++)
        start_owner(w, &owners[i]);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(owners[i].thread, NULL);
    guest_flush(w);
}

/* One queue writes, the other flushes what the first was told, while the first has more under way. */
static void run_flush_from_another_queue(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image), place = 0, size = img_size(w->image);
    struct deep *writer = deep_open(w), *flusher = deep_open(w);
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < 4; i++, place += 2 * cluster + 512)
            deep_ask(writer, 'w', place % (size - 2 * cluster), cluster + i * 512);
        deep_collect(writer, 1);
        deep_ask(flusher, 'f', 0, 0);
        if (round % 2)
            deep_submit(flusher);
        deep_ask(writer, 'w', (place / 2 / 512 * 512) % (size - cluster), cluster);
        deep_submit(writer);
        deep_collect(flusher, 0);
    }
    deep_close(writer);
    deep_close(flusher);
    guest_flush(w);
}

static void act_mix_by_calls(struct world *w, unsigned turn) {
    struct img_error err = {0};
    uint64_t cluster = img_cluster_size(w->image), size = img_size(w->image);
    for (unsigned i = 0; i < 12; i++) {
        uint64_t offset = (turn * 7 + i * 5) * cluster % (size - cluster);
        uint8_t *data = guest_fresh_bytes(w, cluster);
        struct model_event *event = model_write(w->model, offset, cluster, data);
        REQUIRE(w, img_pwrite(w->image, data, cluster, offset, &err) == 0);
        model_done(w->model, event, true);
        free(data);
        if (i % 4 == 3) {
            event = model_flush(w->model);
            REQUIRE(w, img_flush(w->image, &err) == 0);
            model_done(w->model, event, true);
        }
    }
}

/* Ordinary calls of other threads, flushes among them, beside a queue. */
static void run_beside_calls(struct world *w) {
    beside_begin(w);
    struct deep *d = deep_open(w);
    beside_start(w, act_mix_by_calls);
    deep_mix(d, &w->rng, "wwwdz", 20, 0, false, 0, img_size(w->image));
    beside_start(w, act_mix_by_calls);
    deep_mix(d, &w->rng, "wwwdz", 20, 6, false, 0, img_size(w->image));
    deep_close(d);
    beside_end(w);
    guest_flush(w);
}

/* ---- the image as a whole ------------------------------------------------------------------------------ */

/* While the image is drained nothing of it moves, not even what the engine does by itself. */
static void act_drain(struct world *w, unsigned turn) {
    for (unsigned i = 0; i < 6; i++) {
        REQUIRE(w, img_drain(w->image, NULL) == 0);
        pthread_mutex_lock(&w->log->lock);
        unsigned before = w->log->nrecords;
        pthread_mutex_unlock(&w->log->lock);
        usleep(4000);
        pthread_mutex_lock(&w->log->lock);
        unsigned after = w->log->nrecords;
        pthread_mutex_unlock(&w->log->lock);
        if (before != after)
            DIE("%s: %u operations reach the storage while the image is drained", w->scenario->name, after - before);
        img_resume(w->image);
        usleep(1000 * (turn + i) % 3000);
    }
}

static void run_drained(struct world *w) {
    beside_begin(w);
    struct deep *d = deep_open(w);
    for (unsigned round = 0; round < 3; round++) {
        beside_start(w, act_drain);
        deep_mix(d, &w->rng, "wwwwdz", 30, 10, false, 0, img_size(w->image));
        deep_collect(d, 0);
    }
    deep_close(d);
    beside_end(w);
    guest_flush(w);
}

static void act_grow(struct world *w, unsigned turn) {
    (void)turn;
    uint64_t size = img_size(w->image);
    for (unsigned i = 1; i <= 4; i++)
        guest_resize(w, size + i * (16 << 10));
}

static void run_grown(struct world *w) {
    uint64_t size = img_size(w->image);
    beside_begin(w);
    struct deep *d = deep_open(w);
    deep_mix(d, &w->rng, "wwwd", 12, 6, false, 0, size);
    beside_start(w, act_grow);
    deep_mix(d, &w->rng, "wwwwdz", 30, 7, false, 0, size);
    deep_close(d);
    beside_end(w);
    guest_write(w, size, 8 << 10);
    guest_flush(w);
}

/* ---- cancelled ------------------------------------------------------------------------------------------- */

static void act_resume(struct world *w, unsigned turn) {
    (void)turn;
    usleep(2000);
    img_resume(w->image);
}

/* Some have not begun, some wait for others of the same cluster, some are on their way. What is cancelled may show or
 * not, what is not is there. */
static void run_cancelled(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    beside_begin(w);
    struct deep *d = deep_open(w);
    deep_expect(d, -ECANCELED);
    for (unsigned round = 0; round < 10; round++) {
        unsigned numbers[8], cancelled = 0, before = deep_failures(d);
        bool drained = round % 2;
        if (drained)
            REQUIRE(w, img_drain(w->image, NULL) == 0);
        for (unsigned i = 0; i < 8; i++)
            numbers[i] = deep_ask(d, i == 6 ? 'f' : 'w', round * 2 * cluster + i * 512, cluster);
        deep_submit(d);
        for (unsigned i = round % 3; i < 8; i += 2) {
            int rc = deep_cancel(d, numbers[i]);
            REQUIRE(w, rc == 0 || (!drained && (rc == -EALREADY || rc == -ENOENT)));
            cancelled += rc == 0;
        }
        if (drained)
            beside_start(w, act_resume);
        deep_collect(d, 0);
        REQUIRE(w, deep_failures(d) - before == cancelled);
        deep_ask(d, 'f', 0, 0);
        deep_collect(d, 0);
    }
    deep_close(d);
    beside_end(w);
    guest_flush(w);
}

/* ---- failures -------------------------------------------------------------------------------------------- */

/* A barrier fails while other requests are under way: they end well or are refused, and no flush succeeds again. */
static void run_barrier_fails_below(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    struct deep *d = deep_open(w);
    deep_mix(d, &w->rng, "wwwd", 20, 6, false, 0, img_size(w->image));
    deep_collect(d, 0);
    deep_ask(d, 'w', 9 * cluster, 512); /* so that the flush has something to do */
    deep_collect(d, 0);
    world_fail(w, RECORD_FLUSH, true, 0, -EIO);
    deep_expect(d, -EIO);
    for (unsigned i = 0; i < 4; i++)
        deep_ask(d, i == 1 ? 'f' : 'w', i * 5 * cluster, cluster + 512);
    deep_collect(d, 0);
    REQUIRE(w, deep_failures(d) > 0);
    for (unsigned i = 0; i < 3; i++) {
        unsigned before = deep_failures(d);
        deep_ask(d, 'f', 0, 0);
        deep_ask(d, 'w', 7 * cluster, 512);
        deep_collect(d, 0);
        REQUIRE(w, deep_failures(d) == before + 2);
    }
    deep_close(d);
}

const struct scenario scenarios_queue[] = {
    {
        .name = "queue",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO "-c 'write -P 7 0 64k'",
        .run = run_deep,
        .queues = true,
        .jitter = 11,
    },
    {
        .name = "queue-small-caches",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 400k" IO "-c 'write -P 7 0 64k'",
        .run = run_deep,
        .l2_cache = 8 << 10,
        .refcount_cache = 8 << 10,
        .queues = true,
        .jitter = 12,
    },
    {
        .name = "queue-over-backing",
        .prepare = BACKED("cluster_size=4k", "512k"),
        .run = run_deep_apart,
        .queues = true,
        .jitter = 13,
    },
    {
        .name = "queue-subclusters",
        .prepare = BACKED("cluster_size=16k,extended_l2=on", "512k"),
        .run = run_deep_apart,
        .queues = true,
        .jitter = 14,
    },
    {
        .name = "queue-external-data-file",
        .prepare = CREATE "-o cluster_size=1k,data_file=$PWD/data.raw image.qcow2 192k",
        .run = run_deep,
        .data_file = true,
        .queues = true,
        .jitter = 15,
    },
    {
        .name = "queue-under-snapshot",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO
                          "-c 'write -P 7 0 100k' && qemu-img snapshot -c one image.qcow2",
        .run = run_deep,
        .snapshots = {"one"},
        .queues = true,
        .jitter = 16,
    },
    {
        .name = "queue-write-through",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 96k" IO "-c 'write -P 7 0 48k'",
        .run = run_deep_apart,
        .cache = IMG_CACHE_WRITETHROUGH,
        .queues = true,
        .jitter = 17,
    },
    {
        .name = "queue-flush-among-writes",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k",
        .run = run_flush_among_writes,
        .queues = true,
        .jitter = 18,
    },
    {
        .name = "queue-flush-among-overwrites",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 64k" IO "-c 'write -P 7 0 64k'",
        .run = run_flush_among_writes,
        .queues = true,
        .jitter = 19,
    },
    {
        .name = "queue-in-one-place",
        .prepare = BACKED("cluster_size=4k", "256k"),
        .run = run_deep_in_one_place,
        .queues = true,
        .jitter = 20,
    },
    {
        .name = "queues-three",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 192k" IO "-c 'write -P 7 0 64k'",
        .run = run_three_queues,
        .queues = true,
        .jitter = 21,
    },
    {
        .name = "queues-flush-from-another",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k",
        .run = run_flush_from_another_queue,
        .queues = true,
        .jitter = 22,
    },
    {
        .name = "queue-beside-calls",
        .prepare = BACKED("cluster_size=4k", "512k"),
        .run = run_beside_calls,
        .queues = true,
        .jitter = 23,
    },
    {
        .name = "queue-drained",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 400k",
        .run = run_drained,
        .l2_cache = 8 << 10,
        .refcount_cache = 8 << 10,
        .queues = true,
        .jitter = 24,
    },
    {
        .name = "queue-beside-growth",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 64k",
        .run = run_grown,
        .watch = 128 << 10,
        .queues = true,
        .jitter = 25,
    },
    {
        .name = "queue-cancelled",
        .prepare = BACKED("cluster_size=4k", "256k"),
        .run = run_cancelled,
        .queues = true,
        .jitter = 26,
    },
    {
        .name = "queue-barrier-fails",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 48k'",
        .run = run_barrier_fails_below,
        .ends_open = true,
        .queues = true,
        .jitter = 27,
    },
    {0},
};
