/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file.c - opening host files and block devices as storage.
 *
 * What may be opened is decided before anything can happen: a name that is a FIFO, a device with a driver behind it, a
 * socket or a directory is refused from its inode alone, since opening some of these hangs or has effects. The file
 * that was then really opened is looked at once more, as names can change in between.
 *
 * The image locks (lock.c) are taken before the first byte is read, so nobody acts on a header that is being rewritten.
 *
 * O_DIRECT is asked for by the cache mode and given up silently where the file system has none: it makes no promise
 * that the page cache with fdatasync does not keep.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "error.h"

static int file_flush(struct storage *s) {
    struct file *f = file_of(s);
    if (!f->sync || !s->writable)
        return 0;
    int r;
    do
        r = fdatasync(f->fd) < 0 ? -errno : 0;
    while (r == -EINTR);
    return r;
}

static uint64_t file_size(struct storage *s) {
    return atomic_load_explicit(&file_of(s)->length, memory_order_relaxed);
}

static uint64_t file_allocated(struct storage *s) {
    struct stat st;
    return fstat(file_of(s)->fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static bool file_descriptor(struct storage *s, struct storage_descriptor *d) {
    struct file *f = file_of(s);
    *d = (struct storage_descriptor){.fd = f->fd,
                                     .in_memory = f->in_memory,
                                     .direct = f->direct,
                                     .memory_align = f->memory_align,
                                     .block = f->block};
    return true;
}

static void file_wrote(struct storage *s, uint64_t end) {
    file_raise_length(file_of(s), end);
}

static void file_close(struct storage *s) {
    struct file *f = file_of(s);
    if (f->fd >= 0) {
        if (f->duplicated)
            lock_drop(f->fd, f->lock);
        close(f->fd);
    }
    rangelock_free(f->ranges);
    free(f->base.name);
    free(f);
}

static const struct storage_ops buffered_ops = {
    .read = file_buffered_readv,
    .write = file_buffered_writev,
    .flush = file_flush,
    .zero = file_zero,
    .punch = file_punch,
    .truncate = file_truncate,
    .reserve = file_reserve,
    .extent = file_extent,
    .clone_block = file_clone_block,
    .clone = file_clone,
    .start_writeback = file_start_writeback,
    .drop_cache = file_drop_cache,
    .read_once = file_read_once,
    .size = file_size,
    .allocated = file_allocated,
    .descriptor = file_descriptor,
    .wrote = file_wrote,
    .close = file_close,
};

static const struct storage_ops direct_ops = {
    .read = file_direct_readv,
    .write = file_direct_writev,
    .flush = file_flush,
    .zero = file_zero,
    .punch = file_punch,
    .truncate = file_truncate,
    .reserve = file_reserve,
    .extent = file_extent,
    .clone_block = file_clone_block,
    .clone = file_clone,
    .size = file_size,
    .allocated = file_allocated,
    .descriptor = file_descriptor,
    .hold = file_direct_hold,
    .let_go = file_direct_let_go,
    .wrote = file_wrote,
    .close = file_close,
};

/* What the inode is when it cannot hold an image; NULL: it can. */
static const char *unfit_kind(mode_t mode) {
    if (S_ISREG(mode) || S_ISBLK(mode))
        return NULL;
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a FIFO";
    if (S_ISCHR(mode))
        return "a character device";
    return S_ISSOCK(mode) ? "a socket" : "neither";
}

static int check_kind(const struct stat *st, const char *name, struct img_error *err) {
    const char *kind = unfit_kind(st->st_mode);
    if (kind == NULL)
        return 0;
    return img_fail(err, S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL,
                    "Could not open '%s': a regular file or block device is needed, this is %s", name, kind);
}

/* NULL: no memory. */
static struct file *new_file(const char *name, uint32_t flags, enum img_cache cache) {
    struct file *f = calloc(1, sizeof *f);
    if (f == NULL || (f->base.name = strdup(name)) == NULL) {
        free(f);
        return NULL;
    }
    f->fd = -1;
    f->block = 1;
    f->memory_align = 1;
    f->sync = cache != IMG_CACHE_UNSAFE;
    f->base.ops = &buffered_ops;
    f->base.writable = (flags & IMG_OPEN_WRITE) != 0;
    if (flags & IMG_OPEN_UNLOCKED)
        f->lock = LOCK_MODE_NONE;
    else if (flags & IMG_OPEN_FORCE_SHARE)
        f->lock = LOCK_MODE_SHARE;
    else
        f->lock = flags & IMG_OPEN_WRITE ? LOCK_MODE_WRITE : LOCK_MODE_READ;
    return f;
}

static int set_status_flags(int fd, int set, int clear) {
    int now = fcntl(fd, F_GETFL);
    if (now < 0)
        return -errno;
    int wanted = (now | set) & ~clear;
    return wanted != now && fcntl(fd, F_SETFL, wanted) < 0 ? -errno : 0;
}

static int measure_device(struct file *f) {
    uint64_t length;
    int block;
    if (ioctl(f->fd, BLKGETSIZE64, &length) < 0 || ioctl(f->fd, BLKSSZGET, &block) < 0)
        return -errno;
    if (block < 512 || (block & (block - 1)) != 0)
        return -EINVAL;
    f->block = (size_t)block;
    atomic_store(&f->length, length);
    return 0;
}

/* Turns O_DIRECT on when `wanted` and possible. It is set after the open because an open with O_CREAT that fails over
 * it can leave the file behind. A caller's descriptor may have it already. */
static int settle_direct(struct file *f, bool wanted) {
    int status = fcntl(f->fd, F_GETFL);
    if (status < 0)
        return -errno;
    bool on = (status & O_DIRECT) != 0;
    if (!on && wanted)
        on = set_status_flags(f->fd, O_DIRECT, 0) == 0;
    if (!on)
        return 0;
    int r = file_direct_prepare(f);
    if (r == -ENOTSUP)
        return set_status_flags(f->fd, 0, O_DIRECT);
    if (r < 0)
        return r;
    f->ranges = rangelock_new();
    if (f->ranges == NULL)
        return -ENOMEM;
    f->direct = true;
    f->base.ops = &direct_ops;
    return 0;
}

/* Learns what was opened, locks it and decides about O_DIRECT. */
static int settle(struct file *f, enum img_cache cache, struct img_error *err) {
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return img_fail_errno(err, -errno, "Could not open '%s'", f->base.name);
    int r = check_kind(&st, f->base.name, err);
    if (r < 0)
        return r;
    f->block_device = f->base.fixed_size = S_ISBLK(st.st_mode);
    f->base.device_id = f->block_device ? st.st_rdev : st.st_dev;
    f->base.inode = f->block_device ? 0 : st.st_ino;
    struct statfs fs;
    f->in_memory = !f->block_device && fstatfs(f->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
    r = lock_take(f->fd, f->lock, f->base.name, err);
    if (r < 0) {
        f->lock = LOCK_MODE_NONE; /* nothing is held */
        return img_prefix(err, r, "Could not open '%s': ", f->base.name);
    }
    /* The length counts only from here on: before the lock another program might have been changing it. */
    if (f->block_device)
        r = measure_device(f);
    else if (fstat(f->fd, &st) < 0)
        r = -errno;
    else
        atomic_store(&f->length, (uint64_t)st.st_size);
    if (r == 0)
        r = settle_direct(f, cache == IMG_CACHE_NONE || cache == IMG_CACHE_DIRECTSYNC);
    return r < 0 ? img_fail_errno(err, r, "Could not open '%s'", f->base.name) : 0;
}

static int check_flags(const char *name, uint32_t flags, struct img_error *err) {
    if ((flags & IMG_OPEN_WRITE) && (flags & IMG_OPEN_FORCE_SHARE))
        return img_fail(err, -EINVAL, "Could not open '%s': force-share is for images opened read-only", name);
    return 0;
}

int file_open(const char *path, uint32_t flags, enum img_cache cache, struct storage **out, struct img_error *err) {
    int r = check_flags(path, flags, err);
    if (r < 0)
        return r;
    struct stat st;
    if (stat(path, &st) < 0)
        return img_fail_errno(err, -errno, "Could not open '%s'", path);
    r = check_kind(&st, path, err);
    if (r < 0)
        return r;
    struct file *f = new_file(path, flags, cache);
    if (f == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not open '%s'", path);

    f->fd = open(path, (f->base.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (f->fd < 0)
        r = img_fail_errno(err, -errno, "Could not open '%s'", path);
    else
        r = settle(f, cache, err);
    if (r == 0 && (r = set_status_flags(f->fd, 0, O_NONBLOCK)) < 0)
        img_fail_errno(err, r, "Could not open '%s'", path);
    if (r < 0) {
        file_close(&f->base);
        return r;
    }
    *out = &f->base;
    return 0;
}

/* A descriptor must allow what is asked for; one that appends would put every write at the end. */
static int check_descriptor(int fd, const char *name, uint32_t flags, struct img_error *err) {
    int status = fcntl(fd, F_GETFL);
    if (status < 0)
        return img_fail_errno(err, -errno, "Could not open '%s'", name);
    int access_mode = status & O_ACCMODE;
    bool write = (flags & IMG_OPEN_WRITE) != 0;
    if ((status & O_PATH) || access_mode == O_WRONLY)
        return img_fail(err, -EBADF, "Could not open '%s': it is not open for reading", name);
    if (write && access_mode != O_RDWR)
        return img_fail(err, -EBADF, "Could not open '%s': it is not open for writing", name);
    if (write && (status & O_APPEND))
        return img_fail(err, -EINVAL, "Could not open '%s': it is open for appending", name);
    return 0;
}

int file_open_fd(int fd, uint32_t flags, enum img_cache cache, struct storage **out, struct img_error *err) {
    char name[48];
    snprintf(name, sizeof name, "descriptor %d", fd);
    int r = check_flags(name, flags, err);
    if (r == 0)
        r = check_descriptor(fd, name, flags, err);
    if (r < 0)
        return r;
    struct file *f = new_file(name, flags, cache);
    if (f == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not open '%s'", name);

    f->duplicated = true;
    f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (f->fd < 0)
        r = img_fail_errno(err, -errno, "Could not open '%s'", name);
    else
        r = settle(f, cache, err);
    if (r < 0) {
        file_close(&f->base);
        return r;
    }
    *out = &f->base;
    return 0;
}

int file_create(const char *path, enum img_cache cache, struct storage **out, struct img_error *err) {
    struct file *f = new_file(path, IMG_OPEN_WRITE, cache);
    if (f == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not create '%s'", path);
    int r;
    f->lock = LOCK_MODE_CREATE;
    f->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0644);
    if (f->fd < 0) {
        r = img_fail_errno(err, -errno, "Could not create '%s'", path);
    } else {
        r = settle(f, cache, err);
        if (r < 0)
            unlink(path);
    }
    if (r < 0) {
        file_close(&f->base);
        return r;
    }
    *out = &f->base;
    return 0;
}

int file_sync_directory(const char *path, struct img_error *err) {
    char *copy = strdup(path);
    if (copy == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not make the name '%s' durable", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    if (r == 0 && fsync(fd) < 0)
        r = errno == EINVAL ? 0 : -errno; /* a file system that has no such thing */
    if (fd >= 0)
        close(fd);
    free(copy);
    return r < 0 ? img_fail_errno(err, r, "Could not make the name '%s' durable", path) : 0;
}
