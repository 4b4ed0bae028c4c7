/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* raw.c - the raw format: the guest's bytes are the file's bytes.
 *
 * Nothing is ever allocated and nothing has to be committed, so every plan is one step. What is left to do is the
 * edges:
 *
 *   - A disk is made of 512-byte sectors, a file is not: the size is rounded up, and the bytes that the file does not
 *     have read as zeroes until somebody writes them.
 *   - A discard acts on whole blocks and leaves the rest alone, so it is cut into up to three plans.
 *   - A failed flush stays failed: what the kernel dropped cannot be flushed by asking again, so from then on every
 *     flush fails and writes are refused until the image is opened anew.
 *   - An image that is raw only because nothing else fitted must not be given another format's first sector by who
 *     writes to it: next time it would be opened as that format, with the references that the writer chose.
 *
 * Always holds: base + size, rounded down to the storage's end where that cannot grow, is a range of the storage.
 */
#include "raw.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "image.h"

#define SECTOR 512u
/* Holes smaller than this are not worth a call: file systems have no smaller blocks. */
#define DISCARD_BLOCK 4096u

struct raw {
    uint64_t base;      /* where the image begins in its storage */
    bool part;          /* the image is a given part of the storage and cannot change its size */
    _Atomic int failed; /* the -errno of the first flush that failed */
};

static struct raw *raw_of(const struct img *image) {
    return image->state;
}

/* ---- the first sector ---- */

struct magic {
    const char *format;
    uint16_t offset;
    uint16_t length;
    const char *bytes;
};

#define MAGIC(format, offset, text)                                                                                    \
    { format, offset, sizeof(text) - 1, text }

static const struct magic magics[] = {
    MAGIC("qcow2", 0, "QFI\xfb"), /* qcow too */
    MAGIC("LUKS", 0, "LUKS\xba\xbe"),
    MAGIC("QED", 0, "QED\0"),
    MAGIC("VMDK", 0, "KDMV"), /* sparse */
    MAGIC("VMDK", 0, "COWD"), /* ESX */
    MAGIC("VMDK", 0, "# Disk DescriptorFile"),
    MAGIC("VHDX", 0, "vhdxfile"),
    MAGIC("VHD", 0, "conectix"),
    MAGIC("VDI", 0, "<<< Oracle VM VirtualBox Disk Image"),
    MAGIC("VDI", 64, "\x7f\x10\xda\xbe"),
    MAGIC("Parallels", 0, "WithoutFreeSpace"),
    MAGIC("Parallels", 0, "WithouFreSpacExt"),
    MAGIC("Bochs", 0, "Bochs Virtual HD Image"),
    MAGIC("cloop", 0, "#!/bin/sh\n#V2.0 Format\nmodprobe "),
};

/* A VMDK descriptor needs no magic: comments and empty lines, then a version. It names other files. */
static bool is_descriptor(const uint8_t *data, size_t count) {
    static const char version[] = "version=";
    size_t at = 0;
    while (at < count && (data[at] == '#' || data[at] == ' ' || data[at] == '\r' || data[at] == '\n')) {
        const uint8_t *end = memchr(data + at, '\n', count - at);
        if (end == NULL)
            return false;
        at = (size_t)(end - data) + 1;
    }
    return count - at >= sizeof version - 1 && memcmp(data + at, version, sizeof version - 1) == 0;
}

const char *raw_foreign_format(const uint8_t *data, size_t count) {
    if (count > RAW_GUARDED)
        count = RAW_GUARDED;
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        const struct magic *m = &magics[i];
        if (count >= (size_t)m->offset + m->length && memcmp(data + m->offset, m->bytes, m->length) == 0)
            return m->format;
    }
    return is_descriptor(data, count) ? "VMDK" : NULL;
}

/* Everything is raw, so it is what remains when no other format has said yes. */
static bool raw_probe(const uint8_t *head, size_t count) {
    (void)head;
    (void)count;
    return false;
}

/* A file gets the bytes that are missing to a whole sector; what cannot grow is as long as it is. */
static int round_to_sector(const struct img *image, uint64_t *size, struct img_error *err) {
    uint64_t rounded;
    if (__builtin_add_overflow(*size, SECTOR - 1, &rounded) || rounded > INT64_MAX)
        return img_fail(err, -EFBIG, "The size of '%s' is too large: %" PRIu64 " bytes", image->path, *size);
    *size = rounded & ~(uint64_t)(SECTOR - 1);
    return 0;
}

