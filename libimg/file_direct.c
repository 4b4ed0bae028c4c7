/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file_direct.c - a host file past the page cache (O_DIRECT), for callers who know nothing of its blocks.
 *
 * The kernel takes offsets and lengths in whole blocks and buffers at aligned addresses. A request that fits goes
 * straight through. One whose buffers do not fit goes through a bounce buffer; of one whose ends do not fit the first
 * and the last block are read, changed and written back.
 *
 * Three rules make that safe beside other threads:
 *   - Who rewrites a block holds it exclusively; every other write, zeroing or hole that touches it holds it shared. So
 *     no write that was acknowledged is undone by one that had read before it.
 *   - The block at the end of a file whose length is no multiple of it: its bytes behind the end count as zeroes, the
 *     block is written whole, which makes the file longer, and then the length is set back. Meanwhile everything from
 *     this block on is held, since setting the length would cut what others append.
 *   - A read for a rewrite that fails, fails the write.
 *
 * Memory: one bounce buffer of at most 1 MiB for a request that needs it.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOUNCE_MAX ((size_t)1 << 20)
#define BLOCK_MAX ((size_t)64 << 10)
#define WINDOW 64
/* So often may a read stop inside a file that is said to go on, before that is an error. */
#define ATTEMPTS_MAX 100

/* ---- what alignment the file needs ---- */

static bool is_power_of_two(uint64_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

/* The file system's own word. 0: found; -ENOTSUP: no O_DIRECT on this file; -ENODATA: it does not say. */
static int ask_alignment(struct file *f) {
#ifdef STATX_DIOALIGN
    struct statx st;
    if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) < 0 || !(st.stx_mask & STATX_DIOALIGN))
        return -ENODATA;
    if (st.stx_dio_offset_align == 0 || st.stx_dio_mem_align == 0)
        return -ENOTSUP;
    if (!is_power_of_two(st.stx_dio_offset_align) || !is_power_of_two(st.stx_dio_mem_align))
        return -ENODATA;
    f->block = st.stx_dio_offset_align;
    f->memory_align = st.stx_dio_mem_align;
    return 0;
#else
    (void)f;
    return -ENODATA;
#endif
}

/* The smallest block that a read accepts. An empty file refuses none, so there the usual page must do. */
static int probe_alignment(struct file *f) {
    void *buffer = aligned_alloc(BLOCK_MAX, BLOCK_MAX);
    if (buffer == NULL)
        return -ENOMEM;
    int r = -ENOTSUP;
    for (size_t block = atomic_load(&f->length) > 0 ? 512 : 4096; block <= BLOCK_MAX; block *= 2) {
        ssize_t n;
        do
            n = pread(f->fd, buffer, block, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EINVAL)
            continue;
        f->block = f->memory_align = block;
        r = n < 0 ? -errno : 0;
        break;
    }
    free(buffer);
    return r;
}

int file_direct_prepare(struct file *f) {
    size_t device_block = f->block; /* 1 for regular files */
    int r = ask_alignment(f);
    if (r == -ENODATA && f->block_device) {
        f->memory_align = device_block;
        r = 0;
    } else if (r == -ENODATA) {
        r = probe_alignment(f);
    }
    if (r < 0)
        return r;
    if (f->block < device_block)
        f->block = device_block;
    /* So a buffer of which some blocks are done goes on at an aligned address. */
    if (f->block < f->memory_align)
        f->block = f->memory_align;
    return f->block > BLOCK_MAX ? -ENOTSUP : 0;
}

/* ---- moving whole blocks ---- */

static uint64_t round_down(const struct file *f, uint64_t offset) {
    return offset & ~(uint64_t)(f->block - 1);
}
static uint64_t round_up(const struct file *f, uint64_t offset) {
    return round_down(f, offset + f->block - 1);
}

static void *bounce_new(const struct file *f, size_t count) {
    size_t align = f->block > sizeof(void *) ? f->block : sizeof(void *);
    return aligned_alloc(align, (count + align - 1) & ~(align - 1));
}

