/* SPDX-License-Identifier: GPL-3.0-or-later */
/* throttle.h - a limit for how fast bytes are moved. */
#ifndef THROTTLE_H
#define THROTTLE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct throttle {
    uint64_t rate; /* bytes a second; 0: no limit */
    struct timespec started;
};

/* Reads the argument of -r; false after reporting. */
bool throttle_parse(struct throttle *t, const char *text);
void throttle_start(struct throttle *t);
/* Waits until so many bytes since the start are no more than the limit allows, or for a signal (target.h). */
void throttle_wait(const struct throttle *t, uint64_t bytes);

#endif
