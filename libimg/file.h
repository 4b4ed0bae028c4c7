/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file.h - the host file as storage: what its files share. Everybody else includes storage.h.
 *
 *   file.c        opening and the length             file_clone.c  copies that the host makes
 *   file_io.c     the page cache's way, holes        file_cache.c  hints for the page cache
 *   file_direct.c O_DIRECT
 */
#ifndef LIBIMG_FILE_H
#define LIBIMG_FILE_H

#include <stdatomic.h>

#include "iov.h"
#include "lock.h"
#include "rangelock.h"
#include "storage.h"

struct file {
    struct storage base;
    int fd;
    bool duplicated; /* the caller's open file description: others may have it open after we close */
    bool block_device;
    bool in_memory; /* on tmpfs */
    bool sync;      /* flush reaches the disk; false: IMG_CACHE_UNSAFE */
    enum lock_mode lock;

    /* The length as this process made it; a block device's is fixed. Writes that extend raise it after they are done,
     * only truncate lowers it. */
    _Atomic uint64_t length;

    /* What the file system said it cannot do, so that it is asked once. */
    atomic_bool no_zero_range, no_punch, no_reserve, no_seek_data, no_uncached_read;
    atomic_bool reads_once; /* what is read need not stay in the page cache */

    /* O_DIRECT only */
    bool direct;
    size_t memory_align;      /* of buffers, at most `block` */
    size_t block;             /* of offsets and lengths (a block device's: always); both are powers of two */
    struct rangelock *ranges; /* which blocks are being written, see file_direct.c */
};

static inline struct file *file_of(struct storage *s) {
    return (struct file *)s;
}

/* Notes that the file now reaches `end`. */
void file_raise_length(struct file *f, uint64_t end);
/* The same after a failure, when it is unknown how far it reaches. */
void file_learn_length(struct file *f);

/* The operations of file_io.c. */
int file_buffered_readv(struct storage *s, const struct iovec *iov, int niov, uint64_t offset);
int file_buffered_writev(struct storage *s, const struct iovec *iov, int niov, uint64_t offset);
int file_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap);
int file_punch(struct storage *s, uint64_t offset, uint64_t length);
int file_truncate(struct storage *s, uint64_t length);
int file_reserve(struct storage *s, uint64_t offset, uint64_t length);
int file_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *extent);

/* The operations of file_clone.c. */
uint64_t file_clone_block(struct storage *target, struct storage *source, bool copies);
int file_clone(struct storage *target, uint64_t offset, struct storage *source, uint64_t from_offset, uint64_t length,
               bool copies);

/* The operations of file_cache.c. */
void file_start_writeback(struct storage *s, uint64_t offset, uint64_t length);
int file_drop_cache(struct storage *s, uint64_t offset, uint64_t length);
void file_read_once(struct storage *s, bool once);
/* preadv whose pages do not stay. -ENOTSUP: the kernel has no such thing. */
ssize_t file_read_uncached(struct file *f, const struct iovec *iov, int niov, uint64_t offset);

/* The operations of file_direct.c. */
int file_direct_readv(struct storage *s, const struct iovec *iov, int niov, uint64_t offset);
int file_direct_writev(struct storage *s, const struct iovec *iov, int niov, uint64_t offset);
bool file_direct_hold(struct storage *s, struct range_hold *hold, uint64_t offset, uint64_t length);
void file_direct_let_go(struct storage *s, struct range_hold *hold, bool failed);
/* Finds the alignment that O_DIRECT needs here. -ENOTSUP: none will do, the file must be opened without it. */
int file_direct_prepare(struct file *f);

#endif
