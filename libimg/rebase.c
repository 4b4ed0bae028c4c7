/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rebase.c - another backing file: what is checked and opened before the driver compares and names it.
 *
 * The new chain is an image of its own until the header names it; then it becomes the image's, and the old one is
 * closed.
 */
#include "error.h"
#include "image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int check(struct img *image, const struct img_rebase_options *o, struct img_error *err) {
    if (!image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    if (!o->unsafe && image->has_backing && !image->backing)
        return img_fail(err, -EBADF, "'%s' was opened without its backing file", image->path);
    if (!o->unsafe && image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    return 0;
}

/* With force_share no lock keeps the image out of the chain below itself. */
static int refuse_circle(const struct img *image, const struct img *chain, struct img_error *err) {
    for (const struct img *layer = chain; layer; layer = layer->backing)
        if (layer->file->device_id == image->file->device_id && layer->file->inode == image->file->inode &&
            image->file->device_id)
            return img_fail(err, -ELOOP, "the new backing chain of '%s' comes back to it", image->path);
    return 0;
}

static int open_new(struct img *image, const struct img_rebase_options *o, struct img **chain, struct img_error *err) {
    struct img_open_options options = {
        .flags = (o->force_share ? IMG_OPEN_FORCE_SHARE : 0) | (image->flags & IMG_OPEN_UNLOCKED),
        .cache = o->cache,
        .format = o->backing_format,
        .ask_key = o->ask_key,
        .find_node = o->find_node,
        .opaque = o->key_opaque,
    };
    *chain = NULL;
    if (o->unsafe || !o->backing_file || !*o->backing_file)
        return 0;
    int r = image_open_below(image->path, o->backing_file, &options, chain, err);
    if (r == 0 && (r = refuse_circle(image, *chain, err)) < 0) {
        img_close(*chain, NULL);
        *chain = NULL;
    }
    return r < 0 ? img_prefix(err, r, "Could not open new backing file '%s': ", o->backing_file) : 0;
}

static int change(struct img *image, struct img *chain, const struct img_rebase_options *o, struct img_error *err) {
    const char *name = o->backing_file ? o->backing_file : "";
    int r;
    if (!image->driver->rebase)
        r = img_fail_errno(err, -ENOTSUP, "Could not change the backing file to '%s'", name);
    else if (*name && !o->backing_format)
        r = img_fail(err, -EINVAL, "Could not change the backing file to '%s': backing format must be specified", name);
    else if ((r = image->driver->rebase(image, chain, o, err)) < 0 && r != -ECANCELED)
        img_prefix(err, r, "Could not change the backing file to '%s': ", name);
    return r;
}

/* From now on the image's chain is the new one. */
static void adopt(struct img *image, struct img *chain, const char *name) {
    struct img *old = image->backing;
    char *full = NULL;
    image->has_backing = name && *name;
    if (image->has_backing && name_beside(image->path, name, &full, NULL) < 0)
        full = strdup(name);
    free(image->full_backing);
    image->full_backing = full;
    image->backing = chain;
    img_close(old, NULL);
}

int img_rebase(struct img *image, const struct img_rebase_options *options, struct img_error *err) {
    struct img *chain = NULL;
    int r = check(image, options, err);
    if (r == 0)
        r = open_new(image, options, &chain, err);
    if (r < 0)
        return r;
    SCOPED_MUTEX(&image->whole);
    r = change(image, chain, options, err);
    if (r < 0) {
        img_close(chain, NULL);
        return r;
    }
    img_drain(image, NULL);
    adopt(image, chain, options->backing_file);
    img_resume(image);
    return 0;
}
