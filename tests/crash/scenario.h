/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenario.h - one line of the crash test: an image, what a guest does to it, what else happens. */
#ifndef CRASH_SCENARIO_H
#define CRASH_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "img.h"

struct world;

struct scenario {
    const char *name;
    /* Shell commands, run in an empty folder, that make image.qcow2 by the peer's tools (and base.*, data.raw). */
    const char *prepare;
    void (*run)(struct world *w);
    const char *snapshots[4];          /* internal snapshots whose contents must never change */
    uint64_t watch;                    /* bytes from the start that are watched; 0: the whole image */
    uint64_t far, far_length;          /* a second window, or 0; from MODEL_STATE on a machine's state */
    uint64_t l2_cache, refcount_cache; /* 0: JUDGE_CACHE */
    uint64_t device_size;              /* not 0: the image lies on a block device, with old bytes behind its end */
    bool data_file;                    /* data.raw is recorded as well */
    bool base_file;                    /* base.qcow2 is */
    bool without_zero;                 /* the storage cannot zero or punch */
    const char *format, *key;          /* NULL: "qcow2", and not encrypted */
    unsigned states_wanted;            /* at least so many when all are judged; 0: STATES_WANTED */
    bool ends_open;                    /* run ends with a failed image: no clean close to be judged */
    uint64_t jitter;                   /* threads give way to each other inside the storage */
    enum img_cache cache;              /* the write-through modes: what is acknowledged is durable */
    bool queues;                       /* about queues: it makes no sense by ordinary calls */
};

/* The table; ends with a NULL name. Each part of it lives beside its run functions. */
extern const struct scenario scenarios_allocation[], scenarios_metadata[], scenarios_beside[], scenarios_failure[],
    scenarios_queue[], scenarios_snapshot[], scenarios_bitmap[], scenarios_chain[], scenarios_keys[];

#endif
