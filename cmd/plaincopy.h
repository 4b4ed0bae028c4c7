/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plaincopy.h - a copy in one thread, for what img_copy does not do.
 *
 * Three cases of `convert` need it: an overlay of which only the top layers are wanted, a target that is to be filled
 * byte by byte, and compressed output from several sources whose borders lie inside a cluster.
 */
#ifndef PLAINCOPY_H
#define PLAINCOPY_H

#include "sources.h"

struct plain_copy {
    const struct sources *sources;
    struct img *target;
    bool compress;
    bool target_is_zero;  /* zeroes need no write */
    uint64_t sparse_size; /* 0: write every byte */
    unsigned layers;      /* copy only what the source's top layers hold, so many of them; 0: everything */
    uint64_t below_size;  /* with `layers`: beyond it the layers below show nothing */
    int (*progress)(void *opaque, uint64_t done, uint64_t total);
    void *opaque;
};

int plain_copy(const struct plain_copy *c, struct img_error *err);

#endif
