/* SPDX-License-Identifier: GPL-3.0-or-later */
/* size.h - sizes as people write and read them: 64k, 1.5G, 0x10000; "1.32 MiB". */
#ifndef SIZE_H
#define SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads a size: a decimal number, which may have a fraction, and one suffix of b k K M G T P E (powers of 1024), or a
 * hexadecimal number. Returns 0, -EINVAL, or -ERANGE above 2^64 - 1. */
int parse_size(const char *text, uint64_t *size);

/* parse_size() for the argument called `what`, at most `max`; false after reporting what is wrong. */
bool parse_size_argument(const char *what, const char *text, uint64_t max, uint64_t *size);

/* Three digits and a unit. Returns `buffer`. */
#define HUMAN_SIZE_MAX 32
const char *human_size(uint64_t size, char buffer[HUMAN_SIZE_MAX]);

#endif
