/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* raw.h - what the first sector of a raw image says (raw.c). */
#ifndef LIBIMG_RAW_H
#define LIBIMG_RAW_H

#include <stddef.h>
#include <stdint.h>

/* How many bytes of an image the guard wants to see. */
#define RAW_GUARDED 512

/* The name of the other format that a file which begins with these `count` bytes would be taken for; NULL: none. More
 * than RAW_GUARDED are not looked at. Such a file is raw only by its user's word: it is not opened as raw by probing,
 * and what was probed as raw (img->probed_raw) does not become one by a write. */
const char *raw_foreign_format(const uint8_t *data, size_t count);

#endif
