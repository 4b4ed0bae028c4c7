/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* luks.c - the LUKS format: a LUKS1 header, and behind it the guest's bytes, encrypted.
 *
 * Behind its header such an image is a raw one, and this driver is the raw driver over the payload, whose bytes the
 * executors pass through the image's encryption (crypto.h). What differs: zero bytes of the file are not zeroes, so
 * zeroes are written as data, and a discard, which could not be told from lost data, does nothing.
 */
#include "luks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "crypto.h"
#include "error.h"

static bool luks_is(const uint8_t *head, size_t count) {
    return luks_probe(head, count);
}

static int luks_open(struct img *image, const struct img_driver_options *options, char **backing, char **backing_format,
                     struct img_error *err) {
    uint64_t length = storage_size(image->file);
    struct luks_place place = {.file = image->file, .length = length};
    *backing = *backing_format = NULL;
    if (options->snapshot)
        return img_fail(err, -ENOTSUP, "LUKS images have no snapshots: '%s' has none named '%s'", image->path,
                        options->snapshot);
    int r = crypto_open_luks(image, &place, false, options, "key-secret", err);
    if (r < 0)
        return r;
    if (image->crypto->header.payload > length) {
        r = img_fail(err, -EINVAL,
                     "LUKS payload offset %" PRIu64 " is behind the end of the file, which has %" PRIu64 " bytes",
                     image->crypto->header.payload, length);
        crypto_close(image);
        return r;
    }
    struct img_driver_options payload = {.raw_offset = image->crypto->header.payload, .raw_length = UINT64_MAX};
    r = raw_driver.open(image, &payload, backing, backing_format, err);
    if (r < 0)
        crypto_close(image);
    else /* half a sector cannot be read */
        atomic_store(&image->size, atomic_load(&image->size) & ~(uint64_t)(CRYPTO_SECTOR - 1));
    return r;
}

static void luks_close(struct img *image) {
    raw_driver.close(image);
    crypto_close(image);
}

static int luks_flush(struct img *image, struct img_error *err) {
    return raw_driver.flush(image, err);
}

static int luks_resolve(struct img *image, struct img_plan *plan, struct img_error *err) {
    if (plan->op == IMG_OP_COMPRESSED)
        return img_fail(err, -ENOTSUP, "LUKS images have no compression: '%s'", image->path);
    int r = raw_driver.resolve(image, plan, err);
    if (r == 0 && plan->op == IMG_OP_ZERO)
        plan->action = IMG_MOVE_AS_WRITE;
    if (r == 0 && plan->op == IMG_OP_DISCARD)
        plan->action = IMG_MOVE_NOTHING;
    return r;
}

static void luks_commit(struct img *image, struct img_plan *plan) {
    (void)image;
    (void)plan;
}

static void luks_abort(struct img *image, struct img_plan *plan, bool touched) {
    (void)image;
    (void)plan;
    (void)touched;
}

/* All of it is data, and none of it is in the file as the guest reads it. */
static int luks_map(struct img *image, uint64_t offset, uint64_t length, struct img_extent *extent,
                    struct img_error *err) {
    (void)image;
    (void)err;
    *extent = (struct img_extent){.start = offset, .length = length, .flags = IMG_EXTENT_PRESENT | IMG_EXTENT_DATA};
    return 0;
}

static int luks_info(struct img *image, struct img_info *info, struct img_error *err) {
    (void)err;
    crypto_info(image, info);
    return 0;
}

static struct storage *luks_data(const struct img *image) {
    return image->file;
}

/* ---- changing the size ---- */

static int check_resize(struct img *image, uint64_t to, enum img_preallocation preallocation, uint32_t flags,
                        struct img_error *err) {
    uint64_t from = atomic_load(&image->size);
    if (image->file->fixed_size || !image->file->ops->truncate)
        return img_fail(err, -ENOTSUP, "Could not resize '%s': only a regular file can change its size", image->path);
    if (preallocation == IMG_PREALLOCATION_METADATA)
        return img_fail(err, -ENOTSUP, "Could not resize '%s': LUKS images have no preallocation mode 'metadata'",
                        image->path);
    if (to < from && !(flags & IMG_RESIZE_SHRINK))
        return img_fail(err, -EINVAL,
                        "Could not resize '%s' from %" PRIu64 " to %" PRIu64
                        " bytes: shrinking loses data and must be asked for",
                        image->path, from, to);
    if (to > INT64_MAX - CRYPTO_SECTOR - image->crypto->header.payload)
        return img_fail(err, -EFBIG, "a size of %" PRIu64 " bytes is too large", to);
    return 0;
}

static int change_length(struct img *image, uint64_t size, enum img_preallocation preallocation,
                         struct img_error *err) {
    struct storage *file = image->file;
    uint64_t from = storage_size(file), to = image->crypto->header.payload + size;
    int r = 0;
    if (to > from && preallocation == IMG_PREALLOCATION_FALLOC)
        r = file->ops->reserve ? file->ops->reserve(file, from, to - from) : -ENOTSUP;
    else if (to > from && preallocation == IMG_PREALLOCATION_FULL)
        r = storage_write_zeroes(file, from, to - from);
    else
        r = file->ops->truncate(file, to);
    if (r < 0) {
        if (to > from)
            file->ops->truncate(file, from); /* give back what was got so far */
        return img_fail_errno(err, r, "Could not resize '%s' to %" PRIu64 " bytes", image->path, size);
    }
    atomic_store(&image->size, size);
    return luks_flush(image, err);
}

static int luks_resize(struct img *image, uint64_t size, enum img_preallocation preallocation, uint32_t flags,
                       struct img_error *err) {
    struct img_context *c = context_claim(&image->epochs);
    gate_close(&image->epochs, true);
    int r = check_resize(image, size, preallocation, flags, err);
    if (r == 0)
        r = change_length(image, size, preallocation, err);
    gate_open(&image->epochs, true);
    context_release(&image->epochs, c);
    return r;
}

/* ---- a new image ---- */

int luks_create(struct storage *file, const struct img_create_options *o, uint64_t size, struct img_error *err) {
    struct luks_header header;
    uint8_t *bytes;
    size_t count;
    int r = luks_format(&o->encryption, &header, &bytes, &count, err);
    if (r < 0)
        return r;
    uint64_t end = header.payload + size;
    if (file->fixed_size && storage_size(file) < end)
        r = img_fail(err, -ENOSPC, "'%s' is too small: %" PRIu64 " bytes are needed, it has %" PRIu64, file->name, end,
                     storage_size(file));
    else if (!file->fixed_size && (r = file->ops->truncate(file, end)) < 0)
        img_fail_errno(err, r, "Could not resize file");
    if (r == 0 && o->preallocation == IMG_PREALLOCATION_FULL)
        r = storage_write_zeroes(file, header.payload, size);
    else if (r == 0 && o->preallocation == IMG_PREALLOCATION_FALLOC)
        r = file->ops->reserve ? file->ops->reserve(file, 0, end) : -ENOTSUP;
    if (r == 0)
        r = storage_write(file, bytes, count, 0);
    free(bytes);
    return r < 0 && (!err || !err->code) ? img_fail_errno(err, r, "Could not write '%s'", file->name) : r;
}

const struct img_driver luks_driver = {
    .name = "luks",
    .probe = luks_is,
    .open = luks_open,
    .finish = luks_flush,
    .close = luks_close,
    .resolve = luks_resolve,
    .commit = luks_commit,
    .abort = luks_abort,
    .flush = luks_flush,
    .map = luks_map,
    .info = luks_info,
    .resize = luks_resize,
    .data = luks_data,
};
