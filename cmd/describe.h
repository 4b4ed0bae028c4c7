/* SPDX-License-Identifier: GPL-3.0-or-later */
/* describe.h - an image's properties, for people and as JSON: what `info` prints and what `create` and `convert`
 * answer with --output=json. The keys, their order and the lines are qemu-img's. */
#ifndef DESCRIBE_H
#define DESCRIBE_H

#include <jansson.h>
#include <stdio.h>

#include "img.h"

/* `name` is the file's name as it was given. */
json_t *describe_json(const char *name, const struct img_info *info);
void describe_print(FILE *out, const char *name, const struct img_info *info);
/* Only the part that the format has of its own; nothing where it has none. */
void describe_print_specific(FILE *out, const struct img_info *info);

/* The list of snapshots as `info` shows it; the table prints its head even when there are none. */
json_t *describe_snapshots_json(const struct img_info *info);
void describe_snapshots(FILE *out, const struct img_info *info);

/* Opens the image just made and prints it as JSON; the exit status. */
int describe_result(const char *name, const char *format);

#endif
