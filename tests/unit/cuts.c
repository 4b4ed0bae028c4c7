/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cuts.c - see cuts.h. */
#include "cuts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"

#define SECTOR 512u
#define SUPER 1024u
#define OPS_MAX 16384

/* ---- the device ---- */

static int recorder_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    (void)err;
    memcpy(buffer, ((struct recorder *)device)->bytes + offset, count);
    return 0;
}

static void record(struct recorder *r, const void *buffer, size_t count, uint64_t offset) {
    assert_true(r->nops < OPS_MAX);
    struct cuts_op *op = &r->ops[r->nops++];
    *op = (struct cuts_op){.offset = offset, .count = count, .committed = r->committed};
    if (count) {
        op->bytes = malloc(count);
        memcpy(op->bytes, buffer, count);
    }
}

static int recorder_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                          struct img_error *err) {
    struct recorder *r = (struct recorder *)device;
    (void)err;
    if (r->ops)
        record(r, buffer, count, offset);
    memcpy(r->bytes + offset, buffer, count);
    return 0;
}

static int recorder_flush(struct device *device, struct img_error *err) {
    struct recorder *r = (struct recorder *)device;
    (void)err;
    if (r->ops)
        record(r, NULL, 0, 0);
    return 0;
}

static void recorder_close(struct device *device) {
    (void)device;
}

static const struct device_ops ops = {
    .read = recorder_read, .write = recorder_write, .flush = recorder_flush, .close = recorder_close};

struct recorder recorder_on(unsigned char *bytes, size_t size) {
    return (struct recorder){.device = {.ops = &ops, .size = size, .sector_size = SECTOR, .writable = true},
                             .bytes = bytes};
}

void recorder_start(struct recorder *recorder) {
    recorder->ops = calloc(OPS_MAX, sizeof(recorder->ops[0]));
    assert_non_null(recorder->ops);
}

void recorder_end(struct recorder *recorder) {
    for (size_t i = 0; i < recorder->nops; i++)
        free(recorder->ops[i].bytes);
    free(recorder->ops);
    recorder->ops = NULL;
    recorder->nops = 0;
}

/* ---- the states ---- */

enum kind { ALL, SOME, NOTHING };

struct trial {
    unsigned char *durable, *bytes;
    const struct recorder *r;
    bool torn;
    cuts_judge judge;
    unsigned seed;
};

static void apply(unsigned char *bytes, const struct cuts_op *op, size_t count) {
    memcpy(bytes + op->offset, op->bytes, count);
}

/* One state: of the ops [from, to) behind the last flush those that `kind` tells, whole or in part. */
static void try(struct trial *t, size_t from, size_t to, enum kind kind) {
    char what[128];
    memcpy(t->bytes, t->durable, t->r->device.size);
    for (size_t i = from; i < to; i++) {
        const struct cuts_op *op = &t->r->ops[i];
        unsigned dice = (unsigned)rand_r(&t->seed) % 4;
        if (kind == ALL || (kind == SOME && dice >= 2))
            apply(t->bytes, op, op->count);
        else if (kind == SOME && t->torn && dice == 1 && op->count > SUPER)
            apply(t->bytes, op, op->count / SECTOR / 2 * SECTOR);
    }
    snprintf(what, sizeof(what), "a cut between ops %zu and %zu, kind %d", from, to, (int)kind);
    t->judge(t->bytes, t->r->device.size, to < t->r->nops ? t->r->ops[to].committed : t->r->committed, what);
}

size_t cuts_try(unsigned char *durable, const struct recorder *recorder, unsigned subsets, bool torn,
                cuts_judge judge) {
    struct trial t = {.durable = durable, .r = recorder, .torn = torn, .judge = judge, .seed = 1};
    size_t from = 0, states = 0;
    int committed = -1; /* that the last state was judged by */
    t.bytes = malloc(recorder->device.size);
    assert_non_null(t.bytes);
    for (size_t i = 0; i <= recorder->nops; i++) {
        if (i < recorder->nops && recorder->ops[i].count)
            continue;
        int now = i < recorder->nops ? recorder->ops[i].committed : recorder->committed;
        if (now != committed) {
            try(&t, from, i, NOTHING);
            states++;
        }
        committed = now;
        if (i == from) {
            from = i + 1;
            continue;
        }
        for (unsigned n = 0; n < subsets; n++)
            try(&t, from, i, SOME);
        try(&t, from, i, ALL);
        states += 1 + subsets;
        for (size_t j = from; j < i; j++)
            apply(durable, &recorder->ops[j], recorder->ops[j].count);
        from = i + 1;
    }
    free(t.bytes);
    return states;
}
