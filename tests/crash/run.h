/* SPDX-License-Identifier: GPL-3.0-or-later */
/* run.h - one scenario from its image to the verdict over all its states. */
#ifndef CRASH_RUN_H
#define CRASH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "scenario.h"
#include "world.h"

enum { STATES_WANTED = 300 }; /* of each scenario, when all are judged */

struct run_options {
    bool all;
    long qemu;       /* qemu-img judges every n-th state; 0: none; -1: all, or every 50th of a sample */
    unsigned sample; /* states per scenario when not all */
    unsigned stop;   /* after so many failing states */
    long state;      /* this one alone; -1: no */
    uint64_t seed;
    const char *dump; /* save the judged states here (the last one remains) */
    const char *keep; /* save the failing states in this folder */
};

/* The scenario's name, with the executor behind it unless that is the ordinary calls: "NAME/ring". */
void run_name(const struct scenario *s, enum executor executor, char *name, size_t size);

/* Runs it in `folder`, which is empty and there. Prints diagnostics as TAP comments and at last "= N states, M
 * failing"; returns whether it passed. */
bool run_scenario(const struct scenario *s, enum executor executor, const struct run_options *options,
                  const char *folder);

#endif
