/* SPDX-License-Identifier: GPL-3.0-or-later */
/* create_options.c - see create_options.h. */
#include "create_options.h"
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int apply_preallocation(const char *text, struct img_create_options *create, struct img_error *err) {
    static const char *const names[] = {
        [IMG_PREALLOCATION_OFF] = "off",
        [IMG_PREALLOCATION_METADATA] = "metadata",
        [IMG_PREALLOCATION_FALLOC] = "falloc",
        [IMG_PREALLOCATION_FULL] = "full",
    };
    bool raw = strcmp(create->format, "qcow2") != 0;
    for (size_t i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        if (raw && i == IMG_PREALLOCATION_METADATA)
            return set_error(err, -ENOTSUP, "Unsupported preallocation mode: %s", text);
        create->preallocation = (enum img_preallocation)i;
        return 0;
    }
    if (!text)
        return 0;
    if (raw)
        return set_error(err, -EINVAL, "invalid parameter value: %s", text);
    return set_error(err, -EINVAL, "Parameter 'preallocation' does not accept value '%s'", text);
}

/* What cannot reach img_create because 0 means the default there, or a name has no number. */
static int apply_qcow2(const struct options *options, struct img_create_options *create, struct img_error *err) {
    const char *compat = options_get(options, "compat"), *compression = options_get(options, "compression_type");
    uint64_t cluster_size = options_get_size(options, "cluster_size");
    uint64_t refcount_bits = options_get_size(options, "refcount_bits");

    if (compression && strcmp(compression, "zlib") != 0 && strcmp(compression, "zstd") != 0)
        return set_error(err, -EINVAL, "Parameter 'compression-type' does not accept value '%s'", compression);
    if (!compat || strcmp(compat, "1.1") == 0 || strcmp(compat, "v3") == 0)
        create->version = 3;
    else if (strcmp(compat, "0.10") == 0 || strcmp(compat, "v2") == 0)
        create->version = 2;
    else
        return set_error(err, -EINVAL, "Parameter 'version' does not accept value '%s'", compat);
    if (cluster_size < 512 || cluster_size > 2 << 20 || (cluster_size & (cluster_size - 1)))
        return set_error(err, -EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    if (refcount_bits == 0 || refcount_bits > 64 || (refcount_bits & (refcount_bits - 1)))
        return set_error(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");

    create->cluster_size = cluster_size;
    create->refcount_bits = (unsigned)refcount_bits;
    create->compression = compression;
    create->extended_l2 = options_is_set(options, "extended_l2");
    create->lazy_refcounts = options_is_set(options, "lazy_refcounts");
    create->data_file = options_get(options, "data_file");
    create->data_file_raw = options_is_set(options, "data_file_raw");
    create->backing_file = options_get(options, "backing_file");
    create->backing_format = options_get(options, "backing_fmt");
    if (create->data_file_raw && !create->data_file)
        return set_error(err, -EINVAL, "data-file-raw requires data-file");
    if (create->backing_format && !create->backing_file)
        return set_error(err, -EINVAL, "Backing format cannot be used without backing file");
    return 0;
}

/* Wishes to the file system. */
static int apply_file(const struct options *options, struct img_create_options *create, struct img_error *err) {
    uint64_t hint = options_get_size(options, "extent_size_hint");
    create->nocow = options_is_set(options, "nocow");
    if (hint == UINT64_MAX)
        return 0;
    if (hint > UINT32_MAX)
        return set_error(err, -EINVAL, "Extent size hint is too large");
    create->extent_size_hint = (uint32_t)hint;
    return 0;
}

int create_options_from(const struct options *options, const char *path, struct img_create_options *create,
                        struct img_error *err) {
    *create = (struct img_create_options){.format = options_format(options)};
    create->size = options_get_size(options, "size");
    int ret = apply_preallocation(options_get(options, "preallocation"), create, err);
    if (ret == 0)
        ret = apply_file(options, create, err);
    if (ret == 0 && strcmp(options_format(options), "qcow2") == 0)
        ret = apply_qcow2(options, create, err);
    if (ret == 0)
        ret = create_options_encryption(options, path, create, err);
    return ret;
}
