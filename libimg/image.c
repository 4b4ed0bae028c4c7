/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image.c - opening an image and its chain, and the calls that hand on to the format driver.
 *
 * The chain is opened from the top down in a loop, never by recursion. Each layer is told from the others by device and
 * inode, so a chain that comes back to a file it holds already is refused, as is one deeper than IMG_MAX_DEPTH. Locks
 * are taken by file_open before the first byte is read; the format is probed under them.
 */
#include "image.h"

#include "error.h"
#include "io.h"
#include "node.h"
#include "raw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef IMG_DEBUG
#include "debug.h"
void (*img_debug_pause)(const char *name);
#endif

#define PROBE_BYTES 512

static const struct img_driver *const drivers[] = {&qcow2_driver, &luks_driver, &raw_driver};
#define DRIVERS (sizeof drivers / sizeof drivers[0])

static const struct img_driver *driver_by_name(const char *name) {
    for (size_t i = 0; i < DRIVERS; i++)
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    return NULL;
}

/* Formats are told by their first bytes; what nobody claims is raw. */
static int probe(struct storage *file, const struct img_driver **out, struct img_error *err) {
    uint8_t head[PROBE_BYTES] = {0};
    uint64_t size = storage_size(file);
    size_t count = size < sizeof head ? size : sizeof head;
    int r = count ? storage_read(file, head, count, 0) : 0;
    if (r < 0)
        return img_fail_errno(err, r, "Could not open '%s': could not read its first bytes", file->name);
    *out = &raw_driver;
    for (size_t i = 0; i < DRIVERS; i++)
        if (drivers[i]->probe && drivers[i]->probe(head, count)) {
            *out = drivers[i];
            return 0;
        }
    const char *foreign = raw_foreign_format(head, count);
    return foreign ? img_fail(err, -ENOTSUP,
                              "Could not open '%s': it looks like %s, a format that is not supported; with the format "
                              "'raw' it is taken as it is",
                              file->name, foreign)
                   : 0;
}

/* "nbd://..." or "json:{...}": a colon in front of any slash. */
static bool has_protocol(const char *name) {
    size_t n = strcspn(name, ":/");
    return name[n] == ':';
}

int name_beside(const char *image_path, const char *name, char **out, struct img_error *err) {
    if (strncmp(name, "file:", 5) == 0)
        name += 5;
    if (has_protocol(name))
        return img_fail(err, -ENOTSUP, "'%s' names '%s': only plain paths of local files are followed", image_path,
                        name);
    if (!*name)
        return img_fail(err, -EINVAL, "'%s' names a file with an empty name", image_path);
    const char *slash = strrchr(image_path, '/');
    size_t folder = name[0] == '/' || !slash ? 0 : (size_t)(slash - image_path) + 1;
    char *path = malloc(folder + strlen(name) + 1);
    if (!path)
        return img_fail(err, -ENOMEM, "no memory for the name '%s'", name);
    memcpy(path, image_path, folder);
    strcpy(path + folder, name);
    *out = path;
    return 0;
}

/* ---- one layer ---- */

static void free_layer(struct img *image) {
    if (!image)
        return;
    if (image->state)
        image->driver->close(image);
    if (image->file)
        storage_close(image->file);
    epochs_destroy(&image->epochs);
    pthread_mutex_destroy(&image->whole);
    pthread_mutex_destroy(&image->first_sector);
    pthread_mutex_destroy(&image->helping);
    free(image->path);
    free(image->snapshot);
    free(image->full_backing);
    free(image);
}

static int choose_driver(struct img *image, const char *format, struct img_error *err) {
    if (format) {
        image->driver = driver_by_name(format);
        return image->driver ? 0
                             : img_fail(err, -ENOTSUP, "Could not open '%s': Unknown driver '%s'", image->path, format);
    }
    int r = probe(image->file, &image->driver, err);
    image->probed_raw = r == 0 && image->driver == &raw_driver;
    return r;
}

