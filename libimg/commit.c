/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* commit.c - an overlay's data go down into its base.
 *
 * The base takes part in the chain all the while: it is opened for writing in its place, so what is read through the
 * chain and what is written below it meet in one cache. The copy engine leaves out what the base and the layers under
 * it hold. Then the base is made durable, and only then does the overlay let go: every entry that goes shows the same
 * bytes below, whatever a power cut leaves of the others.
 */
#include "error.h"
#include "image.h"

#include <errno.h>

static int check(struct img *image, const struct img_commit_options *o, unsigned layers, struct img_error *err) {
    if (!image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    if (!o->keep && layers > 1)
        return img_fail(err, -EINVAL, "'%s' can be emptied only into the layer below it", image->path);
    struct img *layer = image;
    for (unsigned i = 0; i < layers; i++)
        if (!(layer = layer->backing))
            return img_fail(err, -ENOENT, "Image does not have a backing file");
    return !o->keep && !image->driver->empty
               ? img_fail(err, -ENOTSUP, "'%s' cannot be emptied: the format is %s", image->path, image->driver->name)
               : 0;
}

/* What lies behind its old end reads as zeroes then, as it does through the chain. */
static int grow(struct img *base, uint64_t size, struct img_error *err) {
    return img_size(base) < size ? img_resize(base, size, IMG_PREALLOCATION_OFF, 0, err) : 0;
}

static int fill(struct img *image, struct img *base, const struct img_commit_options *o, unsigned layers,
                struct img_error *err) {
    struct img_copy_options copy = {
        .sparse_size = IMG_SPARSE_SIZE_DEFAULT,
        .layers = layers,
        .offload = IMG_OFFLOAD_NONE,
        .progress = o->progress,
        .moved = o->moved,
        .opaque = o->opaque,
    };
    int r = grow(base, img_size(image), err);
    if (r == 0)
        r = img_copy(image, base, &copy, err);
    return r < 0 ? r : img_flush(base, err);
}

int img_commit(struct img *image, const struct img_commit_options *options, struct img_error *err) {
    static const struct img_commit_options defaults;
    const struct img_commit_options *o = options ? options : &defaults;
    unsigned layers = o->layers ? o->layers : 1;
    int r = check(image, o, layers, err);
    if (r < 0)
        return r;
    SCOPED_MUTEX(&image->whole);
    struct img *above = image;
    for (unsigned i = 1; i < layers; i++)
        above = above->backing;
    struct img_open_options keys = {.ask_key = o->ask_key, .opaque = o->key_opaque};
    r = image_reopen_below(above, true, &keys, err);
    if (r < 0)
        return r;
    r = fill(image, above->backing, o, layers, err);
    if (r == 0 && !o->keep)
        r = image->driver->empty(image, err);
    int closed = image_reopen_below(above, false, &keys, r < 0 ? NULL : err);
    return r < 0 ? r : closed;
}
