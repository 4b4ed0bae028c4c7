/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* create.c - img_create: what is checked before a new image is begun, and in which order.
 *
 * Options first, then the backing file (opened to prove that it opens, and for its size; somebody may write to it
 * meanwhile), then the target and the data file, which must not belong to the chain and are locked. Nothing that exists
 * is changed before all of this has passed, and the names show the new files only when they are complete (output.h),
 * the data file's before the image's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "image.h"
#include "luks.h"
#include "output.h"
#include "qcow2/layout.h"

#define SIZE_FROM_BACKING UINT64_MAX
#define SIZE_ALIGNMENT 512

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
    if (output_same_name(path, full))
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
    else if ((o->backing_unchecked || o->find_node) && r != -ENOMEM) /* a name that others may follow */
        r = o->backing_format == NULL ? missing_format(o->backing_file, err) : 0;
    if (r == 0 && !o->backing_unchecked) {
        struct img_open_options options = {.flags = IMG_OPEN_FORCE_SHARE,
                                           .format = o->backing_format,
                                           .find_node = o->find_node,
                                           .opaque = o->node_opaque};
        r = image_open_below(path, o->backing_file, &options, backing, err);
        if (r == -ENOKEY) { /* it can be shown without being readable here */
            options.flags |= IMG_OPEN_INFO;
            r = image_open_below(path, o->backing_file, &options, backing, err);
        }
        if (r < 0)
            img_hint(err, r, "Could not open backing image.");
        else if (*size == SIZE_FROM_BACKING)
            *size = img_size(*backing);
    }
    free(full);
    return r;
}

/* The data file may lie beside the layer or in the working directory. */
static bool is_data_file(struct img *layer, const char *path) {
    struct img_info info;
    char *beside = NULL;
    if (img_info(layer, &info, NULL) < 0 || info.data_file == NULL)
        return false;
    bool same = name_beside(info.path, info.data_file, &beside, NULL) == 0 &&
                (output_same_name(beside, path) || output_same_name(info.data_file, path));
    free(beside);
    return same;
}

/* What is about to be replaced must not be what the new image will show. */
static int refuse_layer(struct img *backing, const char *path, struct img_error *err) {
    for (struct img *layer = backing; layer != NULL; layer = layer->backing)
        if (output_same_name(layer->path, path) || is_data_file(layer, path))
            return img_fail(err, -EINVAL, "'%s' belongs to the backing chain of the new image", path);
    return 0;
}

static struct output_options output_options(const struct img_create_options *o, const char *write_to) {
    return (struct output_options){write_to, o->interrupted, o->opaque, o->nocow, o->extent_size_hint};
}

/* ---- raw, LUKS --------------------------------------------------------------------------------- */

/* Also of LUKS images, which take a key besides. */
static int check_raw_options(const struct img_create_options *o, struct img_error *err) {
    bool luks = strcmp(o->format, "luks") == 0;
    const char *parameter = NULL;
    if (o->backing_file != NULL)
        return img_fail(err, -ENOTSUP, "Backing file not supported for file format '%s'", o->format);
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
    else if (o->encryption.format != NULL)
        parameter = "encrypt.format";
    else if (!luks && o->encryption.key.bytes != NULL)
        parameter = "key-secret";
    if (parameter != NULL)
        return img_fail(err, -EINVAL, "Invalid parameter '%s'", parameter);
    if (luks && o->encryption.key.bytes == NULL)
        return img_fail(err, -EINVAL, "Parameter 'key-secret' is required for cipher");
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
    struct output_options options = output_options(o, o->write_to);
    struct output out;
    int r = output_open(path, &options, &out, err);
    if (r < 0)
        return r;
    r = output_begin(&out, err);
    if (r == 0 && strcmp(o->format, "luks") == 0)
        r = luks_create(out.file, o, size, err);
    else if (r == 0)
        r = write_raw(out.file, size, o->preallocation, err);
    if (r == 0)
        return output_commit(&out, err);
    output_abandon(&out);
    return r;
}

/* ---- qcow2 ------------------------------------------------------------------------------------- */

static int open_data_file(const char *path, const struct img_create_options *o, struct img *backing,
                          struct output *data, struct img_error *err) {
    struct output_options options = output_options(o, o->data_write_to);
    *data = (struct output){0};
    if (o->data_file == NULL)
        return 0;
    char *full = NULL;
    int r = name_beside(path, o->data_file, &full, err);
    if (r == 0 && output_same_name(path, full))
        r = img_fail(err, -EINVAL, "The image and its data file are the same file ('%s')", full);
    if (r == 0)
        r = refuse_layer(backing, full, err);
    if (r == 0)
        r = output_open(full, &options, data, err);
    free(full);
    return r;
}

static int create_qcow2(const char *path, const struct img_create_options *o, struct img *backing,
                        struct qcow2_layout *layout, struct img_error *err) {
    struct output_options options = output_options(o, o->write_to);
    struct output out, data;
    int r = open_data_file(path, o, backing, &data, err);
    if (r < 0)
        return r;
    r = output_open(path, &options, &out, err);
    if (r == 0)
        r = output_begin(&out, err);
    if (r == 0 && data.file != NULL)
        r = output_begin(&data, err);
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

/* How much of the first cluster is not zero. */
static size_t used_bytes(const struct qcow2_header *h) {
    size_t used = h->first_size;
    while (used > 0 && h->first[used - 1] == 0)
        used--;
    return used;
}

/* The first cluster is laid out anew, as names have no room to grow in. */
static int put_data_file_name(struct qcow2_header *h, const char *name, struct storage *file, struct img_error *err) {
    if (h->data_file == NULL)
        return img_fail(err, -EINVAL, "'%s' has no external data file", file->name);
    char *copy = strdup(name);
    if (copy == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not write '%s'", file->name);
    free(h->data_file);
    h->data_file = copy;
    size_t before = used_bytes(h);
    int r = header_compose(h, err);
    if (r < 0)
        return r;
    size_t after = used_bytes(h);
    r = storage_write(file, h->first, before > after ? before : after, 0);
    return r < 0 ? img_fail_errno(err, r, "Could not write '%s'", file->name) : 0;
}

int img_set_data_file(const char *path, const char *data_file, struct img_error *err) {
    struct storage *file;
    int r = file_open(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &file, err);
    if (r < 0)
        return r;
    struct qcow2_header header;
    r = header_read(file, &header, false, err);
    if (r == 0) {
        r = put_data_file_name(&header, data_file, file, err);
        header_free(&header);
    }
    storage_close(file);
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
    bool raw = o->format != NULL && (strcmp(o->format, "raw") == 0 || strcmp(o->format, "luks") == 0);
    if (!raw && (o->format == NULL || strcmp(o->format, "qcow2") != 0))
        return img_fail(err, -EINVAL, "Unknown file format '%s'", o->format != NULL ? o->format : "");
    uint64_t size = o->size;
    struct img *backing = NULL;
    int r = raw ? check_raw_options(o, err) : 0;
    if (r == 0)
        r = open_backing(path, o, &size, &backing, err);
    if (r == 0)
        r = round_size(&size, err);
    if (r == 0)
        r = refuse_layer(backing, path, err);
    if (r == 0 && raw)
        r = create_raw(path, o, size, err);
    struct qcow2_layout layout;
    if (r == 0 && !raw) {
        r = layout_plan(o, size, &layout, err);
        if (r == 0) {
            r = create_qcow2(path, o, backing, &layout, err);
            layout_free(&layout);
        }
    }
    if (backing != NULL)
        img_close(backing, NULL);
    return r;
}
