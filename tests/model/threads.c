// SPDX-License-Identifier: GPL-3.0-or-later
/* threads.c - four threads on one image.
 *
 * Apart: each thread has a range of its own and knows exactly what it must read; the borders lie inside clusters, so
 * the threads share clusters, L2 slices and refcount blocks all the same, and in some seeds even a sector. One of them
 * now and then checks, drains or grows the image.
 *
 * Together: rounds of a few operations on a few clusters. Every write has a content of its own in each sector. After
 * the round each sector must hold the value of the last operation that one of the threads did on it, whole, or its old
 * value when nobody wrote it; while the round runs a read must see nothing else than old values and the round's.
 */
#include "model.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- apart ----------------------------------------------------------------------------------- */

struct apart {
    struct run *run;
    struct rng rng;
    unsigned number, ops;
    uint64_t start, end;
    uint64_t grown; /* thread 0: what it resized the image to; 0: it did not */
};

static void whole_image_operation(struct apart *t) {
    struct img_error err = {0};
    struct run *run = t->run;
    uint64_t most = run->config.max_size;
    flow_collect(run); /* the image as a whole waits for them */
    switch (rng_below(&t->rng, 4)) {
    case 0:
        if (img_drain(run->image, &err))
            model_fail("img_drain: %s", err.text);
        img_resume(run->image);
        break;
    case 1:
        states_beside(run, t->ops);
        break;
    case 2:
        if (!run->config.layer[0].raw)
            own_check(run, true);
        break;
    default:
        if (run->config.nsnapshots && run->config.layer[0].version == 2)
            return;
        t->grown = img_size(run->image);
        t->grown += rng_below(&t->rng, (most - t->grown) / 4 + 1);
        t->grown -= t->grown % SECTOR;
        if (img_resize(run->image, t->grown, IMG_PREALLOCATION_OFF, 0, &err))
            model_fail("img_resize to %llu beside writers: %s", (unsigned long long)t->grown, err.text);
    }
}

static void *apart_thread(void *opaque) {
    struct apart *t = opaque;
    struct run *run = t->run;
    for (unsigned i = 0; i < t->ops; i++) {
        unsigned dice = (unsigned)rng_below(&t->rng, 100);
        struct range r = pick_range(&run->config, &t->rng, t->start, t->end, rng_one_in(&t->rng, 2) ? 1 : SECTOR);
        model_note("thread %u: %s %llu+%llu", t->number,
                   dice < 25   ? "read"
                   : dice < 62 ? "write"
                   : dice < 71 ? "zero"
                   : dice < 80 ? "discard"
                   : dice < 88 ? "compressed, not"
                               : "neither read nor write",
                   (unsigned long long)r.start, (unsigned long long)(r.end - r.start));
        if (dice < 25)
            op_read(run, &t->rng, r.start, r.end - r.start);
        else if (dice < 62)
            op_write(run, &t->rng, r);
        else if (dice < 71)
            op_zero(run, &t->rng, r);
        else if (dice < 80)
            op_discard(run, &t->rng, r);
        else if (dice < 88)
            op_compressed(run, &t->rng, t->start, t->end);
        else if (dice < 94)
            op_flush(run);
        else if (dice < 97 || t->number > 0)
            op_map(run, &t->rng, t->start, t->end, false);
        else
            whole_image_operation(t);
    }
    flow_close(run);
    return NULL;
}

static void apart_phase(struct run *run, unsigned ops) {
    const struct config *c = &run->config;
    struct apart threads[THREADS];
    pthread_t ids[THREADS];
    uint64_t unit = c->byte_borders ? 1 : SECTOR, cluster = layer_cluster(&c->layer[0]);
    uint64_t end = run->shadow.size / cluster * cluster, border = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        uint64_t next = end * (i + 1) / THREADS;
        if (i + 1 < THREADS)
            next = (next - rng_below(&run->rng, end / THREADS / 2)) / unit * unit;
        threads[i] = (struct apart){.run = run, .number = i, .ops = ops, .start = border, .end = next};
        threads[i].rng.state = rng_next(&run->rng);
        border = next;
    }
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&ids[i], NULL, apart_thread, &threads[i]))
            model_fail("no thread");
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    if (threads[0].grown)
        shadow_resize(&run->shadow, threads[0].grown);
}

void disjoint_threads(struct run *run) {
    unsigned phases = 5;
    for (unsigned i = 0; i < phases; i++) {
        open_top(run, i > 0);
        apart_phase(run, (run->config.ops + phases * THREADS - 1) / (phases * THREADS));
        check_whole(run);
        close_top(run);
        if (rng_one_in(&run->rng, 2))
            hand_over_to_qemu(run);
    }
}

/* ---- together ----------------------------------------------------------------------------------- */

#define ROUND_OPS 4

enum kind { READ, WRITE, ZERO, DISCARD, COMPRESSED, FLUSH };

struct op {
    enum kind kind;
    uint64_t id;
    struct range r;
};

struct together {
    struct run *run;
    struct rng rng;
    const struct together *all; /* the four of this round */
    struct op ops[ROUND_OPS];
};

