/* SPDX-License-Identifier: GPL-3.0-or-later */
/* report.h - what the tool says on stderr, and text that is safe to show.
 *
 * Names come from images and from strangers' folders, so nothing reaches a terminal unescaped: control characters,
 * bytes that are no UTF-8 and characters that turn the line's direction are shown as \xNN. JSON gets U+FFFD for
 * bytes that are no UTF-8.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "allocate.h"
#include "img.h"

/* The name in front of every message: the last part of argv[0]. */
void report_set_program(const char *argv0);
const char *report_program(void);
/* Was it started under the name of one of libguestfs' tools? */
bool report_as_virt_tool(void);

/* "PROGRAM: sentence\n" on stderr, after what stdout holds back. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* report(), with an image's sentence behind it, and that sentence's hint on a line of its own. */
void report_image_error(const struct img_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The sentence alone, where it says enough. */
void report_sentence(const struct img_error *err);
/* Why `path` could not be opened. As in qemu-img, it is named once if its content is to blame and twice if it is the
 * host's file. */
void report_open_error(const struct img_error *err, const char *path);
/* Fills in *err and returns `code`. */
int set_error(struct img_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* report(), a pointer to the help, and exit status 1. */
_Noreturn void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Never NULL, as in allocate.h. */
char *text_printable(const char *text);
char *text_utf8(const char *text);

/* Prints text_printable(text). */
void print_text(FILE *out, const char *text);
/* A guest's name in a list: text_printable on a terminal, since it could be obeyed there; as it is for programs, and
 * where libguestfs' tools print it so. */
void print_file_name(FILE *out, const char *name);

#endif
