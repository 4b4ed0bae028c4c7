/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* create.c - img_create: what is checked before a new image is begun, and in which order.
 *
 * Options first, then the backing file (opened to prove that it opens, and for its size), then the target, which is
 * locked while the backing chain is still open: a target that is part of its own chain is in use by ourselves and so
 * refused like any other image in use. Nothing that exists is changed before all of this has passed, and the names show
 * the new files only when they are complete (output.h), the data file's before the image's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "image.h"
#include "output.h"
#include "qcow2/layout.h"

#define SIZE_FROM_BACKING UINT64_MAX
#define SIZE_ALIGNMENT 512

/* ---- names ----------------------------------------------------------------------------------- */

static bool same_file(const char *a, const char *b) {
    struct stat sa, sb;
    if (strcmp(a, b) == 0)
        return true;
    if (stat(a, &sa) < 0 || stat(b, &sb) < 0)
        return false;
    if (S_ISBLK(sa.st_mode) && S_ISBLK(sb.st_mode))
        return sa.st_rdev == sb.st_rdev;
    return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* ---- the backing file -------------------------------------------------------------------------- */

/* Says which format the user will want to name. */
static int missing_format(const char *path, struct img_error *err) {
    struct img *image;
    struct img_open_options options = {.flags = IMG_OPEN_INFO};
    int detected = img_open(path, &options, &image, NULL);
    int r = img_fail(err, -EINVAL, "Backing file specified without backing format");
    if (detected == 0) {
        img_hint(err, r, "Detected format of %s.", img_format(image));
        img_close(image, NULL);
    }
    return r;
}

static int check_backing(const char *path, const char *full, const struct img_create_options *o,
                         struct img_error *err) {
    if (same_file(path, full))
        return img_fail(err, -EINVAL, "Error: Trying to create an image with the same filename as the backing file");
    return o->backing_format == NULL ? missing_format(full, err) : 0;
}

/* Opens the backing file unless it is not to be looked at; *size is set when it was SIZE_FROM_BACKING. */
static int open_backing(const char *path, const struct img_create_options *o, uint64_t *size, struct img **backing,
                        struct img_error *err) {
    if (o->backing_file == NULL)
        return o->backing_format == NULL ? 0
                                         : img_fail(err, -EINVAL, "Backing format cannot be used without backing file");
    char *full = NULL;
    int r = name_beside(path, o->backing_file, &full, err);
    if (r == 0)
        r = check_backing(path, full, o, err);
    else if (o->backing_unchecked && r != -ENOMEM) /* a name that others may follow */
        r = o->backing_format == NULL ? missing_format(o->backing_file, err) : 0;
    if (r == 0 && !o->backing_unchecked) {
        struct img_open_options options = {.format = o->backing_format};
        r = img_open(full, &options, backing, err);
        if (r < 0)
            img_hint(err, r, "Could not open backing image.");
        else if (*size == SIZE_FROM_BACKING)
            *size = img_size(*backing);
    }
    free(full);
    return r;
}

/* ---- raw --------------------------------------------------------------------------------------- */

static int check_raw_options(const struct img_create_options *o, struct img_error *err) {
    const char *parameter = NULL;
    if (o->backing_file != NULL)
        return img_fail(err, -ENOTSUP, "Backing file not supported for file format 'raw'");
    if (o->version != 0)
        parameter = "compat";
    else if (o->cluster_size != 0)
        parameter = "cluster_size";
    else if (o->refcount_bits != 0)
        parameter = "refcount_bits";
    else if (o->compression != NULL)
        parameter = "compression_type";
    else if (o->extended_l2)
        parameter = "extended_l2";
    else if (o->lazy_refcounts)
        parameter = "lazy_refcounts";
    else if (o->data_file != NULL || o->data_file_raw)
        parameter = o->data_file != NULL ? "data_file" : "data_file_raw";
    if (parameter != NULL)
        return img_fail(err, -EINVAL, "Invalid parameter '%s'", parameter);
    if (o->preallocation == IMG_PREALLOCATION_METADATA)
        return img_fail(err, -ENOTSUP, "Unsupported preallocation mode: metadata");
    if (o->preallocation > IMG_PREALLOCATION_FULL)
        return img_fail(err, -EINVAL, "Parameter 'preallocation' does not accept value '%u'", o->preallocation);
    return 0;
}

/* A device keeps its size and its content; but the start of an old image of another format must not be found again. */
static int write_raw_device(struct storage *file, uint64_t size, enum img_preallocation preallocation,
                            struct img_error *err) {
    if (storage_size(file) < size)
        return img_fail(err, -ENOSPC, "'%s' is too small: %" PRIu64 " bytes are needed, it has %" PRIu64, file->name,
                        size, storage_size(file));
    uint64_t bytes = preallocation == IMG_PREALLOCATION_FULL || size < SIZE_ALIGNMENT ? size : SIZE_ALIGNMENT;
    int r = storage_write_zeroes(file, 0, bytes);
    return r < 0 ? img_fail_errno(err, r, "Could not write '%s'", file->name) : 0;
}

static int write_raw(struct storage *file, uint64_t size, enum img_preallocation preallocation, struct img_error *err) {
    if (file->fixed_size)
        return write_raw_device(file, size, preallocation, err);
    int r = file->ops->truncate(file, size);
    if (r < 0)
        return img_fail_errno(err, r, "Could not resize file");
    if (size > 0 && preallocation == IMG_PREALLOCATION_FALLOC)
        r = file->ops->reserve != NULL ? file->ops->reserve(file, 0, size) : -ENOTSUP;
    else if (preallocation == IMG_PREALLOCATION_FULL)
        r = storage_write_zeroes(file, 0, size);
    return r < 0 ? img_fail_errno(err, r, "Could not preallocate data") : 0;
}

static int create_raw(const char *path, const struct img_create_options *o, uint64_t size, struct img_error *err) {
    struct output out;
    int r = output_open(path, &out, err);
    if (r < 0)
        return r;
    r = write_raw(out.file, size, o->preallocation, err);
    if (r == 0)
        return output_commit(&out, err);
    output_abandon(&out);
    return r;
}

/* ---- qcow2 ------------------------------------------------------------------------------------- */

static int open_data_file(const char *path, const char *name, struct output *data, struct img_error *err) {
    *data = (struct output){0};
    if (name == NULL)
        return 0;
    char *full = NULL;
    int r = name_beside(path, name, &full, err);
    if (r == 0 && same_file(path, full))
        r = img_fail(err, -EINVAL, "The image and its data file are the same file ('%s')", full);
    if (r == 0)
        r = output_open(full, data, err);
    free(full);
    return r;
}

static int create_qcow2(const char *path, const struct img_create_options *o, struct qcow2_layout *layout,
                        struct img_error *err) {
    struct output out, data;
    int r = open_data_file(path, o->data_file, &data, err);
    if (r < 0)
        return r;
    r = output_open(path, &out, err);
    if (r == 0)
        r = layout_write(layout, out.file, data.file, err);
    if (r == 0 && data.file != NULL)
        r = output_commit(&data, err);
    if (r == 0)
        return output_commit(&out, err);
    output_abandon(&out);
    output_abandon(&data);
    return r;
}

/* ---- the promise of img.h ---------------------------------------------------------------------- */

static int round_size(uint64_t *size, struct img_error *err) {
    if (*size == SIZE_FROM_BACKING)
        return img_fail(err, -EINVAL, "Image creation needs a size parameter");
    if (*size > INT64_MAX - SIZE_ALIGNMENT + 1)
        return img_fail(err, -EFBIG, "The image size is too large (size = %" PRIu64 ", at most %" PRIu64 ")", *size,
                        (uint64_t)(INT64_MAX - SIZE_ALIGNMENT + 1));
    *size = (*size + SIZE_ALIGNMENT - 1) & ~(uint64_t)(SIZE_ALIGNMENT - 1);
    return 0;
}

int img_create(const char *path, const struct img_create_options *o, struct img_error *err) {
    bool raw = o->format != NULL && strcmp(o->format, "raw") == 0;
    if (!raw && (o->format == NULL || strcmp(o->format, "qcow2") != 0))
        return img_fail(err, -EINVAL, "Unknown file format '%s'", o->format != NULL ? o->format : "");
    uint64_t size = o->size;
    struct img *backing = NULL;
    int r = raw ? check_raw_options(o, err) : 0;
    if (r == 0)
        r = open_backing(path, o, &size, &backing, err);
    if (r == 0)
        r = round_size(&size, err);
    if (r == 0 && raw)
        r = create_raw(path, o, size, err);
    struct qcow2_layout layout;
    if (r == 0 && !raw) {
        r = layout_plan(o, size, &layout, err);
        if (r == 0) {
            r = create_qcow2(path, o, &layout, err);
            layout_free(&layout);
        }
    }
    if (backing != NULL)
        img_close(backing, NULL);
    return r;
}