/* What `op` does to the sector: nothing, perhaps (a discard), or for certain. */
static enum { UNTOUCHED, PERHAPS, CERTAIN } effect(const struct run *run, const struct op *op, uint64_t sector) {
    uint64_t at = sector * SECTOR;
    if (op->kind == READ || op->kind == FLUSH || at < op->r.start || at >= op->r.end)
        return UNTOUCHED;
    if (op->kind != DISCARD)
        return CERTAIN;
    uint64_t size = run->shadow.size, length = op->r.end - op->r.start;
    struct range certain = discard_certain(&run->config, size, op->r.start, length);
    if (at >= certain.start && at < certain.end)
        return CERTAIN;
    return discard_maybe(&run->config, size, op->r.start, length, sector) ? PERHAPS : UNTOUCHED;
}

static void value(const struct op *op, uint64_t sector, uint8_t *bytes) {
    fill_sector(bytes, op->kind == WRITE || op->kind == COMPRESSED ? op->id : 0, sector);
}

struct candidates {
    unsigned count;
    uint8_t bytes[THREADS * ROUND_OPS + 1][SECTOR];
};

static void candidates_add(struct candidates *c, const struct op *op, uint64_t sector) {
    value(op, sector, c->bytes[c->count++]);
}

/* `running`: what a read beside the operations may see; else what may be left when all have ended. */
static void collect(const struct run *run, const struct together *all, uint64_t sector, bool running,
                    struct candidates *c) {
    bool overwritten = false;
    c->count = 0;
    for (unsigned t = 0; t < THREADS; t++) {
        for (unsigned i = ROUND_OPS; i-- > 0;) {
            int what = effect(run, &all[t].ops[i], sector);
            if (what != UNTOUCHED)
                candidates_add(c, &all[t].ops[i], sector);
            if (what == CERTAIN && !running) {
                overwritten = true;
                if (!flow_is_used(run))
                    break; /* what the thread did before is gone; requests of a queue have no order */
            }
        }
    }
    if (!overwritten)
        memcpy(c->bytes[c->count++], run->shadow.bytes + sector * SECTOR, SECTOR);
}

static bool allowed(const struct candidates *c, const uint8_t *bytes, bool torn) {
    for (unsigned i = 0; i < c->count; i++)
        if (memcmp(bytes, c->bytes[i], SECTOR) == 0)
            return true;
    if (!torn)
        return false;
    for (unsigned at = 0; at < SECTOR; at += 8) {
        bool found = false;
        for (unsigned i = 0; i < c->count && !found; i++)
            found = memcmp(bytes + at, c->bytes[i] + at, 8) == 0;
        if (!found)
            return false;
    }
    return true;
}

/* For the report: what the round did to the sector, and what is in it. */
static void explain(const struct run *run, const struct together *all, uint64_t sector, const uint8_t *bytes) {
    static const char *const names[] = {"read", "write", "zero", "discard", "compressed", "flush"};
    uint8_t expected[SECTOR];
    flockfile(stdout);
    for (unsigned t = 0; t < THREADS; t++) {
        for (unsigned i = 0; i < ROUND_OPS; i++) {
            const struct op *op = &all[t].ops[i];
            if (op->kind == FLUSH || sector * SECTOR < op->r.start || sector * SECTOR >= op->r.end)
                continue;
            value(op, sector, expected);
            printf("#   thread %u: %s %llu+%llu%s\n", t, names[op->kind], (unsigned long long)op->r.start,
                   (unsigned long long)(op->r.end - op->r.start),
                   op->kind != READ && memcmp(bytes, expected, SECTOR) == 0 ? " <- this is in it" : "");
        }
    }
    const uint8_t *old = run->shadow.bytes + sector * SECTOR;
    unsigned same = 0;
    while (same < SECTOR && bytes[same] == old[same])
        same++;
    printf("#   in it: %s%s, old value %s\n", img_is_zero(bytes, SECTOR) ? "zeroes" : "bytes",
           same == SECTOR ? " (the old ones)"
           : same         ? " (that begin like the old ones)"
                          : "",
           img_is_zero(old, SECTOR) ? "zeroes" : "bytes");
    funlockfile(stdout);
}

static void judge(const struct run *run, const struct together *all, const uint8_t *bytes, uint64_t offset,
                  uint64_t length, bool running) {
    struct candidates c;
    for (uint64_t at = 0; at < length; at += SECTOR) {
        uint64_t sector = (offset + at) / SECTOR;
        collect(run, all, sector, running, &c);
        if (allowed(&c, bytes + at, running))
            continue;
        explain(run, all, sector, bytes + at);
        model_fail("operation %llu: %s the sector at %llu (cluster %llu) holds none of its %u possible values",
                   (unsigned long long)run->operations, running ? "beside writers" : "after a round",
                   (unsigned long long)(offset + at),
                   (unsigned long long)((offset + at) / layer_cluster(&run->config.layer[0])), c.count);
    }
}

static void judge_read(struct run *run, void *opaque, const uint8_t *bytes, uint64_t offset, uint64_t length) {
    judge(run, opaque, bytes, offset, length, true);
}

