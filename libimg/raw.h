/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* raw.h - the raw format's guard of its first sector (raw.c). */
#ifndef LIBIMG_RAW_H
#define LIBIMG_RAW_H

#include <stddef.h>
#include <stdint.h>

/* How many bytes of an image the guard wants to see. */
#define RAW_GUARDED 512

/* Says whether an image that begins with these bytes would next time be taken for another format: 0, or -EPERM.
 * `data`: what the first `count` bytes of the image are going to be, the bytes that a write leaves alone included; more
 * than RAW_GUARDED are not looked at. For images that are raw by probing only (img->probed_raw): who asked for raw by
 * name may write what he likes. Two such checks with their writes must not overlap, or each sees half of what both do.
 */
int raw_check_first_sector(const uint8_t *data, size_t count);

#endif
