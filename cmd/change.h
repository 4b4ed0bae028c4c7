/* SPDX-License-Identifier: GPL-3.0-or-later */
/* change.h - what commands share that change an image as a whole and show how far they are: amend, commit, rebase. */
#ifndef CHANGE_H
#define CHANGE_H

#include "cmd.h"
#include "progress.h"

struct change {
    const char *file, *format;
    enum img_cache cache;
    struct common_options common;
    struct progress progress;
    struct img *image; /* owned; NULL: not open */
};

/* Rows of long_opts, and what takes them; false after reporting. */
#define CHANGE_OPTIONS                                                                                                 \
    {"format", required_argument, NULL, 'f'}, {"cache", required_argument, NULL, 't'},                                 \
        {"progress", optional_argument, NULL, OPT_PROGRESS}, {"quiet", no_argument, NULL, 'q'}, {                      \
        "output", required_argument, NULL, OPT_OUTPUT                                                                  \
    }
bool change_option(struct change *c, int opt);

/* Opens the image to write; false after reporting. */
bool change_open(struct change *c, unsigned flags);
/* From here on there is progress to see, and a signal ends the change at its next step. */
void change_start(struct change *c);
/* The engine's callback; `change` is a struct change. */
int change_progress(void *change, uint64_t done, uint64_t total);
/* The change returned `ret` (0 or -errno, with *err). Closes the image if it succeeded. False: it, or closing, did not;
 * reported, behind `prefix` if that is not NULL, unless a signal was the reason. */
bool change_finish(struct change *c, int ret, const char *prefix, struct img_error *err);
/* The end in any case: closes what is open, and dies by the signal if there was one. */
void change_end(struct change *c);
/* What is printed on success: the image as JSON where that was asked for. The exit status. */
int change_result(const struct change *c);

#endif