static void together_read(struct together *t, const struct op *op) {
    struct img_error err = {0};
    uint64_t length = op->r.end - op->r.start;
    uint8_t *bytes = must_allocate(length);
    if (flow_is_used(t->run)) {
        struct iovec *iov = must_allocate(sizeof(*iov));
        *iov = (struct iovec){bytes, length};
        flow_transfer(t->run, IMG_IO_READ, iov, 1, bytes, op->r.start, length, judge_read, (void *)t->all);
        return;
    }
    if (img_pread(t->run->image, bytes, length, op->r.start, &err))
        model_fail("img_pread beside writers: %s", err.text);
    judge_read(t->run, (void *)t->all, bytes, op->r.start, length);
    free(bytes);
}

static void together_write(struct together *t, const struct op *op) {
    struct img_error err = {0};
    uint64_t length = op->r.end - op->r.start;
    uint8_t *bytes = must_allocate(length);
    for (uint64_t at = 0; at < length; at += SECTOR)
        fill_sector(bytes + at, op->id, (op->r.start + at) / SECTOR);
    if (op->kind == WRITE) {
        do_write(t->run, &t->rng, bytes, op->r.start, length);
        return;
    }
    flow_collect(t->run); /* it may wait for them */
    bitmaps_changed(t->run, op->r.start, length, true);
    if (img_pwrite_compressed(t->run->image, bytes, length, op->r.start, &err))
        model_fail("img_pwrite_compressed beside writers: %s", err.text);
    free(bytes);
}

static void *together_thread(void *opaque) {
    struct together *t = opaque;
    for (unsigned i = 0; i < ROUND_OPS; i++) {
        const struct op *op = &t->ops[i];
        if (op->kind == READ)
            together_read(t, op);
        else if (op->kind == WRITE || op->kind == COMPRESSED)
            together_write(t, op);
        else if (op->kind == FLUSH)
            op_flush(t->run);
        else if (op->kind == ZERO)
            do_clear(t->run, IMG_IO_ZERO, op->id % 2 ? IMG_ZERO_MAY_UNMAP : 0, op->r.start, op->r.end - op->r.start);
        else
            do_clear(t->run, IMG_IO_DISCARD, 0, op->r.start, op->r.end - op->r.start);
    }
    flow_close(t->run);
    return NULL;
}

static void draw_op(struct run *run, struct rng *rng, struct range area, struct op *op) {
    static const enum kind kinds[] = {READ,  READ,  READ, WRITE,   WRITE,      WRITE,
                                      WRITE, WRITE, ZERO, DISCARD, COMPRESSED, FLUSH};
    op->kind = kinds[rng_below(rng, sizeof(kinds) / sizeof(*kinds))];
    op->id = ++run->operations;
    op->r = pick_range(&run->config, rng, area.start, area.end, SECTOR);
    if (op->kind != COMPRESSED)
        return;
    op->r = pick_clusters(&run->config, rng, area.start, area.end, run->shadow.size);
    if (op->r.start >= op->r.end || !compression_possible(&run->config)) {
        op->kind = WRITE;
        op->r = area;
    }
}

static struct range draw_area(struct run *run) {
    uint64_t cluster = layer_cluster(&run->config.layer[0]), size = run->shadow.size;
    uint64_t length = cluster * (cluster >= 1u << 20 ? 2 : cluster >= 65536 ? 3 : 8);
    struct range area;
    if (length > size)
        length = size;
    /* a few areas only, so that each is met in many states */
    area.start = rng_below(&run->rng, 4) * (size / 4) / cluster * cluster;
    area.end = area.start + length < size ? area.start + length : size;
    return area;
}

static void together_round(struct run *run) {
    struct together threads[THREADS];
    pthread_t ids[THREADS];
    struct range area = draw_area(run);
    uint64_t length = area.end - area.start;
    check_read(run, &run->rng, area.start, length); /* settles it: the old values are known */
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i].run = run;
        threads[i].all = threads;
        threads[i].rng.state = rng_next(&run->rng);
        for (unsigned k = 0; k < ROUND_OPS; k++)
            draw_op(run, &threads[i].rng, area, &threads[i].ops[k]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&ids[i], NULL, together_thread, &threads[i]))
            model_fail("no thread");
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);

    struct img_error err = {0};
    uint8_t *bytes = must_allocate(length);
    if (img_pread(run->image, bytes, length, area.start, &err))
        model_fail("img_pread after a round: %s", err.text);
    judge(run, threads, bytes, area.start, length, false);
    shadow_write(&run->shadow, bytes, area.start, length);
    free(bytes);
}

void overlapping_threads(struct run *run) {
    open_top(run, false);
    unsigned rounds = (run->config.ops + THREADS * ROUND_OPS - 1) / (THREADS * ROUND_OPS);
    for (unsigned i = 0; i < rounds; i++) {
        together_round(run);
        if (i + 1 < rounds && rng_one_in(&run->rng, 8)) {
            close_top(run);
            open_top(run, true);
        }
    }
    check_whole(run);
    close_top(run);
}
