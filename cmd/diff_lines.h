/* SPDX-License-Identifier: GPL-3.0-or-later */
/* diff_lines.h - how two texts differ, as the hunks of `diff -u`. */
#ifndef DIFF_LINES_H
#define DIFF_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Prints the hunks: nothing if the texts are equal. The work is bounded: texts that have little in common are shown as
 * one replaced by the other where finding out more would take too long. False: they have too many lines, and nothing
 * was printed. */
bool print_line_diff(FILE *out, const char *a, size_t a_length, const char *b, size_t b_length);

#endif
