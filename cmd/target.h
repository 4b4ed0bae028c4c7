/* SPDX-License-Identifier: GPL-3.0-or-later */
/* target.h - files that appear under their names only when they are complete, and signals while they are made.
 *
 * A regular file is made under a temporary name beside the wanted one and renamed at the end, with the mode and owner
 * of what it replaces; a symbolic link is followed first. What stands there already is held open with a writer's lock
 * meanwhile: an image in use is refused, and nobody starts to use it before it is replaced. A block device is written
 * in place, and so is a file that is there in a folder that takes no new ones. img_create does the same by itself, but
 * for one call only: here a file has no name until it is filled, an image and its data file appear together, and a
 * signal leaves nothing.
 *
 * From target_begin() on the signals that end programs only set a flag that long work asks for with interrupted(). The
 * caller cleans up and then calls die_if_interrupted(), so the exit status tells of the signal. A second signal ends
 * the program at once; the temporary files go even then.
 */
#ifndef TARGET_H
#define TARGET_H

#include <stdbool.h>
#include <sys/stat.h>

#include "img.h"

struct target {
    char *path;        /* the wanted file, links followed */
    char *temporary;   /* NULL: written in place */
    bool empty;        /* a file that holds nothing once it has been created, and no device with anything on it */
    struct img *guard; /* what stands there already */
    struct stat old;   /* of it */
    bool exists;
};

/* Prepares for a file called `name`. On failure *err has the sentence and target_abort() may still be called. */
int target_begin(struct target *t, const char *name, struct img_error *err);
/* The same for the data file that the image at `image` will call `name`: it must be another file. */
int target_begin_data(struct target *t, const struct target *image, const char *name, struct img_error *err);
/* The name to open now. */
const char *target_path(const struct target *t);
/* For img_create: the file that it shall write, NULL to let it do as it does with a block device. */
const char *target_write_to(const struct target *t);
/* How the image that is being made reaches its data file for now. The caller frees. */
char *target_data_name(const struct target *data, const struct target *image);
/* Puts the wanted name where a sentence has the temporary one. */
void target_show_name(const struct target *t, struct img_error *err);
/* Call when the file has been created: gives it the mode and owner it will have. */
void target_adopt(const struct target *t);
/* Gives the file its name; `durable`: so that a power cut takes nothing away. */
int target_commit(struct target *t, bool durable, struct img_error *err);
/* Removes what is there of a file that has no name yet, and frees everything. Also to be called after a commit. */
void target_abort(struct target *t);

/* Signals as above, for work without a temporary file too. */
void catch_signals(void);
bool interrupted(void);
int ask_interrupted(void *unused); /* as img_create_options wants it */
void die_if_interrupted(void);

#endif
