/* SPDX-License-Identifier: GPL-3.0-or-later */
/* progress.h - how far the work is: a bar for people, percent lines or JSON lines for programs.
 *
 * On a terminal a bar with rate and time left is drawn over itself, at most ten times a second, with nothing but
 * spaces and a carriage return. Elsewhere the lines are qemu-img's. SIGUSR1 prints one percent line on stderr whatever
 * was asked for. Lines that cannot be written are given up and do no harm. progress_update() may be called from any
 * thread, from one at a time.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum progress_style {
    PROGRESS_NONE,
    PROGRESS_AUTO, /* a bar on a terminal, percent lines elsewhere */
    PROGRESS_BAR,
    PROGRESS_PERCENT,
    PROGRESS_JSON, /* on stderr */
};

struct progress {
    enum progress_style style;
    FILE *out;
    double step;          /* percent lines: what must have been added for the next */
    double percent;       /* of the last percent line */
    uint64_t done, total; /* bytes */
    uint64_t start_ns, drawn_ns;
    int width; /* of what stands on the terminal's line */
};

/* Reads the argument of --progress (NULL: none given); false after reporting. */
bool progress_parse(const char *text, enum progress_style *style);

/* Starts at 0 of `total`. `step`: how many percent apart the percent lines are. `out`: where bars and lines go. */
void progress_start(struct progress *p, enum progress_style style, uint64_t total, double step, FILE *out);
void progress_update(struct progress *p, uint64_t done);
/* Ends the line; `complete`: all is done. */
void progress_finish(struct progress *p, bool complete);

#endif
