/* SPDX-License-Identifier: GPL-3.0-or-later */
/* options.h - the -o list of `create` and `convert`: what each format takes, and what was given.
 *
 * A table for each format says which names there are, in the order in which "Formatting ..." prints them. Values are
 * kept as they were written, because that line shows them so; create_options.h turns them into img.h's terms.
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

/* Prints the options of a format; `with_file` as when the file's name is given too. False: unknown format, reported. */
bool options_print_help(const char *format, bool with_file);

/* Sets the options of a list. On failure *err has the sentence. */
int options_parse(struct options *options, const char *list, struct img_error *err);
/* Sets one option, replacing what was there. `name` must exist. */
void options_set(struct options *options, const char *name, const char *text);
/* NULL: not set. */
const char *options_get(const struct options *options, const char *name);
/* The format they were made for. */
const char *options_format(const struct options *options);
/* A switch that is on, or a number other than 0. */
bool options_is_set(const struct options *options, const char *name);
bool options_known(const struct options *options, const char *name);
/* The value of a size option; UINT64_MAX: not set. */
uint64_t options_get_size(const struct options *options, const char *name);
void options_set_size(struct options *options, const char *name, uint64_t size);

/* " name=value ..." of all that is set. */
void options_print(const struct options *options);

#endif
