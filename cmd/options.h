/* SPDX-License-Identifier: GPL-3.0-or-later */
/* options.h - the -o list of `create` and `convert`: name=value,... with ",," for a comma inside a value.
 *
 * A table for each format says which names there are, in the order in which "Formatting ..." prints them. Values are
 * kept as they were written, because that line shows them so; options_apply() turns them into img.h's terms.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "img.h"

struct options;

/* The options of a format with their defaults; NULL for an unknown format. Free with options_free(). */
struct options *options_new(const char *format);
void options_free(struct options *options);

/* Joins another -o argument to *list (malloc'ed, NULL at first); false after reporting a malformed list. */
bool options_append(char **list, const char *argument);
/* Takes "name" or "name=value" off the list and returns the rest; both are malloc'ed, *value is NULL where there is
 * none. */
const char *options_next(const char *list, char **name, char **value);
/* Does the list ask for help? */
bool options_want_help(const char *list);
/* Prints the options of a format; `with_file` as when the file's name is given too. False: unknown format, reported. */
bool options_print_help(const char *format, bool with_file);

/* Sets the options of a list. On failure *err has the sentence. */
int options_parse(struct options *options, const char *list, struct img_error *err);
/* Sets one option, replacing what was there. `name` must exist. */
void options_set(struct options *options, const char *name, const char *text);
/* NULL: not set. */
const char *options_get(const struct options *options, const char *name);
bool options_known(const struct options *options, const char *name);
/* The value of a size option; UINT64_MAX: not set. */
uint64_t options_get_size(const struct options *options, const char *name);
void options_set_size(struct options *options, const char *name, uint64_t size);

/* " name=value ..." of all that is set. */
void options_print(const struct options *options);

/* Fills in what img_create needs for an image at `path`. The strings stay owned by `options`, keys by secret.h. */
int options_apply(const struct options *options, const char *path, struct img_create_options *create,
                  struct img_error *err);
/* Its part that concerns encryption; create->format is set (encryption.c). */
int options_apply_encryption(const struct options *options, const char *path, struct img_create_options *create,
                             struct img_error *err);

#endif
