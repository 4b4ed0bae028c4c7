/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replayer.h - builds the states that a power cut could leave out of a log, and hands each to a judge.
 *
 * A cut is a tick of the log's clock. What was durable then is in every state; of what had been submitted and was not
 * durable, any subset may be there, torn at 512 bytes: a write, zeroing or punch is as many units as it touches sectors
 * of the disk, a change of length is one unit. A state is the start of the recording with the durable operations and
 * the chosen units applied in the order in which they arrived.
 *
 * The cuts are taken after each submission, each end of a barrier and each mark (a promise to the guest: its flush has
 * returned). At each cut come, in this order: everything, nothing, each single omission, each single survivor, every
 * subset when at most 8 operations (or 8 units) are in flight, torn variants of each operation in full and in no
 * company, random subsets of operations and of units. Choices seen before are left out, and so are states whose bytes
 * were seen under the same promises: the earlier cut was the stricter one.
 *
 * The numbers of the states are the same in every run over the same log, whether all or a sample are judged.
 */
#ifndef CRASH_REPLAYER_H
#define CRASH_REPLAYER_H

#include "recorder.h"

struct replay_state {
    unsigned number;
    uint64_t cut;
    struct bytes devices[LOG_DEVICES];
};

/* True: the state is as it must be. */
typedef bool (*replay_judge)(void *opaque, const struct replay_state *state);

struct replay_options {
    uint64_t seed;         /* of the random subsets */
    unsigned sample;       /* judge about this many, evenly chosen; 0: all */
    long only;             /* judge this state alone; -1: no */
    unsigned stop_after;   /* stop when so many have failed; 0: never */
    const uint64_t *marks; /* ticks at which a promise began to hold, ascending */
    unsigned nmarks;
};

struct replay_result {
    unsigned cuts;
    unsigned choices; /* different choices of units */
    unsigned states;  /* different states judged */
    unsigned failing;
    unsigned first_failing;  /* its number */
    char first_choice[1024]; /* what it was made of, in words */
};

void replay(const struct log *log, const struct replay_options *options, replay_judge judge, void *opaque,
            struct replay_result *result);

#endif
