/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* request.c - the public calls that move data: what they check before the executor (io.c) may start, and what they do
 * after.
 *
 * A range is checked once, here; drivers and executor rely on it. A context is claimed for the length of a call. In the
 * write-through modes a call ends with a flush.
 */
#include "request.h"
#include "error.h"
#include "io.h"
#include "raw.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

int request_check_range(struct img *image, uint64_t offset, uint64_t length, bool writes, struct img_error *err) {
    uint64_t size = atomic_load(&image->size);
    if (image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    if (offset > size || length > size - offset)
        return img_fail(err, -EINVAL, "the range of %llu bytes at %llu is not inside '%s', which has %llu bytes",
                        (unsigned long long)length, (unsigned long long)offset, image->path, (unsigned long long)size);
    if (writes && !image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    return 0;
}

bool request_writes_through(const struct img *image) {
    return image->cache == IMG_CACHE_WRITETHROUGH || image->cache == IMG_CACHE_DIRECTSYNC;
}

/* The end of a call that wrote, the context's too; in the write-through modes what it wrote is durable then. */
static int finish_write(struct img *image, struct img_context *c, int r, struct img_error *err) {
    if (image->driver->relieve)
        image->driver->relieve(image);
    if (r == 0 && request_writes_through(image))
        r = image->driver->flush(image, err);
    context_release(&image->epochs, c);
    return r;
}

int request_size(struct img *image, const struct iovec *iov, int niov, uint64_t *count, struct img_error *err) {
    if (niov < 0 || niov > IOV_MAX)
        return img_fail(err, -EINVAL, "%d buffers are more than IOV_MAX (%d)", niov, IOV_MAX);
    *count = iov_size(iov, niov);
    if (*count == SIZE_MAX)
        return img_fail(err, -EINVAL, "the buffers for '%s' are too large", image->path);
    return 0;
}

int img_preadv(struct img *image, const struct iovec *iov, int niov, uint64_t offset, struct img_error *err) {
    uint64_t count;
    int r = request_size(image, iov, niov, &count, err);
    if (r == 0)
        r = request_check_range(image, offset, count, false, err);
    if (r < 0 || !count)
        return r;
    struct iov_cursor to = iov_begin(iov, niov);
    struct img_context *c = context_claim(&image->epochs);
    r = io_read(image, c, &to, count, offset, false, err);
    context_release(&image->epochs, c);
    return r;
}

/* A raw image that was found by probing must not become something else behind its user's back. */
int request_guard(struct img *image, struct img_context *c, const struct iovec *iov, int niov, uint64_t count,
                  uint64_t offset, struct img_error *err) {
    uint8_t sector[RAW_GUARDED] = {0};
    uint64_t size = atomic_load(&image->size), there = size < RAW_GUARDED ? size : RAW_GUARDED;
    uint64_t changed = offset >= there ? 0 : count < there - offset ? count : there - offset;
    struct iovec whole = {sector, there};
    struct iov_cursor to = iov_begin(&whole, 1), from = iov_begin(iov, niov);
    int r = io_read(image, c, &to, there, 0, false, err);
    if (r < 0)
        return r;
    if (iov)
        iov_get(&from, sector + offset, changed);
    else
        memset(sector + offset, 0, changed);
    const char *foreign = raw_foreign_format(sector, there);
    return foreign ? img_fail(err, -EPERM,
                              "writing this first sector would turn '%s', which was probed as raw, into another format "
                              "(%s): open it as raw explicitly",
                              image->path, foreign)
                   : 0;
}

bool request_is_guarded(const struct img *image, uint64_t offset) {
    return image->probed_raw && offset < RAW_GUARDED;
}

int request_write(struct img *image, struct img_context *c, const struct iovec *iov, int niov, uint64_t count,
                  uint64_t offset, struct img_error *err) {
    struct iov_cursor from = iov_begin(iov, niov);
    if (!request_is_guarded(image, offset))
        return io_write(image, c, &from, count, offset, err);
    SCOPED_MUTEX(&image->first_sector);
    int r = request_guard(image, c, iov, niov, count, offset, err);
    return r < 0 ? r : io_write(image, c, &from, count, offset, err);
}

int request_zero(struct img *image, struct img_context *c, bool may_unmap, uint64_t offset, uint64_t length,
                 struct img_error *err) {
    if (!request_is_guarded(image, offset))
        return io_clear(image, c, IMG_OP_ZERO, may_unmap, offset, length, err);
    SCOPED_MUTEX(&image->first_sector);
    int r = request_guard(image, c, NULL, 0, length, offset, err);
    return r < 0 ? r : io_clear(image, c, IMG_OP_ZERO, may_unmap, offset, length, err);
}

int img_pwritev(struct img *image, const struct iovec *iov, int niov, uint64_t offset, struct img_error *err) {
    uint64_t count;
    int r = request_size(image, iov, niov, &count, err);
    if (r == 0)
        r = request_check_range(image, offset, count, true, err);
    if (r < 0 || !count)
        return r;
    struct img_context *c = context_claim(&image->epochs);
    r = request_write(image, c, iov, niov, count, offset, err);
    return finish_write(image, c, r, err);
}

int img_pread(struct img *image, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct iovec iov = {buffer, count};
    return img_preadv(image, &iov, 1, offset, err);
}

int img_pwrite(struct img *image, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct iovec iov = {(void *)buffer, count};
    return img_pwritev(image, &iov, 1, offset, err);
}

static int write_compressed_cluster(struct img *image, struct img_context *c, const uint8_t *data, size_t count,
                                    uint8_t *scratch, uint64_t cluster, uint64_t offset, struct img_error *err) {
    if (count < cluster) { /* the image's last, short one: zeroes behind its end */
        memcpy(scratch + cluster, data, count);
        memset(scratch + cluster + count, 0, cluster - count);
        data = scratch + cluster;
    }
    int64_t stored = image->driver->compress(image, 0, data, cluster, scratch, cluster - 1);
    if (stored < 0)
        return img_fail_errno(err, stored, "could not compress the cluster at guest offset %llu of '%s'",
                              (unsigned long long)offset, image->path);
    if (stored)
        return io_write_compressed(image, c, scratch, stored, count, offset, err);
    struct iovec iov = {(void *)data, count};
    struct iov_cursor from = iov_begin(&iov, 1);
    return io_write(image, c, &from, count, offset, err);
}

int img_pwrite_compressed(struct img *image, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    uint64_t cluster = image->driver->cluster_size ? image->driver->cluster_size(image) : 0;
    int r = request_check_range(image, offset, count, true, err);
    if (r < 0)
        return r;
    if (!image->driver->compress || !cluster)
        return img_fail(err, -ENOTSUP, "Compression not supported for the file format of '%s' (%s)", image->path,
                        image->driver->name);
    if (offset & (cluster - 1) || (count & (cluster - 1) && offset + count != atomic_load(&image->size)))
        return img_fail(err, -EINVAL,
                        "a compressed write of %zu bytes at %llu is not aligned to clusters of %llu bytes", count,
                        (unsigned long long)offset, (unsigned long long)cluster);
    uint8_t *scratch = malloc(2 * cluster);
    if (!scratch)
        return img_fail(err, -ENOMEM, "no memory to compress a cluster of %llu bytes", (unsigned long long)cluster);
    struct img_context *c = context_claim(&image->epochs);
    for (size_t done = 0; r == 0 && done < count; done += cluster) {
        size_t n = count - done < cluster ? count - done : cluster;
        r = write_compressed_cluster(image, c, (const uint8_t *)buffer + done, n, scratch, cluster, offset + done, err);
    }
    free(scratch);
    return finish_write(image, c, r, err);
}

int img_write_zeroes(struct img *image, uint64_t offset, uint64_t length, uint32_t flags, struct img_error *err) {
    int r = request_check_range(image, offset, length, true, err);
    if (r == 0 && flags & ~(uint32_t)IMG_ZERO_MAY_UNMAP)
        r = img_fail(err, -EINVAL, "zero flags 0x%x are unknown", flags);
    if (r < 0 || !length)
        return r;
    struct img_context *c = context_claim(&image->epochs);
    r = request_zero(image, c, flags & IMG_ZERO_MAY_UNMAP, offset, length, err);
    return finish_write(image, c, r, err);
}

int img_discard(struct img *image, uint64_t offset, uint64_t length, struct img_error *err) {
    int r = request_check_range(image, offset, length, true, err);
    if (r < 0 || !length)
        return r;
    struct img_context *c = context_claim(&image->epochs);
    r = io_clear(image, c, IMG_OP_DISCARD, true, offset, length, err);
    return finish_write(image, c, r, err);
}

/* ---- a machine's state ---- */

static int check_state(struct img *image, bool writes, struct img_error *err) {
    if (image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
    if (!image->driver->state_at)
        return img_fail(err, -ENOTSUP, "'%s' (%s) has no place for the state of a machine", image->path,
                        image->driver->name);
    if (writes && !image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    return 0;
}

/* The state lies behind the disk's end: while it is moved, that must stay where it is. */
static int move_state(struct img *image, struct iov_cursor *data, size_t count, uint64_t offset, bool writes,
                      struct img_error *err) {
    uint64_t at;
    int r = check_state(image, writes, err);
    if (r < 0)
        return r;
    SCOPED_MUTEX(&image->whole);
    r = image->driver->state_at(image, offset, count, writes, &at, err);
    if (r < 0 || !count)
        return r;
    struct img_context *c = context_claim(&image->epochs);
    c->behind_end = true;
    if (writes)
        return finish_write(image, c, io_write(image, c, data, count, at, err), err);
    r = io_read(image, c, data, count, at, false, err);
    context_release(&image->epochs, c);
    return r;
}

int img_vmstate_read(struct img *image, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct iovec iov = {buffer, count};
    struct iov_cursor to = iov_begin(&iov, 1);
    return move_state(image, &to, count, offset, false, err);
}

int img_vmstate_write(struct img *image, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct iovec iov = {(void *)buffer, count};
    struct iov_cursor from = iov_begin(&iov, 1);
    return move_state(image, &from, count, offset, true, err);
}

int img_flush(struct img *image, struct img_error *err) {
    if (!image->writable)
        return 0;
    struct img_context *c = context_claim(&image->epochs);
    int r = image->driver->flush(image, err);
    context_release(&image->epochs, c);
    return r;
}

int img_drain(struct img *image, struct img_error *err) {
    (void)err;
    requests_hold(&image->epochs);
    return 0;
}

void img_resume(struct img *image) {
    requests_release(&image->epochs);
}