static int open_driver(struct img *image, const struct img_open_options *options, const struct img_node *node,
                       bool nested, char **backing, char **format, struct img_error *err) {
    struct img_driver_options o = {.snapshot = options->snapshot,
                                   .l2_cache = options->l2_cache,
                                   .refcount_cache = options->refcount_cache,
                                   .raw_offset = node ? node->offset : 0,
                                   .raw_length = node && node->length ? node->length : UINT64_MAX,
                                   .key = options->key,
                                   .ask_key = options->ask_key,
                                   .opaque = options->opaque,
                                   .key_iterations = options->key_iterations};
    int r = 0;
    if (node && node->data_file && image->driver != &qcow2_driver)
        return img_fail(err, -EINVAL, "Block format '%s' does not support the option 'data-file'", image->driver->name);
    if (node && node->data_file && !(options->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK)))
        r = node_storage(node->data_file, options, nested, &o.data_file, err);
    if (r == 0)
        r = image->driver->open(image, &o, backing, format, err);
    if (r < 0)
        image->state = NULL;
    return r;
}

/* Opens one layer on `file`, which it owns from now on. *format: that of its backing file, if it tells. `node`: what
 * its user says about it, NULL: nothing; `nested` as for node_storage. */
static int open_layer(struct storage *file, const struct img_open_options *options, const struct img_node *node,
                      bool nested, struct img **out, char **format, struct img_error *err) {
    struct img *image = calloc(1, sizeof *image);
    char *backing = NULL;
    *format = NULL;
    if (!image) {
        storage_close(file);
        return img_fail(err, -ENOMEM, "no memory to open an image");
    }
    epochs_init(&image->epochs);
    pthread_mutex_init(&image->whole, NULL);
    pthread_mutex_init(&image->first_sector, NULL);
    pthread_mutex_init(&image->helping, NULL);
    image->file = file;
    image->path = strdup(file->name ? file->name : "");
    image->flags = options->flags;
    image->cache = options->cache;
    image->writable = options->flags & IMG_OPEN_WRITE;
    image->assembled =
        node && (node->offset || node->length || node->own_backing || node->data_file ||
                 (node->file && node->file->kind != IMG_NODE_FILE && node->file->kind != IMG_NODE_DEVICE));
    image->snapshot = options->snapshot ? strdup(options->snapshot) : NULL;
    bool copied = image->path && (image->snapshot || !options->snapshot);
    int r = copied ? choose_driver(image, options->format, err) : img_fail(err, -ENOMEM, "no memory");
    if (r == 0) {
        r = open_driver(image, options, node, nested, &backing, format, err);
        if (r < 0 && (!options->format || image->driver != &raw_driver))
            img_prefix(err, r, "Could not open '%s': ", image->path);
    }
    image->has_backing = backing != NULL;
    /* the name alone does no harm: without a check that it may be opened, it is only shown */
    if (r == 0 && backing && name_beside(image->path, backing, &image->full_backing, NULL) < 0)
        image->full_backing = strdup(backing);
    free(backing);
    if (node && node->own_backing)
        image->has_backing = node->backing != NULL;
    if (r < 0) {
        free(*format);
        *format = NULL;
        free_layer(image);
        return r;
    }
    *out = image;
    return 0;
}

/* ---- the chain ---- */

static void free_chain(struct img *image) {
    while (image) {
        struct img *below = image->backing;
        free_layer(image);
        image = below;
    }
}

static int refuse_loop(struct img *top, struct storage *file, struct img_error *err) {
    for (struct img *layer = top; layer; layer = layer->backing)
        if (file->device_id && layer->file->inode == file->inode && layer->file->device_id == file->device_id)
            return img_fail(err, -ELOOP, "the backing chain of '%s' comes back to '%s'", top->path, layer->path);
    return 0;
}

/* The layer below by its node, or its path where that is NULL. */
static int open_named(struct img *top, struct img *layer, const struct img_node *node, bool nested,
                      const struct img_open_options *below, struct img **out, char **next_format,
                      struct img_error *err) {
    struct img_open_options options = node ? node_options(node, below) : *below;
    struct storage *file;
    int r = node ? node_storage(node->file, &options, nested, &file, err)
                 : file_open(layer->full_backing, options.flags, options.cache, &file, err);
    if (r == 0 && (r = refuse_loop(top, file, err)) < 0)
        storage_close(file);
    else if (r == 0)
        r = open_layer(file, &options, node, nested, out, next_format, err);
    return r;
}