/* Whether nothing lies at `offset`: a read that ended there was not merely cut short. */
static int ends_before(const struct file *f, uint64_t offset, bool *end) {
    if (f->block_device) {
        *end = offset >= atomic_load(&f->length);
        return 0;
    }
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return -errno;
    *end = offset >= (uint64_t)st.st_size;
    return 0;
}

/* Reads whole blocks into aligned buffers; behind the end there are zeroes. */
static int read_blocks(const struct file *f, const struct iovec *iov, int niov, uint64_t offset, size_t total) {
    size_t done = 0;
    int attempts = 0;
    while (done < total) {
        struct iov_cursor at = iov_begin(iov, niov);
        iov_advance(&at, done);
        struct iovec window[WINDOW];
        ssize_t n = preadv(f->fd, window, iov_window(&at, window, WINDOW, total), (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        size_t reached = done + (size_t)n;
        size_t whole = (size_t)round_down(f, reached);
        if (reached == total)
            return 0;
        if (n > 0 && whole == reached) {
            done = whole;
            continue;
        }
        /* Inside a block it stops for the end of the file only, but the file may have grown since. */
        bool end = false;
        int r = ends_before(f, offset + reached, &end);
        if (r < 0)
            return r;
        if (end) {
            iov_advance(&at, (size_t)n);
            iov_zero(&at, total - reached);
            return 0;
        }
        if (++attempts == ATTEMPTS_MAX)
            return -EIO;
        done = whole;
    }
    return 0;
}

/* Writes whole blocks from aligned buffers. A part of a block that a short write reached is written again. */
static int write_blocks(const struct file *f, const struct iovec *iov, int niov, uint64_t offset, size_t total) {
    size_t done = 0;
    while (done < total) {
        struct iov_cursor at = iov_begin(iov, niov);
        iov_advance(&at, done);
        struct iovec window[WINDOW];
        ssize_t n = pwritev(f->fd, window, iov_window(&at, window, WINDOW, total), (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        size_t moved = (size_t)round_down(f, (size_t)n);
        if (moved == 0)
            return -ENOSPC;
        done += moved;
    }
    return 0;
}

/* ---- reading ---- */

static bool fits(const struct file *f, const struct iovec *iov, int niov, uint64_t offset) {
    return (offset & (f->block - 1)) == 0 && iov_is_aligned(iov, niov, f->memory_align, f->block);
}

static int read_bounced(const struct file *f, const struct iovec *iov, int niov, uint64_t offset, size_t total) {
    uint64_t start = round_down(f, offset), end = round_up(f, offset + total);
    size_t size = end - start < BOUNCE_MAX ? (size_t)(end - start) : BOUNCE_MAX;
    uint8_t *bounce = bounce_new(f, size);
    if (bounce == NULL)
        return -ENOMEM;
    struct iov_cursor at = iov_begin(iov, niov);
    int r = 0;
    for (uint64_t piece = start; r == 0 && piece < end; piece += size) {
        struct iovec whole = {bounce, end - piece < size ? (size_t)(end - piece) : size};
        r = read_blocks(f, &whole, 1, piece, whole.iov_len);
        uint64_t from = piece < offset ? offset : piece;
        uint64_t to = piece + whole.iov_len < offset + total ? piece + whole.iov_len : offset + total;
        if (r == 0)
            iov_put(&at, bounce + (from - piece), (size_t)(to - from));
    }
    free(bounce);
    return r;
}

int file_direct_readv(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    const struct file *f = file_of(s);
    size_t total = iov_size(iov, niov);
    if (total == 0)
        return 0;
    if (total > INT64_MAX - BLOCK_MAX || offset > INT64_MAX - BLOCK_MAX - total)
        return -EINVAL;
    return fits(f, iov, niov, offset) ? read_blocks(f, iov, niov, offset, total)
                                      : read_bounced(f, iov, niov, offset, total);
}

/* ---- writing ---- */

/* One block of which `count` bytes at `offset` change. The caller holds it exclusively. */
static int rewrite_block(struct file *f, struct iov_cursor *from, uint64_t offset, size_t count, uint8_t *bounce) {
    uint64_t block = round_down(f, offset);
    struct iovec whole = {bounce, f->block};
    int r = read_blocks(f, &whole, 1, block, f->block);
    if (r < 0)
        return r;
    iov_get(from, bounce + (offset - block), count);
    return write_blocks(f, &whole, 1, block, f->block);
}

/* The block at the end of the file. The caller holds everything from it on, so the length can be set without harm. */
static int rewrite_last_block(struct file *f, struct iov_cursor *from, uint64_t offset, size_t count, uint8_t *bounce) {
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return -errno;
    uint64_t length = (uint64_t)st.st_size;
    if (length < offset + count)
        length = offset + count;
    int r = rewrite_block(f, from, offset, count, bounce);
    if (r == 0 && length < round_down(f, offset) + f->block) {
        do
            r = ftruncate(f->fd, (off_t)length) < 0 ? -errno : 0;
        while (r == -EINTR);
    }
    if (r == 0)
        file_raise_length(f, length);
    return r;
}

static int write_part(struct file *f, struct iov_cursor *from, uint64_t offset, size_t count, uint8_t *bounce) {
    uint64_t block = round_down(f, offset), end = block + f->block;
    struct range_hold hold;
    rangelock_acquire(f->ranges, &hold, block, end, true);
    int r;
    if (f->block_device || atomic_load(&f->length) >= end) {
        r = rewrite_block(f, from, offset, count, bounce);
    } else {
        rangelock_release(f->ranges, &hold);
        rangelock_acquire(f->ranges, &hold, block, UINT64_MAX, true);
        r = rewrite_last_block(f, from, offset, count, bounce);
    }
    rangelock_release(f->ranges, &hold);
    return r;
}

static int write_held(struct file *f, const struct iovec *iov, int niov, uint64_t offset, size_t total) {
    struct range_hold hold;
    rangelock_acquire(f->ranges, &hold, offset, offset + total, false);
    int r = write_blocks(f, iov, niov, offset, total);
    if (r == 0)
        file_raise_length(f, offset + total);
    rangelock_release(f->ranges, &hold);
    return r;
}

static int write_bounced(struct file *f, const struct iovec *iov, int niov, uint64_t offset, size_t total) {
    size_t size = total < BOUNCE_MAX ? (size_t)round_up(f, total) : BOUNCE_MAX;
    uint8_t *bounce = bounce_new(f, size);
    if (bounce == NULL)
        return -ENOMEM;
    struct iov_cursor at = iov_begin(iov, niov);
    uint64_t end = offset + total;
    int r = 0;
    while (r == 0 && offset < end) {
        uint64_t block_end = round_down(f, offset) + f->block;
        bool whole_block = offset == round_down(f, offset) && block_end <= end;
        size_t count;
        if (!whole_block) {
            count = (size_t)((block_end < end ? block_end : end) - offset);
            r = write_part(f, &at, offset, count, bounce);
        } else {
            uint64_t middle = round_down(f, end) - offset;
            count = middle < size ? (size_t)middle : size;
            iov_get(&at, bounce, count);
            struct iovec whole = {bounce, count};
            r = write_held(f, &whole, 1, offset, count);
        }
        offset += count;
    }
    free(bounce);
    return r;
}

int file_direct_writev(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct file *f = file_of(s);
    size_t total = iov_size(iov, niov);
    if (total == 0)
        return 0;
    if (total > INT64_MAX - BLOCK_MAX || offset > INT64_MAX - BLOCK_MAX - total)
        return -EFBIG;
    int r = fits(f, iov, niov, offset) ? write_held(f, iov, niov, offset, total)
                                       : write_bounced(f, iov, niov, offset, total);
    if (r < 0)
        file_learn_length(f);
    return r;
}

bool file_direct_hold(struct storage *s, struct range_hold *hold, uint64_t offset, uint64_t length) {
    return rangelock_try(file_of(s)->ranges, hold, offset, offset + length);
}

void file_direct_let_go(struct storage *s, struct range_hold *hold, bool failed) {
    struct file *f = file_of(s);
    if (failed)
        file_learn_length(f);
    rangelock_release(f->ranges, hold);
}
