/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file_io.c - a host file through the page cache: full-length reads and writes, zeroes, holes and the length.
 *
 * A system call may move less than it was asked for, be interrupted, or take at most IOV_MAX buffers; the loops here
 * hide all three. The usual case is one call with the caller's own vector and no copy of it.
 *
 * Zeroes and holes are fallocate's, on block devices too, where the kernel turns it into the device's own commands and
 * promises that what was punched reads as zeroes. What a file system cannot do it is asked once.
 *
 * With O_DIRECT the same operations hold the blocks that they touch (file_direct.c); without it nothing is locked.
 *
 * Always holds: no reader sees `length` larger than the file; it never falls but in file_truncate.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW 64

void file_raise_length(struct file *f, uint64_t end) {
    uint64_t now = atomic_load_explicit(&f->length, memory_order_relaxed);
    if (f->block_device)
        return;
    while (now < end && !atomic_compare_exchange_weak(&f->length, &now, end))
        ;
}

void file_learn_length(struct file *f) {
    struct stat st;
    if (fstat(f->fd, &st) == 0)
        file_raise_length(f, (uint64_t)st.st_size);
}

/* ---- reading and writing ---- */

/* -EFBIG when a file cannot have this range. */
static int check_range(uint64_t offset, uint64_t length) {
    return length > INT64_MAX || offset > INT64_MAX - length ? -EFBIG : 0;
}

static int first_entries(int niov) {
    return niov < IOV_MAX ? niov : IOV_MAX;
}

