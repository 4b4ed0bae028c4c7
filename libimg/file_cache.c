/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file_cache.c - hints for the page cache of a host file that is moved once, from end to end.
 *
 * What others have there must stay: reads give up only the pages that they brought themselves, which the kernel knows
 * how to do since 6.14 (RWF_DONTCACHE). Older ones keep what was read.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x00000080
#endif

void file_start_writeback(struct storage *s, uint64_t offset, uint64_t length) {
    const struct file *f = file_of(s);
    if (!f->in_memory)
        (void)sync_file_range(f->fd, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
}

int file_drop_cache(struct storage *s, uint64_t offset, uint64_t length) {
    const struct file *f = file_of(s);
    const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (f->in_memory)
        return 0;
    if (f->sync && sync_file_range(f->fd, (off_t)offset, (off_t)length, all) < 0 && errno != ENOSYS && errno != EINVAL)
        return -errno;
    (void)posix_fadvise(f->fd, (off_t)offset, (off_t)length, POSIX_FADV_DONTNEED);
    return 0;
}

void file_read_once(struct storage *s, bool once) {
    atomic_store_explicit(&file_of(s)->reads_once, once, memory_order_relaxed);
}

ssize_t file_read_uncached(struct file *f, const struct iovec *iov, int niov, uint64_t offset) {
    ssize_t n;
    if (atomic_load_explicit(&f->no_uncached_read, memory_order_relaxed))
        return -ENOTSUP;
    do
        n = preadv2(f->fd, iov, niov, (off_t)offset, RWF_DONTCACHE);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL)) {
        atomic_store_explicit(&f->no_uncached_read, true, memory_order_relaxed);
        return -ENOTSUP;
    }
    return n < 0 ? -errno : n;
}
