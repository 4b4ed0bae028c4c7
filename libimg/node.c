/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* node.c - images that their user puts together from parts instead of naming a file (img_open_node).
 *
 * A node with an image in it lies on a storage: a file, a device, nothing at all, or again an image, which a range of
 * all its bytes makes a storage. A raw image without offset and length is the same bytes as what it lies on, and left
 * out: so what lies on it can still grow.
 *
 * Always holds: only the tree that the user gave nests images in images; what a file names (img_open_options.find_node)
 * is a file, a device or nothing.
 */
#include "node.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "image.h"

static bool is_transparent(const struct img_node *node) {
    return node->kind == IMG_NODE_FORMAT && node->format && strcmp(node->format, "raw") == 0 && node->offset == 0 &&
           node->length == 0;
}

struct img_open_options node_options(const struct img_node *node, const struct img_open_options *options) {
    struct img_open_options o = *options;
    if (node->format)
        o.format = node->format;
    if (node->key.bytes)
        o.key = node->key;
    if (node->l2_cache)
        o.l2_cache = node->l2_cache;
    if (node->refcount_cache)
        o.refcount_cache = node->refcount_cache;
    return o;
}

static int device_storage(const struct img_node *node, const struct img_open_options *options, struct storage **out,
                          struct img_error *err) {
    int r = file_open(node->path, options->flags, options->cache, out, err);
    if (r < 0 || (*out)->fixed_size)
        return r;
    storage_close(*out);
    return img_fail(err, -EINVAL, "'host_device' driver requires '%s' to be either a character or block device",
                    node->path);
}

static int image_storage(const struct img_node *node, const struct img_open_options *options, struct storage **out,
                         struct img_error *err) {
    uint32_t kept = IMG_OPEN_WRITE | IMG_OPEN_FORCE_SHARE | IMG_OPEN_UNLOCKED | IMG_OPEN_NO_BACKING;
    struct img_open_options o = {.flags = options->flags & kept,
                                 .cache = options->cache,
                                 .ask_key = options->ask_key,
                                 .opaque = options->opaque,
                                 .find_node = options->find_node,
                                 .key_iterations = options->key_iterations};
    struct img *parent;
    if (options->flags & IMG_OPEN_INFO) /* who looks at the metadata only follows no names */
        o.flags |= IMG_OPEN_NO_BACKING;
    int r = img_open_node(node, &o, &parent, err);
    return r < 0 ? r : range_adopt(parent, out, err);
}

int node_storage(const struct img_node *node, const struct img_open_options *options, bool nested, struct storage **out,
                 struct img_error *err) {
    while (is_transparent(node))
        node = node->file;
    switch (node->kind) {
    case IMG_NODE_FILE:
        return file_open(node->path, options->flags, options->cache, out, err);
    case IMG_NODE_DEVICE:
        return device_storage(node, options, out, err);
    case IMG_NODE_NULL:
        return null_open(node->size, node->read_zeroes, options->flags & IMG_OPEN_WRITE, out, err);
    case IMG_NODE_FORMAT:
        break;
    }
    if (!nested)
        return img_fail(err, -ENOTSUP, "only plain local files are followed, not images inside images");
    return image_storage(node, options, out, err);
}