static ssize_t read_some(struct file *f, const struct iovec *iov, int niov, uint64_t offset) {
    ssize_t n;
    if (atomic_load_explicit(&f->reads_once, memory_order_relaxed)) {
        n = file_read_uncached(f, iov, niov, offset);
        if (n != -ENOTSUP)
            return n;
    }
    do
        n = preadv(f->fd, iov, niov, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t write_some(int fd, const struct iovec *iov, int niov, uint64_t offset) {
    ssize_t n;
    do
        n = pwritev(fd, iov, niov, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int file_buffered_readv(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct file *f = file_of(s);
    size_t total = iov_size(iov, niov);
    if (total == 0 || check_range(offset, total) < 0)
        return total == 0 ? 0 : -EINVAL;

    ssize_t n = read_some(f, iov, first_entries(niov), offset);
    if (n < 0 || (size_t)n == total)
        return n < 0 ? (int)n : 0;
    struct iov_cursor at = iov_begin(iov, niov);
    size_t done = 0;
    while (n > 0) {
        iov_advance(&at, (size_t)n);
        done += (size_t)n;
        if (done == total)
            return 0;
        struct iovec window[WINDOW];
        n = read_some(f, window, iov_window(&at, window, WINDOW, total), offset + done);
    }
    if (n < 0)
        return (int)n;
    iov_zero(&at, total - done); /* past the end */
    return 0;
}

int file_buffered_writev(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct file *f = file_of(s);
    size_t total = iov_size(iov, niov);
    int r = check_range(offset, total);
    if (total == 0 || r < 0)
        return total == 0 ? 0 : r;

    ssize_t n = write_some(f->fd, iov, first_entries(niov), offset);
    struct iov_cursor at = iov_begin(iov, niov);
    size_t done = 0;
    while (n > 0) {
        done += (size_t)n;
        if (done == total)
            break;
        iov_advance(&at, (size_t)n);
        struct iovec window[WINDOW];
        n = write_some(f->fd, window, iov_window(&at, window, WINDOW, total), offset + done);
    }
    if (done == total) {
        file_raise_length(f, offset + total);
        return 0;
    }
    file_learn_length(f);
    return n < 0 ? (int)n : -ENOSPC;
}

/* ---- zeroes, holes, the length ---- */

static int allocate(struct file *f, int mode, uint64_t offset, uint64_t length) {
    int r;
    do
        r = fallocate(f->fd, mode, (off_t)offset, (off_t)length);
    while (r < 0 && errno == EINTR);
    if (r == 0)
        return 0;
    return errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV || errno == ENOTTY ? -ENOTSUP : -errno;
}

/* As allocate, but asks no more once the file system has declined. */
static int allocate_if_known(struct file *f, atomic_bool *declined, int mode, uint64_t offset, uint64_t length) {
    if (atomic_load_explicit(declined, memory_order_relaxed))
        return -ENOTSUP;
    int r = allocate(f, mode, offset, length);
    if (r == -ENOTSUP)
        atomic_store_explicit(declined, true, memory_order_relaxed);
    return r;
}

static int punch_range(struct file *f, uint64_t offset, uint64_t length) {
    return allocate_if_known(f, &f->no_punch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

static int reserve_range(struct file *f, uint64_t offset, uint64_t length) {
    int r = allocate_if_known(f, &f->no_reserve, 0, offset, length);
    if (r == 0)
        file_raise_length(f, offset + length);
    return r;
}

/* Makes the file at least `end` long. Reserving its last byte cannot shorten a file that another thread extends at this
 * moment, as setting the length could. */
static int extend_to(struct file *f, uint64_t end) {
    if (f->block_device || atomic_load(&f->length) >= end)
        return 0;
    return reserve_range(f, end - 1, 1);
}

static int unmap_range(struct file *f, uint64_t offset, uint64_t length) {
    int r = extend_to(f, offset + length);
    return r < 0 ? r : punch_range(f, offset, length);
}

static int zero_range(struct file *f, uint64_t offset, uint64_t length) {
    int mode = f->block_device ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
    int r = allocate_if_known(f, &f->no_zero_range, mode, offset, length);
    if (r == -ENOTSUP && !f->block_device) {
        /* tmpfs: a hole, and its space back at once */
        r = punch_range(f, offset, length);
        if (r == 0)
            r = reserve_range(f, offset, length);
    }
    if (r == 0)
        file_raise_length(f, offset + length);
    return r;
}

/* A device does this only for whole blocks: what sticks out on both sides is written. */
static int on_whole_blocks(struct file *f, uint64_t offset, uint64_t length,
                           int (*act)(struct file *, uint64_t, uint64_t)) {
    uint64_t end = offset + length;
    uint64_t first = (offset + f->block - 1) & ~(uint64_t)(f->block - 1), last = end & ~(uint64_t)(f->block - 1);
    if (first >= last)
        return -ENOTSUP;
    int r = act(f, first, last - first);
    if (r == 0 && offset < first)
        r = storage_write_zeroes(&f->base, offset, first - offset);
    if (r == 0 && last < end)
        r = storage_write_zeroes(&f->base, last, end - last);
    return r;
}

/* Runs `act` beside other writes, but not inside a read-modify-write of a block that it touches. */
static int holding(struct file *f, uint64_t offset, uint64_t length, int (*act)(struct file *, uint64_t, uint64_t)) {
    if (!f->direct)
        return act(f, offset, length);
    struct range_hold hold;
    rangelock_acquire(f->ranges, &hold, offset, offset + length, false);
    int r = act(f, offset, length);
    rangelock_release(f->ranges, &hold);
    return r;
}

static int unmap_held(struct file *f, uint64_t offset, uint64_t length) {
    return holding(f, offset, length, unmap_range);
}
static int zero_held(struct file *f, uint64_t offset, uint64_t length) {
    return holding(f, offset, length, zero_range);
}
static int punch_held(struct file *f, uint64_t offset, uint64_t length) {
    return holding(f, offset, length, punch_range);
}

int file_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    struct file *f = file_of(s);
    int r = check_range(offset, length);
    if (r < 0 || length == 0)
        return r;
    if (f->block_device && offset + length > atomic_load(&f->length))
        return -ENOSPC;
    if (f->block_device)
        return on_whole_blocks(f, offset, length, unmap ? unmap_held : zero_held);
    r = unmap ? unmap_held(f, offset, length) : -ENOTSUP;
    return r == -ENOTSUP ? zero_held(f, offset, length) : r;
}

int file_punch(struct storage *s, uint64_t offset, uint64_t length) {
    struct file *f = file_of(s);
    int r = check_range(offset, length);
    if (r < 0 || length == 0)
        return r;
    if (f->block_device && offset + length > atomic_load(&f->length))
        return -ENOSPC;
    return f->block_device ? on_whole_blocks(f, offset, length, punch_held) : punch_held(f, offset, length);
}

int file_reserve(struct storage *s, uint64_t offset, uint64_t length) {
    struct file *f = file_of(s);
    int r = check_range(offset, length);
    if (r < 0 || length == 0)
        return r;
    if (f->block_device)
        return offset + length <= atomic_load(&f->length) ? 0 : -ENOSPC;
    return holding(f, offset, length, reserve_range);
}

/* Holds all blocks behind the shorter of both lengths. What lies before is left to those who write it: a queue's write
 * is held until its thread asks for it, and who lengthens a file must not wait for that. */
static void hold_tail(struct file *f, struct range_hold *hold, uint64_t length) {
    for (;;) {
        uint64_t now = atomic_load(&f->length), from = (length < now ? length : now) & ~(uint64_t)(f->block - 1);
        rangelock_acquire(f->ranges, hold, from, UINT64_MAX, true);
        if (atomic_load(&f->length) >= from)
            return;
        rangelock_release(f->ranges, hold); /* it was cut meanwhile */
    }
}

int file_truncate(struct storage *s, uint64_t length) {
    struct file *f = file_of(s);
    if (s->fixed_size)
        return -ENOTSUP;
    if (length > INT64_MAX)
        return -EFBIG;
    struct range_hold hold;
    if (f->direct)
        hold_tail(f, &hold, length);
    int r;
    do
        r = ftruncate(f->fd, (off_t)length) < 0 ? -errno : 0;
    while (r == -EINTR);
    if (r == 0)
        atomic_store(&f->length, length);
    if (f->direct)
        rangelock_release(f->ranges, &hold);
    return r;
}

/* ---- what is where ---- */

int file_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *extent) {
    struct file *f = file_of(s);
    int r = check_range(offset, length);
    if (r < 0 || length == 0)
        return r < 0 ? r : -EINVAL;
    *extent = (struct storage_extent){.length = length, .zero = false};
    if (f->block_device || atomic_load_explicit(&f->no_seek_data, memory_order_relaxed))
        return 0;

    off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO) { /* no data up to the end of the file, or behind it */
        extent->zero = true;
        return 0;
    }
    if (data < 0) {
        atomic_store_explicit(&f->no_seek_data, true, memory_order_relaxed);
        return 0;
    }
    if ((uint64_t)data > offset) {
        extent->zero = true;
        if ((uint64_t)data - offset < length)
            extent->length = (uint64_t)data - offset;
        return 0;
    }
    /* A file that others change may have lost its data, or its end, since: then all is called data, which is always
     * true enough. */
    off_t hole = lseek(f->fd, (off_t)offset, SEEK_HOLE);
    if (hole > 0 && (uint64_t)hole > offset && (uint64_t)hole - offset < length)
        extent->length = (uint64_t)hole - offset;
    return 0;
}