/* *node: what the user says about `layer`, and then about the one below. */
static int open_below(struct img *top, struct img *layer, const struct img_node **node, const char *format,
                      unsigned depth, const struct img_open_options *options, struct img **out, char **next_format,
                      struct img_error *err) {
    struct img_open_options below = {
        .flags = options->flags & (IMG_OPEN_FORCE_SHARE | IMG_OPEN_UNLOCKED),
        .cache = options->cache == IMG_CACHE_UNSAFE ? IMG_CACHE_WRITEBACK : options->cache,
        .format = format,
        .l2_cache = options->l2_cache,
        .ask_key = options->ask_key,
        .find_node = options->find_node,
        .opaque = options->opaque,
        .key_iterations = options->key_iterations,
    };
    bool given = *node && (*node)->own_backing;
    *node = given ? (*node)->backing : NULL;
    int r = 0;
    if (depth > IMG_MAX_DEPTH)
        return img_fail(err, -ELOOP, "the backing chain of '%s' has more than %d layers", top->path, IMG_MAX_DEPTH);
    if (given)
        below.format = NULL;
    else if (has_protocol(layer->full_backing) && options->find_node)
        r = options->find_node(options->opaque, layer->full_backing, node, err);
    else if (has_protocol(layer->full_backing))
        return img_fail(err, -ENOTSUP, "'%s' has the backing file '%s': only plain paths of local files are followed",
                        layer->path, layer->full_backing);
    if (r == 0)
        r = open_named(top, layer, *node, given, &below, out, next_format, err);
    return r < 0 ? img_prefix(err, r, "Could not open backing file of '%s': ", layer->path) : 0;
}

static int open_chain(struct img *top, const struct img_node *node, char *format,
                      const struct img_open_options *options, struct img_error *err) {
    struct img *layer = top;
    int r = 0;
    if (options->flags & (IMG_OPEN_NO_BACKING | IMG_OPEN_INFO | IMG_OPEN_CHECK))
        layer = NULL;
    for (unsigned depth = 1; layer && layer->has_backing; depth++) {
        char *next = NULL;
        r = open_below(top, layer, &node, format, depth, options, &layer->backing, &next, err);
        if (r < 0)
            break;
        free(format);
        format = next;
        layer = layer->backing;
    }
    free(format);
    return r;
}

static int open_all(struct storage *file, const struct img_node *node, const struct img_open_options *options,
                    struct img **image, struct img_error *err) {
    char *format;
    int r = open_layer(file, options, node, true, image, &format, err);
    if (r < 0)
        return r;
    r = open_chain(*image, node, format, options, err);
    if (r < 0) {
        free_chain(*image);
        *image = NULL;
    }
    return r;
}

int image_open_storage(struct storage *file, const struct img_open_options *options, struct img **image,
                       struct img_error *err) {
    static const struct img_open_options defaults;
    return open_all(file, NULL, options ? options : &defaults, image, err);
}

static int check_options(const struct img_open_options *o, struct img_error *err) {
    const uint32_t known = IMG_OPEN_WRITE | IMG_OPEN_NO_BACKING | IMG_OPEN_FORCE_SHARE | IMG_OPEN_INFO |
                           IMG_OPEN_CHECK | IMG_OPEN_UNLOCKED;
    if (o->flags & ~known)
        return img_fail(err, -EINVAL, "open flags 0x%x are unknown", o->flags & ~known);
    if (o->flags & IMG_OPEN_FORCE_SHARE && o->flags & IMG_OPEN_WRITE)
        return img_fail(err, -EINVAL, "force-share=on can only be used with read-only images");
    if (o->cache > IMG_CACHE_UNSAFE)
        return img_fail(err, -EINVAL, "cache mode %d is unknown", (int)o->cache);
    return 0;
}

int img_open(const char *path, const struct img_open_options *options, struct img **image, struct img_error *err) {
    static const struct img_open_options defaults;
    const struct img_open_options *o = options ? options : &defaults;
    struct storage *file;
    *image = NULL;
    int r = check_options(o, err);
    if (r < 0)
        return r;
    r = file_open(path, o->flags, o->cache, &file, err);
    return r < 0 ? r : image_open_storage(file, o, image, err);
}

