/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pack.c - compresses the clusters of a copy's unit, beside the other workers and before its turn. */
#include "copy.h"

#include <string.h>

#include "error.h"

/* A grain is compressed when it is a whole cluster, or the target's last one, which zeroes make whole. What another
 * source shares with it is stored as it is. */
static bool is_whole(const struct copy *c, const struct unit *u, uint64_t at, uint64_t n) {
    uint64_t start = c->base + u->offset + at;
    return !(start & (c->grain - 1)) && (n == c->grain || start + n == img_size(c->target));
}

int copy_pack(struct copy *c, struct unit *u, struct img_error *err) {
    uint8_t *packed = u->packed;
    uint32_t *stored = u->stored;
    for (uint64_t at = 0, next; at < u->length; at = next, packed += c->grain, stored++) {
        uint64_t n = (next = copy_grain_end(c, u, at)) - at;
        *stored = c->sparse && img_is_zero(u->data + at, n) ? STORED_HOLE : 0;
        if (*stored || !is_whole(c, u, at, n))
            continue;
        memset(u->data + at + n, 0, c->grain - n);
        int64_t bytes = c->target->driver->compress(c->target, c->options->compression_level, u->data + at, c->grain,
                                                    packed, c->grain - 1);
        if (bytes < 0)
            return img_fail_errno(err, bytes, "could not compress the cluster at offset %llu of '%s'",
                                  (unsigned long long)(u->offset + at), c->source->path);
        *stored = bytes;
    }
    return 0;
}
