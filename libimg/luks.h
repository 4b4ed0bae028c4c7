/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* luks.h - making a LUKS image; its driver is in image.h's table. */
#ifndef LIBIMG_LUKS_H
#define LIBIMG_LUKS_H

#include "img.h"
#include "storage.h"

/* Writes a new image of `size` bytes into `file`, which holds nothing (or is a block device): header, one key slot. */
int luks_create(struct storage *file, const struct img_create_options *options, uint64_t size, struct img_error *err);

#endif