int img_open_fd(int fd, const struct img_open_options *options, struct img **image, struct img_error *err) {
    static const struct img_open_options defaults;
    const struct img_open_options *o = options ? options : &defaults;
    struct storage *file;
    *image = NULL;
    int r = check_options(o, err);
    if (r < 0)
        return r;
    r = file_open_fd(fd, o->flags, o->cache, &file, err);
    return r < 0 ? r : image_open_storage(file, o, image, err);
}

int img_open_range(struct img *parent, uint64_t offset, uint64_t length, const struct img_open_options *options,
                   struct img **image, struct img_error *err) {
    static const struct img_open_options defaults;
    const struct img_open_options *o = options ? options : &defaults;
    struct storage *file;
    *image = NULL;
    int r = check_options(o, err);
    if (r < 0)
        return r;
    if (o->flags & IMG_OPEN_WRITE && !parent->writable)
        return img_fail(err, -EACCES, "'%s' is open for reading only, so no part of it can be written", parent->path);
    r = range_open(parent, offset, length, &file, err);
    return r < 0 ? r : image_open_storage(file, o, image, err);
}

int img_open_node(const struct img_node *node, const struct img_open_options *options, struct img **image,
                  struct img_error *err) {
    static const struct img_open_options defaults;
    struct storage *file = NULL;
    *image = NULL;
    if (node->kind != IMG_NODE_FORMAT || !node->file)
        return img_fail(err, -EINVAL, "an image and what it lies on are needed");
    struct img_open_options o = node_options(node, options ? options : &defaults);
    int r = check_options(&o, err);
    if (r == 0)
        r = node_storage(node->file, &o, true, &file, err);
    return r < 0 ? r : open_all(file, node, &o, image, err);
}

int img_close(struct img *image, struct img_error *err) {
    int r = 0;
    if (!image)
        return 0;
    if (image->writable && image->driver->finish)
        r = image->driver->finish(image, err);
    free_chain(image);
    return r;
}

/* ---- a layer anew ---- */

static int reopen_layer(const struct img *old, uint32_t flags, const struct img_open_options *keys, struct img **fresh,
                        struct img_error *err) {
    struct img_open_options options = *keys;
    options.flags = flags;
    options.cache = old->cache;
    options.format = old->driver->name;
    struct storage *file;
    char *format = NULL;
    if (old->assembled)
        return img_fail(err, -ENOTSUP, "'%s' is not an image by itself here, so it cannot be opened anew", old->path);
    int r = file_open(old->path, flags, old->cache, &file, err);
    if (r == 0)
        r = open_layer(file, &options, NULL, false, fresh, &format, err);
    if (r < 0)
        return r;
    free(format);
    (*fresh)->probed_raw = old->probed_raw;
    return 0;
}

static void replace_below(struct img *above, struct img *fresh) {
    struct img *old = above->backing;
    fresh->backing = old->backing;
    above->backing = fresh;
    free_layer(old);
}

/* The locks of the old and of the new description exclude each other, so the old one goes first. What takes its place
 * for that moment has none, and stays should the new one be refused. */
int image_reopen_below(struct img *above, bool writable, const struct img_open_options *keys, struct img_error *err) {
    struct img *old = above->backing, *between = NULL, *fresh = NULL;
    uint32_t flags = old->flags & IMG_OPEN_UNLOCKED;
    int r = old->writable && old->driver->finish ? old->driver->finish(old, err) : 0;
    if (r == 0)
        r = reopen_layer(old, IMG_OPEN_UNLOCKED, keys, &between, err);
    if (r < 0)
        return r;
    replace_below(above, between);
    r = reopen_layer(between, flags | (writable ? IMG_OPEN_WRITE : 0), keys, &fresh, err);
    if (r == 0)
        replace_below(above, fresh);
    return r;
}

int image_open_below(const char *beside, const char *name, const struct img_open_options *options, struct img **chain,
                     struct img_error *err) {
    char *path = NULL;
    const struct img_node *node;
    if (strncmp(name, "file:", 5) != 0 && has_protocol(name) && options->find_node) {
        int found = options->find_node(options->opaque, name, &node, err);
        if (found == 0 && options->format && node->format && strcmp(options->format, node->format) != 0)
            found = img_fail(err, -EINVAL, "the name '%s' says that the format is %s, and not %s", name, node->format,
                             options->format);
        return found < 0 ? found : img_open_node(node, options, chain, err);
    }
    int r = name_beside(beside, name, &path, err);
    if (r < 0)
        return r;
    r = img_open(path, options, chain, err);
    free(path);
    return r;
}

