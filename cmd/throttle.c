/* SPDX-License-Identifier: GPL-3.0-or-later */
/* throttle.c - see throttle.h. */
#include "throttle.h"

#include "size.h"
#include "target.h"

bool throttle_parse(struct throttle *t, const char *text) {
    return parse_size_argument("rate limit", text, INT64_MAX, &t->rate);
}

void throttle_start(struct throttle *t) {
    clock_gettime(CLOCK_MONOTONIC, &t->started);
}

void throttle_wait(const struct throttle *t, uint64_t bytes) {
    while (t->rate > 0 && !interrupted()) {
        struct timespec now, pause = {.tv_nsec = 50000000};
        clock_gettime(CLOCK_MONOTONIC, &now);
        double seconds = (double)(now.tv_sec - t->started.tv_sec) + (double)(now.tv_nsec - t->started.tv_nsec) / 1e9;
        if ((double)bytes <= seconds * (double)t->rate)
            return;
        nanosleep(&pause, NULL);
    }
}
