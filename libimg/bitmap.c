/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap.c - the public calls about persistent bitmaps: what is the same for every format.
 *
 * A change is described by one struct, checked here, and done by the driver. The words for a format without bitmaps are
 * those of qemu-img.
 */
#include "image.h"

#include "error.h"

#include <errno.h>

bool img_supports_bitmaps(const struct img *image) {
    return image->driver->has_bitmaps && image->driver->has_bitmaps(image);
}

static int not_supported(const struct img *image, const struct img_bitmap_edit *edit, struct img_error *err) {
    return edit->op == IMG_BITMAP_ADD
               ? img_fail(err, -ENOTSUP, "Can't store persistent bitmaps to %s: Operation not supported", image->path)
               : img_fail(err, -ENOENT, "Dirty bitmap '%s' not found", edit->name);
}

static int change(struct img *image, const struct img_bitmap_edit *edit, struct img_error *err) {
    if (!image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    if (image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    if (!image->driver->bitmap_edit)
        return not_supported(image, edit, err);
    SCOPED_MUTEX(&image->whole);
    struct img_context *c = context_claim(&image->epochs);
    int r = image->driver->bitmap_edit(image, edit, err);
    context_release(&image->epochs, c);
    return r;
}

int img_bitmap_add(struct img *image, const char *name, uint64_t granularity, bool enabled, struct img_error *err) {
    struct img_bitmap_edit edit = {.op = IMG_BITMAP_ADD, .name = name, .granularity = granularity, .enabled = enabled};
    return change(image, &edit, err);
}

int img_bitmap_remove(struct img *image, const char *name, struct img_error *err) {
    return change(image, &(struct img_bitmap_edit){.op = IMG_BITMAP_REMOVE, .name = name}, err);
}

int img_bitmap_clear(struct img *image, const char *name, struct img_error *err) {
    return change(image, &(struct img_bitmap_edit){.op = IMG_BITMAP_CLEAR, .name = name}, err);
}

int img_bitmap_set_enabled(struct img *image, const char *name, bool enabled, struct img_error *err) {
    struct img_bitmap_edit edit = {.op = IMG_BITMAP_SET_ENABLED, .name = name, .enabled = enabled};
    return change(image, &edit, err);
}

int img_bitmap_merge(struct img *image, const char *name, struct img *source, const char *source_name,
                     struct img_error *err) {
    struct img_bitmap_edit edit = {.op = IMG_BITMAP_MERGE, .name = name, .source = source, .source_name = source_name};
    if (source->driver->bitmap_edit != image->driver->bitmap_edit)
        return img_fail(err, -ENOENT, "Dirty bitmap '%s' not found", image->driver->bitmap_edit ? source_name : name);
    return change(image, &edit, err);
}

int img_bitmap_next(struct img *image, const char *name, uint64_t offset, uint64_t *start, uint64_t *length,
                    struct img_error *err) {
    *start = img_size(image);
    *length = 0;
    if (!image->driver->bitmap_next)
        return img_fail(err, -ENOENT, "Dirty bitmap '%s' not found", name);
    return image->driver->bitmap_next(image, name, offset, start, length, err);
}