/* ---- what the driver answers ---- */

uint64_t img_size(const struct img *image) {
    return atomic_load(&image->size);
}

uint64_t img_cluster_size(const struct img *image) {
    return image->driver->cluster_size ? image->driver->cluster_size(image) : 0;
}

const char *img_format(const struct img *image) {
    return image->driver->name;
}

bool img_has_backing(const struct img *image) {
    return image->has_backing;
}

struct img *img_backing(struct img *image) {
    return image->backing;
}

int img_info(struct img *image, struct img_info *info, struct img_error *err) {
    *info = (struct img_info){
        .path = image->path,
        .format = image->driver->name,
        .virtual_size = img_size(image),
        .disk_size = image->file->ops->allocated(image->file),
        .file_length = storage_size(image->file),
        .full_backing_file = image->full_backing,
    };
    return image->driver->info ? image->driver->info(image, info, err) : 0;
}

/* Goes down the chain until a layer has it. The range shrinks to what all layers above agree on. */
int img_map(struct img *image, uint64_t offset, uint64_t length, bool layer_only, struct img_extent *extent,
            struct img_error *err) {
    uint64_t size = img_size(image);
    if (!length || offset >= size || length > size - offset)
        return img_fail(err, -EINVAL, "the range of %llu bytes at %llu is not inside '%s', which has %llu bytes",
                        (unsigned long long)length, (unsigned long long)offset, image->path, (unsigned long long)size);
    uint32_t depth = 0;
    for (struct img *layer = image;; layer = layer->backing, depth++) {
        uint64_t end = img_size(layer);
        *extent = (struct img_extent){.start = offset, .length = length, .depth = depth, .flags = IMG_EXTENT_ZERO};
        if (offset >= end) { /* behind the end of a short layer: zeroes, and nobody below is asked */
            extent->flags |= depth ? IMG_EXTENT_PRESENT : 0;
            return 0;
        }
        if (length > end - offset)
            length = end - offset;
        int r = layer->driver->map(layer, offset, length, extent, err);
        if (r < 0)
            return r;
        extent->depth = depth;
        length = extent->length;
        if (extent->flags & IMG_EXTENT_PRESENT || layer_only || !layer->backing) {
            if (!(extent->flags & (IMG_EXTENT_PRESENT | IMG_EXTENT_DATA)))
                extent->flags |= IMG_EXTENT_ZERO;
            return 0;
        }
    }
}

int img_resize(struct img *image, uint64_t size, enum img_preallocation preallocation, uint32_t flags,
               struct img_error *err) {
    if (!image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    if (size > INT64_MAX - 511)
        return img_fail(err, -EFBIG, "a size of %llu bytes is too large", (unsigned long long)size);
    if (image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    if (flags & ~(uint32_t)IMG_RESIZE_SHRINK)
        return img_fail(err, -EINVAL, "resize flags 0x%x are unknown", flags);
    SCOPED_MUTEX(&image->whole);
    return image->driver->resize(image, (size + 511) & ~511ull, preallocation, flags, err);
}

int img_check(struct img *image, const struct img_check_options *options, struct img_check_result *result,
              struct img_error *err) {
    static const struct img_check_options defaults;
    memset(result, 0, sizeof *result);
    if (!image->driver->check)
        return img_fail(err, -ENOTSUP, "This image format does not support checks");
    const struct img_check_options *o = options ? options : &defaults;
    if (o->flags & ~(uint32_t)(IMG_CHECK_REPAIR_LEAKS | IMG_CHECK_REPAIR_ALL))
        return img_fail(err, -EINVAL, "check flags 0x%x are unknown", o->flags);
    SCOPED_MUTEX(&image->whole);
    struct img_context *c = context_claim(&image->epochs);
    int r = image->driver->check(image, o, result, err);
    context_release(&image->epochs, c);
    return r;
}
