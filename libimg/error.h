/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* error.h - how a sentence gets into struct img_error. `err` may be NULL everywhere. */
#ifndef LIBIMG_ERROR_H
#define LIBIMG_ERROR_H

#include "img.h"

/* Stores the sentence and returns `code` (a negative errno), so that `return img_fail(err, -EINVAL, "...")` reads well.
 * Control characters in the sentence (names come from images) are replaced by '?'. */
int img_fail(struct img_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* As img_fail, with ": " and the text of the errno behind it. */
int img_fail_errno(struct img_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Puts a prefix in front of the sentence that is already there; returns err's code or `code`. */
int img_prefix(struct img_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Adds a second line to the sentence that is there (the question after a lock conflict); returns `code`. */
int img_hint(struct img_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
