/* SPDX-License-Identifier: GPL-3.0-or-later */
/* error.h - how a sentence gets into struct img_error, here in fs/. Words that come from a guest are made printable by
 * whoever prints the sentence. */
#ifndef FS_ERROR_H
#define FS_ERROR_H

#include "img.h"

/* Writes the sentence, unless err is NULL, and returns `code` (-errno). */
int fail(struct img_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* -ENOMEM */
int fail_no_memory(struct img_error *err);

#endif
