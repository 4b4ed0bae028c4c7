/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* snapshots.c - the public calls about internal snapshots.
 *
 * A snapshot is about the image as a whole: requests that run are waited for, new ones wait outside until the change is
 * made, and then go on with it. So the driver finds an image at rest.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "image.h"

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int change(struct img *image, const struct img_snapshot_change *c, struct img_error *err) {
    if (!image->driver->snapshot)
        return img_fail(err, -ENOTSUP, "the format %s has no snapshots", image->driver->name);
    if (!image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    if (image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    SCOPED_MUTEX(&image->whole);
    requests_hold(&image->epochs);
    int r = image->driver->snapshot(image, c, err);
    requests_release(&image->epochs);
    return r;
}

int img_snapshot_create(struct img *image, const char *name, const struct img_snapshot_options *options,
                        struct img_error *err) {
    struct img_snapshot_change c = {.op = IMG_SNAPSHOT_CREATE, .name = name};
    c.date_ns = options && options->date_ns ? options->date_ns : now();
    return change(image, &c, err);
}

int img_snapshot_apply(struct img *image, const char *snapshot, struct img_error *err) {
    struct img_snapshot_change c = {.op = IMG_SNAPSHOT_APPLY, .name = snapshot};
    return change(image, &c, err);
}

int img_snapshot_delete(struct img *image, const char *snapshot, struct img_error *err) {
    struct img_snapshot_change c = {.op = IMG_SNAPSHOT_DELETE, .name = snapshot};
    return change(image, &c, err);
}

int img_snapshot_parent(struct img *image, const char *snapshot, struct img_parent *parent, struct img_error *err) {
    *parent = (struct img_parent){.kind = IMG_PARENT_UNKNOWN};
    if (!image->driver->parent)
        return img_fail(err, -ENOTSUP, "the format %s has no snapshots", image->driver->name);
    if (image->flags & IMG_OPEN_CHECK)
        return img_fail(err, -EBADF, "'%s' was opened for a check only", image->path);
    return image->driver->parent(image, snapshot, parent, err);
}

int img_snapshot_diff(struct img *image, const char *a, const char *b, img_snapshot_differs differs, void *opaque,
                      struct img_error *err) {
    if (!image->driver->diff)
        return img_fail(err, -ENOTSUP, "the format %s has no snapshots", image->driver->name);
    if (image->flags & IMG_OPEN_CHECK)
        return img_fail(err, -EBADF, "'%s' was opened for a check only", image->path);
    return image->driver->diff(image, a, b, differs, opaque, err);
}
