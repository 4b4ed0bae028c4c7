/* SPDX-License-Identifier: GPL-3.0-or-later */
/* target.h - a file that appears under its name only when it is complete, and signals while it is made.
 *
 * A regular file is made under a temporary name beside the wanted one and renamed at the end, with the mode and owner
 * of what it replaces; a symbolic link is followed first. What stands there already is held open with a writer's lock
 * meanwhile: an image in use is refused, and nobody starts to use it before it is replaced. A block device is written
 * in place.
 *
 * From target_begin() on SIGINT, SIGTERM and SIGHUP only set a flag that long work asks for with interrupted(). The
 * caller cleans up and then calls die_if_interrupted(), so the exit status tells of the signal. A second signal ends
 * the program at once; the temporary file goes even then.
 */
#ifndef TARGET_H
#define TARGET_H

#include <stdbool.h>
#include <sys/stat.h>

#include "img.h"

struct target {
    char *path;        /* the wanted file, links followed */
    char *temporary;   /* NULL: written in place */
    struct img *guard; /* what stands there already */
    struct stat old;   /* of it */
    bool exists;
};

/* Prepares for a file called `name`. On failure *err has the sentence and target_abort() may still be called. */
int target_begin(struct target *t, const char *name, struct img_error *err);
/* The name to create now. */
const char *target_path(const struct target *t);
/* Call when the file has been created: gives it the mode and owner it will have. */
void target_adopt(const struct target *t);
/* Gives the file its name. */
int target_commit(struct target *t, struct img_error *err);
/* Removes what is there of a file that has no name yet, and frees everything. Also to be called after a commit. */
void target_abort(struct target *t);

/* Signals as above, for work without a temporary file too. */
void catch_signals(void);
bool interrupted(void);
void die_if_interrupted(void);

#endif
