/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* amend.c - img_amend: what can be done by ordinary calls, before the driver finds the image at rest.
 *
 * All wishes are checked first. Then the size; then, on the way to version 2, every range that is stored as "zeroes" is
 * written: as zeroes where something lies below, else by a discard, which leaves nothing where nothing is. What others
 * zero meanwhile the driver finds, and refuses.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "image.h"

#define CHUNK (2ull << 20)

struct expand {
    struct img *image;
    const struct img_amend_options *options;
    uint8_t *zeroes; /* CHUNK bytes */
};

static int write_zero_bytes(struct expand *x, uint64_t at, uint64_t length, struct img_error *err) {
    int r = 0;
    for (uint64_t n; r == 0 && length; at += n, length -= n) {
        n = length < CHUNK ? length : CHUNK;
        r = img_pwrite(x->image, x->zeroes, n, at, err);
    }
    return r;
}

static int expand_extents(struct expand *x, struct img_error *err) {
    const struct img_amend_options *o = x->options;
    uint64_t size = img_size(x->image);
    struct img_extent e;
    int r = 0;
    for (uint64_t at = 0; r == 0 && at < size; at += e.length) {
        r = img_map(x->image, at, size - at, true, &e, err);
        if (r == 0 && e.flags & IMG_EXTENT_PRESENT && e.flags & IMG_EXTENT_ZERO)
            r = x->image->has_backing ? write_zero_bytes(x, at, e.length, err)
                                      : img_discard(x->image, at, e.length, err);
        if (r == 0 && o->progress && o->progress(o->opaque, at + e.length, size))
            r = img_fail(err, -ECANCELED, "the change of '%s' was stopped", x->image->path);
    }
    return r;
}

static int expand_zeroes(struct img *image, const struct img_amend_options *o, struct img_error *err) {
    struct expand x = {image, o, calloc(1, CHUNK)};
    int r = x.zeroes ? expand_extents(&x, err) : img_fail(err, -ENOMEM, "no memory for zeroes");
    free(x.zeroes);
    return r;
}

static int check(struct img *image, const struct img_amend_options *o, struct img_error *err) {
    if (!image->driver->amend)
        return img_fail(err, -ENOTSUP, "Format driver '%s' does not support option amendment", image->driver->name);
    if (!image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    if (image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    return image->driver->amend(image, o, true, err);
}

int img_amend(struct img *image, const struct img_amend_options *o, struct img_error *err) {
    int r = check(image, o, err);
    if (r == 0 && o->resize)
        r = img_resize(image, o->size, IMG_PREALLOCATION_OFF, IMG_RESIZE_SHRINK, err);
    if (r == 0 && o->version == 2)
        r = expand_zeroes(image, o, err);
    if (r < 0)
        return r;
    SCOPED_MUTEX(&image->whole);
    requests_hold(&image->epochs);
    r = image->driver->amend(image, o, false, err);
    requests_release(&image->epochs);
    return r;
}