static int measure(const struct img *image, const struct img_driver_options *options, struct raw *raw, uint64_t *size,
                   struct img_error *err) {
    uint64_t length = storage_size(image->file), end;
    raw->base = options->raw_offset;
    raw->part = options->raw_offset != 0 || options->raw_length != UINT64_MAX;
    if (raw->base > length)
        return img_fail(err, -EINVAL,
                        "Offset (%" PRIu64 ") cannot be greater than size of the containing file (%" PRIu64 ")",
                        raw->base, length);
    *size = length - raw->base;
    if (options->raw_length != UINT64_MAX) {
        if (__builtin_add_overflow(raw->base, options->raw_length, &end) || end > length)
            return img_fail(err, -EINVAL,
                            "The sum of offset (%" PRIu64 ") and size (%" PRIu64
                            ") has to be smaller or equal to the  actual size of the containing file (%" PRIu64 ")",
                            raw->base, options->raw_length, length);
        *size = options->raw_length;
    }
    return raw->part || image->file->fixed_size ? 0 : round_to_sector(image, size, err);
}

static int raw_open(struct img *image, const struct img_driver_options *options, char **backing, char **backing_format,
                    struct img_error *err) {
    *backing = *backing_format = NULL;
    if (options->snapshot != NULL)
        return img_fail(err, -ENOTSUP, "Raw images have no snapshots: '%s' has none named '%s'", image->path,
                        options->snapshot);
    struct raw *raw = calloc(1, sizeof *raw);
    if (raw == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not open '%s'", image->path);
    uint64_t size;
    int r = measure(image, options, raw, &size, err);
    if (r < 0) {
        free(raw);
        return r;
    }
    image->state = raw;
    atomic_store(&image->size, size);
    return 0;
}

static void raw_close(struct img *image) {
    free(image->state);
    image->state = NULL;
}

/* ---- flush, and what a failed one means ---- */

static int refuse_after_failure(const struct img *image, struct img_error *err) {
    int failed = atomic_load_explicit(&raw_of(image)->failed, memory_order_relaxed);
    if (failed == 0)
        return 0;
    return img_fail_errno(err, failed, "'%s' lost writes in an earlier flush and must be opened anew", image->path);
}

static int raw_flush(struct img *image, struct img_error *err) {
    int r = refuse_after_failure(image, err);
    if (r < 0)
        return r;
    r = storage_flush(image->file);
    if (r == 0)
        return refuse_after_failure(image, err); /* another thread's flush may have taken the error */
    int none = 0;
    atomic_compare_exchange_strong(&raw_of(image)->failed, &none, r);
    return img_fail_errno(err, r, "Could not flush '%s'", image->path);
}

/* ---- plans ---- */

static void one_step(struct img *image, struct img_plan *plan, enum img_action action) {
    plan->action = action;
    plan->nsteps = 1;
    plan->steps[0] = (struct img_step){
        .kind = IMG_STEP_HOST,
        .guest = plan->offset,
        .length = plan->length,
        .file = image->file,
        .host = raw_of(image)->base + plan->offset,
    };
}

/* The front of a discard: up to the first whole block, or the whole blocks, or what is behind them. The end of the
 * image ends a block. */
static void resolve_discard(struct img *image, struct img_plan *plan) {
    uint64_t end = plan->offset + plan->length;
    uint64_t first = (plan->offset + DISCARD_BLOCK - 1) & ~(uint64_t)(DISCARD_BLOCK - 1);
    uint64_t last = end == atomic_load(&image->size) ? end : end & ~(uint64_t)(DISCARD_BLOCK - 1);
    if (first < last && first == plan->offset) {
        plan->length = last - first;
        one_step(image, plan, IMG_MOVE_ZERO_HOST);
        return;
    }
    if (first < last)
        plan->length = first - plan->offset;
    plan->action = IMG_MOVE_NOTHING;
    plan->nsteps = 0;
}

static int raw_resolve(struct img *image, struct img_plan *plan, struct img_error *err) {
    plan->head = plan->tail = 0;
    plan->head_fill = plan->tail_fill = IMG_FILL_NONE;
    int r = plan->op == IMG_OP_READ ? 0 : refuse_after_failure(image, err);
    if (r < 0)
        return r;
    switch (plan->op) {
    case IMG_OP_READ:
    case IMG_OP_WRITE:
        one_step(image, plan, IMG_MOVE_STEPS);
        return 0;
    case IMG_OP_ZERO:
        one_step(image, plan, IMG_MOVE_ZERO_HOST);
        return 0;
    case IMG_OP_DISCARD:
        resolve_discard(image, plan);
        return 0;
    case IMG_OP_COMPRESSED:
    case IMG_OP_DROP:
        break;
    }
    return img_fail(err, -ENOTSUP, "Raw images have no compression: '%s'", image->path);
}

static void raw_commit(struct img *image, struct img_plan *plan) {
    (void)image;
    (void)plan;
}

static void raw_abort(struct img *image, struct img_plan *plan, bool touched) {
    (void)image;
    (void)plan;
    (void)touched;
}

/* ---- what is where ---- */

static int raw_map(struct img *image, uint64_t offset, uint64_t length, struct img_extent *extent,
                   struct img_error *err) {
    struct storage_extent e = {.length = length, .zero = false};
    uint64_t host = raw_of(image)->base + offset;
    if (image->file->ops->extent != NULL) {
        int r = image->file->ops->extent(image->file, host, length, &e);
        if (r < 0)
            return img_fail_errno(err, r, "Could not find the holes of '%s' at offset %" PRIu64, image->path, host);
    }
    *extent = (struct img_extent){
        .start = offset,
        .length = e.length < length ? e.length : length,
        .host_offset = host,
        .file = image->path,
        .flags = IMG_EXTENT_PRESENT | IMG_EXTENT_OFFSET | (e.zero ? IMG_EXTENT_ZERO : IMG_EXTENT_DATA),
    };
    return 0;
}

static int raw_info(struct img *image, struct img_info *info, struct img_error *err) {
    (void)err;
    *info = (struct img_info){
        .path = image->path,
        .format = "raw",
        .virtual_size = atomic_load(&image->size),
        .disk_size = image->file->ops->allocated(image->file),
        .file_length = storage_size(image->file),
    };
    return 0;
}

static uint64_t raw_cluster_size(const struct img *image) {
    (void)image;
    return 0;
}

static struct storage *raw_data(const struct img *image) {
    return image->file;
}

/* ---- changing the size ---- */

static int check_resize(struct img *image, uint64_t from, uint64_t to, enum img_preallocation preallocation,
                        uint32_t flags, struct img_error *err) {
    if (image->file->fixed_size || image->file->ops->truncate == NULL || raw_of(image)->part)
        return img_fail(err, -ENOTSUP, "Could not resize '%s': only a whole regular file can change its size",
                        image->path);
    if (preallocation == IMG_PREALLOCATION_METADATA)
        return img_fail(err, -ENOTSUP, "Could not resize '%s': raw images have no preallocation mode 'metadata'",
                        image->path);
    if (to >= from)
        return 0;
    if (!(flags & IMG_RESIZE_SHRINK))
        return img_fail(err, -EINVAL,
                        "Could not resize '%s' from %" PRIu64 " to %" PRIu64
                        " bytes: shrinking loses data and must be asked for",
                        image->path, from, to);
    if (preallocation != IMG_PREALLOCATION_OFF)
        return img_fail(err, -EINVAL, "Could not resize '%s': preallocation is for growing, not for shrinking",
                        image->path);
    return 0;
}

static int grow(struct storage *file, uint64_t from, uint64_t to, enum img_preallocation preallocation) {
    switch (preallocation) {
    case IMG_PREALLOCATION_FALLOC:
        return file->ops->reserve != NULL ? file->ops->reserve(file, from, to - from) : -ENOTSUP;
    case IMG_PREALLOCATION_FULL:
        return storage_write_zeroes(file, from, to - from);
    default:
        return file->ops->truncate(file, to);
    }
}

static int change_length(struct img *image, uint64_t size, enum img_preallocation preallocation,
                         struct img_error *err) {
    struct storage *file = image->file;
    uint64_t from = storage_size(file);
    int r = size > from ? grow(file, from, size, preallocation) : file->ops->truncate(file, size);
    if (r < 0) {
        if (size > from)
            file->ops->truncate(file, from); /* give back what was got so far */
        return img_fail_errno(err, r, "Could not resize '%s' from %" PRIu64 " to %" PRIu64 " bytes", image->path, from,
                              size);
    }
    atomic_store(&image->size, size);
    return raw_flush(image, err);
}

static int raw_resize(struct img *image, uint64_t size, enum img_preallocation preallocation, uint32_t flags,
                      struct img_error *err) {
    int r = refuse_after_failure(image, err);
    if (r == 0)
        r = round_to_sector(image, &size, err);
    if (r < 0)
        return r;
    struct img_context *c = context_claim(&image->epochs);
    gate_close(&image->epochs, true);
    r = check_resize(image, atomic_load(&image->size), size, preallocation, flags, err);
    if (r == 0)
        r = change_length(image, size, preallocation, err);
    gate_open(&image->epochs, true);
    context_release(&image->epochs, c);
    return r;
}

const struct img_driver raw_driver = {
    .name = "raw",
    .probe = raw_probe,
    .open = raw_open,
    .finish = raw_flush,
    .close = raw_close,
    .resolve = raw_resolve,
    .commit = raw_commit,
    .abort = raw_abort,
    .flush = raw_flush,
    .map = raw_map,
    .info = raw_info,
    .resize = raw_resize,
    .cluster_size = raw_cluster_size,
    .data = raw_data,
};
