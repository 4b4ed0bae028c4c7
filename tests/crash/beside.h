/* SPDX-License-Identifier: GPL-3.0-or-later */
/* beside.h - things that happen at a chosen moment inside another operation.
 *
 * Every interleaving that the engine's rules are about shows at its storage: between lookup and submission a data
 * write starts, between completion and commit it ends, between the freezing of slices and the first barrier that
 * barrier starts, between the barriers metadata are written. So a test names a moment by an operation of the storage
 * and a stage of it, and then either another thread acts while the one that met the moment waits, or that one is held
 * there until it is released. The waiting is bounded, as the other may need what the waiting one holds.
 * The engine's own pause points can be named as well.
 */
#ifndef CRASH_BESIDE_H
#define CRASH_BESIDE_H

#include "world.h"

enum by { BY_GUEST, BY_FLUSH }; /* inside a guest_flush, or not */

struct moment {
    enum record_kind kind;
    enum record_stage stage;
    enum by by;
    const char *pause; /* not NULL: a named point inside the engine instead (libimg/debug.h) */
};

static inline struct moment storage_moment(enum record_kind kind, enum record_stage stage, enum by by) {
    return (struct moment){kind, stage, by, NULL};
}
static inline struct moment pause_moment(const char *pause) {
    return (struct moment){.pause = pause};
}

typedef void (*beside_function)(struct world *w, unsigned turn);

/* The functions below do it by themselves; only where requests of a queue are under way by then it comes first. */
void beside_begin(struct world *w);

/* Whenever another thread than those started here meets the moment, a new thread runs act(turn); for the first `times`.
 * Several may be set. */
void beside_act(struct world *w, struct moment moment, unsigned times, beside_function act);

/* Starts act(0) in a new thread, in which the moment, when it is met, holds it. Returns when it is held there, or false
 * when it has ended without meeting the moment. */
bool beside_hold(struct world *w, struct moment moment, beside_function act);
/* Runs act(turn) in a new thread to its end. The engine gives each thread clusters of its own, and only one that has
 * none left takes what others gave back: so this is how something is reused at once. */
void beside_run(struct world *w, beside_function act, unsigned turn);
/* Starts act(0) in a new thread and gives it a little time. */
void beside_start(struct world *w, beside_function act);
/* Lets the held thread go on. */
void beside_release(struct world *w);

/* Releases, forgets the moments and waits for all threads. */
void beside_end(struct world *w);

#endif
