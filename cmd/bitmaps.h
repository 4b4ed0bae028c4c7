/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bitmaps.h - the bitmaps of one image copied into another: what `convert --bitmaps` does. */
#ifndef BITMAPS_H
#define BITMAPS_H

#include "img.h"

/* Before anything is made: can the bitmaps of `source` be copied? Those that are inconsistent cannot, unless they are
 * to be skipped. False after reporting. */
bool bitmaps_check_source(struct img *source, bool skip_broken);
/* Can `target` have some? */
bool bitmaps_check_target(const struct img *target);
/* Copies them, after the data; what is skipped is told. False after reporting. */
bool bitmaps_copy(struct img *source, struct img *target);

#endif
