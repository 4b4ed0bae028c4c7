/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file_json.h - one file of a guest as a JSON object in an array that is printed while it grows. */
#ifndef FILE_JSON_H
#define FILE_JSON_H

#include "file_line.h"

/* All of one file, whatever the options; only a checksum has to be asked for. *printed: how many came before. */
void print_json_file(size_t *printed, const struct file_line *line);

#endif
