/* SPDX-License-Identifier: GPL-3.0-or-later */
/* world.h - a scenario that runs: the recorded image, the model of its guest, and the guest's operations.
 *
 * Each guest_ function performs one operation on the image and tells the model when it was asked for and when it was
 * acknowledged. Unless its name ends in _may_fail an error ends the scenario loudly. They may be called by several
 * threads; guest_verify and what uses partial sectors only when one runs.
 *
 * The same scenario runs by the ordinary calls or through queues: then each thread has a queue of its own, and an
 * operation is a request that is submitted, waited for and reaped, so the order is the same. What a queue cannot do
 * (compressed writes, resizing) stays an ordinary call beside it. More than one request under way: deep.h.
 */
#ifndef CRASH_WORLD_H
#define CRASH_WORLD_H

#include "image.h"
#include "judge.h"
#include "model.h"
#include "recorder.h"
#include "util.h"

struct scenario;

enum executor { VIA_CALLS, VIA_RING, VIA_THREADS, EXECUTORS };

struct world {
    const struct scenario *scenario;
    enum executor executor;
    char folder[64]; /* of this run; removed at its end */
    struct log *log;
    struct model *model;
    struct img *image;
    struct judge judge;
    struct rng rng;
    _Atomic uint64_t stamp; /* each write gets bytes of its own */

    struct beside *beside; /* beside.c */
    struct {
        enum record_kind kind;
        bool by_flush;     /* meant is an operation inside guest_flush; else one outside */
        unsigned after;    /* so many pass first */
        _Atomic int error; /* -errno; 0: not armed. It is disarmed when it has struck */
    } fault;
};

/* Opens the device for writing (again). */
void world_open(struct world *w);
/* Closes it, and finds neither error nor leak. */
void world_close(struct world *w);

/* From MODEL_STATE on it is a machine's state, by an ordinary call always. */
void guest_write(struct world *w, uint64_t offset, uint64_t length);
int guest_write_may_fail(struct world *w, uint64_t offset, uint64_t length);
/* Cluster aligned. The bytes compress well. */
void guest_write_compressed(struct world *w, uint64_t offset, uint64_t length);
void guest_zero(struct world *w, uint64_t offset, uint64_t length, bool unmap);
void guest_discard(struct world *w, uint64_t offset, uint64_t length);
void guest_flush(struct world *w);
int guest_flush_may_fail(struct world *w);
int guest_read(struct world *w, void *buffer, uint64_t length, uint64_t offset, struct img_error *err);
void guest_resize(struct world *w, uint64_t size);
/* The image's snapshots change. `exact`: it is closed and opened before, so a cut inside finds exactly before or after,
 * and no leak. */
void guest_snapshot_create(struct world *w, const char *name, bool exact);
void guest_snapshot_apply(struct world *w, const char *name, bool exact);
void guest_snapshot_delete(struct world *w, const char *name, bool exact);
/* Reads everything: it is what was written last. */
void guest_verify(struct world *w);

/* The operation `after` others of its kind fails once. Only while one thread runs. */
void world_fail(struct world *w, enum record_kind kind, bool by_flush, unsigned after, int error);

/* A queue by the executor. */
struct img_queue *guest_queue(struct world *w, unsigned depth);
/* This thread asks for nothing more until the image is open anew: its queue goes. */
void guest_leave(struct world *w);
/* Bytes that no other write of the scenario has, none of them zero; to be freed. */
uint8_t *guest_fresh_bytes(struct world *w, uint64_t length);
/* What of a discard reads as zeroes for certain: [*from, *to), empty where it has no effect. */
void guest_discarded(struct world *w, uint64_t offset, uint64_t length, uint64_t *from, uint64_t *to);

/* `count` random operations out of `kinds` ("w" write, "c" compressed write, "z" zeroes, "u" zeroes with unmap, "d"
 * discard) inside [from, to), with a flush after each `flush_every`. */
void guest_mix(struct world *w, struct rng *rng, const char *kinds, unsigned count, unsigned flush_every, uint64_t from,
               uint64_t to);

#endif
